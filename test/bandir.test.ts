// Bans in the directory that Apache looks into: through the built executable, and what counts is what visitors get.
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import { type Apache, installedBandir, kit, startApache } from './support/apache.ts';
import { banctl, executable } from './support/banctl.ts';
import type { Ban, Listed } from './support/site.ts';
import { execute, type Finished } from './support/wait.ts';

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
