// Two records of the same bans, fail2ban's and the list (or the ban directory): what keeps them one through unbans,
// crashes, stops and starts.
import assert from 'node:assert/strict';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { read, type Site, startSite, writeScript } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

/** Suites run side by side, for much of the time is fail2ban's sleep; the tests in one share its servers. */
const inOrder = { concurrency: 1 };

const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';
const both = [ipv4, ipv6];
const others = ['203.0.113.6', '2001:db8::6'];

const secondsNow = () => Date.now() / 1000;

function temporary(): { dir: string; remove(): void } {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-sync-'));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** The place of single addresses' bans. A change there reloads Apache, or does not. */
const places = [
  { place: 'the list', bandir: false },
  { place: 'the ban directory', bandir: true },
];

function bansIn(bandir: boolean) {
  const oneReload = bandir ? 'no reload' : 'one reload';

  suite('500 bans', inOrder, () => {
    const { dir, remove } = temporary();
    const calls = join(dir, 'calls');
    const idle = join(dir, 'idle');
    const attackers = Array.from({ length: 250 }, (_, index) => [
      `203.0.113.${index + 1}`,
      `2001:db8::${(index + 1).toString(16)}`,
    ]).flat();
    let site: Site;
    before(async () => {
      // Counts the starts of the program; while `idle` is there it does nothing.
      const program = writeScript(
        dir,
        'banctl',
        `echo "$1" >> ${calls}; [ ! -e ${idle} ] || exit 0; exec ${executable} "$@"`,
      );
      writeFileSync(idle, '');
      site = await startSite({ bandir, parameters: `, banctl="${program}"` });
      await site.tells('set', 'web', 'bantime', '1h');
      await site.tells('set', 'web', 'banip', ...attackers);
      await until('the bans', () => count(site.fail2ban.log(), / Ban /g) === attackers.length, {
        limit: 300_000,
      });
      await site.fail2ban.stop();
      rmSync(idle);
    });
    after(async () => {
      await site[Symbol.asyncDispose]();
      remove();
    });

    /** What the program was called for, and how often Apache reloaded, while `work` was done. */
    async function costs(work: () => Promise<void>) {
      const reloads = site.apache.reloads();
      writeFileSync(calls, '');
      await work();
      return {
        calls: read(calls).split('\n').filter(Boolean),
        reloads: site.apache.reloads() - reloads,
      };
    }

    /** Starts fail2ban, and awaits that the last of its restored bans has been through the action. */
    async function starts() {
      site.fail2ban.setJails(site.jails({ web: 'bantime = 1h' }, `, banctl="${join(dir, 'banctl')}"`));
      const from = site.fail2ban.log().length;
      await site.fail2ban.start();
      await until(
        'the bans to be restored',
        () => count(site.fail2ban.log().slice(from), / Restore Ban /g) === attackers.length,
        { limit: 300_000, detail: () => site.fail2ban.log().slice(-2000) },
      );
      await site.tells('set', 'web', 'banip', '198.51.100.1');
      await until('the ban after them', () => site.list().includes('| web 198.51.100.1 '), {
        limit: 300_000,
      });
      await site.tells('set', 'web', 'unbanip', '198.51.100.1');
      await until('its end', () => !site.list().includes('| web 198.51.100.1 '));
    }

    const oneMore = ['ban', 'unban'];

    async function refusedByAStart(reloads: number) {
      const start = await costs(starts);
      assert.deepEqual(start.calls, ['sync', ...oneMore]);
      assert.equal(start.reloads, bandir ? 0 : reloads + oneMore.length);
      assert.deepEqual((await site.listed()).bans.map((ban) => ban.address).sort(), attackers.toSorted());
      await site.answer(attackers, 403);
    }

    async function letInByAStop() {
      const stop = await costs(() => site.fail2ban.stop());
      assert.ok(stop.calls.length <= 2 && stop.calls.every((call) => call === 'flush'), stop.calls.join());
      assert.equal(stop.reloads, bandir ? 0 : 1);
      assert.equal(site.list(), '');
      await site.answer(attackers, 200);
    }

    test(`are refused again after a start, by one call and ${oneReload}`, () => refusedByAStart(1));

    test('cost no reload if fail2ban was killed and they are still there', async () => {
      await site.fail2ban.kill();
      await refusedByAStart(0);
    });

    test(`are let in by a stop, by ${oneReload}`, letInByAStop);

    test('are refused and let in the same way the next time', async () => {
      await refusedByAStart(1);
      await letInByAStop();
    });
  });

  suite('two jails that hold the same address', inOrder, () => {
    let site: Site;
    before(async () => {
      site = await startSite({ bandir, jails: { one: '', two: '' } });
    });
    after(() => site[Symbol.asyncDispose]());

    /** What making the bans took, for ban times that no slow machine outlasts. Seconds. */
    let pace = 1;
    const lasts = [
      { way: 'an unban', lets: (jail: string) => site.tells('set', jail, 'unbanip', ...both) },
      { way: 'the end of its ban time', doEnd: true, lets: async () => '' },
      { way: 'the stop of a jail', lets: (jail: string) => site.tells('stop', jail) },
    ];
    for (const { way, doEnd = false, lets } of lasts) {
      test(`${way} in the first leaves it refused, in the second lets it in`, async () => {
        const lasting = doEnd ? Math.ceil(3 + 2 * pace) : 600;
        const limit = 60_000 + 2000 * lasting;
        const begin = secondsNow();
        for (const [jail, bantime] of Object.entries({ one: lasting, two: 2 * lasting })) {
          await site.tells('set', jail, 'bantime', `${bantime}`);
          await site.bans(jail, ...both);
        }
        pace = Math.max(pace, secondsNow() - begin);
        assert.deepEqual(await site.holders(ipv6), ['one', 'two']);
        await site.answer(both, 403);
        await lets('one');
        for (const address of both)
          await until('the first hold to go', async () => (await site.holders(address)).join() === 'two', {
            limit,
          });
        await site.answer(both, 403);
        await lets('two');
        await until('the second hold to go', () => site.list() === '', { limit });
        await site.seen(both, 200);
        assert.equal(site.list(), '');
      });
    }
  });

  suite('a ban that ends while fail2ban is dead', inOrder, () => {
    let site: Site;
    before(async () => {
      // Two jails: one has nothing to restore, the other has.
      site = await startSite({ bandir, jails: { alone: '', together: 'bantime = 1h' } });
      const begin = secondsNow();
      await site.bans('together', others[1] ?? '');
      // On a slow machine the others last longer: they must not end before all are seen.
      const lasting = Math.ceil(4 + 5 * (secondsNow() - begin));
      for (const jail of ['alone', 'together']) await site.tells('set', jail, 'bantime', `${lasting}`);
      await site.bans('together', others[0] ?? '');
      await site.bans('alone', ...both);
      await site.seen([...both, ...others], 403);
      await site.fail2ban.kill();
      const { bans } = await site.listed();
      const ends = bans.flatMap((ban) => ban.holds).map((hold) => Date.parse(hold.until ?? '') / 1000);
      const end = Math.max(...ends.filter((time) => time < secondsNow() + 600));
      await until('the bans to end', () => secondsNow() > end, { limit: 2000 * lasting });
    });
    after(() => site[Symbol.asyncDispose]());

    test('stays until a call looks', () => site.answer([...both, ...others], 403));

    test('is lifted when fail2ban starts, also in a jail that has nothing to restore', async () => {
      site.fail2ban.setJails(site.jails({ alone: '', together: 'bantime = 1h' }));
      await site.fail2ban.start();
      await site.seen([...both, others[0] ?? ''], 200);
      assert.deepEqual(await site.holders(others[1] ?? ''), ['together']);
      await site.answer(others.slice(1), 403);
      assert.doesNotMatch(site.fail2ban.log(), /fail2ban\.(?:utils|actions) .* ERROR /);
    });
  });

  suite('an unban by hand', inOrder, () => {
    const { dir, remove } = temporary();
    let site: Site;
    before(async () => {
      site = await startSite({ bandir, jails: { one: '', two: '' } });
    });
    after(async () => {
      await site[Symbol.asyncDispose]();
      remove();
    });

    const byHand = [
      { what: 'unban', command: 'unban', args: both },
      {
        what: 'unban in another spelling',
        command: 'unban',
        args: ['203.0.113.5/32', '2001:DB8:0::0005'],
      },
      { what: 'flush --all', command: 'flush', args: ['--all'] },
    ];
    for (const { what, command, args } of byHand) {
      test(`${what} lifts the ban in each jail, so that the next offence bans at once`, async () => {
        for (const jail of ['one', 'two']) await site.bans(jail, ...both);
        await site.done('ban', ipv4, '--reason=by hand');
        await site.seen(both, 403);
        const said = await site.done(command, ...args);
        assert.deepEqual(
          said.split('\n').sort(),
          ['', ...both.map((address) => `${address} unbanned`)].sort(),
        );
        await site.answer(both, 200);
        for (const jail of ['one', 'two']) assert.deepEqual(await site.fail2ban.banned(jail), []);
        await site.bans('two', ...both);
        await site.seen(both, 403);
        await site.done('unban', ...both);
      });
    }

    test(`says in JSON that ${bandir ? 'Apache needed no reload' : 'Apache was reloaded'}`, async () => {
      await site.bans('one', ...both);
      const reloads = site.apache.reloads();
      const said = JSON.parse(await site.done('unban', ...both, '--json'));
      assert.deepEqual(said, {
        changed: true,
        results: both.map((address) => ({ address, status: 'unbanned' })),
        reload: bandir ? 'not-needed' : 'done',
      });
      assert.equal(site.apache.reloads() === reloads, bandir);
      await site.answer(both, 200);
    });

    test("with --jail releases that jail's hold only, without asking fail2ban", async () => {
      for (const jail of ['one', 'two']) await site.bans(jail, ipv4);
      assert.match(await site.done('unban', ipv4, '--jail=one'), /203\.0\.113\.5 still held by two/);
      assert.deepEqual(await site.fail2ban.banned('one'), [ipv4]);
      assert.deepEqual(await site.holders(ipv4), ['two']);
      await site.done('unban', ipv4);
      assert.deepEqual(await site.fail2ban.banned('one'), [], 'it held the address, though not in the list');
    });

    test('frees an address that only fail2ban holds', async () => {
      await site.bans('one', ipv4);
      await site.clear();
      assert.equal(await site.done('unban', ipv4), `${ipv4} not banned\n`);
      assert.deepEqual(await site.fail2ban.banned('one'), []);
      await site.bans('one', ipv4);
      await site.seen([ipv4], 403);
      await site.done('unban', ipv4);
    });

    const untold = [
      {
        who: 'a label that is no jail',
        client: [],
        says: /^banctl: fail2ban has no jail web: the unban did not reach it\n$/,
      },
      {
        who: 'a fail2ban that does not run',
        client: ['--fail2ban-client=fail2ban-client -s /nonexistent/socket'],
        says: /^banctl: fail2ban is not running: the unban did not reach it\n$/,
      },
      {
        who: 'a fail2ban that is not installed',
        client: ['--fail2ban-client=/nonexistent/fail2ban-client'],
        says: /^banctl: \/nonexistent\/fail2ban-client was not found: the unban did not reach it\n$/,
      },
      { who: '--no-fail2ban', client: ['--no-fail2ban'], says: /^$/ },
    ];
    for (const { who, client, says } of untold) {
      test(`goes on in spite of ${who}`, async () => {
        await site.done('ban', ipv6, '--jail=web');
        await site.answer([ipv6], 403);
        const { exitCode, stdout, stderr } = await site.run('unban', ipv6, ...client);
        assert.deepEqual([exitCode, stdout], [0, `${ipv6} unbanned\n`]);
        assert.match(stderr, says);
        await site.answer([ipv6], 200);
      });
    }

    test('holds no lock while fail2ban takes its time', async () => {
      const asked = join(dir, 'asked');
      const go = join(dir, 'go');
      const client = writeScript(
        dir,
        'hanging-client',
        `echo "$*" >> ${asked}; while [ ! -e ${go} ]; do sleep 0.02; done; exit 255`,
      );
      await site.done('ban', ipv4, '--jail=one');
      const unban = site.run('unban', ipv4, `--fail2ban-client=${client}`);
      await until('fail2ban to be asked', () => read(asked) !== '');
      await site.done('ban', others[0] ?? '', '--lock-timeout=0');
      await site.answer(others.slice(0, 1), 403);
      await site.answer([ipv4], 403);
      writeFileSync(go, '');
      const { exitCode, stderr } = await unban;
      assert.equal(exitCode, 0);
      assert.match(stderr, /fail2ban is not running/);
      assert.match(read(asked), new RegExp(`^set one unbanip ${ipv4}$`, 'm'));
      await site.answer([ipv4], 200);
      await site.answer(others.slice(0, 1), 403);
      await site.done('unban', others[0] ?? '');
    });

    test('leaves a ban that was made anew before it was done', async () => {
      await site.bans('one', ipv4);
      const { clientCommand } = site.fail2ban;
      const client = writeScript(
        dir,
        'offended-again',
        `${clientCommand} "$@"; code=$?
        case "$*" in *unbanip*)
          ${clientCommand} set one bantime 2h
          ${clientCommand} set one banip ${ipv4}
          until grep -q "| one ${ipv4} " ${bandir ? join(site.apache.bandir, ipv4) : site.apache.banlist}; do sleep 0.02; done
        esac >&2
        exit $code`,
      );
      const { exitCode, stdout } = await site.run('unban', ipv4, `--fail2ban-client=${client}`);
      assert.deepEqual([exitCode, stdout], [0, `${ipv4} still held by one\n`]);
      assert.deepEqual(await site.fail2ban.banned('one'), [ipv4]);
      await site.answer([ipv4], 403);
      await site.done('unban', ipv4);
    });
  });

  const configured = [', where the configuration alone names the directory', 'configured'] as const;
  for (const [by, where] of [['', bandir] as const, ...(bandir ? [configured] : [])])
    suite(`a ban that fail2ban restores${by}`, inOrder, () => {
      const { dir, remove } = temporary();
      const calls = join(dir, 'calls');
      const [kept, missing, another, torn] = ['203.0.113.31', '203.0.113.32', '203.0.113.33', '203.0.113.34'];
      let site: Site;
      before(async () => {
        // Without sync at its start, so that each restored ban meets the list as the test made it.
        const program = writeScript(
          dir,
          'banctl',
          `[ "$1" != sync ] || exit 0; echo "$*" >> ${calls}; exec ${executable} "$@"`,
        );
        site = await startSite({
          bandir: where,
          jails: { web: '', 'web-2': '' },
          parameters: `, banctl="${program}"`,
        });
        await site.bans('web', kept, missing, another, torn, '2001:db8::31');
        await site.bans('web-2', kept);
        await site.fail2ban.kill();
      });
      after(async () => {
        await site[Symbol.asyncDispose]();
        remove();
      });

      test('starts no program if its hold is there, and is put in if it is not', async () => {
        await site.done('unban', missing, another, '--no-fail2ban');
        await site.done('ban', another, '--jail=web-2');
        const tornFrom = bandir ? join(site.apache.bandir, torn) : site.apache.banlist;
        writeFileSync(tornFrom, read(tornFrom).replace(`\nRequire not ip ${torn}\n`, '\n'));
        await site.done('reload');
        await site.answer([missing], 200);
        await site.answer([torn], bandir ? 403 : 200); // Apache looks at the name of the file alone
        writeFileSync(calls, '');
        await site.fail2ban.start();
        await site.seen([kept, missing, another, torn, '2001:db8::31'], 403);
        await site.bans('web', others[0] ?? '');
        const wanted = [missing, another, torn, others[0]].map((address) => `web ${address}`).sort();
        const called = () => {
          const banned = [...read(calls).matchAll(/^ban .*--jail=(\S+) .*-- (\S+)$/gm)];
          return banned.map(([, jail, address]) => `${jail} ${address}`).sort();
        };
        await until('the program to be called', () => called().length >= wanted.length, {
          detail: () => read(calls),
        });
        assert.deepEqual(called(), wanted);
        assert.deepEqual(await site.holders(another), ['web', 'web-2']);
        assert.deepEqual(await site.holders(kept), ['web', 'web-2']);
      });
    });

  suite('what fail2ban holds and banctl must not ban', inOrder, () => {
    const good = '203.0.113.20';
    const ignored = '203.0.113.21';
    const inIgnoredRange = '2001:db8:1::21';
    const bad = ['203.0.113.300', 'localhost', 'all', '127.0.0.9', '::1', '198.51.100.77'];
    const ignoreip = `ignoreip = ${ignored} 2001:db8:1::/64 name.invalid`;
    let site: Site;
    before(async () => {
      site = await startSite({ bandir });
      await site.tells('set', 'web', 'bantime', '1h');
      await site.bans('web', ignored, inIgnoredRange);
      await site.tells('set', 'web', 'banip', ...bad);
      await site.tells('set', 'web', 'addignoreip', ignored, '2001:db8:1::/64', 'name.invalid');
      await site.bans('web', good);
      await until('fail2ban to hold them', async () => (await site.fail2ban.banned('web')).length === 9);
    });
    after(() => site[Symbol.asyncDispose]());

    const protect = '--protect=198.51.100.64/26';
    const unwanted = [...bad, ignored, inIgnoredRange];

    async function syncs(...args: string[]) {
      const { exitCode, stdout, stderr } = await site.run('sync', '--jail=web', protect, '--json', ...args);
      assert.equal(exitCode, 0, stderr);
      const { results } = JSON.parse(stdout) as { results: { address: string; status: string }[] };
      assert.deepEqual(addressesIn(site.list()), [good]);
      const named = results.filter(({ status }) => status === 'skipped').map(({ address }) => address);
      assert.deepEqual(named.sort(), unwanted.toSorted());
    }

    test('is never missing, and never banned by audit --fix', async () => {
      await site.clear();
      const { exitCode, stdout } = await site.run('audit', '--fix', protect);
      const [missing, ...others] = stdout.trimEnd().split('\n');
      assert.equal(missing, `missing: ${good}: jail web of fail2ban holds it, banctl does not (repaired)`);
      const named = others.map((line) => /^proxy-banned: (\S+): jail web wants it banned/.exec(line)?.[1]);
      assert.deepEqual(named.sort(), ['127.0.0.9', '198.51.100.77', '::1'], stdout);
      assert.equal(exitCode, 1);
      assert.deepEqual(addressesIn(site.list()), [good]);
      await site.answer([good], 403);
      await site.answer([ignored, inIgnoredRange, '198.51.100.77'], 200);
    });

    test('is skipped by sync and named, and what was banned before is let in', async () => {
      await site.done('ban', ignored, inIgnoredRange, '--jail=web');
      await syncs();
      await site.answer([ignored, inIgnoredRange], 200);
    });

    test('does not come back when fail2ban is stopped', async () => {
      await site.fail2ban.stop();
      assert.equal(site.list(), '');
      await site.answer([good], 200);
      const audit = await site.run('audit', '--fix');
      assert.equal(audit.exitCode, 1);
      assert.match(audit.stdout, /^fail2ban-down: [^\n]*jail web does not ban[^\n]*\n$/);
      assert.equal(site.list(), '');
      const says = {
        'sync --jail=web': 'fail2ban is not running; nothing was changed\n',
        reload: 'apache has loaded the latest list\n',
      };
      for (const [line, said] of Object.entries(says)) {
        const [command = '', ...args] = line.split(' ');
        assert.equal(await site.done(command, ...args), said, line);
        assert.equal(site.list(), '');
      }
      await site.answer([good], 200);
    });

    test('is skipped by sync --from-database and named', async () => {
      site.fail2ban.setJails(site.jails({ web: ignoreip }, ', protect="198.51.100.64/26"'));
      await syncs('--from-database', `--fail2ban-db=${site.fail2ban.db}`);
    });

    test('does not come back when fail2ban starts', async () => {
      const from = site.fail2ban.log().length;
      await site.fail2ban.start();
      await site.fail2ban.awaitLog(/Restore Ban 198\.51\.100\.77/, from);
      await site.bans('web', others[0] ?? '');
      assert.deepEqual(addressesIn(site.list()).sort(), [good, others[0]].sort());
      await site.answer([ignored, inIgnoredRange, '198.51.100.77'], 200);
    });
  });

  suite('sync', inOrder, () => {
    const { dir, remove } = temporary();
    let site: Site;
    const foreign = '# mine\nRequire not ip 198.51.100.9\n';
    before(async () => {
      site = await startSite({ bandir, jails: { web: '', idle: '' } });
      await site.bans('web', ...both);
    });
    after(async () => {
      await site[Symbol.asyncDispose]();
      remove();
    });

    test('gives each hold the times that fail2ban has, and leaves what others hold', async () => {
      await site.tells('set', 'web', 'bantime', '7200');
      await site.done('ban', ipv4, '--jail=other');
      await site.done('ban', others[0] ?? '', '--jail=web', '--for=1h');
      writeFileSync(site.apache.banlist, `${foreign}${read(site.apache.banlist)}`);
      await site.done('sync', '--jail=web');
      assert.ok(site.list().startsWith(foreign));
      assert.deepEqual(await site.holders(ipv4), ['other', 'web']);
      assert.deepEqual(await site.holders(others[0] ?? ''), []);
      const { bans } = await site.listed();
      const held = bans.flatMap((ban) => ban.holds).filter((hold) => hold.holder === 'web');
      assert.equal(held.length, 2);
      const told = await site.tells('get', 'web', 'banip', '--with-time');
      for (const { address, since, until: end } of held) {
        assert.equal(Date.parse(end ?? '') - Date.parse(since ?? ''), 7_200_000);
        const [, time = ''] = new RegExp(`^${address} \t(\\S+ \\S+) \\+ 7200`, 'm').exec(told) ?? [];
        assert.equal(Date.parse(since ?? ''), Date.parse(time), told);
      }
      await site.answer([...both, '198.51.100.9'], 403);
    });

    test('changes nothing, and reloads nothing, where nothing differs', async () => {
      const reloads = site.apache.reloads();
      const list = site.list();
      const document = JSON.parse(await site.done('sync', '--jail=web', '--json'));
      assert.equal(document.changed, false);
      assert.equal(document.reload, 'not-needed');
      assert.equal(site.list(), list);
      assert.equal(site.apache.reloads(), reloads);
    });

    test('takes over a ban for ever as one', async () => {
      await site.tells('set', 'idle', 'bantime', '-1');
      await site.bans('idle', others[1] ?? '');
      await site.done('unban', others[1] ?? '', '--jail=idle');
      await site.done('sync', '--jail=idle');
      const { bans } = await site.listed();
      assert.deepEqual(
        bans.filter((ban) => ban.address === others[1]).map((ban) => ban.holds.map((hold) => hold.until)),
        [[null]],
      );
    });

    test('does the same from the database, while fail2ban writes it', async () => {
      const burst = Array.from({ length: 12 }, (_, index) => `203.0.113.${100 + index}`);
      await site.tells('set', 'idle', 'banip', ...burst);
      const last = () => site.list().includes(`| idle ${burst.at(-1)} `);
      do await site.done('sync', '--jail=web', '--from-database', `--fail2ban-db=${site.fail2ban.db}`);
      while (!last());
      assert.doesNotMatch(site.fail2ban.log(), / ERROR /);
      assert.deepEqual(await site.holders(burst[0] ?? ''), ['idle']);
      assert.deepEqual(await site.holders(ipv6), ['web']);
    });

    const nothing = [
      {
        what: 'a jail that fail2ban does not have',
        args: ['--jail=none'],
        says: /^fail2ban has no jail none$/,
      },
      {
        what: 'a fail2ban that does not run',
        args: ['--jail=web', '--fail2ban-client=fail2ban-client -s /nonexistent/socket'],
        says: /^fail2ban is not running$/,
      },
      {
        what: 'a jail that its database does not have',
        args: ['--jail=none', '--from-database'],
        says: /^fail2ban's database \(\/.*\) has no jail none$/,
      },
      {
        what: 'a fail2ban without a database',
        args: ['--jail=web', '--from-database', '--fail2ban-db=/nonexistent/fail2ban.sqlite3'],
        says: /^fail2ban's database \(\/nonexistent\/fail2ban\.sqlite3\) has no jail web$/,
      },
    ];
    for (const { what, args, says } of nothing) {
      test(`changes nothing for ${what}, says so, and ends with 0`, async () => {
        const list = site.list();
        const database = args.length === 2 && args[1] === '--from-database';
        const said = await site.done(
          'sync',
          ...args,
          ...(database ? [`--fail2ban-db=${site.fail2ban.db}`] : []),
        );
        assert.match(said, /^[^\n]*; nothing was changed\n$/);
        assert.match(said.replace('; nothing was changed\n', ''), says);
        assert.equal(site.list(), list);
      });
    }

    /** Makes something of the database, and gives what puts an end to it. */
    const unreadable: Record<string, (path: string) => (() => void) | undefined> = {
      corrupt: (path) => {
        const bytes = readFileSync(path);
        writeFileSync(path, bytes.fill(0x41, 0, 4096));
        return undefined;
      },
      'no database': (path) => {
        writeFileSync(path, 'this is a text\n');
        return undefined;
      },
      'a directory': (path) => {
        rmSync(path);
        mkdirSync(path);
        return undefined;
      },
      'of another program': (path) => {
        rmSync(path);
        const database = new DatabaseSync(path);
        database.exec('CREATE TABLE jails(title TEXT); CREATE TABLE bips(ip TEXT)');
        database.close();
        return undefined;
      },
      'locked by another process for too long': (path) => {
        const database = new DatabaseSync(path);
        database.exec('BEGIN EXCLUSIVE');
        return () => database.close();
      },
    };
    for (const [what, spoil] of Object.entries(unreadable)) {
      test(`changes nothing if the database is ${what}, and ends with 78 and one line`, async () => {
        const path = join(dir, `${what}.sqlite3`);
        copyFileSync(site.fail2ban.db, path);
        const end = spoil(path);
        const list = site.list();
        const finished = await site.run('sync', '--jail=web', '--from-database', `--fail2ban-db=${path}`);
        end?.();
        assert.deepEqual([finished.exitCode, finished.stdout], [78, '']);
        assert.match(
          finished.stderr,
          /^banctl: cannot read fail2ban's database [^\n]*nothing was changed\n$/,
        );
        assert.ok(finished.stderr.includes(path));
        assert.equal(site.list(), list);
      });
    }

    test('waits for a database that is locked for a moment', async () => {
      const path = join(dir, 'busy.sqlite3');
      copyFileSync(site.fail2ban.db, path);
      const database = new DatabaseSync(path);
      database.exec('BEGIN EXCLUSIVE');
      await site.done('unban', ipv4, '--jail=web');
      const sync = site.done('sync', '--jail=web', '--from-database', `--fail2ban-db=${path}`);
      const isDone = await Promise.race([
        sync.then(() => true),
        until('a while', () => false, { limit: 500 }).catch(() => false),
      ]);
      assert.equal(isDone, false);
      database.close();
      await sync;
      assert.deepEqual(await site.holders(ipv4), ['other', 'web']);
    });

    test('makes no new ban if it cannot learn what the jail ignores', async () => {
      await site.done('unban', ipv6, '--jail=web');
      appendFileSync(
        site.apache.banlist,
        '# banctl | web 203.0.113.99 since 2026-01-01T00:00:00Z for ever\nRequire not ip 203.0.113.99\n',
      );
      await site.done(
        'sync',
        '--jail=web',
        '--from-database',
        `--fail2ban-db=${site.fail2ban.db}`,
        '--fail2ban-client=/nonexistent/fail2ban-client',
      );
      assert.deepEqual(await site.holders(ipv6), []);
      assert.deepEqual(await site.holders('203.0.113.99'), []);
      assert.deepEqual(await site.holders(ipv4), ['other', 'web']);
    });

    test('needs a jail', async () => {
      const { exitCode, stderr } = await site.run('sync');
      assert.deepEqual([exitCode, stderr], [64, 'banctl: sync needs --jail NAME\n']);
    });
  });
}

suite('fail2ban and banctl', { concurrency: places.length }, () => {
  for (const { place, bandir } of places)
    suite(`fail2ban and ${place}`, { concurrency: 2 }, () => bansIn(bandir));
});

function count(text: string, pattern: RegExp): number {
  return text.match(pattern)?.length ?? 0;
}

/** The addresses of a list's lines. */
function addressesIn(list: string): string[] {
  return [...list.matchAll(/^Require not ip (\S+)$/gm)].map(([, address = '']) => address);
}
