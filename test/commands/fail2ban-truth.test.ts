// fail2ban's bans are what the list holds: while it starts and restores them, while others change them, and whatever its
// jails are called.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { type Site, startSite, writeScript } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

const inOrder = { concurrency: 1 };
const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';

const places = [
  { place: 'the list', bandir: false },
  { place: 'the ban directory', bandir: true },
];

const isListed = (site: Site, address: string, holder = 'web') =>
  site.list().includes(`| ${holder} ${address} since `);

for (const { place, bandir } of places) {
  suite(`while fail2ban restores its bans, with ${place}`, inOrder, () => {
    const attackers = Array.from({ length: 10 }, (_, index) => `203.0.113.${index + 1}`);
    const dir = mkdtempSync(join(tmpdir(), 'banctl-restore-'));
    const gate = join(dir, 'gate');
    let site: Site;
    before(async () => {
      // While the gate is there, a ban's action takes its time, as it does on a busy server. Each restored ban is a call, as
      // if none were in the list yet.
      const program = writeScript(
        dir,
        'banctl',
        `[ "$1" != ban ] || while [ -e ${gate} ]; do sleep 0.1; done; exec ${executable} "$@"`,
      );
      const parameters = `, banctl="${program}", _listed=false, timeout=600`;
      site = await startSite({ bandir, jails: { web: 'bantime = 1h' }, parameters });
      await site.bans('web', ...attackers);
    });
    after(async () => {
      rmSync(gate, { force: true });
      await site[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    });

    test('neither audit --fix nor sync lifts one of them', async () => {
      const list = site.list();
      await site.fail2ban.kill();
      writeFileSync(gate, '');
      const from = site.fail2ban.log().length;
      await site.fail2ban.start();
      await until('the first ban', () => /Restore Ban/.test(site.fail2ban.log().slice(from)));
      for (const command of ['audit --fix', 'sync --jail=web']) {
        const [name = '', ...args] = command.split(' ');
        const { stdout } = await site.run(name, ...args);
        assert.doesNotMatch(stdout, /stale|unbanned/);
        assert.equal((await site.fail2ban.banned('web')).length, 1, 'the others are not restored yet');
        for (const address of attackers) assert.ok(isListed(site, address), `${address}\n${list}`);
      }
      rmSync(gate);
      await until('all', async () => (await site.fail2ban.banned('web')).length === attackers.length, {
        limit: 60_000,
      });
      await site.answer(attackers, 403);
    });
  });
}

suite('beside a fail2ban that goes on', inOrder, () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-beside-'));
  let site: Site;
  before(async () => {
    site = await startSite();
  });
  after(async () => {
    await site[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  /** A client that lets fail2ban do something right after it has answered what the jail holds, once. */
  function interrupted(work: string): string {
    const { clientCommand } = site.fail2ban;
    rmSync(join(dir, 'done'), { recursive: true, force: true });
    return writeScript(
      dir,
      'client',
      `${clientCommand} "$@"; code=$?
case "$*" in *"get web banip"*) if mkdir ${dir}/done 2>/dev/null; then ${work}; fi;; esac
exit $code`,
    );
  }

  const tell = (...words: string[]) => `${site.fail2ban.clientCommand} ${words.join(' ')} >/dev/null`;
  const awaits = (condition: string) => `for i in $(seq 200); do ${condition} && break; sleep 0.1; done`;
  const isThere = () => `grep -qs '| web ${ipv4} ' ${site.apache.banlist}`;

  for (const command of ['sync --jail=web', 'audit --fix']) {
    const [name = '', ...args] = command.split(' ');

    test(`${command}: a ban that comes after the answer stays`, async () => {
      await site.tells('unban', '--all');
      const client = interrupted(`${tell('set', 'web', 'banip', ipv4)}; ${awaits(isThere())}`);
      const { exitCode, stderr } = await site.run(name, ...args, `--fail2ban-client=${client}`);
      assert.equal(exitCode, 0, stderr);
      assert.ok(isListed(site, ipv4), `${site.list()}\n${site.fail2ban.log().slice(-3000)}`);
      await site.answer([ipv4], 403);
    });

    test(`${command}: what is unbanned after the answer does not come back`, async () => {
      await site.tells('unban', '--all');
      await until('no ban', () => !isListed(site, ipv4));
      await site.bans('web', ipv4);
      if (name === 'audit') await site.done('unban', ipv4, '--jail=web');
      const client = interrupted(`${tell('set', 'web', 'unbanip', ipv4)}; ${awaits(`! ${isThere()}`)}`);
      await site.run(name, ...args, `--fail2ban-client=${client}`);
      assert.ok(!isListed(site, ipv4));
      await site.answer([ipv4], 200);
    });
  }

  test('audit --fix: what is unbanned while it bans does not come back', async () => {
    await site.tells('unban', '--all');
    await site.bans('web', ipv4, ipv6);
    await site.done('unban', ipv4, ipv6, '--jail=web');
    // The second answer is the last before the change.
    const client = interrupted(
      `(${awaits(`[ -e ${dir}/second ]`)}; ${tell('set', 'web', 'unbanip', ipv4)}) & true`,
    );
    const counting = writeScript(
      dir,
      'counting',
      `${client} "$@"; code=$?; case "$*" in *"get web banip"*) [ -e ${dir}/first ] && touch ${dir}/second; touch ${dir}/first;; esac; exit $code`,
    );
    await site.run('audit', '--fix', `--fail2ban-client=${counting}`);
    await until('the unban', async () => (await site.fail2ban.banned('web')).length === 1);
    await until('its end', () => !isListed(site, ipv4));
    assert.ok(isListed(site, ipv6));
  });
});

suite('two jails with one name', inOrder, () => {
  let site: Site;
  before(async () => {
    site = await startSite({ jails: { one: '', two: '' }, parameters: ', jail=djangoapp' });
  });
  after(() => site[Symbol.asyncDispose]());

  test('keep both their bans, and the audit says what to write', async () => {
    await site.tells('set', 'one', 'banip', ipv4);
    await site.tells('set', 'two', 'banip', ipv6);
    await until('both', () => isListed(site, ipv4, 'djangoapp') && isListed(site, ipv6, 'djangoapp'));
    const list = site.list();
    for (let round = 0; round < 2; round += 1) {
      const { exitCode, stdout } = await site.run('audit', '--fix');
      assert.equal(exitCode, 1);
      assert.match(stdout, /^shared-holder: jails one, two [^\n]*jail=%\(__name__\)s[^\n]*\n$/);
      assert.equal(site.list(), list);
    }
    await site.answer([ipv4, ipv6], 403);
  });

  test('have in the list what either holds, after sync and after a start', async () => {
    assert.doesNotMatch(await site.done('sync', '--jail=djangoapp'), /unbanned/);
    await site.fail2ban.kill();
    await site.fail2ban.start();
    await until('both', () => isListed(site, ipv4, 'djangoapp') && isListed(site, ipv6, 'djangoapp'));
    await site.answer([ipv4, ipv6], 403);
  });
});
