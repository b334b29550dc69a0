// From a line in Apache's log to 403, and back to 200: real Apache, real fail2ban, and the kit's filter, jail, action and
// snippet. All that counts is what visitors get.
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Apache, type ApacheOptions, kit, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { type Fail2ban, type Fail2banOptions, startFail2ban } from '../lab/fail2ban.ts';
import { shellAction } from '../lab/shell-action.ts';
import { read } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

/** A way in which bans are enforced. */
interface Way {
  readonly name: string;
  /** What goes into the site's configuration. */
  readonly site: NonNullable<ApacheOptions['site']>;
  /** For banctl called by hand. */
  options(apache: Apache): string[];
  /** The same for the action, as in a jail. */
  parameters(apache: Apache): string;
  /** The same as banctl's environment, for a jail that does not say it. */
  environment(apache: Apache): string;
  /** What banctl keeps of a ban; empty if there is none. */
  record(apache: Apache, address: string): string;
  /** A change of a single address is a reload. Ranges are in the list, and reloaded, in any way. */
  readonly reloads: boolean;
}

const ways: readonly Way[] = [
  {
    name: 'the banlist',
    site: kit('djangoapp-banlist.conf'),
    options: ({ banlist, ctl }) => [`--banlist=${banlist}`, `--apachectl=${ctl}`],
    parameters: ({ banlist, ctl }) => `banlist="${banlist}", apachectl="${ctl}"`,
    environment: () => '',
    record: (apache, address) => recordIn(listOf(apache), address),
    reloads: true,
  },
  {
    name: 'the ban directory',
    site: kit('djangoapp-banlist.conf'),
    options: ({ banlist, bandir, ctl }) => [
      `--banlist=${banlist}`,
      `--bandir=${bandir}`,
      `--apachectl=${ctl}`,
    ],
    parameters: ({ banlist, bandir, ctl }) => `banlist="${banlist}", bandir="${bandir}", apachectl="${ctl}"`,
    environment: ({ bandir }) => `BANCTL_BANDIR="${bandir}"`,
    record: ({ bandir }, address) => recordIn(read(join(bandir, address)), address),
    reloads: false,
  },
];
const [banlistWay] = ways;

/** Ways and suites run side by side, for much of the time is fail2ban's sleep; the tests in one suite have one Apache. */
const sideBySide = { concurrency: 2 };
const inOrder = { concurrency: 1 };

/** With one or two children a request after a reload often waits for a new one: Apache looks once a second. */
const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';

const kitJail = 'djangoapp-admin-login';
const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';
const both = [ipv4, ipv6];
const neighbours = ['203.0.113.6', '2001:db8::6'];

const listOf = ({ banlist }: Apache) => read(banlist);

/** The names in the ban directory, but for locks and temporary files. */
const filesOf = ({ bandir }: Apache) =>
  existsSync(bandir) ? readdirSync(bandir).filter((name) => !/\.lock$|\.banctl-/.test(name)) : [];

/** The comment above the line that bans the address. */
function recordIn(list: string, address: string): string {
  const lines = list.split('\n');
  const at = lines.indexOf(`Require not ip ${address}`);
  return at === -1 ? '' : (lines[at - 1] ?? '');
}

/** Fails the test unless what was done to single addresses since then was as many reloads as this way needs: none, or some. */
function assertReloads(way: Way, apache: Apache, since = 0) {
  const reloads = apache.reloads() - since;
  if (way.reloads) assert.ok(reloads > 0, 'no reload');
  else assert.equal(reloads, 0, `${reloads} reloads`);
}

/** What a visitor from there gets; ::1 and 127.0.0.0/8 are real, others come through a proxy. */
function get(apache: Apache, from: string): Promise<number> {
  return apache.get('/', from === '::1' ? { v6: true } : { from });
}

async function answers(apache: Apache, visitors: readonly string[]): Promise<Record<string, number>> {
  const entries: [string, number][] = [];
  for (const from of visitors) entries.push([from, await get(apache, from)]);
  return Object.fromEntries(entries);
}

const all = (visitors: readonly string[], status: number) =>
  Object.fromEntries(visitors.map((from) => [from, status]));

/** Awaits that each of them gets this. */
async function seen(apache: Apache, visitors: readonly string[], status: number, fail2ban?: Fail2ban) {
  for (const from of visitors) {
    await until(`${from} to get ${status}`, async () => (await get(apache, from)) === status, {
      detail: () => `${listOf(apache)}\n${fail2ban?.log().split('\n').slice(-30).join('\n') ?? ''}`,
    });
  }
}

