// What of banctl depends on fail2ban's version, with each that is in use: the kit's filter, jail and action over the
// jail.conf of that version, what its client answers, and its database. All else is tested with the one installed.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import {
  configuration,
  configuredActions,
  heldBans,
  ignoredBy,
  jailActions,
  jailNames,
  jailsHolding,
  unbanIn,
} from '../../src/fail2ban/client.ts';
import { bansInDatabase } from '../../src/fail2ban/database.ts';
import { type Apache, kit, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { type Fail2ban, fail2banVersions, startFail2ban } from '../lab/fail2ban.ts';
import { tail, until } from '../lab/wait.ts';

const jail = 'djangoapp-admin-login';
const A = '203.0.113.5';
const B = '2001:db8::5';
const C = '203.0.113.7';
const RANGE = '198.51.100.0/24';

/** A site with too few children makes requests after a reload wait for Apache's next look at them. */
const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';

test('each line of development is tested, where an archive of Debian is known', () => {
  const isDebian = /^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8'));
  assert.ok(fail2banVersions.length === 3 || !isDebian, fail2banVersions.join());
});

/** What the database has for the jail. */
function rowsOf(path: string, now: number) {
  const read = bansInDatabase(path, [jail], now);
  assert.ok(read.ok, JSON.stringify(read));
  return read.value?.rows ?? [];
}

suite('fail2ban', { concurrency: 2 }, () => {
  for (const version of fail2banVersions) {
    suite(version, { concurrency: 1 }, () => {
      const servers = new AsyncDisposableStack();
      let apache: Apache;
      let fail2ban: Fail2ban;
      before(async () => {
        apache = servers.use(
          await startApache({ mpm, remoteip: true, server: kit('djangoapp-login-log.conf') }),
        );
        const started = await startFail2ban({
          version,
          stock: true,
          jails: '',
          jailFiles: [
            `${jail}.local`,
            [
              'server.local',
              `[${jail}]
logpath = ${join(apache.dir, 'djangoapp-login.log')}
backend = polling
ignoreip = 192.0.2.0/24 localhost
action = apache-banlist[jail=%(__name__)s, banctl="${executable}", banlist="${apache.banlist}", apachectl="${apache.ctl}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3"]
`,
            ],
          ],
        });
        fail2ban = servers.use(started);
      });
      after(() => servers.disposeAsync());

      const list = () => readFileSync(apache.banlist, 'utf8');
      const detail = () => tail(fail2ban.log(), 20);
      const seen = (from: string, status: number) =>
        until(`${from} to get ${status}`, async () => (await apache.get('/', { from })) === status, {
          detail,
        });
      const tells = async (...args: string[]) => {
        const { exitCode, stdout, stderr } = await fail2ban.client(...args);
        assert.equal(exitCode, 0, stdout + stderr);
      };
      const own = () => [
        `--banlist=${apache.banlist}`,
        `--apachectl=${apache.ctl}`,
        '--reload-interval=0',
        `--fail2ban-client=${fail2ban.clientCommand}`,
      ];
      const done = async (...args: string[]) => {
        const { exitCode, stdout, stderr } = await banctl([...args, ...own()]);
        assert.equal(exitCode, 0, stdout + stderr);
        return stdout;
      };

      test('is of this version, reads the kit, and complains of nothing', async () => {
        assert.match((await fail2ban.client('--version')).stdout, new RegExp(`v${version}$`, 'm'));
        assert.doesNotMatch(fail2ban.log(), /ERROR|WARNING (?!New database)|Unable to read|skipped/i);
        assert.deepEqual(await jailNames(fail2ban.clientCommand), { ok: true, value: [jail] });
      });

      test('bans after the fifth failure in the log, for the time and with the reason of the jail', async () => {
        for (let count = 0; count < 5; count += 1) await apache.login(401, { from: A });
        await seen(A, 403);
        await tells('set', jail, 'banip', B, RANGE);
        await seen(B, 403);
        await seen('198.51.100.9', 403);
        await seen(C, 200);
        assert.match(
          list(),
          new RegExp(`^# banctl \\| ${jail} ${A} since \\S+Z until \\S+Z: 5 failures\nRequire not ip ${A}\n`),
        );
      });

      test('answers what banctl asks', async () => {
        const { clientCommand } = fail2ban;
        const [jails, held, holding, ignored, configured, actions, none, untold] = await Promise.all([
          jailNames(clientCommand),
          heldBans(clientCommand, jail),
          jailsHolding(clientCommand, [A, C, RANGE]),
          ignoredBy(clientCommand, jail),
          configuration(clientCommand),
          jailActions(clientCommand, jail),
          heldBans(clientCommand, 'none'),
          unbanIn(clientCommand, 'none', [A]),
        ]);
        assert.deepEqual(jails, { ok: true, value: [jail] });
        assert.ok(held.ok, JSON.stringify(held));
        assert.deepEqual(held.value.map((ban) => ban.address).sort(), [RANGE, A, B].sort());
        for (const { since, until } of held.value) {
          assert.equal((until ?? 0) - since, 3600);
          assert.ok(Math.abs(Date.now() / 1000 - since) < 60);
        }
        assert.deepEqual(holding, { ok: true, value: [[jail], [], [jail]] });
        assert.deepEqual(ignored.ok && ignored.value.toSorted(), ['192.0.2.0/24', 'localhost']);
        assert.ok(configured.ok);
        const [inFiles] = configured.value.jails;
        assert.deepEqual(inFiles?.ignored.toSorted(), ['192.0.2.0/24', 'localhost']);
        assert.deepEqual(inFiles && configuredActions(inFiles), actions);
        const [action] = actions;
        assert.deepEqual(action, {
          jail,
          holder: jail,
          banlist: apache.banlist,
          bandir: '',
          ipv6Prefix: '',
        });
        assert.deepEqual(none, { ok: false, why: 'fail2ban has no jail none', state: 'no-jail' });
        assert.equal(untold, 'fail2ban has no jail none');
      });

      test('has in its database what it holds', async () => {
        const stored = () => rowsOf(fail2ban.db, Date.now() / 1000);
        await until('the rows', () => stored().length === 3, { detail }); // written by another thread
        const held = await heldBans(fail2ban.clientCommand, jail);
        assert.ok(held.ok);
        for (const ban of held.value) {
          const row = stored().find(({ address }) => address === ban.address);
          // One of the two is rounded.
          assert.ok(
            Math.abs((row?.since ?? 0) - ban.since) <= 1,
            `${ban.address}: ${row?.since}, ${ban.since}`,
          );
          assert.ok(
            Math.abs((row?.since ?? 0) + (row?.lasts ?? 0) - (ban.until ?? 0)) <= 1,
            `${ban.address}: ${row?.lasts}, ${ban.until}`,
          );
        }
      });

      test('learns of an unban by hand, and passes its own on to banctl', async () => {
        await done('unban', A);
        assert.equal(await apache.get('/', { from: A }), 200);
        assert.deepEqual(await fail2ban.banned(jail), [RANGE, B].sort());
        await tells('set', jail, 'unbanip', B);
        await seen(B, 200);
      });

      test('lifts all bans at its stop, and restores them at its start', async () => {
        await tells('set', jail, 'banip', A, B);
        await seen(A, 403);
        await seen(B, 403);
        const from = fail2ban.log().length;
        await fail2ban.stop();
        await seen(A, 200);
        assert.equal(list(), '');
        await fail2ban.start();
        for (const address of [A, B, '198.51.100.9']) await seen(address, 403);
        await fail2ban.awaitLog(new RegExp(`Restore Ban ${A}`));
        assert.doesNotMatch(fail2ban.log().slice(from), /ERROR/);
      });

      test('lifts all bans of both families with unban --all, each time', async () => {
        for (const _ of [1, 2]) {
          await tells('set', jail, 'banip', A, B);
          await seen(A, 403);
          await seen(B, 403);
          await tells('unban', '--all');
          for (const address of [A, B, '198.51.100.9']) await seen(address, 200);
          assert.equal(list(), '');
        }
      });

      test('goes on after a ban that failed, and a sync makes up for it', async () => {
        const aside = `${apache.banlist}.aside`;
        renameSync(apache.banlist, aside);
        mkdirSync(apache.banlist);
        const from = fail2ban.log().length;
        await tells('set', jail, 'banip', A);
        await fail2ban.awaitLog(/ERROR .*not a regular file|ERROR .*directory/, from);
        await fail2ban.awaitLog(/ERROR +Failed to execute ban jail/, from);
        rmdirSync(apache.banlist);
        renameSync(aside, apache.banlist);
        assert.equal(await apache.get('/', { from: A }), 200);
        await tells('set', jail, 'banip', C);
        await seen(C, 403);
        assert.match(await done('sync', `--jail=${jail}`), new RegExp(`^${A} banned$`, 'm'));
        assert.equal(await apache.get('/', { from: A }), 403);
        await tells('set', jail, 'unbanip', A);
        await seen(A, 200);
      });

      test('lifts at its start what has ended while it was dead', async () => {
        await tells('set', jail, 'bantime', '2');
        await tells('set', jail, 'banip', A);
        await seen(A, 403);
        await until('the row', () => rowsOf(fail2ban.db, 0).some(({ address }) => address === A), {
          detail,
        });
        await fail2ban.kill();
        await until('the end of the ban', () =>
          rowsOf(fail2ban.db, Date.now() / 1000).every(({ address }) => address !== A),
        );
        await fail2ban.start();
        await seen(A, 200);
        await seen(C, 403);
      });
    });
  }
});
