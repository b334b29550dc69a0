// Unexpected things in place of the files that banctl reads and writes, or no file at all.
import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { banctl } from '../lab/banctl.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute } from '../lab/wait.ts';

const A = '203.0.113.5';
const OLD = '198.51.100.1';
const TEXT = `# by hand\nRequire not ip ${OLD}\n`;
const MIB = 2 ** 20;

function temporaryDirectory() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-odd-'));
  const banlist = join(directory, 'banlist.conf');
  return {
    directory,
    banlist,
    call: (...args: string[]) => banctl([...args, '--banlist', banlist]),
    files: () => readdirSync(directory).sort(),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

/** A socket stays when its server closes only if it was moved away before. */
async function makeSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.new`, resolve));
  await execute('mv', [`${path}.new`, path]);
  await new Promise((resolve) => server.close(resolve));
}

/** None of these may be opened to be read or written, let alone be replaced by a file. */
const NO_FILES: [string, (path: string) => unknown][] = [
  ['a directory', (path) => mkdirSync(path)],
  ['a named pipe', (path) => execute('mkfifo', [path])],
  ['a device', (path) => execute('mknod', [path, 'c', '1', '5'])],
  // A number without a driver: opened, a loop device would come to be.
  ['a block device', (path) => execute('mknod', [path, 'b', '240', '0'])],
  ['a socket', makeSocket],
  [
    'a link to a device',
    async (path) => {
      await execute('mknod', [deviceBeside(path), 'c', '1', '5']);
      symlinkSync(deviceBeside(path), path);
    },
  ],
];

/** One without an end, and not the system's own, which a fault here could replace. */
function deviceBeside(path: string): string {
  return join(dirname(path), 'zero');
}

const DAMAGED: [string, (path: string) => unknown, RegExp][] = [
  ['a file with NUL bytes', (path) => writeFileSync(path, `${TEXT}\0`), /NUL bytes/],
  ['a link to itself', (path) => symlinkSync(path, path), /loop of symbolic links/],
  ...[64 * MIB + 1, 600 * MIB, 5000 * MIB].map((size): [string, (path: string) => unknown, RegExp] => [
    `a file of ${size} bytes`,
    (path) => {
      writeFileSync(path, '');
      truncateSync(path, size);
    },
    /is larger than 64 MiB/,
  ]),
];

suite('what is no list is refused with exit 78, untouched', () => {
  const none = NO_FILES.map(([what, make]): (typeof DAMAGED)[number] => [
    what,
    make,
    /^banctl: (?:cannot read )?\/[^\n]+(?: is not a regular file; nothing was changed|: it is not a regular file; move it away)\n/,
  ]);
  for (const [what, make, message] of [...none, ...DAMAGED]) {
    test(what, async () => {
      using temporary = temporaryDirectory();
      await make(temporary.banlist);
      const before = lstatSync(temporary.banlist, { bigint: true });
      const calls = [
        ['ban', A, '--no-reload'],
        ['unban', OLD, '--no-reload', '--jail=web'],
        ['unban', OLD, '--no-reload', '--no-fail2ban'],
        ['audit', '--fix', '--no-fail2ban', '--no-reload', '--apachectl=/nonexistent'],
        ...(TORTURE > 1
          ? [['flush', '--all', '--no-reload', '--no-fail2ban'], ['list'], ['explain', OLD]]
          : []),
      ];
      const ended = await Promise.all(calls.map((call) => temporary.call(...call)));
      for (const [index, { exitCode, stdout, stderr }] of ended.entries()) {
        assert.deepEqual([exitCode, stdout], [78, ''], `${calls[index]?.join(' ')}: ${stderr}`);
        assert.match(stderr, /^banctl: [^\n]+\n$/);
        assert.ok(
          stderr.includes(
            what === 'a link to a device' ? deviceBeside(temporary.banlist) : temporary.banlist,
          ),
          stderr,
        );
        assert.match(stderr, message);
      }
      assert.deepEqual(
        temporary.files(),
        what === 'a link to a device' ? ['banlist.conf', 'zero'] : ['banlist.conf'],
      );
      const after = lstatSync(temporary.banlist, { bigint: true });
      assert.deepEqual([after.ino, after.mode, after.mtimeNs], [before.ino, before.mode, before.mtimeNs]);
    });
  }
});

suite('a list of unusual bytes is kept, takes a ban on a line of its own, and gives it up', () => {
  const TEXTS: [string, Buffer][] = [
    ['with lines that end in CR LF', Buffer.from(TEXT.replaceAll('\n', '\r\n'))],
    ['without a final newline', Buffer.from(TEXT.trimEnd())],
    [
      'with a comment of all bytes but NUL',
      Buffer.from([35, ...Array.from({ length: 255 }, (_, byte) => byte + 1), 10]),
    ],
    ['with a byte order mark', Buffer.from(`\ufeff${TEXT}`)],
    ['with a last line that goes on', Buffer.from(`${TEXT}# \\`)],
    ['empty', Buffer.from('')],
    ['of one line of 63 MiB', Buffer.concat([Buffer.alloc(63 * MIB, '# x'), Buffer.from(`\n${TEXT}`)])],
    ...(TORTURE === 1
      ? []
      : ([
          ['of a million and a half bans', bansOf(1_500_000)],
          ['of 8 MiB of continued lines', Buffer.alloc(8 * MIB, 'ab\\\n')],
        ] as [string, Buffer][])),
  ];
  for (const [what, text] of TEXTS) {
    test(what, async () => {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, text);
      const banned = await temporary.call('ban', A, '--jail=web', '--since=0', '--no-reload');
      assert.deepEqual([banned.exitCode, banned.stderr], [0, '']);
      const now = readFileSync(temporary.banlist);
      const added = `# banctl | web ${A} since 1970-01-01T00:00:00Z for ever\nRequire not ip ${A}\n`;
      const at = now.indexOf(added);
      assert.ok(at === 0 || now[at - 1] === 10, 'it begins a line');
      const rest = Buffer.concat([now.subarray(0, at), now.subarray(at + added.length)]);
      // A line end where one was missing; nothing but that.
      assert.ok(
        rest.subarray(0, text.length).equals(text) && rest.length - text.length <= 2,
        `${rest.length - text.length} more`,
      );
      assert.equal((await temporary.call('explain', A)).exitCode, 0);
      assert.equal(
        (await temporary.call('unban', A, '--jail=web', '--no-reload')).stdout.split('\n')[0],
        `${A} unbanned`,
      );
      assert.ok(readFileSync(temporary.banlist).equals(rest));
      assert.deepEqual(temporary.files(), ['banlist.conf', 'banlist.conf.state']);
    });
  }
});

