// A disk that is full, in every measure: no room for the last page, the last byte, the last file.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { type OwnFileSystem, ownFileSystem, PAGE } from '../lab/own-file-system.ts';
import { startServer } from '../lab/served.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const A = '203.0.113.5';
/** More than are put on the disk one by one. */
const MANY = Array.from({ length: 18 }, (_, index) => `198.51.100.${index}`);
const OLD = '203.0.113.1';

type Files = ReadonlyMap<string, string>;

/** A hold of web as banctl writes it. */
function banOf(address: string): string {
  return `# banctl | web ${address} since 1970-01-01T00:00:00Z for ever\nRequire not ip ${address}\n`;
}

/** A text of the list of so many bytes, which bans OLD. */
function listOf(bytes: number): string {
  return `#${'x'.repeat(bytes - banOf(OLD).length - 2)}\n${banOf(OLD)}`;
}

interface Scene {
  readonly call: readonly string[];
  readonly input?: string;
  readonly usesDirectory?: boolean;
  /** One of several that differ by the length of the list. */
  readonly isOfLength?: boolean;
  /** So many more are left each time. */
  readonly stride?: number;
  /** What is there before, by path. */
  readonly files: Readonly<Record<string, string>>;
}

const SCENES: Record<string, Scene> = {
  // As long as fills two pages, a byte less, and more.
  ...Object.fromEntries(
    Array.from({ length: TORTURE === 1 ? 3 : 30 }, (_, index) => index - 1).map((more) => [
      `a ban after which the list has ${2 * PAGE + more} bytes`,
      {
        call: ['ban', A],
        isOfLength: true,
        files: { 'banlist.conf': listOf(2 * PAGE + more - banOf(A).length) },
      },
    ]),
  ),
  'a ban in a list of three pages': {
    call: ['ban', A],
    files: { 'banlist.conf': listOf(3 * PAGE - banOf(A).length) },
  },
  'an unban in a list of three pages': {
    call: ['unban', OLD],
    files: { 'banlist.conf': listOf(3 * PAGE) },
  },
  'many bans in the list': {
    call: ['ban', '-'],
    input: MANY.join('\n'),
    files: { 'banlist.conf': listOf(PAGE) },
  },
  'a ban in the directory': { call: ['ban', A], usesDirectory: true, files: { [`bans/${OLD}`]: banOf(OLD) } },
  'a second hold in the directory': {
    call: ['ban', OLD, '--reason', 'again'],
    usesDirectory: true,
    files: { [`bans/${OLD}`]: banOf(OLD) },
  },
  'an unban in the directory': {
    call: ['unban', OLD],
    usesDirectory: true,
    files: { [`bans/${OLD}`]: banOf(OLD) },
  },
  'many bans in the directory': {
    call: ['ban', '-'],
    input: MANY.join('\n'),
    usesDirectory: true,
    stride: TORTURE === 1 ? 5 : 1,
    files: { 'banlist.conf': '' },
  },
  'a flush of both places': {
    call: ['flush'],
    usesDirectory: true,
    files: { 'banlist.conf': listOf(PAGE).replaceAll(OLD, '198.51.100.0/24'), [`bans/${OLD}`]: banOf(OLD) },
  },
};

