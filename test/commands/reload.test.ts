// When Apache is reloaded, and what becomes of a reload that does not work: the built executable and a real Apache.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { constants } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { systemdUnit } from '../../src/apache/reload-signal.ts';
import { childrenOf, outlives } from '../../src/system/process.ts';
import { type Apache, type ApacheOptions, startApache } from '../lab/apache.ts';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { processesNaming } from '../lab/processes.ts';
import { type Daemon, daemon, execute, until } from '../lab/wait.ts';

interface Report {
  readonly changed: boolean;
  readonly results: { address: string; status: string }[];
  readonly reload: string;
}

const { SIGUSR1 } = constants.signals;
const one = '203.0.113.1';
const two = '203.0.113.2';
const three = '2001:db8::3';
const visitors = [one, two, three];

/** With one or two children a request after a reload often waits for a new one: Apache looks once a second. */
const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
const start = (options: ApacheOptions = {}) => startApache({ remoteip: true, mpm, ...options });
const options = ({ banlist, ctl }: Apache) => [`--banlist=${banlist}`, `--apachectl=${ctl}`];
const listOf = ({ banlist }: Apache) => (existsSync(banlist) ? readFileSync(banlist, 'utf8') : '');

/** Seconds that hold a few calls, and a dozen, on a machine with much else to do. */
const SOME_CALLS = 15;
const MANY_CALLS = 30;
/** What comes only at the end of such an interval, or of twice as much. */
const AT_ITS_END = { limit: 60_000 };

/** The options of the Apache that are not among these. */
const otherOptions = (apache: Apache, given: readonly string[]) =>
  options(apache).filter((option) => !given.some((one) => one.startsWith(option.replace(/=.*/, '='))));

/** What a call answers; options given here win over those of the Apache. */
function call(apache: Apache, args: readonly string[], exitCode = 0): Promise<Report> {
  const [command = '', ...rest] = args;
  return banctlJson<Report>([command, ...otherOptions(apache, rest), ...rest], exitCode);
}

/** The reload in `list`'s output. */
async function pendingOf({ banlist }: Apache): Promise<{ pending: boolean; error: string | null }> {
  type Listed = { reload: { pending: boolean; error: string | null } };
  const { pending, error } = (await banctlJson<Listed>(['list', `--banlist=${banlist}`])).reload;
  return { pending, error };
}

async function answers(apache: Apache, addresses: readonly string[] = visitors): Promise<number[]> {
  const statuses: number[] = [];
  for (const from of addresses) statuses.push(await apache.get('/', { from }));
  return statuses;
}

/** Starts it, and stops the process when it has written its PidFile and would be ended by the signal of a reload. */
async function startHalf({ config, pidFile }: Apache): Promise<Daemon> {
  for (let attempt = 1; ; attempt += 1) {
    const starting = daemon('apache2', ['-f', config, '-DFOREGROUND']);
    // Polled without a pause: the time between is a millisecond or two.
    for (const end = Date.now() + 10_000; !existsSync(pidFile) && Date.now() < end; );
    process.kill(starting.pid, 'SIGSTOP');
    if (!outlives(starting.pid, SIGUSR1)) return starting;
    process.kill(starting.pid, 'SIGCONT');
    await starting.end();
    assert.ok(attempt < 100, 'Apache was never caught while it was starting');
  }
}