async function byHand(way: Way, apache: Apache, ...args: string[]) {
  const { exitCode, stdout, stderr } = await banctl([...args, ...way.options(apache), '--reload-interval=0']);
  assert.equal(exitCode, 0, `${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

/** A jail that uses the shipped action. */
function jail(name: string, action: string, more = ''): string {
  return `[${name}]\nenabled = true\nfilter = ${kitJail}\nlogpath = DIR/access.log\naction = ${action}\n${more}\n`;
}

/** The action as in the shipped jail; every change waits for its reload. */
function action(way: Way, apache: Apache): string {
  return `apache-banlist[jail=%(__name__)s, banctl="${executable}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3", ${way.parameters(apache)}]`;
}

async function bans(fail2ban: Fail2ban, name: string, ...addresses: string[]) {
  const { exitCode, stdout, stderr } = await fail2ban.client('set', name, 'banip', ...addresses);
  assert.equal(exitCode, 0, stdout + stderr);
}

/** Starts fail2ban again, and awaits that it has restored its bans: until then it runs no unban. */
async function restarts(fail2ban: Fail2ban, name: string, isBanned: (address: string) => boolean) {
  await fail2ban.start();
  const last = '198.51.100.250'; // one action after the other
  await bans(fail2ban, name, last);
  await until('the bans to be restored', () => isBanned(last), { detail: fail2ban.log });
  await unbans(fail2ban, name, last);
}

async function unbans(fail2ban: Fail2ban, name: string, ...addresses: string[]) {
  const { exitCode, stdout, stderr } = await fail2ban.client('set', name, 'unbanip', ...addresses);
  assert.equal(exitCode, 0, stdout + stderr);
}

/** Starts a server with programs of these names and texts first in its PATH. */
function withPrograms<T>(dir: string, programs: Record<string, string>, start: () => Promise<T>): Promise<T> {
  const bin = join(dir, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const [name, text] of Object.entries(programs)) writeProgram(join(bin, name), text);
  const path = process.env.PATH;
  process.env.PATH = `${bin}:${path}`;
  const started = start(); // It spawns at once, beside other tests.
  process.env.PATH = path;
  return started;
}

function writeProgram(path: string, text: string): string {
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Ends what was started, last first, also after a failed test. */
class Servers {
  readonly #started: AsyncDisposable[] = [];
  async apache(options: ApacheOptions): Promise<Apache> {
    const apache = await startApache({ mpm, ...options });
    this.#started.push(apache);
    return apache;
  }
  async fail2ban(options: Fail2banOptions): Promise<Fail2ban> {
    const fail2ban = await startFail2ban(options);
    this.#started.push(fail2ban);
    return fail2ban;
  }
  async end() {
    for (const server of this.#started.splice(0).reverse()) await server[Symbol.asyncDispose]();
  }
}

const places = [
  { place: 'behind a proxy', remoteip: true, attackers: both, others: neighbours },
  // Loopback is protected, so fail2ban calls banctl with --force here.
  { place: 'direct', remoteip: false, attackers: ['127.0.0.5', '::1'], others: ['127.0.0.6'] },
];

/** Beginning and end of the first hold, in seconds. */
function timesIn(record: string): number[] {
  const [, ...times] = / since (\S+Z) until (\S+Z)/.exec(record) ?? [];
  return times.map((time) => Date.parse(time) / 1000);
}

/** The way from the log to the ban and back, with the shipped jail. */
function failedLogins(way: Way, { place, remoteip, attackers, others }: (typeof places)[number]) {
  suite(`failed logins ${place}, with the jail as shipped`, inOrder, () => {
    const servers = new Servers();
    let apache: Apache;
    let fail2ban: Fail2ban;
    before(async () => {
      apache = await servers.apache({ remoteip, site: way.site, server: kit('djangoapp-login-log.conf') });
      const program = writeProgram(
        join(apache.dir, 'banctl'),
        `BANCTL_FORCE=${remoteip ? 0 : 1} exec "${executable}" "$@"`,
      );
      fail2ban = await servers.fail2ban({
        stock: true,
        jails: '',
        jailFiles: [
          `${kitJail}.local`,
          [
            'server.local',
            `[${kitJail}]\nlogpath = ${join(apache.dir, 'djangoapp-login.log')}\naction = apache-banlist[jail=%(__name__)s, banctl="${program}", dbfile="DIR/fail2ban.sqlite3", ${way.parameters(apache)}]\n`,
          ],
        ],
      });
    });
    after(() => servers.end());

    const visit = (from: string) => (from === '::1' ? { v6: true } : { from });
    async function fail(from: string, times = 5) {
      for (let time = 0; time < times; time += 1) {
        const answer = ([200, 401, 403] as const)[time % 3] ?? 200;
        assert.equal(await apache.login(answer, visit(from)), answer);
      }
    }

    test('four failures and any number of successful logins ban no visitor', async () => {
      for (const from of attackers) await fail(from, 4);
      for (const from of others) {
        for (let time = 0; time < 9; time += 1) assert.equal(await apache.login(302, visit(from)), 302);
      }
      assert.deepEqual(await answers(apache, [...attackers, ...others]), all([...attackers, ...others], 200));
    });

    test('the fifth gets them refused, and no other visitor', async () => {
      for (const from of attackers) await fail(from, 1);
      await seen(apache, attackers, 403, fail2ban);
      assert.equal(await apache.login(302, visit(attackers[0] ?? '')), 403);
      assert.deepEqual(await answers(apache, others), all(others, 200));
      for (const from of attackers)
        assert.match(way.record(apache, from), /djangoapp-admin-login .*: 5 failures$/);
    });

    test('fail2ban-client unbanip lets them in again', async () => {
      await unbans(fail2ban, kitJail, ...attackers);
      await seen(apache, attackers, 200, fail2ban);
    });

    test('when the ban time is over they are let in again', async () => {
      // Long enough for the last to be refused on a busy machine before the first is let in.
      await fail2ban.client('set', kitJail, 'bantime', '10');
      for (const from of attackers) await fail(from);
      await seen(apache, attackers, 403, fail2ban);
      await seen(apache, attackers, 200, fail2ban);
    });

    test('banctl unban lets them in again, and the next five failures get them refused again', async () => {
      await fail2ban.client('set', kitJail, 'bantime', '1h');
      for (let time = 0; time < 2; time += 1) {
        for (const from of attackers) await fail(from);
        await seen(apache, attackers, 403, fail2ban);
        await byHand(way, apache, 'unban', ...attackers, `--fail2ban-client=${fail2ban.clientCommand}`);
        assert.deepEqual(await answers(apache, attackers), all(attackers, 200));
        assert.deepEqual(await fail2ban.banned(kitJail), []);
      }
    });

    test(way.reloads ? 'Apache loaded all this by reloads' : 'nothing of all this was a reload', () =>
      assertReloads(way, apache),
    );

    test('fail2ban had nothing to complain of', () => {
      const complaints = fail2ban.log().match(/^.* (?:ERROR|WARNING|CRITICAL) .*$/gm);
      assert.deepEqual(
        complaints?.filter((line) => !line.includes('New database created')),
        [],
      );
    });
  });
}

/** What fail2ban can do to a ban. */
function jails(way: Way) {
  suite('two jails with one place for their bans', inOrder, () => {
    const servers = new Servers();
    let apache: Apache;
    let fail2ban: Fail2ban;
    before(async () => {
      apache = await servers.apache({ remoteip: true, site: way.site });
      // For the test with commands in place of addresses, which may hold no slash.
      process.env.RAN = join(apache.dir, 'ran');
      fail2ban = await servers.fail2ban({
        jails: ['one', 'two'].map((name) => jail(name, action(way, apache))).join(''),
      });
    });
    after(() => servers.end());

    test('a ban of both ends with the second unban (the first unban lifted both)', async () => {
      await bans(fail2ban, 'one', ...both);
      await bans(fail2ban, 'two', ...both);
      for (const address of both) {
        await until('both holds', () => /one .*two /.test(way.record(apache, address)));
      }
      await unbans(fail2ban, 'one', ...both);
      for (const address of both) {
        await until('the first hold to go', () => !way.record(apache, address).includes(' one '));
      }
      await seen(apache, both, 403);
      await unbans(fail2ban, 'two', ...both);
      await seen(apache, both, 200, fail2ban);
      assertReloads(way, apache);
      assert.deepEqual(filesOf(apache), []);
    });

    test('unban --all lifts the bans of both families, each time', async () => {
      for (let time = 0; time < 2; time += 1) {
        await bans(fail2ban, 'one', ...both);
        await bans(fail2ban, 'two', neighbours[0] ?? '');
        await seen(apache, [...both, neighbours[0] ?? ''], 403, fail2ban);
        await fail2ban.client('unban', '--all');
        await seen(apache, [...both, neighbours[0] ?? ''], 200, fail2ban);
      }
    });

    test('a stop lifts the bans of both families, a start brings them back, each time', async () => {
      const reloads = apache.reloads();
      await bans(fail2ban, 'one', ...both);
      for (let time = 0; time < 2; time += 1) {
        await seen(apache, both, 403, fail2ban);
        await fail2ban.stop();
        assert.deepEqual(await answers(apache, both), all(both, 200));
        assert.deepEqual([listOf(apache), filesOf(apache)], ['', []]);
        await restarts(fail2ban, 'one', (address) => way.record(apache, address) !== '');
      }
      await seen(apache, both, 403, fail2ban);
      for (const address of both) {
        assert.doesNotMatch(way.record(apache, address), /two/);
        await unbans(fail2ban, 'one', address);
      }
      await seen(apache, both, 200, fail2ban);
      assertReloads(way, apache, reloads);
    });

    test('a restored ban keeps its beginning and its end', async () => {
      await bans(fail2ban, 'one', ipv4);
      await seen(apache, [ipv4], 403, fail2ban);
      const record = way.record(apache, ipv4);
      assert.match(record, / since .* until /);
      await fail2ban.stop();
      await restarts(fail2ban, 'one', (address) => way.record(apache, address) !== '');
      await seen(apache, [ipv4], 403, fail2ban);
      const [since = 0, end = 0] = timesIn(record);
      const [sinceNow = 0, endNow = 0] = timesIn(way.record(apache, ipv4));
      // fail2ban rounds the time for its database.
      assert.ok(
        Math.abs(sinceNow - since) <= 1 && endNow - sinceNow === end - since,
        way.record(apache, ipv4),
      );
      await unbans(fail2ban, 'one', ipv4);
      await seen(apache, [ipv4], 200, fail2ban);
    });

    test('a range is banned and unbanned as a range, by reloads', async () => {
      const reloads = apache.reloads();
      const inside = ['198.51.100.128', '198.51.100.255', '2001:db8:7::', '2001:db8:7:0:ffff:ffff:ffff:ffff'];
      const outside = [
        '198.51.100.127',
        '198.51.101.0',
        '2001:db8:6:ffff:ffff:ffff:ffff:ffff',
        '2001:db8:7:1::',
      ];
      await bans(fail2ban, 'one', '198.51.100.128/25', '2001:db8:7::/64');
      await seen(apache, inside, 403, fail2ban);
      assert.ok(apache.reloads() > reloads);
      assert.deepEqual(await answers(apache, outside), all(outside, 200));
      await unbans(fail2ban, 'one', '198.51.100.128/25', '2001:db8:7::/64');
      await seen(apache, inside, 200, fail2ban);
    });

    test('a text that is not an address bans no visitor and runs nothing', async () => {
      const values = [
        '1.2.3.999',
        '203.0.113',
        'localhost',
        'all',
        '203.0.113.7,203.0.113.8',
        '203.0.113.7 203.0.113.8',
        '"; touch "$RAN" #',
        '\'; touch "$RAN" #',
        '$(touch "$RAN")',
        '`touch "$RAN"`',
        'x\ntouch "$RAN"',
        '--force',
        '-',
        '*',
      ];
      const from = fail2ban.log().length;
      for (const value of values) await bans(fail2ban, 'one', value);
      const failed = () => fail2ban.log().slice(from).split('Failed to execute ban').length - 1;
      await until('each to fail', () => failed() === values.length, { detail: fail2ban.log });
      await bans(fail2ban, 'one', ipv4);
      await seen(apache, [ipv4], 403, fail2ban);
      const rest = [...neighbours, '1.2.3.99', '203.0.113.0', '203.0.113.7', '203.0.113.8'];
      assert.deepEqual(await answers(apache, rest), all(rest, 200));
      await unbans(fail2ban, 'one', ...values, ipv4);
      await seen(apache, [ipv4], 200, fail2ban);
      assert.ok(!existsSync(join(apache.dir, 'ran')), 'a value was run');
      const ask = await apache.ask('-t');
      assert.equal(ask.exitCode, 0, ask.stderr);
    });

    test('a ban that ends while fail2ban is dead is lifted when it starts (the line stayed for ever)', async () => {
      await bans(fail2ban, 'two', neighbours[0] ?? '');
      // fail2ban ignores a ban that is over before its turn comes.
      await fail2ban.client('set', 'one', 'bantime', '10');
      await bans(fail2ban, 'one', ...both);
      await until('the bans', () => both.every((address) => way.record(apache, address) !== ''));
      await fail2ban.kill();
      const [, end = 0] = timesIn(way.record(apache, ipv6));
      await until('the ban time to be over', () => Date.now() / 1000 > end + 1);
      assert.deepEqual(await answers(apache, both), all(both, 403));
      await fail2ban.start();
      await seen(apache, both, 200, fail2ban);
      assert.equal(await get(apache, neighbours[0] ?? ''), 403);
    });

    test('a ban can be lifted by hand while fail2ban is dead', async () => {
      await fail2ban.kill();
      await byHand(way, apache, 'unban', neighbours[0] ?? '', `--fail2ban-client=${fail2ban.clientCommand}`);
      assert.equal(await get(apache, neighbours[0] ?? ''), 200);
    });
  });

  test('a ban that bantime.increment makes longer has its new end', async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    // Repeat offenders; fail2ban reports a longer ban at once if it is longer by less than five seconds.
    const increment = 'bantime = 10\nbantime.increment = true\nbantime.formula = ban.Time + 4';
    await using fail2ban = await startFail2ban({ jails: jail('one', action(way, apache), increment) });
    const length = (address: string) => {
      const [since = 0, end = 0] = timesIn(way.record(apache, address));
      return end - since;
    };
    await bans(fail2ban, 'one', ...both);
    for (const address of both) await fail2ban.awaitLog(new RegExp(` Unban ${address}`));
    await seen(apache, both, 200, fail2ban);
    await bans(fail2ban, 'one', ...both);
    for (const address of both) {
      await until(`${address} to be banned for longer`, () => length(address) === 14, {
        detail: fail2ban.log,
      });
    }
    assert.deepEqual(await answers(apache, both), all(both, 403));
    await seen(apache, both, 200, fail2ban);
  });

  test('a proxy without mod_remoteip is not banned: everyone would get 403', async () => {
    await using apache = await startApache({ mpm, site: way.site });
    await using fail2ban = await startFail2ban({
      jails: jail('one', action(way, apache), `logpath = ${apache.accessLog}`).replace(
        'logpath = DIR/access.log\n',
        '',
      ),
    });
    for (let time = 0; time < 5; time += 1) {
      assert.equal(await apache.login(200), 200);
      assert.equal(await apache.login(200, { v6: true }), 200);
    }
    for (const address of ['127.0.0.1', '::1']) {
      await fail2ban.awaitLog(new RegExp(`${address} is protected`));
    }
    assert.deepEqual(await answers(apache, ['127.0.0.1', '::1']), all(['127.0.0.1', '::1'], 200));
  });

  const few = way.reloads ? 'few reloads' : 'no reload';
  test(`a burst of bans costs ${few}, and misses no ban (each ban had its own)`, async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    await using fail2ban = await startFail2ban({
      jails: jail('one', action(way, apache).replace('reload_interval=0', 'reload_interval=5')),
    });
    const burst = Array.from({ length: 20 }, (_, index) => `203.0.113.${index + 1}`);
    await bans(fail2ban, 'one', ...burst);
    await seen(apache, burst, 403, fail2ban);
    const reloads = apache.reloads();
    assert.ok(reloads <= (way.reloads ? burst.length / 2 : 0), `${reloads} reloads`);
    await fail2ban.stop();
    await seen(apache, burst, 200);
    const forStop = apache.reloads() - reloads;
    assert.ok(forStop <= (way.reloads ? 2 : 0), `${forStop} reloads for one stop`);
  });
}

/** The jail lines of the shell days. */
function shellDays(way: Way) {
  const lines = {
    'name and banlist': (apache: Apache) => `apache-banlist[name=djangoapp, banlist=${apache.banlist}]`,
    'name, banlist and apache_reload_cmd': (apache: Apache) =>
      `apache-banlist[name=djangoapp, banlist=${apache.banlist}, apache_reload_cmd="reload-apache now"]`,
  };
  for (const [what, line] of Object.entries(lines)) {
    test(`the jail line of the shell days works as it stands: ${what}`, async () => {
      await using apache = await startApache({ mpm, remoteip: true, site: way.site });
      const dir = join(apache.dir, 'fail2ban');
      mkdirSync(dir);
      const settings = `BANCTL_RELOAD_INTERVAL=0 BANCTL_FAIL2BAN_DB=${dir}/fail2ban.sqlite3 ${way.environment(apache)}`;
      const programs = {
        banctl: `${settings} exec "${executable}" "$@"`,
        apache2ctl: `exec ${apache.ctl} "$@"`,
        'reload-apache': `touch "${apache.dir}/called-$1"; exec ${apache.ctl} -k graceful`,
      };
      await using fail2ban = await withPrograms(apache.dir, programs, () =>
        startFail2ban({ dir, jails: jail('django', line(apache)) }),
      );
      await bans(fail2ban, 'django', ...both);
      await seen(apache, both, 403, fail2ban);
      for (const address of both) assert.match(way.record(apache, address), /\| djangoapp /);
      assert.deepEqual(await answers(apache, neighbours), all(neighbours, 200));
      await unbans(fail2ban, 'django', ...both);
      await seen(apache, both, 200, fail2ban);
      assertReloads(way, apache);
      assert.doesNotMatch(fail2ban.log(), / ERROR /);
      assert.equal(existsSync(join(apache.dir, 'called-now')), way.reloads && what.includes('reload'));
    });
  }
}

/** A mistake of the administrator in Apache's configuration. */
function brokenConfiguration(way: Way) {
  suite("while Apache's configuration is broken", inOrder, () => {
    const servers = new Servers();
    let apache: Apache;
    let fail2ban: Fail2ban;
    let config: string;
    const later = '203.0.113.9';
    before(async () => {
      apache = await servers.apache({ remoteip: true, site: way.site });
      config = readFileSync(apache.config, 'utf8');
      const logger = { logger: `printf '%s\\n' "$*" >> "${apache.dir}/syslog"` };
      fail2ban = await withPrograms(apache.dir, logger, () =>
        servers.fail2ban({ jails: jail('one', action(way, apache)), debug: true }),
      );
      await bans(fail2ban, 'one', '203.0.113.100');
      await seen(apache, ['203.0.113.100'], 403, fail2ban);
      writeFileSync(apache.config, `${config}\nNonsense On\n`);
    });
    after(() => servers.end());
    const syslog = () => {
      const file = join(apache.dir, 'syslog');
      return existsSync(file) ? readFileSync(file, 'utf8') : '';
    };

    if (!way.reloads) {
      test('bans and unbans count at once, without any message', async () => {
        await bans(fail2ban, 'one', ...both);
        await seen(apache, both, 403, fail2ban);
        await unbans(fail2ban, 'one', ...both);
        await seen(apache, both, 200, fail2ban);
        assert.doesNotMatch(fail2ban.log(), / ERROR /);
        assert.equal(syslog(), '');
      });

      test('a range, which is in the list, counts as a ban for fail2ban, and syslog has the reason', async () => {
        await bans(fail2ban, 'one', '198.51.100.0/24');
        await until('a complaint', () => syslog().includes('-t banctl'));
        assert.match(syslog(), /^-t banctl -p daemon\.err -- .*apache was not reloaded: .*Nonsense/ms);
        await bans(fail2ban, 'one', ...both);
        await seen(apache, both, 403, fail2ban);
        assert.equal(await get(apache, '198.51.100.1'), 200);
        assert.doesNotMatch(fail2ban.log(), / ERROR /);
      });

      test('once it is fixed, the next call makes up for it', async () => {
        writeFileSync(apache.config, config);
        await bans(fail2ban, 'one', later);
        await seen(apache, ['198.51.100.1', later, ...both], 403, fail2ban);
        await unbans(fail2ban, 'one', later, '198.51.100.0/24', ...both);
        await seen(apache, ['198.51.100.1', later, ...both], 200, fail2ban);
      });
      return;
    }

    test('a ban counts as one for fail2ban, syslog has the reason, and Apache keeps serving', async () => {
      await bans(fail2ban, 'one', ...both);
      for (const address of both) {
        await until('the ban', () => way.record(apache, address) !== '', { detail: fail2ban.log });
      }
      await until('two complaints', () => syslog().split('-t banctl').length === 3);
      assert.match(syslog(), /^-t banctl -p daemon\.err -- .*apache was not reloaded: .*Nonsense/ms);
      assert.doesNotMatch(fail2ban.log(), / ERROR /);
      assert.ok(apache.running());
      assert.equal(await get(apache, neighbours[0] ?? ''), 200);
      assert.equal(await get(apache, '203.0.113.100'), 403);
    });

    test('fail2ban lifts such a ban as any other', async () => {
      await unbans(fail2ban, 'one', ipv6);
      await until('no record', () => way.record(apache, ipv6) === '', { detail: fail2ban.log });
      assert.notEqual(way.record(apache, ipv4), '');
      assert.doesNotMatch(fail2ban.log(), / ERROR /);
    });

    test('once it is fixed, the next call makes up for it', async () => {
      writeFileSync(apache.config, config);
      await bans(fail2ban, 'one', later);
      await seen(apache, [later, ipv4], 403, fail2ban);
      assert.equal(await get(apache, ipv6), 200);
      await unbans(fail2ban, 'one', later, ipv4);
      await seen(apache, [later, ipv4], 200, fail2ban);
    });
  });
}

/** An address as it may be given, who is banned by it, and who comes next to them. */
type Spelling = [given: string, canonical: string, banned: string[], free: string[]];

const spellings: Spelling[] = [
  ['203.0.113.20', '203.0.113.20', ['203.0.113.20', '::ffff:203.0.113.20'], ['203.0.113.19', '203.0.113.21']],
  ['203.0.113.24/32', '203.0.113.24', ['203.0.113.24'], ['203.0.113.23', '203.0.113.25']],
  ['203.0.113.31/31', '203.0.113.30/31', ['203.0.113.30', '203.0.113.31'], ['203.0.113.29', '203.0.113.32']],
  [
    '198.51.100.77/26',
    '198.51.100.64/26',
    ['198.51.100.64', '198.51.100.127'],
    ['198.51.100.63', '198.51.100.128'],
  ],
  [
    '203.0.113.201/25',
    '203.0.113.128/25',
    ['203.0.113.128', '203.0.113.255'],
    ['203.0.113.127', '203.0.114.0'],
  ],
  ['::ffff:203.0.113.40', '203.0.113.40', ['203.0.113.40'], ['203.0.113.39', '203.0.113.41']],
  ['::FFFF:cb00:712c', '203.0.113.44', ['203.0.113.44'], ['203.0.113.43', '203.0.113.45']],
  ['0:0:0:0:0:ffff:203.0.113.48', '203.0.113.48', ['203.0.113.48'], ['203.0.113.47', '203.0.113.49']],
  [
    '::ffff:203.0.113.53/127',
    '203.0.113.52/31',
    ['203.0.113.52', '203.0.113.53'],
    ['203.0.113.51', '203.0.113.54'],
  ],
  [
    '::203.0.113.60',
    '::203.0.113.60',
    ['::203.0.113.60'],
    ['203.0.113.60', '::203.0.113.59', '::203.0.113.61'],
  ],
  ['::cb00:7140', '::203.0.113.64', ['::203.0.113.64'], ['203.0.113.64', '::203.0.113.63', '::203.0.113.65']],
  ['::2', '::2', ['::2'], ['::3', '0.0.0.2']],
  ['::8000', '::8000', ['::8000'], ['::7fff', '::8001']],
  [
    '2002:cb00:7105::1',
    '2002:cb00:7105::1',
    ['2002:cb00:7105::1'],
    ['203.0.113.5', '2002:cb00:7105::', '2002:cb00:7105::2'],
  ],
  [
    '64:ff9b::203.0.113.70',
    '64:ff9b::cb00:7146',
    ['64:ff9b::203.0.113.70'],
    ['203.0.113.70', '64:ff9b::cb00:7145', '64:ff9b::cb00:7147'],
  ],
  ['2001:db8::20', '2001:db8::20', ['2001:db8::20'], ['2001:db8::1f', '2001:db8::21']],
  ['2001:DB8::AbCd', '2001:db8::abcd', ['2001:db8::abcd'], ['2001:db8::abcc', '2001:db8::abce']],
  [
    '2001:0db8:0000:0000:0000:0000:0000:0030',
    '2001:db8::30',
    ['2001:db8::30'],
    ['2001:db8::2f', '2001:db8::31'],
  ],
  ['2001:db8::0:0:40', '2001:db8::40', ['2001:db8::40'], ['2001:db8::3f', '2001:db8::41']],
  [
    '2001:db8::1:2:3:4:5',
    '2001:db8:0:1:2:3:4:5',
    ['2001:db8:0:1:2:3:4:5'],
    ['2001:db8:0:1:2:3:4:4', '2001:db8:0:1:2:3:4:6'],
  ],
  [
    '2001:db8:0:1:0:2:0:3',
    '2001:db8:0:1:0:2:0:3',
    ['2001:db8:0:1:0:2:0:3'],
    ['2001:db8:0:1:0:2:0:2', '2001:db8:0:1:0:2:0:4'],
  ],
  [
    '2001:db8:0:0:1:0:0:1',
    '2001:db8::1:0:0:1',
    ['2001:db8:0:0:1::1'],
    ['2001:db8::1:0:0:0', '2001:db8::1:0:0:2'],
  ],
  ['2001:db8:0:2:0:0:0:1', '2001:db8:0:2::1', ['2001:db8:0:2::1'], ['2001:db8:0:2::', '2001:db8:0:2::2']],
  [
    '2001:db8:3:4:5:6:7:0',
    '2001:db8:3:4:5:6:7:0',
    ['2001:db8:3:4:5:6:7::'],
    ['2001:db8:3:4:5:6:6:ffff', '2001:db8:3:4:5:6:7:1'],
  ],
  ['0:2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8', ['::2:3:4:5:6:7:8'], ['::2:3:4:5:6:7:7', '::2:3:4:5:6:7:9']],
  [
    '2001:db8:9::/128',
    '2001:db8:9::',
    ['2001:db8:9::'],
    ['2001:db8:8:ffff:ffff:ffff:ffff:ffff', '2001:db8:9::1'],
  ],
  [
    '2001:db8:a::51/127',
    '2001:db8:a::50/127',
    ['2001:db8:a::50', '2001:db8:a::51'],
    ['2001:db8:a::4f', '2001:db8:a::52'],
  ],
  [
    '2001:db8:b:1::ffff/64',
    '2001:db8:b:1::/64',
    ['2001:db8:b:1::', '2001:db8:b:1:ffff:ffff:ffff:ffff'],
    ['2001:db8:b:0:ffff:ffff:ffff:ffff', '2001:db8:b:2::'],
  ],
  [
    '2001:db8:c:7f::/57',
    '2001:db8:c::/57',
    ['2001:db8:c::', '2001:db8:c:7f:ffff:ffff:ffff:ffff'],
    ['2001:db8:b:ffff:ffff:ffff:ffff:ffff', '2001:db8:c:80::'],
  ],
  [
    '2001:db8:d:7::203.0.113.80/100',
    '2001:db8:d:7::c000:0/100',
    ['2001:db8:d:7::c000:0', '2001:db8:d:7::cfff:ffff'],
    ['2001:db8:d:7::bfff:ffff', '2001:db8:d:7::d000:0'],
  ],
];

function addresses(way: Way) {
  suite('each accepted spelling of an address', inOrder, () => {
    const servers = new Servers();
    const said = new Map<string, string>();
    let apache: Apache;
    before(async () => {
      const printed = 'Header always set X-Address "expr=%{REMOTE_ADDR}"';
      const site = typeof way.site === 'function' ? way.site : () => String(way.site);
      apache = await servers.apache({ remoteip: true, site: (dir) => `${site(dir)}\n${printed}` });
      for (const [given] of spellings) {
        said.set(given, await byHand(way, apache, 'ban', '--no-reload', given));
      }
      await byHand(way, apache, 'reload');
    });
    after(() => servers.end());

    for (const [given, canonical, banned, free] of spellings) {
      test(`${given} bans ${canonical} and no other address`, async () => {
        assert.match(said.get(given) ?? '', new RegExp(`^${canonical} banned\n`));
        assert.deepEqual(await answers(apache, banned), all(banned, 403));
        assert.deepEqual(await answers(apache, free), all(free, 200));
        if (!canonical.includes('/')) {
          const { headers } = await apache.request('/', { from: given.replace(/\/.*/, '') });
          assert.equal(headers['x-address'], canonical, 'what Apache prints');
        }
      });
    }

    test('an unban in the same spelling lets them all in again', async () => {
      await byHand(way, apache, 'unban', ...spellings.map(([given]) => given));
      const visitors = spellings.flatMap(([, , banned]) => banned);
      assert.deepEqual(await answers(apache, visitors), all(visitors, 200));
      assert.deepEqual([listOf(apache), filesOf(apache)], ['', []]);
    });
  });
}

/** A server of the shell days that gets the kit's action. */
function takenOver(way: Way) {
  test('a list that the shell wrote is taken over as it is, with the bans that fail2ban restores', async () => {
    const stale = ['203.0.113.77', '2001:db8::77'];
    const list = `# by hand\nRequire not ip ${stale[0]}\n`;
    await using apache = await startApache({ mpm, remoteip: true, site: way.site, list });
    const line = `apache-banlist[name=djangoapp, banlist=${apache.banlist}, apache_reload_cmd="${apache.ctl} -k graceful"]`;
    await using fail2ban = await startFail2ban({
      jails: jail('django', line),
      actionFiles: [['apache-banlist.conf', shellAction]],
    });
    await bans(fail2ban, 'django', ...both);
    await seen(apache, [...stale.slice(0, 1), ...both], 403, fail2ban);
    await fail2ban.kill(); // it would lift the bans
    writeFileSync(apache.banlist, `${listOf(apache)}Require not ip ${stale[1]}`); // without a final newline

    const shipped = readFileSync(
      join(import.meta.dirname, '..', '..', 'action.d', 'apache-banlist.conf'),
      'utf8',
    );
    writeFileSync(join(fail2ban.dir, 'config', 'action.d', 'apache-banlist.conf'), shipped);
    fail2ban.setJails(jail('django', action(way, apache).replace('jail=%(__name__)s', 'name=djangoapp')));
    await restarts(fail2ban, 'django', (address) => way.record(apache, address) !== '');
    await bans(fail2ban, 'django', neighbours[0] ?? '');
    const banned = [...stale, ...both, neighbours[0] ?? ''];
    await seen(apache, banned, 403, fail2ban);
    await unbans(fail2ban, 'django', ...both, neighbours[0] ?? '');
    await seen(apache, [...both, neighbours[0] ?? ''], 200, fail2ban);
    assert.deepEqual(await answers(apache, stale), all(stale, 403));
    assert.equal(listOf(apache), `${list}Require not ip ${stale[1]}`);
    await byHand(way, apache, 'unban', ...stale, '--no-fail2ban');
    assert.deepEqual(await answers(apache, stale), all(stale, 200));
    assert.equal(listOf(apache), '# by hand\n');
  });
}

