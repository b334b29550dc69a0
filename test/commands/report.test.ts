// What an administrator asks: what is banned, by whom, for how much longer, why is this visitor refused, and is it so yet?
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, suite, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { type Apache, startApache } from '../lab/apache.ts';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

type Explained = { address: string; banned: boolean; enforced: boolean; by: unknown[] };

const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';
/** More than one line of 80 columns. */
const longReason = 'guesses passwords '.repeat(9).trim();
const list = `# The office's list.
Require not ip 198.51.100.9
# banctl | web ${ipv4} since 2026-01-02T03:04:05Z for ever: 5 failures | manual ${ipv4} since 2026-01-02T03:04:05Z until 2099-01-02T03:04:05Z: ${longReason}
Require not ip ${ipv4}
# banctl | web ${ipv6} since 2026-01-02T03:04:05Z until 2026-01-02T03:14:05Z
Require not ip 2001:db8::/64
  require NOT ip 203.0.113.0/255.255.255.0 198.51.100.77
`;

const unknown = (address: string) => ({
  address,
  holds: [{ holder: null, byHand: false, address, since: null, until: null, reason: null }],
  where: 'banlist',
});
const since = '2026-01-02T03:04:05Z';
const bans = [
  unknown('198.51.100.9'),
  {
    address: ipv4,
    holds: [
      { holder: 'web', byHand: false, address: ipv4, since, until: null, reason: '5 failures' },
      {
        holder: 'manual',
        byHand: true,
        address: ipv4,
        since,
        until: '2099-01-02T03:04:05Z',
        reason: longReason,
      },
    ],
    where: 'banlist',
  },
  {
    address: '2001:db8::/64',
    holds: [
      { holder: 'web', byHand: false, address: ipv6, since, until: '2026-01-02T03:14:05Z', reason: null },
    ],
    where: 'banlist',
  },
  unknown('203.0.113.0/24'),
  unknown('198.51.100.77'),
];

/** Control characters that may not reach a terminal; colour may. */
const controls = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

