// What may not be written: read-only file systems, immutable files, mount points. Each time the call ends with 73, has
// changed nothing and left nothing, and works once it may.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { type OwnFileSystem, ownFileSystem } from '../lab/own-file-system.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute } from '../lab/wait.ts';

const A = '203.0.113.5';
const OLD = '198.51.100.1';
const TEXT = `Require not ip ${OLD}\n`;

const WHOLE = 'the old file is unchanged';
const IMMUTABLE = /not permitted; is the file or its directory immutable \(lsattr\)\?/;
const MOUNT_POINT = /it is a mount point, which cannot be replaced; mount its directory instead/;
const READ_ONLY = /the file system is read-only/;

interface Fault {
  readonly forbid: string;
  readonly allow: string;
  readonly message: RegExp;
  /** Whose ban and unban fail; those of the other place are done. */
  readonly place: 'list' | 'directory' | 'both';
  /** The ban of another address than the file's in the directory is done. */
  readonly isOfFile?: boolean;
  /** What cannot be removed while it is forbidden, and is not by the next call. */
  readonly leaves?: RegExp;
}

const FAULTS: Record<string, Fault> = {
  'a read-only file system': {
    forbid: 'mount -o remount,ro ..',
    allow: 'mount -o remount,rw ..',
    message: READ_ONLY,
    place: 'both',
  },
  'a read-only file system on the ban directory': {
    forbid: 'mount --bind bans bans && mount -o remount,bind,ro bans',
    allow: 'umount bans',
    message: READ_ONLY,
    place: 'directory',
  },
  'an immutable list': {
    forbid: 'chattr +i banlist.conf',
    allow: 'chattr -i banlist.conf',
    message: IMMUTABLE,
    place: 'list',
  },
  'a list that can only grow': {
    forbid: 'chattr +a banlist.conf',
    allow: 'chattr -a banlist.conf',
    message: IMMUTABLE,
    place: 'list',
  },
  'an immutable directory': {
    forbid: 'chattr +i .',
    allow: 'chattr -i .',
    message: IMMUTABLE,
    place: 'list',
  },
  'an immutable ban directory': {
    forbid: 'chattr +i bans',
    allow: 'chattr -i bans',
    message: IMMUTABLE,
    place: 'directory',
  },
  'an immutable file in the ban directory': {
    forbid: `chattr +i bans/${OLD}`,
    allow: `chattr -i bans/${OLD}`,
    message: IMMUTABLE,
    place: 'directory',
    isOfFile: true,
  },
  'a directory in which nothing can be removed': {
    forbid: 'chattr +a .',
    allow: 'chattr -a .',
    message: IMMUTABLE,
    place: 'list',
    leaves: /^\.banlist\.conf\.banctl-\d+$/,
  },
  'a ban directory in which nothing can be removed': {
    forbid: 'chattr +a bans',
    allow: 'chattr -a bans',
    message: IMMUTABLE,
    place: 'directory',
    leaves: /^bans\/\.[\d.]+\.banctl-\d+$/,
  },
  'a list that is a mount point': {
    forbid: 'cp banlist.conf ../mounted && mount --bind ../mounted banlist.conf',
    allow: 'umount banlist.conf',
    message: MOUNT_POINT,
    place: 'list',
  },
  'a file in the ban directory that is a mount point': {
    forbid: `cp bans/${OLD} ../mounted && mount --bind ../mounted bans/${OLD}`,
    allow: `umount bans/${OLD}`,
    message: MOUNT_POINT,
    place: 'directory',
    isOfFile: true,
  },
};

