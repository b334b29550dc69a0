// Inputs of the kinds that once made an acknowledged ban fail, or come back after its unban.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { type Site, startSite, writeScript } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const inOrder = { concurrency: 1 };
/** What fail2ban takes as a jail's name, and a shell reads in its own way. */
const ODD = 'we"b $HOME `id` $(id) \\"it\'s\\';

suite('fail2ban and the list say the same', inOrder, () => {
  let site: Site;
  let dir: string;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-attacks-'));
    site = await startSite({
      jails: { web: '', manual: '', 'my jail': '', [ODD]: '', 'a\tb': '', twin: '', other: '' },
    });
  });
  after(async () => {
    await site[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });
  afterEach(async () => {
    await site.fail2ban.client('unban', '--all');
    await site.done('flush', '--all');
  });

  /** fail2ban's client, that does something else right after it has answered `get JAIL banip`. */
  function clientThat(does: string): string {
    const real = site.fail2ban.clientCommand;
    return writeScript(
      dir,
      'client',
      `${real} "$@"; code=$?; case " $* " in *' banip'*' --with-time '*|*' banip '*) [ -e ${dir}/was ] || { >${dir}/was; ${does.replaceAll('CLIENT', real)}; } >/dev/null 2>&1 ;; esac; exit $code`,
    );
  }

  test('a sync lifts nothing that fail2ban bans after its answer, and brings nothing back', async () => {
    await site.bans('web', A);
    const client = clientThat(`CLIENT set web banip ${B}; CLIENT set web unbanip ${A}`);
    rmSync(join(dir, 'was'), { force: true });
    await site.run('sync', '--jail=web', `--fail2ban-client=${client}`);
    assert.ok(existsSync(join(dir, 'was')), 'it was asked');
    await until('both', async () => (await site.fail2ban.banned('web')).join() === B);
    assert.deepEqual([await site.holders(A), await site.holders(B)], [[], ['web']]);
  });

  test('a sync does not bring back what was lifted by hand after fail2ban’s answer', async () => {
    await site.bans('web', A);
    const client = clientThat(
      `${executable} unban ${A} --no-fail2ban --no-reload --banlist=${site.apache.banlist}`,
    );
    rmSync(join(dir, 'was'), { force: true });
    await site.run('sync', '--jail=web', `--fail2ban-client=${client}`);
    assert.ok(existsSync(join(dir, 'was')), 'it was asked');
    assert.deepEqual(await site.holders(A), []);
  });

  for (const [answers, command, option] of [
    [1, 'sync', '--jail=web'],
    [2, 'audit', '--fix'],
  ] as const)
    test(`${command} never brings back a ban that fail2ban made and lifted after its answer`, async () => {
      await site.bans('web', B);
      const place = `--no-reload --banlist=${site.apache.banlist}`;
      await site.done('unban', B, '--jail=web', '--no-fail2ban');
      const asked = join(dir, 'asked');
      writeFileSync(asked, '');
      const real = site.fail2ban.clientCommand;
      const does = `${executable} ban ${B} --jail=web ${place}; ${real} set web unbanip ${B}`;
      // Without a later answer, nothing but the unban itself can keep it away.
      const client = writeScript(
        dir,
        'client',
        `case " $* " in *' get web banip '*) echo >>${asked} ;; *) exec ${real} "$@" ;; esac
count=$(wc -l <${asked})
[ "$count" -le ${answers} ] || exit 255
${real} "$@"; code=$?
[ "$count" -lt ${answers} ] || { ${does}; } >/dev/null 2>&1
exit $code`,
      );
      await site.run(command, option, `--fail2ban-client=${client}`);
      assert.ok(readFileSync(asked, 'utf8').length > answers, 'it was asked again afterwards');
      assert.deepEqual(await site.holders(B), []);
    });

  test('an audit lifts nothing that fail2ban bans after its answer, and brings nothing back', async () => {
    await site.bans('web', A);
    const client = clientThat(`CLIENT set web banip ${B}; CLIENT set web unbanip ${A}`);
    rmSync(join(dir, 'was'), { force: true });
    await site.run('audit', '--fix', `--fail2ban-client=${client}`);
    assert.deepEqual([await site.holders(A), await site.holders(B)], [[], ['web']]);
  });

  test('an audit names the jail whose name banctl does not take, and repairs nothing for it', async () => {
    await site.tells('set', 'a\tb', 'banip', A);
    const { exitCode, stdout } = await site.run('audit', '--fix');
    assert.equal(exitCode, 1);
    assert.match(stdout, /^missing: jail "a.*b" does not ban: .*rename/m);
    assert.doesNotMatch(site.list(), /Require/);
  });

  for (const jail of ['manual', 'my jail', ODD]) {
    test(`a jail that is called '${jail}' bans, keeps, and lifts its own`, async () => {
      await site.done('ban', B);
      await site.tells('set', jail, 'banip', A);
      await site.seen([A], 403);
      await site.run('audit', '--fix');
      await site.answer([A, B], 403);
      await site.tells('set', jail, 'unbanip', A);
      await site.seen([A], 200);
      await site.answer([B], 403);
      await site.tells('set', jail, 'banip', A);
      await site.seen([A], 403);
      await site.tells('unban', '--all');
      await site.seen([A], 200);
      await site.answer([B], 403);
      const { bans } = JSON.parse(await site.done('list', '--json'));
      assert.deepEqual([bans[0].address, bans[0].holds[0].byHand], [B, true]);
    });
  }
});

