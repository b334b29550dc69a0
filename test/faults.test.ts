import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { acquireLock } from '../src/lock.ts';
import { banctl, executable } from './support/banctl.ts';
import { addition, ban } from './support/call.ts';
import type { Order } from './support/interrupted.ts';
import { forEachCall, interruptible } from './support/interruptible.ts';
import { execute } from './support/wait.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const TEXT = '# by hand\nRequire not ip 192.0.2.1\n';

function temporaryDirectory() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-faults-'));
  const banlist = join(directory, 'banlist.conf');
  return {
    directory,
    banlist,
    files: () => readdirSync(directory).sort(),
    banned: () =>
      [...readFileSync(banlist, 'utf8').matchAll(/^Require not ip (.*)\n/gm)].map(([, address]) => address),
    [Symbol.dispose]() {
      chmodSync(directory, 0o755);
      rmSync(directory, { recursive: true });
    },
  };
}

const callsOn = (banlist: string) => [
  ['ban', A, '--banlist', banlist, '--no-reload'],
  ['unban', '192.0.2.1', '--banlist', banlist, '--no-reload', '--jail', 'web'],
];

suite('what is no list is refused with exit 78, untouched', () => {
  const NONE: [string, (path: string) => unknown, RegExp][] = [
    ['a directory', (path) => mkdirSync(path), /is not a regular file/],
    ['a named pipe', (path) => execute('mkfifo', [path]), /is not a regular file/],
    ['a device', (path) => execute('mknod', [path, 'c', '1', '3']), /is not a regular file/],
    ['a file with NUL bytes', (path) => writeFileSync(path, `${TEXT}\0`), /NUL bytes/],
    ['a link to itself', (path) => symlinkSync(path, path), /loop of symbolic links/],
  ];
  for (const [what, make, message] of NONE) {
    test(what, async () => {
      using temporary = temporaryDirectory();
      await make(temporary.banlist);
      for (const call of callsOn(temporary.banlist)) {
        const { exitCode, stderr } = await banctl(call);
        assert.equal(exitCode, 78, stderr);
        assert.match(stderr, message);
        assert.match(stderr, /^banctl: [^\n]+\n$/);
      }
      assert.deepEqual(temporary.files(), ['banlist.conf']);
      if (what.startsWith('a file')) assert.equal(readFileSync(temporary.banlist, 'utf8'), `${TEXT}\0`);
    });
  }
});

suite('what cannot be written is exit 73, and the list is whole', () => {
  /**
   * Runs banctl in a shell that has a file system of its own for the list; `prepare` and the call happen in its
   * directory, which is gone afterwards. Gives the exit code, what was said, the list and the files.
   */
  async function inOwnFileSystem(options: string, prepare: string, list = TEXT) {
    const directory = mkdtempSync(join(tmpdir(), 'banctl-mount-'));
    const script = `
      set -e
      mount -t tmpfs -o ${options} none "$1"
      cd "$1"
      cat >banlist.conf
      cp banlist.conf before
      ${prepare}
      code=0
      "$2" ban ${A} --banlist "$1/banlist.conf" --no-reload 2>&1 || code=$?
      rm -f filler
      echo "code $code"
      cmp banlist.conf before && echo same
      ls -m`;
    try {
      const { stdout, stderr } = await execute(
        'unshare',
        ['--mount', 'sh', '-c', script, 'sh', directory, executable],
        list,
      );
      assert.equal(stderr, '');
      return stdout.trim().split('\n');
    } finally {
      rmSync(directory, { recursive: true });
    }
  }

  const LONG = 'Require not ip 198.51.100.1\n'.repeat(1500);
  const FAULTS: [
    string,
    { options: string; prepare: string; message: RegExp; list?: string; files?: string },
  ][] = [
    [
      'a full disk',
      {
        options: 'size=160k',
        prepare: 'cat /dev/zero >filler 2>/dev/null || :; truncate -s -20k filler',
        list: LONG,
        message:
          /^banctl: cannot write \S+banlist\.conf: no space is left on the device; free some; the old file is whole$/,
      },
    ],
    [
      'no inode left',
      {
        options: 'size=1m,nr_inodes=4',
        prepare: ':>filler',
        message: /^banctl: cannot lock .*: no space is left/,
      },
    ],
    [
      'an inode for the lock alone',
      {
        options: 'size=1m,nr_inodes=5',
        prepare: ':>filler',
        message: /^banctl: cannot lock .*: no space is left/,
      },
    ],
    [
      'a read-only file system',
      { options: 'size=1m', prepare: 'mount -o remount,ro "$1"', message: /: the file system is read-only$/ },
    ],
    [
      'a list that is a mount point',
      {
        options: 'size=1m',
        prepare: 'cp before mounted; mount --bind mounted banlist.conf',
        message: /^banctl: cannot write .* it is a mount point, which cannot be replaced/,
        files: 'banlist.conf, before, mounted',
      },
    ],
  ];
  for (const [what, { options, prepare, message, list = TEXT, files = 'banlist.conf, before' }] of FAULTS) {
    test(what, async () => {
      const [said = '', ...rest] = await inOwnFileSystem(options, prepare, list);
      assert.match(said, message);
      assert.deepEqual(rest, ['code 73', 'same', files]);
    });
  }

  test('a directory without permission', async () => {
    using temporary = temporaryDirectory();
    writeFileSync(temporary.banlist, TEXT);
    chmodSync(temporary.directory, 0o555);
    // The superuser may do anything: unless it is without the capabilities that say so.
    const dropped =
      process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : ['env'];
    const [program = '', ...args] = dropped;
    for (const call of callsOn(temporary.banlist)) {
      const { exitCode, stderr } = await execute(program, [...args, executable, ...call]);
      assert.deepEqual(
        [exitCode, stderr],
        [73, `banctl: cannot lock ${temporary.banlist}.lock: permission denied; run banctl as root\n`],
      );
    }
    assert.equal(readFileSync(temporary.banlist, 'utf8'), TEXT);
    assert.deepEqual(temporary.files(), ['banlist.conf']);
  });
});

