// Bans in the directory that Apache looks into: through the built executable, and what counts is what visitors get.
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import { identify } from '../../src/system/process.ts';
import { type Apache, installedBandir, kit, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import type { Listed } from '../lab/site.ts';
import { execute, type Finished } from '../lab/wait.ts';

/** Tests of a suite share its Apache. */
const inOrder = { concurrency: 1 };

const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';
const both = [ipv4, ipv6];
const neighbours = ['203.0.113.6', '203.0.113.50', '2001:db8::6', '2001:db8::50'];
/** Says what Apache prints for the visitor, which is what it looks up. */
const site = `${kit('djangoapp-banlist.conf')}Header always set X-Visitor "expr=%{REMOTE_ADDR}"\n`;

const optionsOf = ({ banlist, bandir, ctl }: Apache) => [
  `--banlist=${banlist}`,
  `--bandir=${bandir}`,
  `--apachectl=${ctl}`,
];

const silent: Finished = { exitCode: 0, stdout: '', stderr: '' };

/** Commands that ask fail2ban. */
const ASKING = ['unban', 'flush', 'audit', 'sync'];

function run(apache: Apache, command: string, ...args: string[]): Promise<Finished> {
  const given = ['list', 'explain'].includes(command) ? optionsOf(apache).slice(0, 2) : optionsOf(apache);
  const alone = ASKING.includes(command) ? ['--no-fail2ban'] : [];
  return banctl([command, ...args, ...given.filter((option) => !isGiven(option, args)), ...alone]);
}

function isGiven(option: string, args: readonly string[]): boolean {
  return args.some((arg) => arg.startsWith(option.replace(/=.*/, '=')));
}

/** Runs it; an exit code other than 0 fails the test. */
async function done(apache: Apache, command: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await run(apache, command, ...args);
  assert.equal(exitCode, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

const listed = async (apache: Apache) => (JSON.parse(await done(apache, 'list', '--json')) as Listed).bans;
const textOf = ({ banlist }: Apache) => (existsSync(banlist) ? readFileSync(banlist, 'utf8') : '');
const namesIn = ({ bandir }: Apache) => (existsSync(bandir) ? readdirSync(bandir).sort() : []);
const modeOf = (path: string) => statSync(path).mode & 0o7777;

/** Who holds the address where, sorted. */
async function holders(apache: Apache, address: string): Promise<string[]> {
  const bans = (await listed(apache)).filter((ban) => ban.address === address);
  return bans.flatMap((ban) => ban.holds.map(({ holder }) => `${holder ?? '?'} ${ban.where}`)).sort();
}

function get(apache: Apache, from: string): Promise<number> {
  return apache.get('/', from === '::1' ? { v6: true } : { from });
}

async function answer(apache: Apache, visitors: readonly string[], status: number) {
  const wrong: string[] = [];
  for (const from of visitors) {
    const got = await get(apache, from);
    if (got !== status) wrong.push(`${from} gets ${got}`);
  }
  assert.deepEqual(wrong, [], `instead of ${status}\n${textOf(apache)}${namesIn(apache).join(' ')}`);
}

/** Each configuration that Apache reads writes its PidFile anew. */
function pidFileOf({ pidFile }: Apache): string {
  const { ino, mtimeNs } = statSync(pidFile, { bigint: true });
  return `${ino} ${mtimeNs}`;
}

/** Takes back every ban, and what a failed test has left. */
async function clear(apache: Apache) {
  rmSync(apache.bandir, { recursive: true, force: true });
  if (textOf(apache) !== '') await done(apache, 'flush', '--all', '--reload-interval=0');
}

suite('a ban in the directory', { concurrency: 2 }, () => {
  const places = [
    { place: 'behind a proxy', remoteip: true, attackers: both, others: neighbours },
    {
      place: 'direct',
      remoteip: false,
      attackers: ['127.0.0.5', '::1'],
      others: ['127.0.0.6', '127.0.0.50'],
    },
  ];
  for (const { place, remoteip, attackers, others } of places)
    suite(place, inOrder, () => {
      let apache: Apache;
      let before_: string;
      before(async () => {
        apache = await startApache({ remoteip, site });
        before_ = pidFileOf(apache);
      });
      after(() => apache[Symbol.asyncDispose]());
      const force = remoteip ? [] : ['--force'];

      test('counts at the next request, and so does its end, with no reload', async () => {
        await answer(apache, [...attackers, ...others], 200);
        for (const address of attackers) {
          assert.equal(await done(apache, 'ban', address, ...force), `${address} banned\n`);
          await answer(apache, [address], 403);
        }
        await answer(apache, others, 200);
        for (const address of attackers) {
          assert.equal(await done(apache, 'unban', address), `${address} unbanned\n`);
          await answer(apache, [address], 200);
        }
        assert.equal(existsSync(apache.banlist), false);
        assert.deepEqual(namesIn(apache), []);
      });

      test('several at once are refused each by itself', async () => {
        await done(apache, 'ban', ...attackers, ...force);
        assert.deepEqual(namesIn(apache), [...attackers].sort());
        await answer(apache, attackers, 403);
        await done(apache, 'unban', attackers[0] ?? '');
        await answer(apache, attackers.slice(0, 1), 200);
        await answer(apache, attackers.slice(1), 403);
        await done(apache, 'flush', '--all');
        await answer(apache, [...attackers, ...others], 200);
      });

      test('Apache was never reloaded', () => {
        assert.equal(pidFileOf(apache), before_);
        assert.equal(apache.reloads(), 0);
      });
    });

  suite('of an IPv6 address in any spelling', inOrder, () => {
    let apache: Apache;
    before(async () => {
      apache = await startApache({ remoteip: true, site });
    });
    after(() => apache[Symbol.asyncDispose]());

    const shapes: [shape: string, file: string, spellings: string[], neighbours: string[]][] = [
      [
        'IPv4-mapped',
        '203.0.113.7',
        ['::ffff:203.0.113.7', '::FFFF:cb00:7107', '0:0:0:0:0:ffff:203.0.113.7', '203.0.113.7'],
        ['::ffff:203.0.113.8', '::203.0.113.7', '::fffe:203.0.113.7', '203.0.113.70'],
      ],
      [
        'IPv4-compatible',
        '::203.0.113.7',
        ['::203.0.113.7', '::cb00:7107', '0:0:0:0:0:0:CB00:7107', '0::203.0.113.7'],
        ['::ffff:203.0.113.7', '203.0.113.7', '::cb00:7108'],
      ],
      [
        '6to4',
        '2002:cb00:7107::1',
        ['2002:cb00:7107::1', '2002:CB00:7107:0:0:0:0:1', '2002:cb00:7107::0.0.0.1'],
        ['2002:cb00:7107::2', '2002:cb00:7108::1', '203.0.113.7'],
      ],
      [
        'NAT64',
        '64:ff9b::cb00:7107',
        ['64:ff9b::203.0.113.7', '64:ff9b::cb00:7107', '0064:FF9B:0:0:0:0:CB00:7107'],
        ['64:ff9b::203.0.113.8', '64:ff9b:1::203.0.113.7', '203.0.113.7'],
      ],
      [
        'one zero group',
        '2001:db8:0:1:1:1:1:1',
        ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1', '2001:0DB8:0000:1:1:1:1:1'],
        ['2001:db8:1:1:1:1:1:1', '2001:db8::1:1:1:1'],
      ],
      [
        'two zero runs of the same length',
        '2001:db8::1:0:0:1',
        ['2001:db8::1:0:0:1', '2001:db8:0:0:1::1', '2001:DB8:0:0:1:0:0:1'],
        ['2001:db8::1:0:1:1', '2001:db8:0:1::1'],
      ],
      [
        'a longer zero run later',
        '2001:0:0:1::1',
        ['2001:0:0:1::1', '2001::1:0:0:0:1', '2001:0:0:1:0:0:0:1'],
        ['2001::1', '2001:0:0:1::2'],
      ],
      ['the smallest', '::2', ['::2', '0:0:0:0:0:0:0:2', '::0.0.0.2'], ['::3', '2::', '::1:2']],
      ['two groups', '::0.1.0.2', ['::1:2', '::0.1.0.2', '0:0::1:2'], ['::2', '::1:3', '1:2::']],
      ['zeros at the end', '2001:db8:1::', ['2001:db8:1::', '2001:db8:1:0:0:0:0:0'], ['2001:db8:1::1']],
      [
        'all groups',
        '2001:db8:1:2:3:4:5:6',
        ['2001:db8:1:2:3:4:5:6', '2001:0db8:0001:0002:0003:0004:0005:0006', '2001:db8:1:2:3:4:0.5.0.6'],
        ['2001:db8:1:2:3:4:5:7', '2001:db8:1:2:3:4:5:60'],
      ],
      [
        'letters',
        '2001:db8::abcd:ef',
        ['2001:db8::abcd:ef', '2001:DB8::ABCD:00EF', '2001:db8::171.205.0.239'],
        ['2001:db8::abcd:ee'],
      ],
      [
        'ISATAP',
        '2001:db8::5efe:cb00:7107',
        ['2001:db8::5efe:203.0.113.7', '2001:db8:0:0:0:5efe:cb00:7107'],
        ['2001:db8::203.0.113.7'],
      ],
    ];
    for (const [shape, file, spellings, others] of shapes)
      test(`${shape}: ${spellings[0]} is refused as ${file}`, async () => {
        for (const spelling of spellings) {
          const { status, headers } = await apache.request('/', { from: spelling });
          assert.deepEqual([status, headers['x-visitor']], [200, file], spelling);
        }
        for (const spelling of spellings) {
          assert.equal(await done(apache, 'ban', spelling), `${file} banned\n`);
          assert.deepEqual(namesIn(apache), [file]);
          await answer(apache, spellings, 403);
          await answer(apache, others, 200);
          // Released by another spelling than it was banned by.
          const other = spellings[(spellings.indexOf(spelling) + 1) % spellings.length] ?? '';
          assert.match(await done(apache, 'explain', other), new RegExp(`^${file} is banned\n`));
          assert.equal(await done(apache, 'unban', other), `${file} unbanned\n`);
          await answer(apache, spellings, 200);
        }
      });
  });

  suite('and ranges in the list', inOrder, () => {
    let apache: Apache;
    before(async () => {
      apache = await startApache({ remoteip: true, site });
    });
    after(() => apache[Symbol.asyncDispose]());
    afterEach(() => clear(apache));
    const now = '--reload-interval=0';

    test('a range goes into the list, with a reload; the address beside it does not', async () => {
      const said = await done(apache, 'ban', '198.51.100.0/24', ipv4, now);
      assert.equal(said, `198.51.100.0/24 banned\n${ipv4} banned\n`);
      assert.match(textOf(apache), /^Require not ip 198\.51\.100\.0\/24$/m);
      assert.doesNotMatch(textOf(apache), /203/);
      assert.deepEqual(namesIn(apache), [ipv4]);
      await answer(apache, ['198.51.100.9', ipv4], 403);
      await answer(apache, ['198.51.101.9', ...neighbours], 200);
      assert.equal(await done(apache, 'unban', '198.51.100.0/24', now), '198.51.100.0/24 unbanned\n');
      await answer(apache, ['198.51.100.9'], 200);
      await answer(apache, [ipv4], 403);
    });

    test('a range of full length is an address', async () => {
      await done(apache, 'ban', `${ipv4}/32`, `${ipv6}/128`);
      assert.deepEqual(namesIn(apache), [...both].sort());
      await answer(apache, both, 403);
    });

    test('--ipv6-prefix bans the network in the list; IPv4 stays in the directory', async () => {
      const { exitCode } = await run(apache, 'ban', ipv6, ipv4, '--ipv6-prefix=64', now);
      assert.equal(exitCode, 0);
      assert.match(textOf(apache), /^Require not ip 2001:db8::\/64$/m);
      assert.deepEqual(namesIn(apache), [ipv4]);
      await answer(apache, [ipv6, '2001:db8::ffff', ipv4], 403);
      await answer(apache, ['2001:db8:0:1::5'], 200);
    });

    test('an address is unbanned out of the range that it was widened to', async () => {
      await done(apache, 'ban', ipv6, '--ipv6-prefix=64', now);
      await answer(apache, [ipv6, '2001:db8::ffff'], 403);
      assert.equal(await done(apache, 'unban', ipv6, now), `${ipv6} unbanned\n`);
      await answer(apache, [ipv6, '2001:db8::ffff'], 200);
    });

    test('a widened ban stays while another address holds it, and is named', async () => {
      await done(apache, 'ban', ipv6, '2001:db8::9', '--ipv6-prefix=64', now);
      assert.equal(await done(apache, 'unban', ipv6, now), `${ipv6} still held by manual, 2001:db8::/64\n`);
      await answer(apache, [ipv6], 403);
      assert.equal(await done(apache, 'unban', '2001:db8::9', now), '2001:db8::9 unbanned\n');
      await answer(apache, [ipv6, '2001:db8::9'], 200);
    });

    test('an address that leaves the directory, but not a range around it, is still held by that', async () => {
      await done(apache, 'ban', ipv4, '203.0.113.0/24', now);
      const reloads = apache.reloads();
      assert.equal(await done(apache, 'unban', ipv4, now), `${ipv4} still held by 203.0.113.0/24\n`);
      assert.deepEqual(namesIn(apache), []);
      assert.equal(apache.reloads(), reloads);
      await answer(apache, [ipv4], 403);
      const { exitCode, stdout } = await run(apache, 'explain', ipv4);
      assert.equal(exitCode, 0);
      assert.match(stdout, /^203\.0\.113\.5 is banned\n {2}by 203\.0\.113\.0\/24 in .*, line 2\n/);
    });

    test('what the list holds from earlier is released too, and Apache reloads for it', async () => {
      await done(apache, 'ban', ipv4, '--bandir=', '--jail=web', now);
      assert.deepEqual(await holders(apache, ipv4), ['web banlist']);
      assert.equal(await done(apache, 'unban', ipv4, '--jail=web', now), `${ipv4} unbanned\n`);
      await answer(apache, [ipv4], 200);
      await done(apache, 'ban', ipv4, '--bandir=', '--jail=web', now);
      assert.equal(await done(apache, 'unban', ipv4, now), `${ipv4} unbanned\n`);
      await answer(apache, [ipv4], 200);
      assert.equal(textOf(apache), '');
    });

    test('what stands in both places is released in both', async () => {
      await done(apache, 'ban', ipv4, '--jail=web');
      await done(apache, 'ban', ipv4, '--bandir=', '--jail=ssh', now);
      assert.deepEqual(await holders(apache, ipv4), ['ssh banlist', 'web bandir']);
      assert.equal(await done(apache, 'unban', ipv4, '--jail=web', now), `${ipv4} still held by ssh\n`);
      await answer(apache, [ipv4], 403);
      await done(apache, 'ban', ipv4, '--jail=web', now);
      assert.equal(await done(apache, 'unban', ipv4, now), `${ipv4} unbanned\n`);
      assert.deepEqual(await listed(apache), []);
      await answer(apache, [ipv4], 200);
    });

    test('an address in the list is banned already, and loses nothing when it is banned again', async () => {
      await done(
        apache,
        'ban',
        ipv4,
        '--bandir=',
        '--jail=web',
        '--since=1700000000',
        '--reason=logins',
        now,
      );
      assert.equal(await done(apache, 'ban', ipv4, '--jail=web', now), `${ipv4} already banned\n`);
      const [ban, ...others] = await listed(apache);
      assert.deepEqual(others, []);
      const [{ since, reason } = { since: '', reason: '' }] = ban?.holds ?? [];
      assert.deepEqual([since, reason], ['2023-11-14T22:13:20Z', 'logins']);
      await answer(apache, [ipv4], 403);
    });

    test('a hold that moves with the prefix, there and back, never lets the visitor in', async () => {
      const ban = (prefix: number) =>
        done(apache, 'ban', ipv6, `--ipv6-prefix=${prefix}`, '--jail=web', '--reason=logins', now);
      await ban(128);
      const { stop, statuses } = visits(apache, ipv6);
      for (const prefix of [64, 128, 64]) {
        await ban(prefix);
        await answer(apache, [ipv6], 403);
        const bans = await listed(apache);
        const held = bans.flatMap(({ holds }) => holds.map(({ holder, address }) => `${holder} ${address}`));
        assert.deepEqual(held, [`web ${ipv6}`], `after --ipv6-prefix=${prefix}`);
      }
      await stop();
      assert.deepEqual([...statuses], [403]);
      assert.equal(await done(apache, 'unban', ipv6, '--jail=web', now), `${ipv6} unbanned\n`);
      await answer(apache, [ipv6, '2001:db8::9'], 200);
    });

    test('a hold that is widened keeps its file until Apache has loaded the range', async () => {
      await done(apache, 'ban', ipv6, now);
      await done(apache, 'ban', ipv6, '--ipv6-prefix=64', '--no-reload');
      await answer(apache, [ipv6], 403);
      assert.deepEqual(namesIn(apache), [ipv6]);
      await done(apache, 'ban', ipv6, '--ipv6-prefix=64', now);
      assert.deepEqual(namesIn(apache), []);
      await answer(apache, [ipv6], 403);
    });
  });
});

suite('the directory and the commands', { concurrency: 2 }, () => {
  suite('each verb', inOrder, () => {
    let apache: Apache;
    let loaded: string;
    before(async () => {
      apache = await startApache({ remoteip: true, site });
      loaded = pidFileOf(apache);
    });
    after(() => apache[Symbol.asyncDispose]());
    afterEach(() => {
      assert.deepEqual(
        namesIn(apache).filter((name) => /lock|banctl/.test(name)),
        [],
        'locks and temporary files are gone',
      );
      rmSync(apache.bandir, { recursive: true, force: true });
      assert.equal(pidFileOf(apache), loaded, 'Apache was not reloaded');
      assert.equal(existsSync(apache.banlist), false, 'there is no list');
    });

    test('ban: a second ban is reported as such, and its end and reason replace the first ones', async () => {
      await done(apache, 'ban', ipv4, '--reason=first', '--since=1700000000');
      assert.equal(
        await done(apache, 'ban', ipv4, '--for=1h'),
        `${ipv4} already banned; its holds have changed\n`,
      );
      const text = readFileSync(join(apache.bandir, ipv4), 'utf8');
      assert.match(
        text,
        /^# banctl \| manual 203\.0\.113\.5 since 2023-11-14T22:13:20Z until \S+Z: first\nRequire not ip 203\.0\.113\.5\n$/,
      );
      const told = JSON.parse(await done(apache, 'ban', ipv4, '--json'));
      assert.deepEqual(told, {
        changed: true,
        results: [{ address: ipv4, status: 'already-banned' }],
        reload: 'not-needed',
      });
      await answer(apache, [ipv4], 403);
    });

    test('ban: the same again writes nothing', async () => {
      const again = () => done(apache, 'ban', ipv4, '--jail=web', '--since=1700000000', '--for=-1', '--json');
      await again();
      const { ino, ctimeNs } = statSync(join(apache.bandir, ipv4), { bigint: true });
      assert.equal(JSON.parse(await again()).changed, false);
      const after = statSync(join(apache.bandir, ipv4), { bigint: true });
      assert.deepEqual([after.ino, after.ctimeNs], [ino, ctimeNs]);
    });

    test('a ban lives while one of its holders does', async () => {
      await done(apache, 'ban', ipv4, '--jail=web');
      assert.equal(await done(apache, 'ban', ipv4), `${ipv4} already banned; its holds have changed\n`);
      assert.equal(await done(apache, 'unban', ipv4, '--jail=ssh'), `${ipv4} still held by web, manual\n`);
      assert.equal(await done(apache, 'unban', ipv4, '--jail=web'), `${ipv4} still held by manual\n`);
      await answer(apache, [ipv4], 403);
      // A jail of that name is not what is by hand.
      assert.equal(await done(apache, 'unban', ipv4, '--jail=manual'), `${ipv4} still held by manual\n`);
      assert.equal(await done(apache, 'unban', ipv4), `${ipv4} unbanned\n`);
      await answer(apache, [ipv4], 200);
      assert.equal(await done(apache, 'unban', ipv4), `${ipv4} not banned\n`);
    });

    test('unban by hand releases every holder', async () => {
      for (const jail of ['web', 'ssh', 'manual']) await done(apache, 'ban', ipv4, `--jail=${jail}`);
      assert.equal(await done(apache, 'unban', ipv4), `${ipv4} unbanned\n`);
      await answer(apache, [ipv4], 200);
    });

    test('flush --jail releases what the jail holds, and nothing else', async () => {
      await done(apache, 'ban', ipv4, ipv6, '--jail=web');
      await done(apache, 'ban', ipv4, '203.0.113.9', '--jail=ssh');
      const said = await done(apache, 'flush', '--jail=web');
      assert.deepEqual(said.trim().split('\n').sort(), [`${ipv6} unbanned`, `${ipv4} still held by ssh`]);
      assert.deepEqual(namesIn(apache), [ipv4, '203.0.113.9'].sort());
      await answer(apache, [ipv4, '203.0.113.9'], 403);
      await answer(apache, [ipv6], 200);
      assert.equal(await done(apache, 'flush', '--jail=web'), '');
    });

    test('flush --all lifts every ban, also with an unknown holder', async () => {
      await done(apache, 'ban', ipv4, ipv6, '--jail=web');
      writeFileSync(join(apache.bandir, '203.0.113.9'), '');
      writeFileSync(join(apache.bandir, 'README'), 'kept');
      const said = await done(apache, 'flush', '--all');
      assert.equal(said.trim().split('\n').length, 3);
      assert.deepEqual(namesIn(apache), ['README']);
      await answer(apache, [...both, '203.0.113.9'], 200);
    });

    test('touch bans, rm lifts it; banctl knows a ban with an unknown holder', async () => {
      mkdirSync(apache.bandir);
      const file = join(apache.bandir, ipv4);
      writeFileSync(file, '');
      await answer(apache, [ipv4], 403);
      assert.deepEqual(await holders(apache, ipv4), ['? bandir']);
      assert.match(await done(apache, 'list'), /^203\.0\.113\.5 +\?$/m);
      assert.match(
        await done(apache, 'explain', ipv4),
        /\n {2}in \S+\/bans\/203\.0\.113\.5\n {4}by an unknown holder\n/,
      );
      rmSync(file);
      await answer(apache, [ipv4], 200);
      writeFileSync(file, '');
      assert.equal(
        await done(apache, 'ban', ipv4, '--jail=web'),
        `${ipv4} already banned; its holds have changed\n`,
      );
      assert.deepEqual(await holders(apache, ipv4), ['web bandir']);
      writeFileSync(file, '');
      assert.equal(await done(apache, 'unban', ipv4), `${ipv4} unbanned\n`);
      await answer(apache, [ipv4], 200);
    });

    const notes: [what: string, text: string][] = [
      ['a note', 'tries passwords\n'],
      ['a note without an end', 'tries passwords'],
      ['a note that ends like a continued line', 'tries passwords \\\n'],
      ['a note that ends with a backslash', 'tries passwords \\'],
      ['the ban of another address, as it was copied', 'Require not ip 203.0.113.9\n'],
      ['a holder whose ban was cut off', `# banctl | web ${ipv4} since 2026-01-01T00:00:00Z for ever\n`],
      ['a ban in another spelling', `require NOT ip ${ipv4}\n`],
      ['two lines', `Require not ip ${ipv4}\nRequire not ip ${ipv4}\n`],
    ];
    for (const [what, text] of notes)
      test(`a file with ${what} is the ban of its name alone`, async () => {
        mkdirSync(apache.bandir);
        const file = join(apache.bandir, ipv4);
        writeFileSync(file, text);
        await answer(apache, [ipv4], 403);
        const names = (await listed(apache)).map(({ address }) => address);
        assert.deepEqual([...new Set(names)], [ipv4]);
        await done(apache, 'explain', ipv4);
        assert.equal(
          await done(apache, 'ban', ipv4, '--jail=ssh'),
          `${ipv4} already banned; its holds have changed\n`,
        );
        assert.ok((await holders(apache, ipv4)).includes('ssh bandir'));
        if (text.includes('passwords')) assert.match(readFileSync(file, 'utf8'), /tries passwords/);
        for (const release of [
          ['unban', ipv4],
          ['flush', '--all'],
          ['unban', ipv4, '--jail=web'],
        ]) {
          writeFileSync(file, text);
          assert.equal(await done(apache, ...(release as [string])), `${ipv4} unbanned\n`, release.join(' '));
          await answer(apache, [ipv4], 200);
        }
      });

    test('a file that is not text bans, is reported, and hides no other ban', async () => {
      mkdirSync(apache.bandir);
      await done(apache, 'ban', ipv6);
      writeFileSync(join(apache.bandir, ipv4), Buffer.from('a\0b'));
      mkdirSync(join(apache.bandir, '203.0.113.9'));
      const names = (await listed(apache)).map(({ address }) => address);
      assert.deepEqual(names.sort(), [...both, '203.0.113.9'].sort());
      await done(apache, 'explain', ipv4);
      const { exitCode, stderr } = await run(apache, 'unban', ipv4);
      assert.equal(exitCode, 78);
      assert.match(stderr, /^banctl: \S+\/bans\/203\.0\.113\.5 is not a text file: [^\n]*\n$/);
      await done(apache, 'unban', ipv6);
      await answer(apache, [ipv4, '203.0.113.9'], 403);
    });

    test('a file in which a power cut left NUL bytes alone bans like an empty one, and can be lifted', async () => {
      mkdirSync(apache.bandir);
      for (const address of both) writeFileSync(join(apache.bandir, address), Buffer.alloc(100));
      await answer(apache, both, 403);
      await done(apache, 'ban', ipv6, '--jail=web');
      await done(apache, 'unban', ...both);
      await answer(apache, both, 200);
      assert.deepEqual(namesIn(apache), []);
    });

    test('--dry-run says what would change, and changes nothing', async () => {
      assert.match(await done(apache, 'ban', ipv4, '--dry-run'), /^203\.0\.113\.5 would be banned\n/);
      assert.equal(existsSync(apache.bandir), false);
      await done(apache, 'ban', ipv4, '--jail=web');
      const file = join(apache.bandir, ipv4);
      const text = readFileSync(file, 'utf8');
      for (const args of [
        ['ban', ipv4, '--jail=ssh'],
        ['unban', ipv4],
        ['unban', ipv4, '--jail=web'],
        ['flush', '--all'],
        ['flush', '--jail=web'],
      ]) {
        const { stdout } = await run(apache, ...(args as [string]), '--dry-run');
        assert.match(
          stdout,
          args[0] === 'ban'
            ? /^203\.0\.113\.5 already banned; its holds would change\n/
            : /^203\.0\.113\.5 would be unbanned\n/,
        );
        assert.deepEqual([readFileSync(file, 'utf8'), namesIn(apache)], [text, [ipv4]]);
      }
      await answer(apache, [ipv4], 403);
    });

    test('one bad address among several: nothing changes', async () => {
      for (const [bad, exit] of [
        ['203.0.113.300', 64],
        ['127.0.0.1', 77],
      ] as const) {
        const { exitCode } = await run(apache, 'ban', ipv4, bad, ipv6);
        assert.equal(exitCode, exit);
        assert.deepEqual(namesIn(apache), []);
      }
    });

    test('thousands on standard input are banned and unbanned', async () => {
      const many = Array.from({ length: 3000 }, (_, index) => `10.2.${index >> 8}.${index & 255}`);
      const give = (command: string) =>
        banctl([command, '-', ...optionsOf(apache), '--jail=web'], many.join('\n'));
      const banned = await give('ban');
      assert.deepEqual(
        [banned.exitCode, banned.stderr, banned.stdout],
        [0, '', many.map((one) => `${one} banned\n`).join('')],
      );
      assert.deepEqual(namesIn(apache), [...many].sort());
      await answer(apache, [many[0] ?? '', many[1500] ?? '', many[2999] ?? ''], 403);
      await answer(apache, ['10.2.255.255', '10.3.0.1'], 200);
      assert.equal((await listed(apache)).length, 3000);
      const unbanned = await give('unban');
      assert.deepEqual(
        [unbanned.exitCode, unbanned.stdout],
        [0, many.map((one) => `${one} unbanned\n`).join('')],
      );
      assert.deepEqual(namesIn(apache), []);
    });

    test('calls about one address and about many, all at once, lose nothing', async () => {
      const jails = Array.from({ length: 8 }, (_, index) => `jail-${index}`);
      await Promise.all(jails.map((jail) => done(apache, 'ban', ipv4, ipv6, `--jail=${jail}`)));
      for (const address of both)
        assert.deepEqual(
          await holders(apache, address),
          jails.map((jail) => `${jail} bandir`),
        );
      await Promise.all(
        jails.map((jail, index) =>
          index % 2 === 0
            ? done(apache, 'unban', ipv4, `--jail=${jail}`)
            : done(apache, 'ban', ipv4, `--jail=other-${index}`),
        ),
      );
      const kept = jails.filter((_, index) => index % 2 === 1);
      const added = kept.map((jail) => jail.replace('jail', 'other'));
      assert.deepEqual(
        await holders(apache, ipv4),
        [...kept, ...added].map((jail) => `${jail} bandir`).sort(),
      );
      await done(apache, 'flush', '--all');
      await answer(apache, both, 200);
    });
  });

  suite('list and explain', inOrder, () => {
    let apache: Apache;
    before(async () => {
      apache = await startApache({ remoteip: true, site });
      await done(apache, 'ban', ipv4, '--jail=web', '--since=1700000000', '--reason=5 failures');
      await done(apache, 'ban', ipv4, '--for=1h');
      await done(apache, 'ban', '198.51.100.0/24', '--reload-interval=0');
    });
    after(() => apache[Symbol.asyncDispose]());

    test('list prints the place of each ban', async () => {
      const bans = await listed(apache);
      assert.deepEqual(
        bans.map(({ address, where }) => [address, where]),
        [
          ['198.51.100.0/24', 'banlist'],
          [ipv4, 'bandir'],
        ],
      );
      assert.deepEqual(bans[1]?.holds[0], {
        holder: 'web',
        byHand: false,
        address: ipv4,
        since: '2023-11-14T22:13:20Z',
        until: null,
        reason: '5 failures',
      });
      const text = await done(apache, 'list');
      assert.match(text, /^203\.0\.113\.5 +web +2023-11-14 22:13 +for ever +5 failures\n +manual /m);
    });

    test('explain names the file', async () => {
      const file = join(apache.bandir, ipv4);
      const text = await done(apache, 'explain', ipv4);
      assert.ok(
        text.startsWith(
          `${ipv4} is banned\n  in ${file}\n    by web since 2023-11-14T22:13:20Z for ever: 5 failures\n`,
        ),
        text,
      );
      const told = JSON.parse(await done(apache, 'explain', ipv4, '--json'));
      assert.deepEqual([told.banned, told.enforced, told.by.length], [true, true, 1]);
      assert.deepEqual([told.by[0].where, told.by[0].address, told.by[0].line], ['bandir', ipv4, undefined]);
    });

    test('what is not in the directory is not banned: exit 1', async () => {
      const { exitCode, stdout } = await run(apache, 'explain', '203.0.113.6');
      assert.deepEqual([exitCode, stdout], [1, '203.0.113.6 is not banned\n']);
    });

    test('a ban in the directory is enforced at once, one in the list that waits is not', async () => {
      await done(apache, 'ban', '10.9.0.0/24', '--no-reload');
      const told = async (address: string) =>
        JSON.parse(await done(apache, 'explain', address, '--json')) as { enforced: boolean };
      assert.equal((await told(ipv4)).enforced, true);
      assert.equal((await told('10.9.0.1')).enforced, false);
      await done(apache, 'ban', '10.9.0.1', '--no-reload');
      assert.equal((await told('10.9.0.1')).enforced, true);
      await answer(apache, ['10.9.0.1', ipv4], 403);
      await answer(apache, ['10.9.0.2'], 200);
    });
  });
});

suite('the directory itself', { concurrency: 2 }, () => {
  /** The kit's rule, for this directory. */
  const siteFor = (bandir: string) => site.replaceAll(installedBandir, bandir);
  const withUmask = (...args: string[]) =>
    execute('sh', ['-c', 'umask 0077; exec "$@"', 'sh', executable, ...args]);

  test('is made for Apache whatever the umask, with the directories above it, and so are its files', async () => {
    await using apache = await startApache({ remoteip: true, site: (dir) => siteFor(`${dir}/a/b/c/bans`) });
    const bandir = join(apache.dir, 'a/b/c/bans');
    const options = [`--banlist=${apache.banlist}`, `--bandir=${bandir}`, `--apachectl=${apache.ctl}`];
    for (const address of both)
      assert.equal((await withUmask('ban', address, ...options)).stdout, `${address} banned\n`);
    await answer(apache, both, 403);
    for (const directory of ['a', 'a/b', 'a/b/c', 'a/b/c/bans'])
      assert.equal(modeOf(join(apache.dir, directory)), 0o755, directory);
    assert.equal(modeOf(join(bandir, ipv4)), 0o644);
    assert.deepEqual(await run(apache, 'audit', `--bandir=${bandir}`), silent);
    chmodSync(bandir, 0o750);
    chmodSync(join(bandir, ipv4), 0o600);
    await withUmask('ban', ipv4, '--jail=web', ...options);
    assert.deepEqual([modeOf(bandir), modeOf(join(bandir, ipv4))], [0o750, 0o600], 'what is there is kept');
  });

  test('may be a symbolic link, named by itself or by what it leads to', async () => {
    await using apache = await startApache({ remoteip: true, site });
    const target = join(apache.dir, 'elsewhere', 'real');
    mkdirSync(target, { recursive: true });
    symlinkSync('elsewhere/real', apache.bandir);
    await done(apache, 'ban', ipv4);
    await done(apache, 'ban', ipv6, `--bandir=${target}`);
    assert.deepEqual(readdirSync(target).sort(), [...both].sort());
    await answer(apache, both, 403);
    assert.deepEqual(await run(apache, 'audit'), silent);
    assert.deepEqual(await run(apache, 'audit', `--bandir=${target}/`), silent);
    await done(apache, 'flush', '--all');
    await answer(apache, both, 200);
    assert.equal(lstatSync(apache.bandir).isSymbolicLink(), true);
  });

  test('may be named through a directory that is a symbolic link', async () => {
    await using apache = await startApache({ remoteip: true, site });
    symlinkSync('.', join(apache.dir, 'link'));
    const option = `--bandir=${join(apache.dir, 'link', 'bans')}`;
    await done(apache, 'ban', ipv4, option);
    await answer(apache, [ipv4], 403);
    assert.deepEqual(await run(apache, 'audit', option), silent);
  });

  test('may be named relative to where banctl runs', async () => {
    await using apache = await startApache({ remoteip: true, site });
    const inDirectory = (...args: string[]) =>
      execute('sh', [
        '-c',
        'cd "$1" && shift && exec "$@"',
        'sh',
        apache.dir,
        executable,
        ...args,
        `--banlist=${apache.banlist}`,
        `--apachectl=${apache.ctl}`,
      ]);
    for (const bandir of ['bans', './bans', 'www/../bans/']) {
      const { stdout } = await inDirectory('ban', ipv4, `--bandir=${bandir}`);
      assert.equal(stdout, `${ipv4} banned\n`);
      await answer(apache, [ipv4], 403);
      await done(apache, 'unban', ipv4);
    }
    const blank = join(apache.dir, 'a b');
    mkdirSync(blank);
    const { exitCode } = await execute('sh', [
      '-c',
      'cd "$1" && shift && exec "$@"',
      'sh',
      blank,
      executable,
      'ban',
      ipv4,
      '--bandir=bans',
      `--banlist=${apache.banlist}`,
    ]);
    assert.deepEqual([exitCode, readdirSync(blank)], [64, []]);
  });

  test('has a path that Apache can look up, wherever it is given: else 64, or 78 in the configuration', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'banctl-bandir-'));
    const banlist = `--banlist=${join(dir, 'banlist.conf')}`;
    const config = join(dir, 'banctl.json');
    for (const part of ['a b', "a'b", 'a"b', 'a%b', 'a$b', 'a\\b', 'a\nb', 'a\tb', 'a`b', ' ', 'a\u202eb']) {
      const bandir = join(dir, part);
      writeFileSync(config, JSON.stringify({ bandir }));
      for (const [code, { exitCode, stdout, stderr }] of [
        [64, await banctl(['ban', ipv4, banlist, `--bandir=${bandir}`])],
        [64, await execute('env', [`BANCTL_BANDIR=${bandir}`, executable, 'ban', ipv4, banlist])],
        [78, await banctl(['ban', ipv4, banlist, `--config=${config}`])],
      ] as const) {
        assert.deepEqual([exitCode, stdout], [code, ''], JSON.stringify(part));
        assert.match(stderr, /^banctl: (?:configuration \S+: )?not a path for --bandir: "[^\n]*"; [^\n]*\n$/);
      }
    }
    assert.deepEqual(readdirSync(dir), ['banctl.json']);
    rmSync(dir, { recursive: true });
  });

  test('that is something else is refused, untouched', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'banctl-bandir-'));
    const bandir = join(dir, 'bans');
    writeFileSync(bandir, 'a file');
    const options = [`--banlist=${join(dir, 'banlist.conf')}`, `--bandir=${bandir}`];
    for (const [args, exit] of [
      [['ban', ipv4], 73],
      [['list'], 78],
    ] as const) {
      const { exitCode, stderr } = await banctl([...args, ...options]);
      assert.equal(exitCode, exit, stderr);
      assert.match(stderr, /^banctl: [^\n]*bans[^\n]*\n$/);
    }
    assert.equal(readFileSync(bandir, 'utf8'), 'a file');
    rmSync(dir, { recursive: true });
  });
});

