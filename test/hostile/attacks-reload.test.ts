// Inputs of the kinds that once made an acknowledged ban fail, or come back after its unban.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import { type Apache, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { processesNaming } from '../lab/processes.ts';
import { writeScript } from '../lab/site.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const mpm = 'StartServers 2\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
const inOrder = { concurrency: 1 };

suite('an acknowledged ban holds', inOrder, () => {
  let apache: Apache;
  before(async () => {
    apache = await startApache({ remoteip: true, mpm, list: '' });
  });
  after(() => apache[Symbol.asyncDispose]());
  afterEach(async () => {
    for (const pid of waiters()) process.kill(pid, 'SIGKILL');
    rmSync(`${apache.banlist}.state`, { recursive: true, force: true });
    writeFileSync(apache.banlist, '');
    await apache.graceful();
  });

  const places = () => [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`];
  const call = (...args: string[]): Promise<Finished> =>
    banctl([
      ...args,
      ...(args.some((arg) => arg.startsWith('--apachectl=')) ? places().slice(0, 1) : places()),
    ]);
  const now = '--reload-interval=0';
  async function done(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await call(...args);
    assert.deepEqual([exitCode, stderr], [0, ''], args.join(' '));
    return stdout;
  }
  const get = (from: string) => apache.get('/', { from });
  const seen = (from: string, status: number, detail = () => '') =>
    until(`${from} to get ${status}`, async () => (await get(from)) === status, { limit: 30_000, detail });
  /** banctl's detached processes for this list. */
  const waiters = () =>
    processesNaming(apache.banlist).filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/exe`) === executable;
      } catch {
        return false;
      }
    });
  /** An Apache's control program that ends as `text` says, until the file `well` is there. */
  function failing(name: string, text: string): { ctl: string; well: string } {
    const well = join(apache.dir, `${name}.well`);
    const ctl = writeScript(
      apache.dir,
      name,
      `if [ ! -e ${well} ]; then\n${text}\nfi\nexec ${apache.ctl} "$@"`,
    );
    return { ctl, well };
  }

  test('whatever four addresses an attacker chooses from a network', async () => {
    const chosen = ['1111:10fe:18b7', '2222:13ab:1547', '3333:10aa:13da', '4444:1197:19f8'].map(
      (part) => `2001:db8:0:7:${part}:1001`,
    );
    await done('ban', A, '--jail=web', '--reload-interval=1');
    await done('ban', ...chosen, '--jail=web', '--reload-interval=1');
    for (const one of chosen) await seen(one, 403);
    await done('unban', ...chosen, '--jail=web', '--reload-interval=1');
    for (const one of chosen) await seen(one, 200);
  });

  test('whatever order the same lines come in', async () => {
    const orders = [
      `<IfDefine NEVER>\nRequire not ip ${A}\n</IfDefine>\nRequire not ip ${B}\n`,
      `<IfDefine NEVER>\nRequire not ip ${B}\n</IfDefine>\nRequire not ip ${A}\n`,
      `Require not ip ${A}\nRequire not ip ${B}\n<IfDefine NEVER>\n</IfDefine>\n`,
    ];
    const expected = [
      [200, 403],
      [403, 200],
      [403, 403],
    ];
    for (const [index, text] of orders.entries()) {
      writeFileSync(apache.banlist, text);
      await done('reload', now);
      assert.deepEqual([await get(A), await get(B)], expected[index], text);
    }
  });

  for (const how of ['its old time', 'the time of its change by now', 'a time to come'] as const) {
    test(`in a list that is put back with ${how}, after a foreign reload`, async () => {
      const saved = join(apache.dir, 'saved');
      await done('ban', A, '--jail=web', now);
      copyFileSync(apache.banlist, saved);
      const { mtimeMs } = statSync(apache.banlist);
      await done('unban', A, '--jail=web', now);
      await seen(A, 200);
      await apache.graceful();
      copyFileSync(saved, apache.banlist);
      const time = {
        'its old time': mtimeMs / 1000,
        'the time of its change by now': Date.now() / 1000,
        'a time to come': Date.now() / 1000 + 86_400,
      }[how];
      utimesSync(apache.banlist, time, time);
      assert.equal(await get(A), 200);
      const { exitCode, stdout } = await banctl(['explain', A, '--json', `--banlist=${apache.banlist}`]);
      assert.deepEqual([exitCode, JSON.parse(stdout).enforced], [0, false]);
      await done('ban', B, '--jail=web', now);
      assert.deepEqual([await get(A), await get(B)], [403, 403]);
    });
  }

  for (const named of ['link', 'file'] as const) {
    test(`behind a link that leads to another list for one foreign reload; banctl has the ${named}`, async () => {
      const [file, other] = ['real.conf', 'other.conf'].map((name) => join(apache.dir, name)) as [
        string,
        string,
      ];
      const at = [`--banlist=${{ link: apache.banlist, file }[named]}`, `--apachectl=${apache.ctl}`];
      const leadTo = (target: string) => {
        rmSync(apache.banlist);
        symlinkSync(target, apache.banlist);
      };
      const isEnforced = async () =>
        JSON.parse((await banctl(['explain', A, '--json', ...at])).stdout).enforced;
      writeFileSync(other, '');
      rmSync(file, { force: true });
      try {
        leadTo(file);
        await banctl(['ban', A, '--jail=web', now, ...at]);
        await apache.graceful();
        assert.deepEqual([await get(A), await isEnforced()], [403, true]);
        leadTo(other);
        await apache.graceful();
        leadTo(file);
        assert.deepEqual([await get(A), await isEnforced()], [200, false]);
        const { exitCode, stderr } = await banctl(['reload', ...at]);
        assert.deepEqual([exitCode, stderr], [0, '']);
        assert.deepEqual([await get(A), await isEnforced()], [403, true]);
      } finally {
        rmSync(apache.banlist);
        rmSync(`${file}.state`, { force: true });
      }
    });
  }

  test('beside a PidFile of tomorrow', async () => {
    await done('ban', B, '--jail=web', now);
    const tomorrow = Date.now() / 1000 + 86_400;
    utimesSync(apache.pidFile, tomorrow, tomorrow);
    appendFileSync(apache.banlist, `Require not ip ${A}\n`);
    utimesSync(apache.pidFile, tomorrow, tomorrow);
    await done('reload', now);
    assert.equal(await get(A), 403);
  });

  test('a quick jail beside one that waits for ten minutes', async () => {
    await done('ban', B, '--jail=web', '--reload-interval=600');
    await done('ban', '203.0.113.7', '--jail=slow', '--reload-interval=600');
    await done('ban', A, '--jail=quick', '--reload-interval=1');
    await seen(A, 403, () => readFileSync(`${apache.banlist}.state`, 'utf8'));
    assert.ok(waiters().length <= 1, `${waiters().length} wait`);
  });

  test('where the state cannot be written, without a process for each call', async () => {
    mkdirSync(`${apache.banlist}.state`);
    const visitors = Array.from({ length: 12 }, (_, host) => `198.51.100.${host}`);
    for (const visitor of visitors)
      assert.equal((await call('ban', visitor, '--jail=web', '--reload-interval=30')).exitCode, 0);
    assert.ok(waiters().length <= 1, `${waiters().length} wait`);
    rmSync(`${apache.banlist}.state`, { recursive: true });
    await done('reload', now);
    for (const visitor of visitors) assert.equal(await get(visitor), 403, visitor);
  });

  test('a quick jail beside one that waits for ten minutes, where the state can be read and not replaced', async () => {
    const state = `${apache.banlist}.state`;
    // Node's own calls cannot write there, since each name for a temporary file beside it is too long.
    const long = join(apache.dir, 's'.repeat(250));
    const bySource = (...args: string[]) =>
      execute(process.execPath, [join(import.meta.dirname, '../../src/main.ts'), ...args, ...places()]);
    await bySource('ban', B, '--jail=web', '--reload-interval=600');
    await bySource('ban', '203.0.113.7', '--jail=slow', '--reload-interval=600');
    renameSync(state, long);
    symlinkSync(long, state);
    const ban = await bySource('ban', A, '--jail=quick', '--reload-interval=60');
    assert.match(ban.stderr, /state.* until then, banctl reloads apache more often/);
    await seen(A, 403);
    await until('nothing to wait', () => processesNaming(apache.banlist).length === 0);
    rmSync(long);
  });

  const NO_BLAME: [string, string][] = [
    [
      'a library is missing',
      'echo "apache2: error while loading shared libraries: libpcre2-8.so.0: cannot open shared object file" >&2; exit 127',
    ],
    ['memory is short', 'echo "Cannot allocate memory: AH00016: Configuration Failed" >&2; exit 1'],
    ['it printed nothing', 'exit 1'],
    ['it dies', 'kill -SEGV $$'],
  ];
  for (const [index, [what, script]] of NO_BLAME.entries()) {
    test(`apache's test fails once because ${what}: the ban stays, and the next call loads it`, async () => {
      const { ctl, well } = failing(`failing-${index}`, script);
      const first = await call('ban', A, '--jail=web', now, `--apachectl=${ctl}`);
      assert.equal(first.exitCode, 69, `${first.stdout}${first.stderr}`);
      assert.match(readFileSync(apache.banlist, 'utf8'), /203\.0\.113\.5/);
      writeFileSync(well, '');
      const second = await call('ban', A, '--jail=web', now, `--apachectl=${ctl}`);
      assert.equal(second.exitCode, 0, second.stderr);
      assert.equal(await get(A), 403);
    });
  }

  test('a test that blames a file beside the list says nothing of the list', async () => {
    const beside = `${apache.banlist}.bak`;
    const text = `echo "AH00526: Syntax error on line 3 of ${beside}:" >&2; echo "ip address '1.2.3' appears to be invalid" >&2; exit 1`;
    const { ctl } = failing('beside', text);
    const { exitCode } = await call('ban', A, '--jail=web', now, `--apachectl=${ctl}`);
    assert.equal(exitCode, 69);
    assert.match(readFileSync(apache.banlist, 'utf8'), /203\.0\.113\.5/);
  });

  test('a ban that apache refuses the list for is taken back, and is a failure', async () => {
    writeFileSync(apache.banlist, 'Require not ip nonsense\n');
    const { exitCode } = await call('ban', A, '--jail=web', now);
    // The list is refused without this ban, too.
    assert.ok(exitCode === 65 || exitCode === 69, String(exitCode));
    const isThere = readFileSync(apache.banlist, 'utf8').includes(A);
    assert.equal(isThere, exitCode === 69);
  });

  const SECTIONS: [string, string][] = [
    ['a name that no Define sets', `<IfDefine NEVER>\nRequire not ip ${A}\n</IfDefine>\n`],
    ['a define in lower case', `<ifdefine NEVER>\n  require not ip ${A}\n</ifdefine>\n`],
    ['a module that is not loaded', `<IfModule mod_never.c>\nRequire not ip ${A}\n</IfModule>\n`],
    ['a version that has been', `<IfVersion < 2.2>\nRequire not ip ${A}\n</IfVersion>\n`],
    [
      'a section in a section',
      `<IfModule authz_core_module>\n<IfDefine NEVER>\nRequire not ip ${A}\n</IfDefine>\n</IfModule>\n`,
    ],
    ['a section in quotes', `"<IfDefine" NEVER>\nRequire not ip ${A}\n</IfDefine>\n`],
    [
      'a section in quotes in another, which is closed twice',
      `<IfDefine NEVER>\n'<IfDefine' X>\n</IfDefine>\nRequire not ip ${A}\n</IfDefine>\n`,
    ],
    ['a section over two lines', `<IfDefine \\\nNEVER>\nRequire not ip ${A}\n</IfDefine>\n`],
    [
      'any of some, which takes no refusal of its own',
      `<RequireAny>\nRequire all granted\n<RequireAll>\nRequire all granted\nRequire not ip ${A}\n</RequireAll>\n</RequireAny>\n`,
    ],
    [
      'any of some, with an ended section before',
      `<RequireAny>\n<IfDefine NEVER>\n</IfDefine>\nRequire all granted\n<RequireAll>\nRequire all granted\nRequire not ip ${A}\n</RequireAll>\n</RequireAny>\n`,
    ],
    [
      'none of some',
      `<RequireNone>\n<RequireAll>\nRequire ip 192.0.2.0/24\nRequire not ip ${A}\n</RequireAll>\n</RequireNone>\n`,
    ],
  ];
  for (const [what, text] of SECTIONS) {
    test(`a line in ${what} is no ban`, async () => {
      writeFileSync(apache.banlist, text);
      const tested = await apache.ask('-t');
      assert.equal(tested.exitCode, 0, tested.stderr);
      await done('reload', '--force');
      assert.equal(await get(A), 200);
      assert.equal((await banctl(['explain', A, `--banlist=${apache.banlist}`])).exitCode, 1, 'not banned');
      const said = await done('ban', A, '--jail=web', now);
      assert.doesNotMatch(said, /already/);
      assert.equal(await get(A), 403);
      assert.match(
        readFileSync(apache.banlist, 'utf8'),
        new RegExp(text.split('\n')[0]?.replace(/[\\<>.]/g, '\\$&') ?? ''),
      );
      await done('unban', A, '--jail=web', now);
      assert.equal(await get(A), 200);
    });
  }

  test('an unban while hundreds of bans are moved to the list is an unban', async () => {
    const bandir = join(apache.dir, 'bans');
    const many = Array.from({ length: 900 }, (_, index) => `10.8.${index >> 8}.${index & 255}`);
    const places = [`--banlist=${apache.banlist}`, `--bandir=${bandir}`];
    const banned = await banctl(['ban', '-', '--jail=web', '--no-reload', ...places], many.join('\n'));
    assert.equal(banned.exitCode, 0, banned.stderr);
    for (const to of ['banlist', 'bandir']) {
      const migration = spawn(executable, ['migrate', `--to=${to}`, ...places, `--apachectl=${apache.ctl}`], {
        stdio: 'ignore',
      });
      const ended = once(migration, 'exit');
      const unbanned: string[] = [];
      for (const one of many.filter((_, index) => index % (to === 'bandir' ? 101 : 107) === 5)) {
        if (migration.exitCode !== null) break;
        const { exitCode, stdout } = await banctl(['unban', one, '--no-fail2ban', '--no-reload', ...places]);
        if (exitCode === 0 && stdout.includes('unbanned')) unbanned.push(one);
      }
      assert.deepEqual(await ended, [0, null], to);
      const back = unbanned.filter(
        (one) =>
          readFileSync(apache.banlist, 'utf8').includes(`Require not ip ${one}\n`) ||
          existsSync(join(bandir, one)),
      );
      assert.deepEqual(back, [], `${to}: of ${unbanned.length}`);
    }
    rmSync(bandir, { recursive: true });
  });
});
