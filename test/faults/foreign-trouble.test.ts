// What others do wrong: Apache's programs, Apache, fail2ban and its client. No call may take longer than it is promised to,
// leave a process or a lock behind, or lose a ban. See also reload.test.ts, sync.test.ts, audit.test.ts and
// end-to-end.test.ts, for what the real ones do.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { startApache } from '../lab/apache.ts';
import { executable } from '../lab/banctl.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { processesNaming } from '../lab/processes.ts';
import { read, writeScript } from '../lab/site.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const RANGE = '198.51.100.0/24';
/** What a call takes beside what it waits for, on a machine with other things to do. Seconds. */
const SLACK = 15;

interface Timed extends Finished {
  readonly seconds: number;
}

function temporaryPlaces() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-trouble-'));
  const banlist = join(directory, 'banlist.conf');
  const bandir = join(directory, 'bans');
  const config = join(directory, 'banctl.json');
  writeFileSync(config, '{}');
  const environment = `TROUBLE=${directory}`;
  const line = (args: readonly string[]) => [environment, executable, ...args, `--config=${config}`];
  return {
    directory,
    banlist,
    bandir,
    list: () => read(banlist),
    script: (name: string, text: string) => writeScript(directory, name, text),
    /** Of what is marked with this directory by its environment. */
    processes: () => processesNaming(environment),
    async call(...args: string[]): Promise<Timed> {
      const begin = performance.now();
      const finished = await execute('env', line([...args, `--banlist=${banlist}`]));
      return { ...finished, seconds: (performance.now() - begin) / 1000 };
    },
    spawn: (...args: string[]) => spawn('env', line([...args, `--banlist=${banlist}`]), { stdio: 'ignore' }),
    locks: () => readdirSync(directory, { recursive: true }).filter((name) => String(name).endsWith('.lock')),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

function within({ seconds }: Timed, limit: number) {
  assert.ok(seconds < limit + SLACK, `${seconds} s, ${limit} were promised`);
}

function isOneLine({ stderr }: Finished) {
  assert.match(stderr, /^banctl: [^\n]+\n$/);
  assert.ok(stderr.length < 1000, `${stderr.length} characters`);
}

/** Apache's own programs: how long a test, and a reload with Apache's reading, may take. Seconds. */
const LIMIT = 25;
const FLOOD = "head -c 3000000 /dev/zero | tr '\\0' x >&2";

interface Trouble {
  readonly text: string | undefined;
  readonly mode?: number;
  /** Of the call. */
  readonly exitCode?: number;
  readonly said?: RegExp;
  readonly hangs?: boolean;
  /** It leaves a process of its own, which writes its pid. */
  readonly leaves?: boolean;
}

const TROUBLES: Record<string, Trouble> = {
  fails: { text: 'echo "no \\033[31mway" >&2; exit 1', said: /no \[31mway|no {1,2}\[31mway/ },
  'is missing': { text: undefined, said: /not found/ },
  'is not executable': { text: 'exit 0', mode: 0o644, said: /not executable|not found/ },
  'is killed': { text: 'kill -9 $$', said: /killed by SIGKILL/ },
  'floods without an end': { text: 'exec yes', said: /printed more than 16 MB/ },
  'floods without a line end': { text: `${FLOOD}; exit 1`, said: /x{500}…$/m },
  'hangs and ignores SIGTERM': {
    text: "trap '' TERM INT HUP; while :; do sleep 600; done",
    said: /has not ended within 25 s/,
    hangs: true,
  },
  'hangs, and so does what it started in a session of its own, with the output': {
    text: 'setsid sh -c \'echo $$ > "$TROUBLE/pid"; exec sleep 600\' & wait',
    said: /has not ended within 25 s/,
    hangs: true,
    leaves: true,
  },
};

/** These end well for a reload command, whatever they leave. */
const HARMLESS: Record<string, Trouble> = {
  'leaves a child that keeps its output open': {
    text: 'sh -c \'echo $$ > "$TROUBLE/pid"; exec sleep 600\' & exit 0',
    exitCode: 0,
    leaves: true,
  },
  'leaves a session that keeps its output open': {
    text: 'setsid sh -c \'echo $$ > "$TROUBLE/pid"; exec sleep 600\' & exit 0',
    exitCode: 0,
    leaves: true,
  },
};

/** Ends what the trouble has left on purpose, and checks that nothing else is left. */
async function nothingLeft(places: ReturnType<typeof temporaryPlaces>, leaves = false) {
  if (leaves) {
    const pid = await until('its pid', () => Number(read(join(places.directory, 'pid'))) || undefined);
    process.kill(pid, 'SIGKILL');
    await until('its end', () => !places.processes().includes(pid));
  }
  // No process waits for the one that waits to reload.
  await until('the end of all processes', () => places.processes().length === 0);
  assert.deepEqual(places.locks(), []);
}

// The slow ones take as long as they may; the others run at the same time.
suite('troubles', { concurrency: 4 }, () => {
  suite('a program of Apache', { concurrency: 6 }, () => {
    const roles: [role: string, troubles: Record<string, Trouble>, options: (path: string) => string[]][] = [
      [
        'reload command',
        { ...TROUBLES, ...HARMLESS },
        (path) => ['--reload-command', path, '--apachectl=/none'],
      ],
      ['apachectl', TROUBLES, (path) => ['--apachectl', path]],
    ];
    for (const [role, troubles, optionsFor] of roles) {
      for (const [what, { text, mode, exitCode = 69, said, hangs, leaves }] of Object.entries(troubles)) {
        const times = hangs ? Math.ceil(TORTURE / 5) : TORTURE;
        test(`${role} that ${what}: the ban is kept, others are not kept waiting, nothing is left`, async () => {
          for (let time = 0; time < times; time += 1) {
            using places = temporaryPlaces();
            const path = join(places.directory, 'program');
            if (text !== undefined) places.script('program', text);
            if (mode !== undefined) chmodSync(path, mode);
            const options = optionsFor(path);
            const calling = places.call('ban', A, ...options);
            if (hangs) {
              await until('the program to run', () => places.processes().length > 1);
              within(await places.call('ban', '203.0.113.6', '--no-reload'), 0);
            }
            const called = await calling;
            within(called, LIMIT);
            assert.equal(called.exitCode, exitCode, called.stderr);
            assert.match(called.stdout, /^203\.0\.113\.5 banned\n/);
            if (said !== undefined) {
              isOneLine(called);
              assert.match(called.stderr, said);
            }
            assert.match(places.list(), /^Require not ip 203\.0\.113\.5$/m);
            assert.ok(read(`${places.banlist}.state`).length < 2000, 'the state is short');
            await nothingLeft(places, leaves);
          }
        });
      }
    }

    test('none of them is called for an address of the directory, and a range that they fail is kept', async () => {
      for (let time = 0; time < TORTURE; time += 1) {
        using places = temporaryPlaces();
        const program = places.script('program', `echo "$*" >> ${places.directory}/calls; exit 1`);
        const options = [`--bandir=${places.bandir}`, `--apachectl=${program}`];
        const address = await places.call('ban', A, '--jail=web', ...options);
        assert.deepEqual([address.exitCode, address.stderr], [0, '']);
        assert.ok(!existsSync(join(places.directory, 'calls')));
        const range = await places.call('ban', RANGE, ...options);
        assert.deepEqual([range.exitCode, range.stdout], [69, `${RANGE} banned\n`]);
        assert.match(places.list(), /^Require not ip 198\.51\.100\.0\/24$/m);
        const unban = await places.call('unban', A, '--jail=web', ...options);
        assert.ok(!existsSync(join(places.bandir, A)), unban.stderr);
        await nothingLeft(places);
      }
    });

    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      test(`is ended with a call that gets ${signal}; the ban is kept`, async () => {
        for (let time = 0; time < TORTURE; time += 1) {
          using places = temporaryPlaces();
          const program = places.script(
            'program',
            "trap '' TERM INT HUP; sleep 600 & echo > $TROUBLE/runs; wait",
          );
          const child = places.spawn('ban', A, `--reload-command=${program}`, '--apachectl=/none');
          await until('the program to run', () => existsSync(join(places.directory, 'runs')));
          child.kill(signal);
          assert.deepEqual(await once(child, 'exit'), [null, signal]);
          await until('the end of the others', () => places.processes().length === 0);
          assert.match(places.list(), /^Require not ip 203\.0\.113\.5$/m);
          within(await places.call('ban', A, '--reload-command=true', '--apachectl=/none'), 0);
        }
      });
    }

    test('is looked for in no directory of PATH that depends on where banctl is called', async () => {
      using places = temporaryPlaces();
      places.script('apache2ctl', 'echo > $TROUBLE/called');
      places.script('own', 'exit 0');
      for (const path of ['', ':', '.:', ':.', 'bin:.:']) {
        const shell = `cd ${places.directory}; PATH=${path}; export PATH; exec ${executable} reload --force --banlist=${places.banlist}`;
        await execute('/bin/sh', ['-c', shell]);
        assert.ok(!existsSync(join(places.directory, 'called')), JSON.stringify(path));
      }
    });

    test('is run although the directory has gone in which banctl was called', async () => {
      using places = temporaryPlaces();
      const gone = join(places.directory, 'gone');
      mkdirSync(gone);
      const shell = `cd ${gone}; rmdir ${gone}; exec ${executable} ban ${A} --banlist=${places.banlist} --apachectl=/none --reload-command=true`;
      const { exitCode, stderr } = await execute('/bin/sh', ['-c', shell]);
      assert.deepEqual([exitCode, stderr], [0, '']);
    });
  });

  suite('a PidFile', { concurrency: 4 }, () => {
    const PIDFILES: [string, (path: string) => unknown][] = [
      ['that is missing', () => {}],
      ['that is empty', (path) => writeFileSync(path, '')],
      ['with garbage', (path) => writeFileSync(path, 'x\0\u001b[2J')],
      ['with no pid', (path) => writeFileSync(path, '-1\n')],
      ['with a pid of no process', (path) => writeFileSync(path, '99999999999\n')],
      ['that is a directory', (path) => mkdirSync(path)],
      ['that is a named pipe', (path) => execute('mkfifo', [path])],
      ['that is a device', (path) => execute('mknod', [path, 'c', '1', '5'])],
    ];
    for (const [what, make] of PIDFILES) {
      test(`${what} is no running Apache: no process is signalled, the ban is kept`, async () => {
        for (let time = 0; time < TORTURE; time += 1) {
          using places = temporaryPlaces();
          const pidFile = join(places.directory, 'apache2.pid');
          await make(pidFile);
          const apachectl = places.script(
            'apachectl',
            `echo "$*" >> ${places.directory}/calls; echo 'PidFile: "${pidFile}"'`,
          );
          const called = await places.call('ban', A, `--apachectl=${apachectl}`);
          within(called, LIMIT);
          assert.deepEqual([called.exitCode, called.stderr], [0, '']);
          assert.match(called.stdout, /^203\.0\.113\.5 banned\napache is not running/);
          assert.equal(read(join(places.directory, 'calls')), '-t -D DUMP_RUN_CFG -D DUMP_INCLUDES\n');
          await nothingLeft(places);
        }
      });
    }
  });

  test('a PidFile of another program is left to the control program, which may run Apache elsewhere', async () => {
    using places = temporaryPlaces();
    const pidFile = join(places.directory, 'apache2.pid');
    writeFileSync(pidFile, `${process.pid}\n`);
    const apachectl = places.script(
      'apachectl',
      `echo "$*" >> ${places.directory}/calls; echo 'PidFile: "${pidFile}"'`,
    );
    const { exitCode, stdout, stderr } = await places.call('ban', A, `--apachectl=${apachectl}`);
    assert.deepEqual([exitCode, stdout, stderr], [0, `${A} banned\n`, '']);
    assert.equal(read(join(places.directory, 'calls')), '-t -D DUMP_RUN_CFG -D DUMP_INCLUDES\n-k graceful\n');
    await nothingLeft(places);
  });

  test('an Apache that is stopped and started all the time costs no ban', async () => {
    await using apache = await startApache({ remoteip: true });
    const options = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
    // `-k graceful` starts an Apache that has stopped since banctl saw it run; the test must end that one.
    const startAlone = async () => {
      for (;;) {
        const error = await apache.start().then(() => undefined, String);
        if (error === undefined) return;
        const pid = Number(/\(pid (\d+)\) already running/.exec(error)?.[1]);
        assert.ok(pid > 1, error);
        await execute('kill', [`${pid}`]);
        await until('what a reload has started to end', () => !existsSync(`/proc/${pid}`));
      }
    };
    const stops = 4 * TORTURE;
    let isOver = false;
    const restart = async () => {
      for (let stop = 0; stop < stops && !isOver; stop += 1) {
        await apache.stop();
        await startAlone();
      }
    };
    const restarting = restart().finally(() => {
      isOver = true;
    });
    restarting.catch(() => {}); // awaited below
    await using end = new AsyncDisposableStack();
    end.defer(async () => {
      isOver = true;
      await Promise.allSettled([restarting]);
      await apache.stop();
      for (const pid of processesNaming(apache.config)) await execute('kill', [`${pid}`]); // or it went with its parent
    });
    const banned: string[] = [];
    const codes = new Set<number>();
    while (!isOver) {
      const address = `10.${banned.length >> 8}.${banned.length & 255}.1`;
      const begin = performance.now();
      const { exitCode, stdout } = await execute(executable, ['ban', address, ...options]);
      assert.ok((performance.now() - begin) / 1000 < 2 * LIMIT + SLACK);
      assert.match(stdout, new RegExp(`^${address} banned\\n`));
      codes.add(exitCode);
      banned.push(address);
    }
    await restarting;
    assert.deepEqual(
      [...codes].filter((code) => code !== 0 && code !== 69),
      [],
    );
    assert.equal((await execute(executable, ['reload', ...options])).exitCode, 0);
    for (const from of banned)
      await until(`${from} to be refused`, async () => (await apache.get('/', { from })) === 403);
  });

  /** How long fail2ban may take for an answer. Seconds. */
  const ANSWER = 10;
  const HELD = /\| web 203\.0\.113\.5 since /;

  suite('a fail2ban', { concurrency: 4 }, () => {
    const ANSWERS: [what: string, answer: string][] = [
      ['whose client ends with 127', 'exit 127'],
      ['that does not run', 'echo "Failed to access socket path" >&2; exit 255'],
      ['that hangs', "trap '' TERM; sleep 600"],
      ['whose client is killed', 'kill -9 $$'],
      ['that answers nothing that can be read', "printf '\\033]0;garbage {[(\\n'"],
      ['that answers times that are none', 'printf "203.0.113.5 \\t2026-99-99 99:99:99 + 600 = x\\n"'],
      ['that answers brackets without an end', "head -c 3000000 /dev/zero | tr '\\0' '['"],
      ['that answers quotes without an end', "head -c 3000001 /dev/zero | tr '\\0' \"'\""],
      ['that answers without an end', 'exec yes'],
      ['that answers lines without an end', "exec yes '203.0.113.5 \t2026-11-22 16:53:40 + 600 = x'"],
      ['whose client leaves a child that keeps its output open', 'sleep 600 & exit 1'],
    ];
    for (const place of ['list', 'directory']) {
      // The answers are read by the same code, wherever the bans are.
      const some =
        TORTURE > 1 || place === 'list'
          ? ANSWERS
          : ANSWERS.filter(([what]) => /hangs|garbage|killed|read/.test(what));
      for (const [what, answer] of some) {
        /** Each call has its own place: all at once, since some take as long as they may. */
        const callAlone = async (isKept: boolean, limit: number, ...command: string[]) => {
          using places = temporaryPlaces();
          const client = places.script('client', answer);
          const options = ['--no-reload', ...(place === 'directory' ? [`--bandir=${places.bandir}`] : [])];
          // One that is over: the jail may have prolonged it, and only a fail2ban that does not run has not.
          const isStopped = /exit (?:1|127|255)$/.test(answer);
          const ban = ['ban', A, '--jail=web', '--since=2026-01-01', isStopped ? '--for=-1' : '--for=1h'];
          assert.equal((await places.call(...ban, ...options)).exitCode, 0);
          const called = await places.call(...command, ...options, `--fail2ban-client=${client}`);
          within(called, limit);
          const said = `${command[0]}: ${called.stdout}${called.stderr}`;
          const held = HELD.test(place === 'list' ? places.list() : read(join(places.bandir, A)));
          assert.equal(held, isKept, said);
          if (answer.includes('&')) for (const pid of places.processes()) process.kill(pid, 'SIGKILL');
          await nothingLeft(places);
          return called;
        };
        test(`${what} lifts no ban of the ${place} by sync or audit, and hinders no unban`, async () => {
          for (let time = 0; time < (what === 'that hangs' ? Math.ceil(TORTURE / 5) : TORTURE); time += 1) {
            const [synced, audited, unbanned, flushed] = await Promise.all([
              callAlone(true, ANSWER, 'sync', '--jail=web'),
              // Before and after the repair.
              callAlone(true, 2 * ANSWER, 'audit', '--fix', '--apachectl=/none'),
              // Its holder, and the jail that is known to hold it, get the unban.
              callAlone(false, 2 * ANSWER, 'unban', A),
              callAlone(false, 2 * ANSWER, 'flush', '--all'),
            ]);
            assert.ok([0, 78].includes(synced.exitCode), `${synced.exitCode}: ${synced.stderr}`);
            if (synced.exitCode === 78) isOneLine(synced);
            assert.deepEqual([audited.exitCode, audited.stderr], [1, '']);
            assert.deepEqual([unbanned.exitCode, flushed.exitCode], [0, 0]);
          }
        });
      }
    }

    test('that is stopped, for real, keeps its bans, is reported as such, and continues', async () => {
      await using fail2ban = await startFail2ban({
        jails: '[web]\nenabled = true\nlogpath = DIR/access.log\nfilter = djangoapp-admin-login\n',
      });
      using places = temporaryPlaces();
      const asking = ['--no-reload', `--fail2ban-client=${fail2ban.clientCommand}`];
      await places.call('ban', A, '--jail=web', '--since=2026-01-01', '--for=1h', '--no-reload');
      process.kill(fail2ban.pid(), 'SIGSTOP');
      const [synced, audited] = await Promise.all([
        places.call('sync', '--jail=web', ...asking),
        places.call('audit', '--fix', '--apachectl=/none', ...asking),
      ]);
      within(synced, ANSWER);
      within(audited, 2 * ANSWER);
      assert.deepEqual(
        [synced.exitCode, synced.stdout],
        [0, `fail2ban has not answered within ${ANSWER} s; nothing was changed\n`],
      );
      assert.match(places.list(), HELD, 'its end is over, but no call has asked the jail');
      process.kill(fail2ban.pid(), 'SIGCONT');
      assert.equal(
        (await places.call('sync', '--jail=web', ...asking)).stdout.split('\n')[0],
        `${A} unbanned`,
      );
      await nothingLeft(places);
    });

    test('that dies in the middle of an audit or a sync loses no ban', async () => {
      for (let time = 0; time < TORTURE; time += 1) {
        await using fail2ban = await startFail2ban({
          jails: '[web]\nenabled = true\nlogpath = DIR/access.log\nfilter = djangoapp-admin-login\n',
        });
        for (const question of ['get web banip', 'get web ignoreip']) {
          for (const command of [
            ['audit', '--fix', '--apachectl=/none'],
            ['sync', '--jail=web'],
          ]) {
            using places = temporaryPlaces();
            await places.call('ban', A, '--jail=web', '--no-reload');
            if (!fail2ban.running()) await fail2ban.start();
            const client = places.script(
              'client',
              `case "$*" in *"${question}"*) kill -9 ${fail2ban.pid()};; esac; exec ${fail2ban.clientCommand} "$@"`,
            );
            const called = await places.call(...command, '--no-reload', `--fail2ban-client=${client}`);
            within(called, ANSWER);
            if (question.endsWith('banip')) assert.match(places.list(), HELD, called.stdout);
            await nothingLeft(places);
          }
        }
      }
    });
  });
});