function bansOf(count: number): Buffer {
  const lines = Array.from(
    { length: count },
    (_, index) => `Require not ip 10.${index >> 16}.${(index >> 8) & 255}.${index & 255}\n`,
  );
  return Buffer.from(lines.join(''));
}

suite('a link in place of the list', () => {
  test('to a file that does not exist yet is filled, and stays a link', async () => {
    using temporary = temporaryDirectory();
    mkdirSync(join(temporary.directory, 'elsewhere'));
    symlinkSync('elsewhere/real.conf', temporary.banlist);
    const { exitCode, stderr } = await temporary.call('ban', A, '--no-reload');
    assert.deepEqual([exitCode, stderr], [0, '']);
    assert.equal(readlinkSync(temporary.banlist), 'elsewhere/real.conf');
    assert.match(
      readFileSync(join(temporary.directory, 'elsewhere', 'real.conf'), 'utf8'),
      /^Require not ip 203\.0\.113\.5$/m,
    );
  });

  test('into a directory that does not exist is exit 73', async () => {
    using temporary = temporaryDirectory();
    symlinkSync('elsewhere/real.conf', temporary.banlist);
    const { exitCode, stderr } = await temporary.call('ban', A, '--no-reload');
    assert.deepEqual(
      [exitCode, stderr],
      [
        73,
        `banctl: cannot lock ${temporary.directory}/elsewhere/real.conf.lock: its directory does not exist; create it, or name another file\n`,
      ],
    );
    assert.deepEqual(temporary.files(), ['banlist.conf']);
  });
});