test('a dangling link is filled, and stays a link', async () => {
  using temporary = temporaryDirectory();
  const target = join(temporary.directory, 'elsewhere', 'real.conf');
  mkdirSync(join(temporary.directory, 'elsewhere'));
  symlinkSync('elsewhere/real.conf', temporary.banlist);
  const { exitCode, stderr } = await banctl(callsOn(temporary.banlist)[0] ?? []);
  assert.deepEqual([exitCode, stderr], [0, '']);
  assert.equal(readlinkSync(temporary.banlist), 'elsewhere/real.conf');
  assert.match(readFileSync(target, 'utf8'), /^Require not ip 203\.0\.113\.5$/m);
});

suite('a process that ends or stops in the middle', () => {
  const banOfA = (directory: string): Order => ({ directory, changes: [addition(A, 'web')] });

  /** How many file system calls a ban makes. */
  async function countCalls(): Promise<number> {
    using temporary = temporaryDirectory();
    writeFileSync(temporary.banlist, TEXT);
    using process = await interruptible();
    const calls = await process.count(banOfA(temporary.directory));
    assert.ok(calls > 20, String(calls));
    return calls;
  }

  test('killed at any file system call: the old list or the new one, and nothing stays behind', async () => {
    const calls = await countCalls();
    await forEachCall(calls, async (call) => {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, TEXT);
      using process = await interruptible();
      await process.killed({ ...banOfA(temporary.directory), before: [call] });
      const after = temporary.banned();
      assert.ok(after.join() === '192.0.2.1' || after.join() === `192.0.2.1,${A}`, `call ${call}: ${after}`);
      await ban(temporary.banlist, B);
      assert.deepEqual(temporary.banned(), [...after, B], `call ${call}`);
      assert.deepEqual(temporary.files(), ['banlist.conf', 'banlist.conf.state'], `call ${call}`);
    });
  });

  test('stopped at any file system call and replaced: it goes on without undoing what others did', async () => {
    using process = await interruptible();
    const calls = await countCalls();
    for (let call = 1; call <= calls; call += 1) {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, TEXT);
      assert.equal(await process.stopped({ ...banOfA(temporary.directory), before: [call] }), undefined);
      acquireLock(temporary.banlist, { timeout: 10, stale: 0.05 }).release();
      await ban(temporary.banlist, B);
      assert.notEqual(await process.goesOn(), undefined, `call ${call}`);
      assert.deepEqual(temporary.banned().sort(), ['192.0.2.1', A, B], `call ${call}`);
      assert.deepEqual(temporary.files(), ['banlist.conf', 'banlist.conf.state'], `call ${call}`);
    }
  });
});