suite('two jails with one name', inOrder, () => {
  let site: Site;
  before(async () => {
    site = await startSite({ jails: { one: '', two: '' } });
    const text = site.jails({ one: '', two: '' }).replaceAll('jail=%(__name__)s', 'name=djangoapp');
    site.fail2ban.setJails(text);
    await site.fail2ban.stop();
    await site.fail2ban.start();
  });
  after(() => site[Symbol.asyncDispose]());

  test('what either holds is held, and the audit names both', async () => {
    await site.tells('set', 'one', 'banip', A);
    await site.tells('set', 'two', 'banip', B);
    await site.seen([A, B], 403);
    for (let turn = 0; turn < 3; turn += 1) {
      const { stdout } = await site.run('audit', '--fix', '--json');
      const { findings } = JSON.parse(stdout) as { findings: { code: string; message: string }[] };
      assert.deepEqual(
        findings.filter(({ code }) => code === 'stale' || code === 'missing'),
        [],
      );
      const shared = findings.find(({ code }) => code === 'shared-holder');
      assert.match(shared?.message ?? '', /one.*two|two.*one/);
      await site.answer([A, B], 403);
    }
    assert.equal((await site.run('sync', '--jail=djangoapp')).exitCode, 0);
    await site.answer([A, B], 403);
  });
});

suite('a ban that Apache refuses the list for', inOrder, () => {
  const section = (kind: 'RequireAll' | 'RequireAny') =>
    `<If "true">\nAuthMerging And\n<${kind}>\nRequire all granted\nIncludeOptional BANLIST\n</${kind}>\n</If>\n`;
  let site: Site;
  let blamesOnce: string;
  const configure = (kind: 'RequireAll' | 'RequireAny') =>
    writeFileSync(join(site.apache.dir, 'ban.conf'), section(kind).replace('BANLIST', site.apache.banlist));
  const failures = () => site.fail2ban.log().split('Failed to execute ban').length - 1;
  const inList = (address: string) => site.list().includes(`Require not ip ${address}\n`);
  before(async () => {
    site = await startSite({ apache: { list: '', site: (dir) => `IncludeOptional ${dir}/ban.conf` } });
    configure('RequireAll');
    await site.apache.graceful();
    const { dir, ctl } = site.apache;
    // While the file is there, Apache's test blames the list for what it does not say a second time.
    blamesOnce = join(dir, 'blames-once');
    const control = writeScript(
      dir,
      'apachectl',
      `case " $* " in *' -t '*) if rm ${blamesOnce} 2>/dev/null; then echo "AH00526: Syntax error on line 1 of ${site.apache.banlist}:" >&2; exit 1; fi ;; esac; exec ${ctl} "$@"`,
    );
    site.fail2ban.setJails(site.jails({ web: '' }).replace(`apachectl="${ctl}"`, `apachectl="${control}"`));
    await site.fail2ban.stop();
    await site.fail2ban.start();
    // The jail has called banctl at its start, too, before its first ban.
    await site.bans('web', B);
    await site.tells('set', 'web', 'unbanip', B);
    await site.seen([B], 200);
  });
  after(() => site[Symbol.asyncDispose]());

  test('once: it is taken back, and fail2ban tries again and has it', async () => {
    writeFileSync(blamesOnce, '');
    await site.tells('set', 'web', 'banip', A);
    await site.seen([A], 403);
    assert.ok(!existsSync(blamesOnce), 'it was blamed');
    assert.match(site.fail2ban.log(), /returned 65/);
    assert.equal(failures(), 0);
    await site.tells('set', 'web', 'unbanip', A);
    await site.seen([A], 200);
  });

  test('every time: fail2ban logs the failure, and the list is as it was until the cause is gone', async () => {
    await site.bans('web', A);
    await site.seen([A], 403);
    await site.tells('set', 'web', 'unbanip', A);
    await site.seen([A], 200);
    // An empty list passes there, and no line of it does: "negative Require directive has no effect".
    configure('RequireAny');
    await site.apache.graceful();
    await site.tells('set', 'web', 'banip', B);
    await until('the failure', () => failures() === 1);
    assert.match(site.fail2ban.log(), /RequireAny/, 'it says why');
    assert.ok(!inList(B));
    assert.equal(await site.get(B), 200);
    const asked = async () => {
      const { stdout } = await site.run('audit', '--fix', '--json');
      const { findings } = JSON.parse(stdout) as {
        findings: { code: string; address?: string; fixed: boolean }[];
      };
      return findings.filter(({ code }) => code === 'missing').map(({ address, fixed }) => [address, fixed]);
    };
    assert.deepEqual(await asked(), [[B, false]]);
    assert.ok(!inList(B), 'a repair takes back what Apache refuses, too');
    assert.equal((await site.apache.ask('-t')).exitCode, 0, 'Apache can be started');
    configure('RequireAll');
    await site.apache.graceful();
    assert.deepEqual(await asked(), [[B, true]]);
    await site.seen([B], 403);
    await site.tells('set', 'web', 'unbanip', B);
    await until('the end of the ban', () => !inList(B));
  });
});