suite('audit of the directory', inOrder, () => {
  let apache: Apache;
  let bandir: string;
  let above: string;
  const audit = (...args: string[]) => run(apache, 'audit', `--bandir=${bandir}`, ...args);
  before(async () => {
    apache = await startApache({
      remoteip: true,
      site: (dir) => site.replaceAll(installedBandir, `${dir}/above/bans`),
    });
    above = join(apache.dir, 'above');
    bandir = join(above, 'bans');
  });
  after(() => apache[Symbol.asyncDispose]());
  afterEach(() => rmSync(above, { recursive: true, force: true }));

  const ban = (...args: string[]) => done(apache, 'ban', ...args, `--bandir=${bandir}`);

  /** Finds these lines, repairs them if it may, and is silent then. */
  async function finds(line: string, isRepaired: boolean, ...args: string[]) {
    assert.deepEqual(await audit(...args), { exitCode: 1, stdout: `${line}\n`, stderr: '' });
    const { exitCode, stdout } = await audit('--fix', ...args);
    assert.deepEqual([exitCode, stdout], isRepaired ? [0, `${line} (repaired)\n`] : [1, `${line}\n`]);
    if (isRepaired) assert.deepEqual(await audit(...args), silent);
  }

  test('prints nothing when all is well, or when the directory does not exist yet', async () => {
    assert.deepEqual(await audit(), silent);
    await ban(...both);
    writeFileSync(join(bandir, '203.0.113.9'), '');
    assert.deepEqual(await audit(), silent);
    assert.deepEqual(await audit('--fix'), silent);
    assert.deepEqual(JSON.parse((await audit('--json')).stdout), { ok: true, findings: [] });
  });

  test('bandir-unsearchable: the directory is named, and opened by --fix', async () => {
    await ban(ipv4);
    for (const mode of [0o700, 0o744, 0o750, 0o000]) {
      chmodSync(bandir, mode);
      await answer(apache, [ipv4], 200);
      const message = `apache's user www-data cannot search ${bandir}, so no ban in ${bandir} takes effect; chmod a+x ${bandir}`;
      await finds(`bandir-unsearchable: ${message}`, true);
      await answer(apache, [ipv4], 403);
    }
  });

  test('bandir-unsearchable: a directory above it is named, and left to the administrator', async () => {
    await ban(ipv4);
    chmodSync(above, 0o700);
    await answer(apache, [ipv4], 200);
    const message = `apache's user www-data cannot search ${above}, so no ban in ${bandir} takes effect; chmod a+x ${above}`;
    await finds(`bandir-unsearchable: ${message}`, false);
    assert.equal(modeOf(above), 0o700);
    chmodSync(above, 0o711);
    assert.deepEqual(await audit(), silent);
    await answer(apache, [ipv4], 403);
  });

  test('bandir-unsearchable: what counts is whether that user can search it, not what the mode looks like', async () => {
    await ban(ipv4);
    const { stdout } = await execute('id', ['-u', 'www-data']);
    const uid = Number(stdout);
    chownSync(bandir, uid, 0);
    chmodSync(bandir, 0o055);
    await answer(apache, [ipv4], 200);
    assert.match((await audit()).stdout, /^bandir-unsearchable: /);
    chownSync(bandir, 0, uid); // Debian's group has the same number
    chmodSync(bandir, 0o710);
    await answer(apache, [ipv4], 403);
    assert.deepEqual(await audit(), silent);
  });

  test('bandir-unsearchable: the way that the rule takes counts, also where it is a link', async () => {
    mkdirSync(join(apache.dir, 'real'), { recursive: true });
    mkdirSync(above);
    symlinkSync(join(apache.dir, 'real'), bandir);
    await ban(ipv4);
    await answer(apache, [ipv4], 403);
    assert.deepEqual(await audit(), silent);
    chmodSync(above, 0o700);
    await answer(apache, [ipv4], 200);
    const { exitCode, stdout } = await audit();
    assert.equal(exitCode, 1);
    assert.ok(
      stdout.startsWith(`bandir-unsearchable: apache's user www-data cannot search ${above},`),
      stdout,
    );
  });

  test('not-included: a directory that no rule names', async () => {
    const other = join(apache.dir, 'other');
    await done(apache, 'ban', ipv4, `--bandir=${other}`);
    await answer(apache, [ipv4], 200);
    const { exitCode, stdout } = await run(apache, 'audit', '--fix', `--bandir=${other}`);
    const rule = `Require expr "! -e '${other}/%{REMOTE_ADDR}'"`;
    assert.deepEqual(
      [exitCode, stdout],
      [
        1,
        `not-included: apache does not look into ${other}; put ${rule} into a <RequireAll>, as in the snippet djangoapp-banlist\n`,
      ],
    );
    const given = [`--bandir=${other}`, `--apachectl=${apache.ctl}`];
    const explained = await done(apache, 'explain', ipv4, ...given);
    assert.match(explained, /^203\.0\.113\.5 is banned, but Apache may not enforce it yet\n/);
    assert.ok(
      explained.endsWith(
        `\napache does not look into ${other}; put ${rule} into a <RequireAll>, as in the snippet djangoapp-banlist\n`,
      ),
    );
  });

  test('not-included: a rule that Apache has not loaded', async () => {
    const text = readFileSync(apache.config, 'utf8');
    const other = join(apache.dir, 'other');
    writeFileSync(apache.config, text.replaceAll(bandir, other));
    const { exitCode, stdout } = await run(apache, 'audit', `--bandir=${other}`);
    assert.deepEqual(
      [exitCode, stdout],
      [1, `not-included: apache has not read the rule for ${other} yet; banctl reload --force\n`],
    );
    await done(apache, 'reload', '--force');
    assert.deepEqual(await run(apache, 'audit', `--bandir=${other}`), silent);
    writeFileSync(apache.config, text);
    await done(apache, 'reload', '--force');
  });

  test('bad-line: names without effect, with the intended address', async () => {
    await ban(ipv4);
    const names: [name: string, remedy: string, visitor?: string][] = [
      ['2001:DB8::9', 'remove it, and banctl ban 2001:db8::9', '2001:db8::9'],
      ['2001:db8:0:0:0:0:0:9', 'remove it, and banctl ban 2001:db8::9', '2001:db8::9'],
      ['::ffff:203.0.113.9', 'remove it, and banctl ban 203.0.113.9', '203.0.113.9'],
      ['203.0.113.09', 'remove it', '203.0.113.9'],
      ['203.0.113', 'remove it', '203.0.113.9'],
      ['203.0.113.9 ', 'remove it', '203.0.113.9'],
      ['203.0.113.9.bak', 'remove it', '203.0.113.9'],
      ['README', 'remove it'],
    ];
    for (const [name, remedy, visitor] of names) {
      writeFileSync(join(bandir, name), '');
      if (visitor !== undefined) await answer(apache, [visitor], 200);
      const message = `${bandir}/${name} has no effect: its name is not an address as Apache writes it; ${remedy}`;
      await finds(`bad-line: ${message}`, false);
      assert.equal(existsSync(join(bandir, name)), true);
      rmSync(join(bandir, name));
    }
  });

  test('bad-line: a name can neither end the line nor steer the terminal', async () => {
    await ban(ipv4);
    writeFileSync(join(bandir, '203.0.113.9\n\u001b[2J'), '');
    const { stdout } = await audit();
    assert.match(stdout, /^bad-line: [\x20-\x7e]*\n$/);
  });

  test('protected: what is banned although it is protected', async () => {
    await ban(ipv4, '127.0.0.9', '--force');
    await finds('protected: 127.0.0.9: protected by 127.0.0.0/8, but banned', false);
    await done(apache, 'unban', '127.0.0.9', `--bandir=${bandir}`);
    await finds(
      `protected: ${ipv4}: protected by 203.0.113.0/24, but banned`,
      false,
      '--protect=203.0.113.0/24',
    );
  });

  test('expired: a hold by hand that is over goes, with the ban, but nothing of a jail that may hold it', async () => {
    await ban(ipv4, '--jail=web', '--since=1700000000', '--for=1h');
    await ban(ipv4, '--since=1700000000', '--for=1h');
    const line = `expired: ${ipv4}: the hold of manual is over\n`;
    assert.deepEqual(await audit(), { exitCode: 1, stdout: line, stderr: '' });
    assert.deepEqual(await audit('--fix'), silent, 'that it was dropped is no news');
    assert.deepEqual(await audit(), silent);
    await answer(apache, [ipv4], 403);
    await done(apache, 'unban', ipv4, `--bandir=${bandir}`);
    await ban(ipv4, '--since=1700000000', '--for=1h');
    await answer(apache, [ipv4], 403);
    assert.deepEqual(await audit(), { exitCode: 1, stdout: line, stderr: '' });
    assert.deepEqual(await audit('--fix'), silent);
    assert.deepEqual(readdirSync(bandir), []);
    await answer(apache, [ipv4], 200);
  });

  test('leftover: an old temporary file goes, a young one stays', async () => {
    await ban(ipv4);
    const [old, young] = ['203.0.113.9.banctl-1234567', '203.0.113.9.banctl-7654321'].map((name) =>
      join(bandir, name),
    );
    assert.ok(old !== undefined && young !== undefined);
    for (const file of [old, young]) writeFileSync(file, 'Require not ip 203.0.113.9\n');
    utimesSync(old, 0, 0);
    await answer(apache, ['203.0.113.9'], 200);
    await finds(`leftover: ${old} was left by a killed call`, true);
    assert.deepEqual(namesOf(bandir), [ipv4, '203.0.113.9.banctl-7654321'].sort());
  });

  test('leftover: the lock of a dead process goes with its temporary file, that of a living one stays', async () => {
    await ban(ipv4);
    const dead = join(bandir, '203.0.113.9.lock');
    const living = join(bandir, '203.0.113.10.lock');
    for (const lock of [dead, living]) mkdirSync(lock);
    writeFileSync(join(bandir, '203.0.113.9.banctl-1234567'), '');
    writeFileSync(join(dead, '4194304-1.1@203.0.113.9.banctl-1234567'), '');
    writeFileSync(join(living, `${identify(process.pid)}.1`), '');
    await finds(`leftover: ${dead} was left by a killed call`, true);
    assert.deepEqual(namesOf(bandir), [ipv4, '203.0.113.10.lock'].sort());
    await answer(apache, [ipv4], 403);
  });

  test('leftover: a lock that its process never entered goes too', async () => {
    await ban(ipv4);
    const [old, young] = ['203.0.113.9.lock', '203.0.113.10.lock'].map((name) => join(bandir, name));
    assert.ok(old !== undefined && young !== undefined);
    for (const lock of [old, young]) mkdirSync(lock);
    utimesSync(old, 0, 0);
    await finds(`leftover: ${old} was left by a killed call`, true);
    assert.deepEqual(namesOf(bandir), [ipv4, '203.0.113.10.lock'].sort());
  });

  test('a file that looks like a lock does not stop it', async () => {
    await ban(ipv4);
    writeFileSync(join(bandir, '203.0.113.9.lock'), '');
    const { exitCode, stdout, stderr } = await audit('--fix');
    assert.deepEqual([exitCode, stderr], [1, '']);
    assert.match(stdout, /^bad-line: \S+\/203\.0\.113\.9\.lock has no effect/);
  });

  test('unsafe-permissions: a directory that other users may write is reported, and --fix revokes that', async () => {
    await ban(ipv4);
    chmodSync(bandir, 0o777);
    await finds(
      `unsafe-permissions: ${bandir} is writable for other users than its owner; chmod go-w ${bandir}`,
      true,
    );
    assert.equal(modeOf(bandir), 0o755);
  });

  test('--fix --dry-run repairs nothing', async () => {
    await ban(ipv4, '--since=1700000000', '--for=1h');
    chmodSync(bandir, 0o777);
    const { stdout } = await audit('--fix', '--dry-run');
    assert.deepEqual(
      stdout.split('\n').map((line) => line.replace(/:.*/, '')),
      ['expired', 'unsafe-permissions', ''],
    );
    assert.deepEqual([modeOf(bandir), readdirSync(bandir)], [0o777, [ipv4]]);
  });
});

const namesOf = (directory: string) => readdirSync(directory).sort();

/** Requests, one after the other, until they are stopped. */
function visits(apache: Apache, from: string) {
  const statuses = new Set<number>();
  let isStopped = false;
  const end = (async () => {
    while (!isStopped) statuses.add(await get(apache, from));
  })();
  const stop = async () => {
    isStopped = true;
    await end;
  };
  return { statuses, stop };
}