suite('list and explain', { concurrency: 2 }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-report-'));
  const file = join(dir, 'banlist.conf');
  after(() => rmSync(dir, { recursive: true }));

  /** Another list for each test that needs one. */
  let lists = 0;
  function listOf(text: string): string {
    lists += 1;
    const path = join(dir, `list-${lists}.conf`);
    writeFileSync(path, text);
    return path;
  }
  before(() => writeFileSync(file, list));

  /** What the command writes to a terminal of so many columns. */
  async function onTerminal(columns: number, args: string[], env: Record<string, string> = {}) {
    const words = [executable, ...args].map((word) => `'${word}'`).join(' ');
    const variables = Object.entries({ TERM: 'xterm', ...env }).map(([name, value]) => `${name}=${value}`);
    const { stdout, exitCode } = await execute('env', [
      '--unset=NO_COLOR',
      '--unset=FORCE_COLOR',
      '--unset=CI',
      ...variables,
      'script',
      '-qec',
      `stty rows 24 cols ${columns}; ${words}`,
      '/dev/null',
    ]);
    assert.equal(exitCode, 0, stdout);
    return stdout.replaceAll('\r\n', '\n');
  }

  suite('list', () => {
    test('prints each ban with its holds, as JSON', async () => {
      const document = await banctlJson<{ bans: unknown; reload: unknown }>(['list', `--banlist=${file}`]);
      assert.deepEqual(document, { bans, reload: { pending: true, last: null, error: null } });
    });

    test('prints them in a table: since when, how much longer, why', async () => {
      const { exitCode, stdout } = await banctl(['list', `--banlist=${file}`]);
      assert.equal(exitCode, 0);
      const lines = stdout.split('\n');
      const left = /\d+y|\d+d/.exec(lines[3] ?? '')?.[0] ?? '';
      assert.notEqual(left, '');
      assert.deepEqual(
        lines.map((line) => line.split(/ {2,}/)),
        [
          ['ADDRESS', 'HELD BY', 'SINCE (UTC)', 'LEFT', 'REASON'],
          ['198.51.100.9', '?'],
          [ipv4, 'web', '2026-01-02 03:04', 'for ever', '5 failures'],
          ['', 'manual', '2026-01-02 03:04', lines[3]?.split(/ {2,}/)[3] ?? '', longReason],
          ['2001:db8::/64', `web (${ipv6})`, '2026-01-02 03:04', 'over'],
          ['203.0.113.0/24', '?'],
          ['198.51.100.77', '?'],
          ['apache may not have loaded the latest list'],
          [''],
        ],
      );
      const column = lines[0]?.indexOf('REASON') ?? -1;
      assert.ok(lines[2]?.slice(column).startsWith('5 failures'), 'columns are aligned');
    });

    for (const columns of [40, 80, 132]) {
      test(`fits a terminal of ${columns} columns`, async () => {
        const stdout = await onTerminal(columns, ['list', `--banlist=${file}`]);
        const widths = stripVTControlCharacters(stdout)
          .split('\n')
          .slice(0, -2)
          .map((line) => line.length);
        assert.equal(widths.length, 7);
        assert.equal(Math.max(...widths), columns, 'as wide as it may be');
      });
    }

    const coloured = [
      { where: 'on a terminal', env: {}, isColoured: true },
      { where: 'on a terminal with NO_COLOR', env: { NO_COLOR: '1' }, isColoured: false },
      { where: 'on a dumb terminal', env: { TERM: 'dumb' }, isColoured: false },
    ];
    for (const { where, env, isColoured } of coloured) {
      test(`is ${isColoured ? '' : 'not '}coloured ${where}`, async () => {
        const stdout = await onTerminal(80, ['list', `--banlist=${file}`], env);
        assert.equal(stdout.includes('\x1b['), isColoured);
      });
    }

    test('is not coloured in a pipe', async () => {
      const { stdout } = await banctl(['list', `--banlist=${file}`]);
      assert.doesNotMatch(stdout.replaceAll('\n', ''), controls);
    });

    for (const [what, path] of [
      ['an empty list', () => listOf('')],
      ['a list that is not there', () => join(dir, 'none.conf')],
    ] as const) {
      test(`says that nothing is banned by ${what}`, async () => {
        const place = `--banlist=${path()}`;
        const { exitCode, stdout } = await banctl(['list', place]);
        assert.equal(exitCode, 0);
        assert.match(stdout, /^nothing is banned\n/);
        assert.deepEqual((await banctlJson<{ bans: unknown }>(['list', place])).bans, []);
      });
    }

    test('ends quietly when its reader leaves, and waits for a slow reader', async () => {
      const long = listOf(
        Array.from({ length: 20_000 }, (_, index) => `Require not ip 2001:db8::${index.toString(16)}\n`).join(
          '',
        ),
      );
      const pipe = (reader: string) =>
        execute('bash', ['-o', 'pipefail', '-c', `'${executable}' list --banlist=${long} | ${reader}`]);
      const { exitCode, stdout, stderr } = await pipe('head -n 1');
      assert.deepEqual([exitCode, stderr, stdout.split(' ')[0]], [0, '', 'ADDRESS']);
      const slow = await pipe('(read -r first; sleep 0.3; wc -l)');
      assert.deepEqual([slow.exitCode, slow.stderr, slow.stdout.trim()], [0, '', '20001']);
    });
  });

  suite('explain', () => {
    const cases: [given: string, by: string[], line: number[]][] = [
      [ipv4, [ipv4, '203.0.113.0/24'], [4, 7]],
      ['::ffff:203.0.113.5', [ipv4, '203.0.113.0/24'], [4, 7]],
      ['203.0.113.5/32', [ipv4, '203.0.113.0/24'], [4, 7]],
      ['203.0.113.6', ['203.0.113.0/24'], [7]],
      ['203.0.113.64/26', ['203.0.113.0/24'], [7]],
      ['198.51.100.77', ['198.51.100.77'], [7]],
      ['2001:DB8:0:0:0::ABCD', ['2001:db8::/64'], [6]],
      ['2001:db8::/65', ['2001:db8::/64'], [6]],
      ['198.51.100.8', [], []],
      ['2001:db8:0:1::', [], []],
      ['203.0.112.0/23', [], []],
    ];
    for (const [given, by, lines] of cases) {
      test(`${given}: ${by.join(' and ') || 'not banned, and ends with 1'}`, async () => {
        const exitCode = by.length === 0 ? 1 : 0;
        const told = await banctlJson<Explained>(['explain', given, `--banlist=${file}`], exitCode);
        assert.deepEqual(Object.keys(told), ['address', 'banned', 'enforced', 'by']);
        const expected = bans
          .filter((ban) => by.includes(ban.address))
          .map((ban, index) => ({ ...ban, line: lines[index] }));
        assert.deepEqual([told.banned, told.by], [by.length > 0, expected]);

        const said = await banctl(['explain', given, `--banlist=${file}`]);
        assert.equal(said.exitCode, exitCode);
        assert.ok(said.stdout.startsWith(`${told.address} is ${by.length === 0 ? 'not ' : ''}banned`));
        for (const line of lines) assert.ok(said.stdout.includes(`in ${file}, line ${line}\n`), said.stdout);
      });
    }

    test('prints who holds it, since when, until when and why', async () => {
      const { stdout } = await banctl(['explain', ipv4, `--banlist=${file}`]);
      assert.match(
        stdout,
        new RegExp(
          `^203\\.0\\.113\\.5 is banned, but Apache may not enforce it yet
  in ${file}, line 4
    by web since ${since} for ever: 5 failures
    by manual since ${since} until 2099-01-02T03:04:05Z \\(\\d+\\w.* left\\): ${longReason}
  by 203\\.0\\.113\\.0/24 in ${file}, line 7
    by an unknown holder\n`,
        ),
      );
    });

    test('reports that a hold has expired, without a remaining time', async () => {
      const hold = `# banctl | web ${ipv4} since 2025-12-31T00:00:00Z until 2026-01-01T00:00:00Z`;
      const path = listOf(`${hold}\nRequire not ip ${ipv4}\n`);
      const { stdout } = await banctl(['explain', ipv4, `--banlist=${path}`]);
      assert.match(stdout, /^ {4}by web since \S+ until 2026-01-01T00:00:00Z \(over\)$/m);
    });

    for (const [what, operands] of [
      ['no address', []],
      ['two addresses', [ipv4, ipv6]],
      ['a host name', ['localhost']],
      ['a partial address', ['203.0.113']],
    ] as const) {
      test(`refuses ${what}`, async () => {
        const { exitCode, stdout, stderr } = await banctl(['explain', ...operands, `--banlist=${file}`]);
        assert.deepEqual([exitCode, stdout], [64, '']);
        assert.match(stderr, /^banctl: [^\n]*\n$/);
      });
    }

    test('finds an address and its range among 100,000 bans', async () => {
      const address = (index: number) =>
        `2001:db8:${(index >> 12).toString(16)}::1:${(index & 0xfff).toString(16)}`;
      const lines = Array.from(
        { length: 100_000 },
        (_, index) =>
          `# banctl | web ${address(index)} since ${since} for ever\nRequire not ip ${address(index)}\n`,
      );
      const path = listOf(`${lines.join('')}Require not ip 2001:db8:18::/48\n`);
      const told = await banctlJson<Explained>(['explain', address(99_999), `--banlist=${path}`]);
      assert.deepEqual(
        told.by.map((ban) => (ban as { line: number }).line),
        [200_000, 200_001],
      );
      assert.equal((await banctl(['explain', '2001:db8:ffff::', `--banlist=${path}`])).exitCode, 1);
    });
  });

  suite('what comes from outside never steers the terminal:', () => {
    const hostile = '\x1b[31m\x1b]0;title\x07 \x9b2J \u202e \u2028 \r\x08 %1b[2J';
    const texts = {
      'a reason in a list changed by hand': `# banctl | web ${ipv4} since ${since} for ever: ${hostile}\nRequire not ip ${ipv4}\n`,
      'a holder in such a list': `# banctl | w%1b[31m ${ipv4} since ${since} for ever\nRequire not ip ${ipv4}\n`,
      'a line that banctl did not write': `require not ip ${ipv4} ${hostile.replaceAll(' ', '')}\n# ${hostile}\n`,
    };
    const commands = [['list'], ['explain', ipv4], ['list', '--json'], ['explain', ipv4, '--json']];
    for (const [what, text] of Object.entries(texts)) {
      for (const command of commands) {
        test(`${what}, by ${command.join(' ')}`, async () => {
          const { exitCode, stdout, stderr } = await banctl([...command, `--banlist=${listOf(text)}`]);
          assert.deepEqual([exitCode, stderr], [0, '']);
          assert.ok(stdout.includes(ipv4));
          assert.doesNotMatch(stdout.replaceAll('\n', ''), command.includes('--json') ? /\p{Cc}/u : controls);
        });
      }
    }

    test('a reason given by hand', async () => {
      const path = listOf('');
      const place = [`--banlist=${path}`, '--no-reload'];
      assert.equal((await banctl(['ban', ipv4, `--reason=${hostile}`, ...place])).exitCode, 0);
      for (const command of commands) {
        const { stdout } = await banctl([...command, `--banlist=${path}`]);
        assert.doesNotMatch(stdout.replaceAll('\n', ''), controls);
      }
    });

    test('the output of Apache at the last reload', async () => {
      const path = listOf(`Require not ip ${ipv4}\n`);
      const complains = `sh -c printf\\ '\\033[31mno\\007\\n'\\ >&2;exit\\ 1`;
      await banctl(['reload', `--banlist=${path}`, `--apachectl=${complains}`]);
      for (const command of commands) {
        const { stdout } = await banctl([...command, `--banlist=${path}`]);
        assert.doesNotMatch(stdout.replaceAll('\n', ''), controls);
      }
    });
  });

  suite('enforced', { concurrency: 1 }, () => {
    let apache: Apache;
    let place: string;
    let reloading: string[];
    before(async () => {
      apache = await startApache({ remoteip: true, list: '' });
      place = `--banlist=${apache.banlist}`;
      reloading = [place, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
    });
    after(() => apache[Symbol.asyncDispose]());
    beforeEach(() => banctl(['reload', ...reloading]));

    const isEnforced = async (address: string) =>
      (await banctlJson<Explained>(['explain', address, place])).enforced;
    const pending = async () =>
      (
        await banctlJson<{ reload: { pending: boolean; last: string; error: string | null } }>([
          'list',
          place,
        ])
      ).reload;

    const address = (index: number) => `203.0.113.${index}`;
    test('is false while the reload is pending, and true from the moment that Apache refuses', async () => {
      await banctl(['ban', address(1), ...reloading, '--no-reload']);
      assert.equal(await isEnforced(address(1)), false);
      assert.equal((await pending()).pending, true);
      assert.equal(await apache.get('/', { from: address(1) }), 200);
      const started = Math.floor(Date.now() / 1000) * 1000;
      await banctl(['reload', ...reloading]);
      assert.equal(await isEnforced(address(1)), true);
      const reload = await pending();
      assert.deepEqual([reload.pending, reload.error], [false, null]);
      assert.ok(Date.parse(reload.last) >= started, reload.last);
      assert.equal(await apache.get('/', { from: address(1) }), 403);
      assert.match((await banctl(['explain', address(1), place])).stdout, /^203\.0\.113\.1 is banned\n/);
    });

    test('is false while Apache refuses its configuration, and the reason is printed', async () => {
      await banctl(['ban', address(2), ...reloading, '--no-reload']);
      const failed = await banctl(['reload', ...reloading, '--apachectl=false']);
      assert.equal(failed.exitCode, 69);
      assert.equal(await isEnforced(address(2)), false);
      assert.match((await pending()).error ?? '', /^false -t failed with exit code 1/);
      const { stdout } = await banctl(['list', place]);
      assert.match(stdout, /\napache may not have loaded .*; the last reload failed: false -t failed/);
    });

    test('is false for a line that was written by hand', async () => {
      await banctl(['ban', address(3), ...reloading]);
      assert.equal(await isEnforced(address(3)), true);
      writeFileSync(apache.banlist, `Require not ip ${address(3)}\nRequire not ip ${address(4)}\n`);
      assert.equal(await isEnforced(address(4)), false);
    });
  });
});