suite('what may not be written is exit 73, and as it was', () => {
  let disk: OwnFileSystem;
  beforeEach(async () => {
    disk = await ownFileSystem();
  });
  afterEach(() => disk[Symbol.asyncDispose]());

  function put(): void {
    mkdirSync(join(disk.outside, 'bans'));
    for (const name of ['banlist.conf', `bans/${OLD}`]) writeFileSync(join(disk.outside, name), TEXT);
  }

  const names = () =>
    readdirSync(disk.outside, { recursive: true })
      .map(String)
      .filter((name) => name !== 'banlist.conf.state')
      .sort();
  const texts = () =>
    ['banlist.conf', `bans/${OLD}`].map((name) => readFileSync(join(disk.outside, name), 'utf8'));

  function call(place: 'list' | 'directory', ...args: string[]) {
    const { directory } = disk;
    // With the directory the list is another: what stands in it would stay there.
    const options =
      place === 'list'
        ? [`--banlist=${directory}/banlist.conf`]
        : [`--banlist=${directory}/../empty.conf`, `--bandir=${directory}/bans`];
    return disk.banctl([...args, ...options, '--no-reload', '--lock-timeout=5']);
  }

  for (const [what, { forbid, allow, message, place, isOfFile, leaves }] of Object.entries(FAULTS)) {
    test(what, async () => {
      put();
      const before = names();
      await disk.shell(forbid);
      const places = (['list', 'directory'] as const).filter((one) => place === 'both' || place === one);
      const calls = [
        ['ban', isOfFile ? OLD : A],
        ...(TORTURE > 1 ? [['ban', OLD, '--jail=web']] : []),
        ['unban', OLD, '--no-fail2ban'],
      ];
      try {
        for (const one of places) {
          for (const args of calls) {
            const { exitCode, stdout, stderr } = await call(one, ...args);
            assert.deepEqual([exitCode, stdout], [73, ''], `${args.join(' ')}: ${stderr}`);
            assert.match(stderr, /^banctl: cannot (?:write|lock|make) \/[^\n]*\n$/);
            assert.match(stderr, message);
            if (stderr.includes('cannot write')) assert.ok(stderr.endsWith(`; ${WHOLE}\n`), stderr);
          }
        }
        assert.deepEqual(texts(), [TEXT, TEXT]);
        if (leaves === undefined) assert.deepEqual(names(), before);
      } finally {
        await disk.shell(allow);
      }
      assert.deepEqual(texts(), [TEXT, TEXT]);
      for (const one of places)
        for (const args of calls) {
          const { exitCode, stderr } = await call(one, ...args);
          assert.deepEqual([exitCode, stderr], [0, ''], args.join(' '));
        }
      const left = names().filter((name) => !before.includes(name) && name !== `bans/${A}`);
      if (leaves === undefined) assert.deepEqual(left, []);
      else {
        assert.ok(left.length > 0 && left.every((name) => leaves.test(name)), left.join());
        await disk.shell('find . -name "*.banctl-*" -exec touch -d "2 minutes ago" {} +');
        await disk.banctl([
          'audit',
          '--fix',
          '--no-fail2ban',
          '--no-reload',
          `--banlist=${disk.directory}/banlist.conf`,
          `--bandir=${disk.directory}/bans`,
        ]);
        assert.deepEqual(
          names().filter((name) => name.includes('.banctl-')),
          [],
          'an audit removes them',
        );
      }
    });
  }

  const STATES: Record<string, [string, string, RegExp]> = {
    'is immutable': ['chattr +i banlist.conf.state', 'chattr -i banlist.conf.state', IMMUTABLE],
    'is a mount point': [
      'cp banlist.conf.state ../mounted && mount --bind ../mounted banlist.conf.state',
      'umount banlist.conf.state',
      MOUNT_POINT,
    ],
    'is a directory': [
      'rm banlist.conf.state && mkdir banlist.conf.state',
      'rmdir banlist.conf.state',
      /it is not a regular file; move it away/,
    ],
    'is a named pipe': [
      'rm banlist.conf.state && mkfifo banlist.conf.state',
      'rm banlist.conf.state',
      /it is not a regular file; move it away/,
    ],
    'is a link to a device without an end': [
      'rm banlist.conf.state && mknod ../zero c 1 5 && ln -s ../zero banlist.conf.state',
      'rm banlist.conf.state',
      /it is not a regular file; move it away/,
    ],
  };
  for (const [what, [forbid, allow, message]] of Object.entries(STATES)) {
    test(`a state that ${what} prevents no ban, and is reported`, async () => {
      put();
      assert.equal((await call('list', 'ban', '203.0.113.6')).exitCode, 0);
      await disk.shell(forbid);
      try {
        const { exitCode, stdout, stderr } = await call('list', 'ban', A);
        assert.deepEqual([exitCode, stdout.split('\n')[0]], [0, `${A} banned`]);
        assert.match(
          stderr,
          /^banctl: cannot write \S+banlist\.conf\.state: [^\n]*; until then, banctl reloads apache more often than needed\n$/,
        );
        assert.match(stderr, message);
        const { stdout: listed } = await disk.banctl(['list', `--banlist=${disk.directory}/banlist.conf`]);
        assert.match(listed, new RegExp(`^${A.replaceAll('.', '\\.')} +manual`, 'm'));
      } finally {
        await disk.shell(allow);
      }
      const { exitCode, stderr } = await call('list', 'ban', '203.0.113.7');
      assert.deepEqual([exitCode, stderr], [0, '']);
      assert.deepEqual(names(), ['banlist.conf', 'bans', `bans/${OLD}`]);
    });
  }
});

test('a directory without permission is exit 73', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-forbidden-'));
  const banlist = join(directory, 'banlist.conf');
  writeFileSync(banlist, TEXT);
  chmodSync(directory, 0o555);
  // The superuser may do anything: unless it is without the capabilities that say so.
  const dropped =
    process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : ['env'];
  const [program = '', ...args] = dropped;
  try {
    for (const call of [
      ['ban', A],
      ['unban', OLD, '--jail=web'],
    ]) {
      const { exitCode, stderr } = await execute(program, [
        ...args,
        executable,
        ...call,
        '--banlist',
        banlist,
        '--no-reload',
      ]);
      assert.deepEqual(
        [exitCode, stderr],
        [73, `banctl: cannot lock ${banlist}.lock: permission denied; run banctl as root\n`],
      );
    }
    assert.equal(readFileSync(banlist, 'utf8'), TEXT);
    assert.deepEqual(readdirSync(directory), ['banlist.conf']);
  } finally {
    chmodSync(directory, 0o755);
    rmSync(directory, { recursive: true });
  }
});