/** What concerns the file that Apache includes. */
function theList(way: Way) {
  test('a list made under fail2ban is 0644, whatever the umask; an older one keeps its mode (it was 0600)', async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    await using fail2ban = await startFail2ban({ jails: jail('one', action(way, apache)) });
    const mode = () => statSync(apache.banlist).mode & 0o777;
    await bans(fail2ban, 'one', '198.51.100.0/24');
    await seen(apache, ['198.51.100.1'], 403, fail2ban);
    assert.equal(mode(), 0o644);
    chmodSync(apache.banlist, 0o640);
    await unbans(fail2ban, 'one', '198.51.100.0/24');
    await seen(apache, ['198.51.100.1'], 200, fail2ban);
    assert.equal(mode(), 0o640);
  });

  test('a list that is a symbolic link stays one (sed replaced it by a file)', async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    const target = join(apache.dir, 'target.conf');
    writeFileSync(target, '# the target\n');
    symlinkSync('target.conf', apache.banlist);
    await using fail2ban = await startFail2ban({ jails: jail('one', action(way, apache)) });
    for (let time = 0; time < 2; time += 1) {
      await bans(fail2ban, 'one', '198.51.100.0/24');
      await seen(apache, ['198.51.100.1'], 403, fail2ban);
      assert.match(readFileSync(target, 'utf8'), /^# the target\n.*\nRequire not ip 198\.51\.100\.0\/24\n$/);
      await unbans(fail2ban, 'one', '198.51.100.0/24');
      await seen(apache, ['198.51.100.1'], 200, fail2ban);
    }
    assert.ok(lstatSync(apache.banlist).isSymbolicLink());
    assert.equal(readFileSync(target, 'utf8'), '# the target\n');
  });
}