suite('what is no lock, in its place, is exit 73 at once, and stays', () => {
  const LOCKS: [string, (path: string) => unknown][] = [
    ...NO_FILES.filter(([what]) => what !== 'a directory'),
    ['a file', (path) => writeFileSync(path, 'kept')],
    ['a link to nothing', (path) => symlinkSync('nowhere', path)],
    [
      'a link to a directory',
      (path) => {
        mkdirSync(join(dirname(path), 'other'), { recursive: true });
        writeFileSync(join(dirname(path), 'other', 'kept'), '');
        symlinkSync('other', path);
      },
    ],
    ['a directory with a directory in it', (path) => mkdirSync(join(path, 'kept'), { recursive: true })],
  ];
  for (const [what, make] of LOCKS) {
    test(what, async () => {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, TEXT);
      const bans = join(temporary.directory, 'bans');
      mkdirSync(bans);
      for (const [path, ...options] of [
        [`${temporary.banlist}.lock`],
        [join(bans, `${A}.lock`), `--bandir=${bans}`],
      ] as const) {
        await make(path);
        const start = performance.now();
        const { exitCode, stderr } = await temporary.call('ban', A, '--no-reload', ...options);
        assert.deepEqual(
          [exitCode, stderr],
          [
            73,
            `banctl: cannot lock ${path}: ${what.includes('in it') ? '"kept" is in it' : 'something else is in its place'}; remove it\n`,
          ],
        );
        assert.ok(performance.now() - start < 15_000, 'it has waited for the lock');
        assert.ok(lstatSync(path));
        if (what.includes('directory')) assert.ok(existsSync(join(path, 'kept')), 'something was removed');
      }
      assert.equal(readFileSync(temporary.banlist, 'utf8'), TEXT);
      assert.ok(!readdirSync(bans).includes(A));

      // An audit that repairs lets it stand, too.
      rmSync(`${temporary.banlist}.lock`, { recursive: true });
      const audited = await temporary.call(
        'audit',
        '--fix',
        '--no-fail2ban',
        '--no-reload',
        `--bandir=${bans}`,
      );
      assert.ok(lstatSync(join(bans, `${A}.lock`)));
      if (what === 'a link to a directory') assert.deepEqual([audited.exitCode, audited.stderr], [1, '']);
    });
  }
});

test('what is no lock in place of that of a reload is exit 69 at once, and the ban is there', async () => {
  using temporary = temporaryDirectory();
  const lock = `${temporary.banlist}.reload.lock`;
  const reloading = ['--reload-interval=0', '--apachectl=/nonexistent', '--reload-command=true'];
  writeFileSync(lock, 'kept');
  const { exitCode, stdout, stderr } = await temporary.call('ban', A, ...reloading);
  assert.deepEqual(
    [exitCode, stdout, stderr],
    [
      69,
      `${A} banned\n`,
      `banctl: apache was not reloaded: cannot lock ${lock}: something else is in its place; remove it\n`,
    ],
  );
  rmSync(lock);
  assert.equal((await temporary.call('ban', A, ...reloading)).exitCode, 0);
  assert.doesNotMatch((await temporary.call('list')).stdout, /may not have loaded/);
});