suite('a full disk: exit 73, and every file as before or as asked', () => {
  let disk: OwnFileSystem;
  before(async () => {
    disk = await ownFileSystem();
  });
  after(() => disk[Symbol.asyncDispose]());

  function put(files: Readonly<Record<string, string>>): void {
    for (const name of readdirSync(disk.outside)) rmSync(join(disk.outside, name), { recursive: true });
    mkdirSync(join(disk.outside, 'bans'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(disk.outside, name), text);
  }

  /** All that is there but what is a memory aid, or what a server keeps, by path; a lock has no text. */
  function read(): Files {
    const names = readdirSync(disk.outside, { recursive: true }).map(String).sort();
    const files = names.filter(
      (name) =>
        !['banlist.conf.state', 'bans'].includes(name) &&
        !/^(?:bans\/new|\.banlist\.conf)\.banctl-\d+(?:\/|$)/.test(name),
    );
    return new Map(
      files.map((name) => [
        name,
        name.endsWith('.lock') ? '' : readFileSync(join(disk.outside, name), 'utf8'),
      ]),
    );
  }

  function call({ call: args, input = '', usesDirectory }: Scene): Promise<Finished> {
    const { directory } = disk;
    const since = args[0] === 'ban' ? ['--since=0'] : [];
    const bandir = usesDirectory ? [`--bandir=${directory}/bans`] : [];
    return disk.banctl(
      [...args, '--jail=web', ...since, `--banlist=${directory}/banlist.conf`, ...bandir, '--no-reload'],
      input,
    );
  }

  for (const what of ['pages', 'inodes'] as const) {
    for (const [name, scene] of Object.entries(SCENES)) {
      // The length matters for pages alone.
      if (what === 'inodes' && scene.isOfLength) continue;
      test(`${name}, with any number of ${what} left`, async (t) => {
        put(scene.files);
        const before = read();
        const undisturbed = await call(scene);
        assert.deepEqual([undisturbed.exitCode, undisturbed.stderr], [0, '']);
        const after = read();
        let isEnough = 0;
        let left = 0;
        let times = 0;
        for (; isEnough < (TORTURE > 1 ? 2 : 1); left += scene.stride ?? 1) {
          times += 1;
          put(scene.files);
          await disk.leave(what, left);
          const { exitCode, stderr } = await call(scene);
          const now = read();
          const where = `${left} ${what} left: ${exitCode}, ${stderr}`;
          isEnough = exitCode === 0 && !stderr.includes('.state') ? isEnough + 1 : 0;
          if (exitCode === 0) assert.deepEqual(now, after, where);
          else {
            assert.equal(exitCode, 73, where);
            assert.match(
              stderr,
              /^banctl: [^\n]*\/[^\n]*: no space is left on the device; free some[^\n]*\n$/,
            );
            // With many files some may be done, each of them whole.
            const [, done = '0'] = /^banctl: (\d+) of \d+ addresses are done; then: /.exec(stderr) ?? [];
            for (const path of new Set([...before.keys(), ...after.keys(), ...now.keys()]))
              assert.ok([before.get(path), after.get(path)].includes(now.get(path)), `${where}: ${path}`);
            const changed = [...after.keys(), ...before.keys()].filter(
              (path) => now.get(path) !== before.get(path),
            );
            assert.equal(new Set(changed).size, Number(done), where);
          }
          await disk.free();
          if (exitCode === 0) continue;
          const again = await call(scene);
          assert.deepEqual([again.exitCode, again.stderr], [0, ''], where);
          assert.deepEqual(read(), after, where);
        }
        t.diagnostic(`${times} times, ${times - isEnough} of them with too few ${what} left`);
      });
    }
  }

  for (const [place, scene] of Object.entries({
    'the list': { files: { 'banlist.conf': listOf(3 * PAGE - banOf(A).length) }, bandir: undefined },
    'the directory': { files: { [`bans/${OLD}`]: banOf(OLD) }, bandir: 'bans' },
  })) {
    test(`a ban in ${place} by request to a server, with too few pages or inodes left`, async (t) => {
      const dir = mkdtempSync(join(tmpdir(), 'banctl-full-'));
      const { directory } = disk;
      const places = {
        banlist: `${directory}/banlist.conf`,
        ...(scene.bandir === undefined ? {} : { bandir: `${directory}/${scene.bandir}` }),
        'no-reload': true,
      };
      put(scene.files);
      const before = read();
      {
        const program = [...disk.enter, executable] as const;
        await using server = await startServer({ dir, options: ['--no-reload'], program });
        await using client = await server.connect();
        const ask = async () => {
          const answer = await client.ask('ban', {
            address: A,
            options: { jail: 'web', since: '0', for: '-1', ...places },
          });
          await until('its turn to end', () => !existsSync(join(disk.outside, 'banlist.conf.lock')));
          return answer;
        };
        assert.equal((await ask()).exit, 0);
        const after = read();
        let refused = 0;
        for (const what of ['pages', 'inodes'] as const)
          for (let left = 0, exit = 73; exit !== 0; left += 1) {
            put(scene.files);
            await disk.leave(what, left);
            const answer = await ask();
            ({ exit } = answer);
            const where = `${left} ${what} left: ${exit}, ${answer.said}`;
            assert.deepEqual(read(), exit === 0 ? after : before, where);
            await disk.free();
            if (exit === 0) continue;
            refused += 1;
            assert.equal(exit, 73, where);
            assert.match(answer.said, /^banctl: .*: no space is left on the device; free some/);
            assert.equal((await ask()).exit, 0, where);
            assert.deepEqual(read(), after, where);
          }
        assert.ok(refused > 1, String(refused));
        t.diagnostic(`${refused} requests refused`);
      }
      rmSync(dir, { recursive: true });
    });
  }

  test('metrics are the old ones or the new, and the findings are printed anyway', async () => {
    put({ 'banlist.conf': '', 'banctl.prom': 'banctl_ok 1\n' });
    const audit = () =>
      disk.banctl([
        'audit',
        `--banlist=${disk.directory}/banlist.conf`,
        `--prometheus=${disk.directory}/banctl.prom`,
        '--no-fail2ban',
        '--apachectl=/nonexistent',
      ]);
    await disk.leave('pages', 0);
    const full = await audit();
    assert.equal(full.exitCode, 73);
    assert.match(full.stdout, /^apache-down: /);
    assert.match(
      full.stderr,
      /^banctl: cannot write \S+\/banctl\.prom: no space is left on the device; free some; the old file is unchanged\n$/,
    );
    assert.equal(read().get('banctl.prom'), 'banctl_ok 1\n');
    assert.equal(read().size, 2);
    await disk.free();
    assert.equal((await audit()).exitCode, 1);
    // From the first metric to the last line of the last one.
    assert.match(
      read().get('banctl.prom') ?? '',
      /^# HELP banctl_bans .*\n(?:.*\n)*banctl_ok 0\n(?:.*\n)*banctl_reload_seconds_count(?:\{.*\})? \d+\n$/,
    );
  });

  test('a ban that is written but cannot be reloaded is exit 69, and the next call reloads', async (t) => {
    const { directory, outside } = disk;
    const reloading = (address: string) =>
      disk.banctl([
        'ban',
        address,
        `--banlist=${directory}/banlist.conf`,
        '--reload-interval=0',
        '--apachectl=/nonexistent',
        '--reload-command=true',
      ]);
    const seen: number[] = [];
    for (let left = 0; seen.at(-1) !== 0; left += 1) {
      put({ 'banlist.conf': '' });
      await disk.leave('inodes', left);
      const { exitCode, stderr } = await reloading(A);
      seen.push(exitCode);
      assert.equal(read().get('banlist.conf')?.includes(A), exitCode !== 73, stderr);
      if (exitCode === 69)
        assert.match(
          stderr,
          /^banctl: apache was not reloaded: cannot lock \S+: no space is left on the device; free some$/m,
        );
      await disk.free();
      assert.deepEqual(await reloading(A), {
        exitCode: 0,
        stdout: `${A} ${exitCode === 73 ? 'banned' : 'already banned'}\n`,
        stderr: '',
      });
      assert.deepEqual(readdirSync(outside).sort(), ['banlist.conf', 'banlist.conf.state', 'bans']);
      const { stdout } = await disk.banctl(['list', '--json', `--banlist=${directory}/banlist.conf`]);
      assert.equal(JSON.parse(stdout).reload.pending, false);
    }
    assert.ok(seen.includes(73) && seen.includes(69), seen.join());
    t.diagnostic(`with 0 to ${seen.length - 1} inodes left: exit ${seen.join(', ')}`);
  });
});

test('a file that may not become so long, by bytes: exit 73, and never a part of the list', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-full-'));
  const banlist = join(directory, 'banlist.conf');
  try {
    const old = listOf(2000);
    const limited = (limit: number) => {
      writeFileSync(banlist, old);
      const args = ['ban', A, '--jail=web', '--since=0', `--banlist=${banlist}`, '--no-reload'];
      return execute('prlimit', [`--fsize=${limit}`, executable, ...args]);
    };
    const enough = await limited(1e6);
    assert.deepEqual([enough.exitCode, enough.stderr], [0, '']);
    const asked = readFileSync(banlist, 'utf8');
    const stride = TORTURE === 1 ? 12 : 1;
    let times = 0;
    for (
      let limit = old.length - 24;
      limit <= asked.length + 1;
      limit += limit + stride < asked.length - 1 ? stride : 1
    ) {
      const { exitCode, stderr } = await limited(limit);
      times += 1;
      if (limit >= asked.length)
        assert.deepEqual([exitCode, stderr, readFileSync(banlist, 'utf8')], [0, '', asked]);
      else {
        assert.equal(exitCode, 73, `${limit}: ${stderr}`);
        assert.equal(
          stderr,
          `banctl: cannot write ${banlist}: the file would exceed the size limit; raise the limit (ulimit -f); the old file is unchanged\n`,
        );
        assert.equal(readFileSync(banlist, 'utf8'), old);
      }
      assert.deepEqual(readdirSync(directory).sort(), ['banlist.conf', 'banlist.conf.state']);
    }
    t.diagnostic(`${times} limits`);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('standard output on a full disk is exit 73, and what was asked for is done; standard error does not matter', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-full-'));
  const options = [`--banlist=${join(directory, 'banlist.conf')}`];
  const shell = (redirection: string, ...args: string[]) =>
    execute('sh', ['-c', `"$@" ${redirection}`, 'sh', executable, ...args, ...options]);
  try {
    for (const args of [['ban', A, '--no-reload'], ['list'], ['list', '--json']]) {
      const { exitCode, stderr } = await shell('>/dev/full', ...args);
      assert.deepEqual(
        [exitCode, stderr],
        [73, 'banctl: cannot write to standard output: no space is left on the device; free some\n'],
      );
    }
    assert.equal((await shell('', 'explain', A)).exitCode, 0);
    assert.equal((await shell('2>/dev/full', 'ban', '10.1', '--no-reload')).exitCode, 64);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