/** Whether the signal of a graceful reload was sent to a process that is stopped (proc_pid_status(5)). */
function isPending(pid: number): boolean {
  const [, mask = '0'] = /^ShdPnd:\t(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return (BigInt(`0x${mask}`) >> BigInt(SIGUSR1 - 1)) % 2n === 1n;
}

async function refused(apache: Apache, ...addresses: string[]) {
  for (const from of addresses) {
    await until(`${from} to be refused`, async () => (await apache.get('/', { from })) === 403, AT_ITS_END);
  }
}

/** The processes that wait to reload this Apache. */
const waiters = (apache: Apache) => processesNaming(`--banlist=${apache.banlist} `);

/** Awaits that no process is left, and checks that no file is. */
async function nothingLeft(apache: Apache) {
  await until('the waiter to end', () => waiters(apache).length === 0, AT_ITS_END);
  const files = readdirSync(apache.dir).filter((name) => name.startsWith('banlist.conf'));
  assert.deepEqual(files.toSorted(), ['banlist.conf', 'banlist.conf.state']);
}

/** Ends what a test has made wait for longer than it lasts itself. */
function endWaiters(apache: Apache) {
  for (const pid of waiters(apache)) process.kill(pid, 'SIGKILL');
}

function program(apache: Apache, name: string, text: string): string {
  const path = join(apache.dir, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

suite('reloads', { concurrency: 3 }, () => {
  // The slowest first, which take as long as banctl waits: the other tests run at the same time.
  const commands: [what: string, text: string | undefined, said: RegExp][] = [
    ['hangs', 'sleep 600', /has not ended within \d+ s$/],
    ['does nothing', 'exit 0', /has not read its configuration again within \d+ s/],
    ['fails', 'echo "it cannot" >&2; exit 3', /reload failed with exit code 3: it cannot$/],
    ['is missing', undefined, /not found$/],
    ['floods', 'exec yes', /reload failed/],
  ];
  for (const [what, text, said] of commands) {
    test(`a reload command that ${what} keeps the ban, and is reported`, async () => {
      await using apache = await start();
      const path = join(apache.dir, 'reload');
      if (text !== undefined) program(apache, 'reload', text);
      const { exitCode, stdout, stderr } = await banctl([
        'ban',
        one,
        ...options(apache),
        `--reload-command=${path}`,
      ]);
      assert.equal(exitCode, 69);
      assert.match(stdout, /^203\.0\.113\.1 banned\n/);
      assert.match(stderr.trimEnd(), said);
      assert.equal(stderr.split('\n').length, 2, 'one line');
      assert.ok(stderr.length < 1000, `${stderr.length} characters`);
      assert.deepEqual(processesNaming(path), []);
      assert.deepEqual(await answers(apache), [200, 200, 200]);
      assert.equal((await call(apache, ['ban', one, '--reload-interval=0'])).reload, 'done');
      assert.deepEqual(await answers(apache), [403, 200, 200]);
      await nothingLeft(apache);
    });
  }

  test('a call that changes nothing for Apache reloads nothing', async () => {
    await using apache = await start();
    const now = '--reload-interval=0';
    assert.equal((await call(apache, ['ban', one, '--jail=a', '--for=1h', now])).reload, 'done');
    assert.equal(apache.reloads(), 1);
    const calls: [args: string[], status: string, isChanged: boolean][] = [
      [['ban', one, '--jail=a', '--for=2h'], 'already-banned', true],
      [['ban', one, '--jail=a', '--for=2h', '--reason=more'], 'already-banned', true],
      [['ban', one, '--jail=b'], 'already-banned', true],
      [['unban', one, '--jail=a'], 'still-held', true],
      [['unban', one, '--jail=a'], 'still-held', false],
      [['unban', two, '--jail=a'], 'not-banned', false],
      [['unban', two, '--no-fail2ban'], 'not-banned', false],
    ];
    for (const [args, status, isChanged] of calls) {
      const { changed, results, reload } = await call(apache, [...args, now]);
      assert.deepEqual(
        [changed, results[0]?.status, reload],
        [isChanged, status, 'not-needed'],
        args.join(' '),
      );
    }
    assert.equal((await call(apache, ['flush', '--jail=nobody', now])).reload, 'not-needed');
    assert.equal((await call(apache, ['reload'])).reload, 'not-needed');
    assert.equal((await call(apache, ['ban', two, '--dry-run'])).reload, 'skipped');
    assert.equal(apache.reloads(), 1);
    assert.equal((await call(apache, ['reload', '--force'])).reload, 'done');
    assert.equal(apache.reloads(), 2);
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test('done means that the next request is refused, and let in again', async () => {
    await using apache = await start();
    for (let number = 1; number <= 15; number += 1) {
      const from = number % 2 === 0 ? `203.0.113.${number}` : `2001:db8::${number}`;
      for (const [command, status] of [
        ['ban', 403],
        ['unban', 200],
      ] as const) {
        const args = [command, from, '--reload-interval=0', '--jail=a'];
        assert.equal((await call(apache, args)).reload, 'done');
        assert.equal(await apache.get('/', { from }), status, `${command} ${from}`);
      }
    }
    assert.equal(apache.reloads(), 30);
    await nothingLeft(apache);
  });

  test('done waits for an old child of Apache that has not come to stop listening', async () => {
    await using apache = await start();
    const child = await until('a child of Apache', () => childrenOf(apache.pid())[0]);
    const goOn = () => childrenOf(apache.pid()).includes(child) && process.kill(child, 'SIGCONT');
    process.kill(child, 'SIGSTOP');
    try {
      const before = statSync(apache.pidFile).mtimeMs;
      let doneAtMs = Number.POSITIVE_INFINITY;
      const ban = call(apache, ['ban', one]).finally(() => {
        doneAtMs = Date.now();
      });
      await until(
        'a new PidFile',
        () => existsSync(apache.pidFile) && statSync(apache.pidFile).mtimeMs > before,
      );
      // That it does not come cannot be awaited: it would come within some milliseconds.
      await new Promise((resolve) => setTimeout(resolve, 500));
      goOn();
      assert.equal((await ban).reload, 'done');
      assert.ok(doneAtMs - statSync(apache.pidFile).mtimeMs > 400);
      assert.deepEqual(await answers(apache), [403, 200, 200]);
    } finally {
      goOn();
    }
  });

  test('twenty bans at once that each wait for their reload share a few', async () => {
    await using apache = await start();
    const addresses = Array.from({ length: 20 }, (_, index) => `203.0.113.${index + 1}`);
    await Promise.all(
      addresses.map(async (from) => {
        assert.equal((await call(apache, ['ban', from, '--reload-interval=0'])).reload, 'done');
        assert.equal(await apache.get('/', { from }), 403, from);
      }),
    );
    assert.ok(apache.reloads() <= 15, `${apache.reloads()} reloads`);
    await nothingLeft(apache);
  });

  test('the first change reloads at once, those within the interval share one reload at its end', async () => {
    await using apache = await start();
    const burst = Array.from({ length: 12 }, (_, index) => `203.0.113.${index + 10}`);
    const interval = `--reload-interval=${MANY_CALLS}`;
    const began = performance.now();
    assert.equal((await call(apache, ['ban', one, interval])).reload, 'done');
    const reloaded = performance.now();
    assert.deepEqual(await answers(apache), [403, 200, 200]);
    const reports = await Promise.all(burst.map((from) => call(apache, ['ban', from, interval])));
    assert.deepEqual(new Set(reports.map(({ reload }) => reload)), new Set(['deferred']));
    assert.equal(waiters(apache).length, 1);
    assert.ok(performance.now() - reloaded < MANY_CALLS * 1000, 'the calls have not waited');
    assert.equal(apache.reloads(), 1);
    await refused(apache, ...burst);
    assert.ok(performance.now() - began > MANY_CALLS * 1000, 'the second reload has waited');
    await nothingLeft(apache);
    assert.equal(apache.reloads(), 2);
  });

  test('a change within the interval is loaded although its caller and its process group are killed', async () => {
    await using apache = await start();
    const interval = `--reload-interval=${SOME_CALLS}`;
    assert.equal((await call(apache, ['ban', one, interval])).reload, 'done');
    const words = [executable, 'ban', two, interval, ...options(apache)];
    const script = `${words.map((word) => `'${word}'`).join(' ')} && echo returned; sleep 60`;
    const caller = spawn('sh', ['-c', script], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    caller.stdout.on('data', (text) => {
      said += text;
    });
    await until('the call to return', () => said.includes('returned'));
    assert.equal(apache.reloads(), 1);
    process.kill(-(caller.pid ?? 0), 'SIGKILL');
    await refused(apache, two);
    await nothingLeft(apache);
    assert.equal(apache.reloads(), 2);
  });

  test('a change while a deferred reload is under way waits for an interval of its own', async () => {
    await using apache = await start();
    const [began, go] = [join(apache.dir, 'began'), join(apache.dir, 'go')];
    const path = program(
      apache,
      'reload',
      `: > ${began}; until [ -e ${go} ]; do sleep 0.1; done; exec ${apache.ctl} -k graceful`,
    );
    const interval = `--reload-interval=${SOME_CALLS}`;
    const command = `--reload-command=${path}`;
    assert.equal((await call(apache, ['ban', one, interval])).reload, 'done');
    assert.equal((await call(apache, ['ban', two, interval, command])).reload, 'deferred');
    await until('the deferred reload', () => existsSync(began), AT_ITS_END);
    assert.equal((await call(apache, ['ban', three, interval, command])).reload, 'deferred');
    const going = performance.now();
    writeFileSync(go, '');
    await until('reload 3', () => apache.reloads() === 3, AT_ITS_END);
    const waited = performance.now() - going;
    assert.ok(waited > SOME_CALLS * 1000, `${waited} ms`);
    await nothingLeft(apache);
    await refused(apache, two, three);
  });

  test('a reload whose waiter was killed is made up for by the next call, although that changes nothing', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=30']);
    assert.equal((await call(apache, ['ban', two, '--reload-interval=30'])).reload, 'deferred');
    endWaiters(apache);
    await until('the waiter to be gone', () => waiters(apache).length === 0);
    assert.deepEqual(await answers(apache), [403, 200, 200]);
    // Within the interval there is another waiter, after it there is a reload.
    assert.equal((await call(apache, ['ban', two, '--reload-interval=30'])).reload, 'deferred');
    assert.equal(waiters(apache).length, 1);
    endWaiters(apache);
    const { changed, reload } = await call(apache, ['unban', three, '--jail=a', '--reload-interval=0']);
    assert.deepEqual([changed, reload], [false, 'done']);
    assert.deepEqual(await answers(apache), [403, 403, 200]);
  });

  test('flush and reload do not wait for the end of the interval', async () => {
    await using apache = await start();
    const interval = '--reload-interval=30';
    await call(apache, ['ban', one, interval, '--jail=a']);
    assert.equal((await call(apache, ['ban', two, interval, '--jail=a'])).reload, 'deferred');
    assert.equal((await call(apache, ['reload', interval])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 403, 200]);
    assert.equal((await call(apache, ['ban', three, interval])).reload, 'deferred');
    assert.equal((await call(apache, ['flush', '--jail=a', interval])).reload, 'done');
    assert.deepEqual(await answers(apache), [200, 200, 403]);
    assert.equal(apache.reloads(), 3);
    endWaiters(apache);
  });

  test('the interval doubles while children of older generations linger', async () => {
    await using apache = await start();
    const slow = request({
      port: apache.port,
      path: '/slow.bin',
      headers: { Host: 'localhost' },
      agent: false,
    });
    slow.on('error', () => {});
    await new Promise((resolve) => slow.on('response', resolve).end()); // and nothing of it is read
    const reloaded = async (count: number) => {
      await until(`reload ${count}`, () => apache.reloads() === count, AT_ITS_END);
      return performance.now();
    };
    const interval = `--reload-interval=${SOME_CALLS}`;
    assert.equal((await call(apache, ['ban', one, interval])).reload, 'done');
    assert.equal((await call(apache, ['ban', two, interval])).reload, 'deferred');
    const second = await reloaded(2);
    await nothingLeft(apache);
    assert.equal((await call(apache, ['ban', three, interval])).reload, 'deferred');
    const gap = (await reloaded(3)) - second;
    assert.ok(gap > 1.8 * SOME_CALLS * 1000, `${gap} ms`);
    slow.destroy();
    await nothingLeft(apache);
  });

  test('what was not reloaded, as requested, is made up for by the next call', async () => {
    await using apache = await start();
    assert.equal((await call(apache, ['ban', one, '--no-reload'])).reload, 'skipped');
    assert.deepEqual([apache.reloads(), ...(await answers(apache))], [0, 200, 200, 200]);
    const { results, reload } = await call(apache, ['ban', one]);
    assert.deepEqual([results[0]?.status, reload], ['already-banned', 'done']);
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test("the next call loads another program's change to the list", async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    appendFileSync(apache.banlist, `Require not ip ${two}\n`);
    assert.equal((await call(apache, ['ban', one, '--reload-interval=0'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 403, 200]);
    appendFileSync(apache.banlist, '# a remark\n');
    assert.equal((await call(apache, ['ban', one, '--reload-interval=0'])).reload, 'not-needed');
  });

  test('a foreign reload after a change makes another unnecessary, and ends the earlier error', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    const config = readFileSync(apache.config, 'utf8');
    writeFileSync(apache.config, `${config}\nNonsense On\n`);
    await call(apache, ['ban', two, '--reload-interval=0'], 69);
    assert.match((await pendingOf(apache)).error ?? '', /Nonsense/);
    writeFileSync(apache.config, config);
    await apache.graceful();
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
    assert.equal((await call(apache, ['ban', three, '--no-reload'])).reload, 'skipped');
    assert.deepEqual(await pendingOf(apache), { pending: true, error: null });
    await apache.graceful();
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
    assert.equal((await call(apache, ['reload'])).reload, 'not-needed');
    assert.deepEqual(await answers(apache), [403, 403, 403]);
  });

  test('an Apache that was started after a change has loaded it', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    await apache.stop();
    assert.equal((await call(apache, ['ban', two, '--reload-interval=0'])).reload, 'skipped');
    await apache.start();
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
    assert.equal((await call(apache, ['reload'])).reload, 'not-needed');
    assert.deepEqual(await answers(apache), [403, 403, 200]);
  });

  test('a change by hand and a reload by hand are not known to belong together: one reload sees to it', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    appendFileSync(apache.banlist, `Require not ip ${two}\n`);
    const past = Date.now() / 1000 - 3600;
    utimesSync(apache.banlist, past, past);
    await apache.graceful();
    assert.equal((await call(apache, ['reload'])).reload, 'done');
    assert.equal((await call(apache, ['reload'])).reload, 'not-needed');
    assert.deepEqual(await answers(apache), [403, 403, 200]);
  });

  test('a list that is put back with its old time is not taken for loaded', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    const [kept, { atime, mtime }] = [listOf(apache), statSync(apache.banlist)];
    writeFileSync(apache.banlist, '');
    await apache.graceful();
    assert.deepEqual(await answers(apache), [200, 200, 200]);
    writeFileSync(`${apache.banlist}.old`, kept);
    utimesSync(`${apache.banlist}.old`, atime, mtime);
    renameSync(`${apache.banlist}.old`, apache.banlist);
    assert.deepEqual(await pendingOf(apache), { pending: true, error: null });
    assert.equal((await call(apache, ['ban', one, '--reload-interval=0'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test('a PidFile from the future, and one that was only touched, do not make a list loaded', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    const future = Date.now() / 1000 + 86_400;
    utimesSync(apache.pidFile, future, future);
    assert.equal((await call(apache, ['ban', two, '--no-reload'])).reload, 'skipped');
    assert.equal((await pendingOf(apache)).pending, true);
    utimesSync(apache.pidFile, Date.now() / 1000, Date.now() / 1000);
    assert.equal((await pendingOf(apache)).pending, true);
    assert.equal((await call(apache, ['reload'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 403, 200]);
  });

  test('four addresses of one network that once cancelled each other out are loaded', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    const chosen = ['1111:10fe:18b7', '2222:13ab:1547', '3333:10aa:13da', '4444:1197:19f8'].map(
      (part) => `2001:db8:0:7:${part}:1001`,
    );
    assert.equal((await call(apache, ['ban', ...chosen, '--no-reload'])).reload, 'skipped');
    assert.equal((await pendingOf(apache)).pending, true);
    assert.equal((await call(apache, ['reload'])).reload, 'done');
    assert.deepEqual(await answers(apache, chosen), [403, 403, 403, 403]);
    assert.equal(statSync(`${apache.banlist}.state`).mode & 0o077, 0, 'the key is for root alone');
  });

  test('lines in another order, where that matters to Apache, are not loaded', async () => {
    const section = (...lines: string[]) => lines.join('\n');
    const open = '<IfDefine NEVER>';
    const line = `Require not ip ${one}`;
    await using apache = await start({ list: `${section(open, line, '</IfDefine>')}\n` });
    assert.equal((await call(apache, ['reload'])).reload, 'done');
    assert.deepEqual(await answers(apache), [200, 200, 200]);
    writeFileSync(apache.banlist, `${section(line, open, '</IfDefine>')}\n`);
    assert.equal((await call(apache, ['reload'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test("a foreign reload after banctl's own makes another unnecessary", async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    await apache.graceful();
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
    assert.equal((await call(apache, ['reload'])).reload, 'not-needed');
    assert.deepEqual([apache.reloads(), ...(await answers(apache))], [2, 403, 200, 200]);
  });

  test('a change by hand that Apache was made to read, and that was then undone, is loaded by the next call', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0']);
    const banned = listOf(apache);
    writeFileSync(apache.banlist, '');
    await apache.graceful();
    assert.deepEqual(await answers(apache), [200, 200, 200]);
    writeFileSync(apache.banlist, banned);
    assert.deepEqual(await pendingOf(apache), { pending: true, error: null });
    assert.equal((await call(apache, ['reload'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test('a stopped Apache is not started, and reads the list when it is', async () => {
    await using apache = await start();
    await apache.stop();
    const { exitCode, stdout } = await banctl(['ban', one, ...options(apache)]);
    assert.equal(exitCode, 0);
    assert.match(stdout, /^203\.0\.113\.1 banned\napache is not running/);
    assert.equal((await call(apache, ['reload', '--force'])).reload, 'skipped');
    assert.ok(!existsSync(apache.pidFile));
    assert.deepEqual(processesNaming(apache.config), []);
    await apache.start();
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test('an Apache that is starting is not ended by it, and reads the list', async () => {
    await using apache = await start();
    await apache.stop();
    const starting = await startHalf(apache);
    try {
      const ban = banctl(['ban', one, ...options(apache)]);
      // That nothing comes cannot be awaited: the signal has a time in which it would have come.
      const end = Date.now() + 1500;
      await until('the signal, or none', () => isPending(starting.pid) || Date.now() > end);
      assert.ok(!isPending(starting.pid));
      process.kill(starting.pid, 'SIGCONT');
      const { exitCode, stderr } = await ban;
      assert.deepEqual([exitCode, stderr], [0, '']);
      assert.ok(starting.running());
      assert.deepEqual(await answers(apache), [403, 200, 200]);
    } finally {
      process.kill(starting.pid, 'SIGCONT');
      await starting.end();
    }
  });

  test('a stale PidFile does not get another program signalled', async () => {
    await using apache = await start();
    await apache.stop();
    const other = daemon('sleep', ['60']);
    await until('sleep', () => readFileSync(`/proc/${other.pid}/comm`, 'utf8') === 'sleep\n');
    try {
      writeFileSync(apache.pidFile, `${other.pid}\n`);
      assert.equal((await call(apache, ['ban', one])).reload, 'skipped');
      assert.equal((await call(apache, ['reload', '--force'])).reload, 'skipped');
      assert.ok(other.running()); // SIGUSR1 would have ended it
    } finally {
      await other.end();
    }
  });

  for (const interval of [0, SOME_CALLS]) {
    test(`a configuration that another program broke costs no ban and stops no Apache (interval ${interval})`, async () => {
      await using apache = await start();
      const every = `--reload-interval=${interval}`;
      const config = readFileSync(apache.config, 'utf8');
      await call(apache, ['ban', one, every, '--jail=a']);
      writeFileSync(apache.config, `${config}\nNonsense On\n`);
      for (const args of [
        ['ban', two],
        ['unban', one, '--jail=a'],
      ]) {
        const { exitCode, stderr } = await banctl([...args, every, ...options(apache)]);
        assert.equal(exitCode, interval === 0 ? 69 : 0);
        if (interval === 0) assert.match(stderr, /^banctl: apache was not reloaded: .*Nonsense.*\n$/);
      }
      assert.match(listOf(apache), new RegExp(`^# banctl .*\nRequire not ip ${two}\n$`));
      assert.ok(apache.running());
      assert.deepEqual(await answers(apache), [403, 200, 200]);
      await until('no waiter', () => waiters(apache).length === 0, AT_ITS_END);
      assert.deepEqual(await answers(apache), [403, 200, 200]);
      writeFileSync(apache.config, config);
      await call(apache, ['ban', three, every]);
      await refused(apache, two, three);
      assert.deepEqual(await answers(apache), [200, 403, 403]);
      await nothingLeft(apache);
    });
  }

  test('list reports a deferred reload that failed', async () => {
    await using apache = await start();
    const interval = `--reload-interval=${SOME_CALLS}`;
    await call(apache, ['ban', one, interval]);
    appendFileSync(apache.config, '\nNonsense On\n');
    assert.equal((await call(apache, ['ban', two, interval])).reload, 'deferred');
    await nothingLeft(apache);
    const { pending, error } = await pendingOf(apache);
    assert.equal(pending, true);
    assert.match(error ?? '', /Nonsense/);
  });

  test('a foreign bad line in the list costs no ban: banctl keeps the ban and the line', async () => {
    const list = 'Require not ip 203.0.113.300\n';
    await using apache = await start({ list: '' });
    writeFileSync(apache.banlist, list);
    const report = await call(apache, ['ban', one, '--reload-interval=0'], 69);
    assert.deepEqual([report.changed, report.results[0]?.status, report.reload], [true, 'banned', 'failed']);
    assert.match(listOf(apache), new RegExp(`^${list}# banctl .*\nRequire not ip ${one}\n$`));
    assert.ok(apache.running());
    writeFileSync(apache.banlist, listOf(apache).replace(list, ''));
    assert.equal((await call(apache, ['unban', two, '--jail=a', '--reload-interval=0'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });

  test('a change that makes Apache refuse the list is taken back, to the byte', async () => {
    await using apache = await start();
    await call(apache, ['ban', one, '--reload-interval=0', '--reason=ä']);
    const before = listOf(apache);
    const refusing = program(
      apache,
      'apachectl',
      `if [ "$1" = -t ] && grep -q ${two} "${apache.banlist}"; then
         echo "AH00526: Syntax error on line 3 of ${apache.banlist}:" >&2; echo no >&2; exit 1
       fi
       exec ${apache.ctl} "$@"`,
    );
    const more = [`--apachectl=${refusing}`, '--reload-interval=0'];
    const report = await call(apache, ['ban', three, two, ...more], 65);
    assert.deepEqual(report, {
      changed: false,
      results: [three, two].map((address) => ({ address, status: 'skipped' })),
      reload: 'failed',
    });
    assert.equal(listOf(apache), before);
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
    const { exitCode, stderr } = await banctl(['ban', two, ...otherOptions(apache, more), ...more]);
    assert.equal(exitCode, 65);
    assert.match(stderr, /^banctl: .*took it back.*line 3 of .*: no\n$/);
    assert.equal((await call(apache, ['ban', three, ...more])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 403]);
    await nothingLeft(apache);
  });

  for (const [what, said] of [
    ['blames another file', 'AH00526: Syntax error on line 3 of /etc/other.conf:'],
    ['blames no file', 'apache2: error while loading shared libraries: libpcre2-8.so.0'],
  ]) {
    test(`a test that fails once and ${what} takes no change back`, async () => {
      await using apache = await start();
      await call(apache, ['ban', one, '--reload-interval=0']);
      const failed = join(apache.dir, 'failed');
      const once = program(
        apache,
        'apachectl',
        `if [ ! -e ${failed} ]; then : > ${failed}; echo '${said}' >&2; exit 1; fi; exec ${apache.ctl} "$@"`,
      );
      const more = [`--apachectl=${once}`, '--reload-interval=0'];
      const { changed, results, reload } = await call(apache, ['ban', two, ...more], 69);
      assert.deepEqual([changed, results[0]?.status, reload], [true, 'banned', 'failed']);
      assert.equal((await call(apache, ['ban', two, ...more])).reload, 'done');
      assert.deepEqual(await answers(apache), [403, 403, 200]);
    });
  }

  test('a reload command is run in place of the reload alone, without a shell', async () => {
    await using apache = await start();
    const calls = join(apache.dir, 'calls');
    const path = program(apache, 'reload', `printf '%s|' "$@" >> "${calls}"; exec ${apache.ctl} -k graceful`);
    const command = `--reload-command=${path} a;b $HOME $(c) *`;
    assert.equal((await call(apache, ['ban', one, '--reload-interval=0', command])).reload, 'done');
    assert.equal(readFileSync(calls, 'utf8'), 'a;b|$HOME|$(c)|*|');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
    const config = readFileSync(apache.config, 'utf8');
    writeFileSync(apache.config, `${config}\nNonsense On\n`);
    await call(apache, ['ban', two, '--reload-interval=0', command], 69);
    assert.equal(readFileSync(calls, 'utf8'), 'a;b|$HOME|$(c)|*|', 'the configuration is tested first');
  });

  test('where no Apache can be seen, the reload command is run as it is, and only if needed', async () => {
    await using apache = await start();
    const calls = join(apache.dir, 'calls');
    const path = program(apache, 'reload', `printf x >> "${calls}"`);
    const unseen = ['--apachectl=/nowhere/apachectl', '--reload-interval=0'];
    assert.equal((await call(apache, ['ban', one, ...unseen, `--reload-command=${path}`])).reload, 'done');
    assert.equal(
      (await call(apache, ['ban', one, ...unseen, `--reload-command=${path}`])).reload,
      'not-needed',
    );
    assert.equal((await call(apache, ['ban', two, ...unseen, `--reload-command=${path}`])).reload, 'done');
    assert.equal(readFileSync(calls, 'utf8'), 'xx');
    const { exitCode, stderr } = await banctl(['ban', three, ...otherOptions(apache, unseen), ...unseen]);
    assert.equal(exitCode, 69);
    assert.match(stderr, /^banctl: apache was not reloaded: \/nowhere\/apachectl not found; give .*\n$/);
    assert.ok(listOf(apache).includes(three));
  });
});

suite('the unit of systemd that Apache runs in', () => {
  const units: [cgroup: string, unit: string | undefined][] = [
    ['0::/system.slice/apache2.service\n', 'apache2.service'],
    ['0::/system.slice/httpd.service\n', 'httpd.service'],
    ['0::/system.slice/system-apache2.slice/apache2@shop.service\n', 'apache2@shop.service'],
    [
      '12:cpu,cpuacct:/system.slice/apache2.service\n1:name=systemd:/system.slice/apache2.service\n',
      'apache2.service',
    ],
    [
      '11:pids:/\n1:name=systemd:/system.slice/httpd.service\n0::/system.slice/httpd.service\n',
      'httpd.service',
    ],
    ['12:cpu:/system.slice/apache2.service\n1:name=systemd:/\n', undefined],
    ['0::/system.slice/fail2ban.service\n', undefined],
    ['0::/system.slice/cron.service\n', undefined],
    ['0::/user.slice/user-1000.slice/session-2.scope\n', undefined],
    ['0::/system.slice/docker-0123456789abcdef.scope\n', undefined],
    ['0::/\n', undefined],
    ['', undefined],
  ];
  for (const [cgroup, unit] of units) {
    test(`${JSON.stringify(cgroup)}: ${unit ?? 'none'}`, () => assert.equal(systemdUnit(cgroup), unit));
  }

  test('reloads it where banctl may not signal Apache, and cancels no stop that waits in the queue', async () => {
    await using apache = await start();
    const pid = readFileSync(apache.pidFile, 'utf8').trim();
    const calls = join(apache.dir, 'calls');
    const bin = join(apache.dir, 'bin');
    mkdirSync(bin);
    // What systemd answers to mode fail while another job waits.
    writeFileSync(join(bin, 'systemctl'), `#!/bin/sh\necho "$*" >> ${calls}\nexit 1\n`, { mode: 0o755 });
    const words = [executable, 'ban', one, ...options(apache), '--reload-interval=0'];
    const script = `mount -t tmpfs none /run && mkdir -p /run/systemd/system &&
      echo 0::/system.slice/apache2.service >/run/cgroup && mount --bind /run/cgroup /proc/${pid}/cgroup &&
      exec strace -f -qq -o /dev/null -e trace=kill -e inject=kill:error=EPERM ${words.map((word) => `'${word}'`).join(' ')}`;
    const { exitCode, stderr } = await execute('env', [
      `PATH=${bin}:${process.env.PATH}`,
      ...['unshare', '--mount', 'sh', '-c', script],
    ]);
    assert.equal(exitCode, 69, stderr);
    assert.equal(readFileSync(calls, 'utf8'), 'reload --job-mode=fail apache2.service\n');
  });
});

suite('a list that no configuration includes', { concurrency: 2 }, () => {
  const notRead = ({ banlist }: Apache) =>
    `apache does not read ${banlist}; enable the snippet djangoapp-banlist: banctl setup says how`;
  const including = ({ banlist }: Apache) =>
    `<Location />\n<RequireAll>\nRequire all granted\nInclude ${banlist}\n</RequireAll>\n</Location>\n`;

  test('is an error of each ban and in list and explain, and reloads nothing; what includes it ends that', async () => {
    await using apache = await start({ site: '', server: (dir) => `IncludeOptional ${dir}/site-*.conf` });
    const said = notRead(apache);
    const { exitCode, stdout, stderr } = await banctl(['ban', one, ...options(apache)]);
    assert.deepEqual(
      [exitCode, stdout, stderr],
      [69, `${one} banned\n`, `banctl: apache was not reloaded: ${said}\n`],
    );
    const later = await call(apache, ['ban', two, '--reload-interval=0'], 69);
    assert.deepEqual([later.changed, later.reload], [true, 'failed']);
    assert.deepEqual(await pendingOf(apache), { pending: true, error: said });
    const place = `--banlist=${apache.banlist}`;
    const explained = await banctlJson<{ enforced: boolean }>(['explain', one, place]);
    assert.equal(explained.enforced, false);
    assert.equal(apache.reloads(), 0);

    const forced = await banctl(['reload', '--force', ...options(apache)]);
    assert.deepEqual(
      [forced.exitCode, forced.stdout],
      [0, `${said.replace('apache', 'apache was reloaded, but')}\n`],
    );
    assert.equal(apache.reloads(), 1);
    assert.deepEqual(await pendingOf(apache), { pending: true, error: said });

    writeFileSync(join(apache.dir, 'site-banned.conf'), including(apache));
    assert.equal((await call(apache, ['ban', three, '--reload-interval=0'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 403, 403]);
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
    await nothingLeft(apache);
  });

  test('is reported even if it was included before', async () => {
    await using apache = await start({ site: '', server: (dir) => `IncludeOptional ${dir}/site-*.conf` });
    const site = join(apache.dir, 'site-banned.conf');
    writeFileSync(site, including(apache));
    writeFileSync(apache.banlist, '');
    await apache.graceful();
    assert.equal((await call(apache, ['ban', one, '--reload-interval=0'])).reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
    rmSync(site);
    await apache.graceful();
    const { stderr } = await banctl(['ban', two, ...options(apache), '--reload-interval=0']);
    assert.equal(stderr, `banctl: apache was not reloaded: ${notRead(apache)}\n`);
    const later = await banctl(['ban', three, ...options(apache), '--reload-interval=60']);
    assert.match(
      later.stdout,
      /^2001:db8::3 banned\na reload is tried again within \d+ s; the last one failed: apache does/,
    );
    endWaiters(apache);
  });

  test('is known to be read as soon as the administrator has included it and reloaded Apache', async () => {
    await using apache = await start({ site: '', server: (dir) => `IncludeOptional ${dir}/site-*.conf` });
    assert.equal((await call(apache, ['ban', one], 69)).reload, 'failed');
    assert.deepEqual(await pendingOf(apache), { pending: true, error: notRead(apache) });
    writeFileSync(join(apache.dir, 'site-banned.conf'), including(apache));
    await apache.graceful();
    assert.deepEqual(await answers(apache), [403, 200, 200]);
    assert.deepEqual(await pendingOf(apache), { pending: false, error: null });
  });

  test('may be read by another name', async () => {
    await using apache = await start({ list: '' });
    const link = join(apache.dir, 'linked.conf');
    symlinkSync(apache.banlist, link);
    const made = await banctlJson<Report>(['ban', one, `--banlist=${link}`, `--apachectl=${apache.ctl}`]);
    assert.equal(made.reload, 'done');
    assert.deepEqual(await answers(apache), [403, 200, 200]);
  });
});