test('an invalid state is made anew, whatever it says', async (t) => {
  const known = {
    name: '',
    pidFile: null,
    loaded: null,
    made: null,
    wasAtRest: false,
    process: null,
    generation: null,
  };
  const full = { key: '0'.repeat(16), list: null, digest: '0'.repeat(16), lastReload: null, waiter: null };
  const STATES = [
    '',
    '{',
    'null',
    '[]',
    '5',
    '"text"',
    '\0',
    '{}',
    '{"digest":null}',
    '{"digest":"ab"}',
    '{"digest":["x",null]}',
    '{"digest":[1,2,3]}',
    '{"waiter":"x"}',
    '{"pidFile":"/proc/self/mem"}',
    '{"__proto__":{"list":5}}',
    ...[
      { apaches: 5 },
      { apaches: [5] },
      { apaches: [{}] },
      { apaches: [{ ...known, loaded: { digest: [0, 0], pidFile: null } }] },
      { apaches: [{ ...known, pidFile: 7 }] },
      { apaches: [{ ...known, generation: [] }] },
      { apaches: [{ ...known, name: null }] },
      { targets: [5] },
      { owed: [{ apachectl: 'x' }] },
      { key: 'x' },
      { mark: { count: 'x' } },
      { mark: null },
      { lastReload: 1e300 },
      { lastReload: '2026' },
      { lastTry: 1e300 },
      { lastTry: {} },
      { interval: 'x' },
      { spacing: 'x' },
      { spacing: -1e9 },
      { isLingering: 1 },
      { error: { a: 1 } },
      { waiter: 5 },
      { list: {} },
    ].map((wrong) => JSON.stringify({ ...full, ...wrong })),
  ].flatMap((text, index) => (index % 6 === 0 ? [text, `# ${text}\n`] : [`# ${text}\n`]));
  using temporary = temporaryDirectory();
  const reloading = ['--reload-interval=0', '--apachectl=/nonexistent', '--reload-command=true'];
  const tried = STATES.filter((_state, index) => TORTURE > 1 || index % 3 === 0);
  for (const state of tried) {
    writeFileSync(temporary.banlist, TEXT);
    writeFileSync(`${temporary.banlist}.state`, state);
    for (const call of [
      ['list', '--json'],
      ['ban', A, ...reloading],
    ]) {
      const { exitCode, stderr } = await temporary.call(...call);
      assert.deepEqual([exitCode, stderr], [0, ''], `${state}: ${call.join(' ')}`);
    }
    assert.match(readFileSync(temporary.banlist, 'utf8'), /^Require not ip 203\.0\.113\.5$/m);
    const made = JSON.parse(readFileSync(`${temporary.banlist}.state`, 'utf8').slice(2));
    assert.ok(typeof made.list === 'string' && made.apaches[0].loaded.digest.length === 16, state);
  }
  t.diagnostic(`${tried.length} states`);
});

suite('metrics replace no device and no directory', () => {
  const audit = (temporary: ReturnType<typeof temporaryDirectory>, path: string) =>
    temporary.call('audit', '--no-fail2ban', '--apachectl=/nonexistent', '--prometheus', path);

  for (const [what, make] of NO_FILES) {
    test(`${what}: exit 73, and it stays`, async () => {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, TEXT);
      const path = join(temporary.directory, 'banctl.prom');
      await make(path);
      const target = what.startsWith('a link') ? readlinkSync(path) : path;
      const before = lstatSync(path, { bigint: true });
      const { exitCode, stderr } = await audit(temporary, path);
      assert.deepEqual(
        [exitCode, stderr],
        [
          73,
          `banctl: cannot write ${target}: it is not a regular file; move it away, or give another path\n`,
        ],
      );
      assert.equal(lstatSync(path, { bigint: true }).ino, before.ino);
      assert.equal(lstatSync(path).mode, Number(before.mode));
      const device = what.startsWith('a link') ? ['zero'] : [];
      assert.deepEqual(temporary.files(), ['banctl.prom', 'banlist.conf', ...device]);
    });
  }

  test('a link to nothing is filled, one into no directory is exit 73, a loop 78', async () => {
    using temporary = temporaryDirectory();
    writeFileSync(temporary.banlist, TEXT);
    const at = (name: string) => join(temporary.directory, name);
    symlinkSync('real.prom', at('link.prom'));
    symlinkSync('nowhere/real.prom', at('nowhere.prom'));
    symlinkSync('loop.prom', at('loop.prom'));
    assert.equal((await audit(temporary, at('link.prom'))).exitCode, 1);
    assert.ok(lstatSync(at('link.prom')).isSymbolicLink());
    assert.match(readFileSync(at('real.prom'), 'utf8'), /^banctl_ok 0$/m);
    const nowhere = await audit(temporary, at('nowhere.prom'));
    assert.deepEqual(
      [nowhere.exitCode, nowhere.stderr],
      [
        73,
        `banctl: cannot write ${at('nowhere/real.prom')}: its directory does not exist; create it, or give another path; the old file is unchanged\n`,
      ],
    );
    assert.equal((await audit(temporary, at('loop.prom'))).exitCode, 78);
  });
});