/** What concerns the directory that Apache looks into. */
function theDirectory(way: Way) {
  test('a directory made under fail2ban lets Apache search it, whatever the umask', async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    await using fail2ban = await startFail2ban({ jails: jail('one', action(way, apache)) });
    assert.match(read(`/proc/${fail2ban.pid()}/status`), /^Umask:\s+0077$/m);
    await bans(fail2ban, 'one', ...both);
    await seen(apache, both, 403, fail2ban);
    const mode = (path: string) => statSync(path).mode & 0o777;
    assert.equal(mode(apache.bandir), 0o755);
    for (const address of both) assert.equal(mode(join(apache.bandir, address)), 0o644);
  });

  test('a directory that is a symbolic link stays one', async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    symlinkSync('target', apache.bandir); // which is not there yet
    await using fail2ban = await startFail2ban({ jails: jail('one', action(way, apache)) });
    await bans(fail2ban, 'one', ...both);
    await seen(apache, both, 403, fail2ban);
    assert.deepEqual(readdirSync(join(apache.dir, 'target')).sort(), both.toSorted());
    await unbans(fail2ban, 'one', ...both);
    await seen(apache, both, 200, fail2ban);
    assert.ok(lstatSync(apache.bandir).isSymbolicLink());
  });

  test('a path that Apache could not look up is refused by each action, and nothing is made there', async () => {
    await using apache = await startApache({ mpm, remoteip: true, site: way.site });
    const unusable = join(apache.dir, 'two words');
    const line = action(way, apache).replace(`bandir="${apache.bandir}"`, `bandir="${unusable}"`);
    await using fail2ban = await startFail2ban({ jails: jail('one', line) });
    await fail2ban.awaitLog(/ERROR .*banctl: not a path for --bandir: .*two words/);
    const from = fail2ban.log().length;
    await bans(fail2ban, 'one', ipv4);
    await fail2ban.awaitLog(/Failed to execute ban .*203\.0\.113\.5/, from);
    assert.match(fail2ban.log().slice(from), /banctl: not a path for --bandir: .*blanks, quotes/);
    assert.equal(await get(apache, ipv4), 200);
    assert.ok(!existsSync(unusable));
    assert.equal(listOf(apache), '');
  });
}

suite('from the log to the ban and back', { concurrency: ways.length }, () => {
  for (const way of ways) {
    suite(`bans by ${way.name}`, sideBySide, () => {
      for (const place of places) failedLogins(way, place);
      jails(way);
      shellDays(way);
      brokenConfiguration(way);
      addresses(way);
      takenOver(way);
      if (way === banlistWay) theList(way);
      else theDirectory(way);
    });
  }
});
