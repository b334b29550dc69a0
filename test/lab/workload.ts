// Calls of the built executable by several holders at once, some of which are killed at random moments, beside a model
// of what must be there. Some of the calls are requests to a server, which is killed too:
//
//   await using load = await startWorkload({ place, fail2ban, isKilling: true });
//   await Promise.all([load.hold('one', 20), load.hold('two', 20)]);
//   await load.check();
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { banctl, executable } from './banctl.ts';
import { type Fail2ban, startFail2ban } from './fail2ban.ts';
import { type Server, startServer } from './served.ts';
import { execute, until } from './wait.ts';

export const ADDRESSES = ['203.0.113.1', '203.0.113.2', '203.0.113.3', '2001:db8::1', '2001:db8::2'];
/** Jails of fail2ban, and what each of them holds there all the time. They have no action. */
const JAILS: Readonly<Record<string, readonly string[]>> = {
  one: ['203.0.113.1', '2001:db8::1'],
  two: ['203.0.113.2', '203.0.113.3'],
};
/** Holders that are no jails of fail2ban's, so that no audit touches what they hold. */
export const HOLDERS = [...Object.keys(JAILS), 'three', 'four'];
/** Whoever waits longer than this for a dead one gives up, which fails the test. Seconds. */
export const LONGEST_WAIT = 5;
/** What is to be killed lives at most this many times as long as such a call takes: some end before. */
const LONGEST_LIFE = 1.2;
const KILLED = 0.6;
/** About how long a call holds a lock, from when that is seen. Milliseconds. */
const TIME_IN_LOCK = 4;
/** The server's life between two kills, at most. Milliseconds. */
const SERVER_LIFE = 1500;
/** How ask.py ends without an answer. */
const NO_ANSWER = 99;
const client = join(import.meta.dirname, 'ask.py');

export type Place = 'the list' | 'the directory';

/** A fail2ban for {@link startWorkload}. */
export async function startHoldingFail2ban(): Promise<Fail2ban> {
  const jails = Object.keys(JAILS)
    .map(
      (jail) =>
        `[${jail}]\nenabled = true\nfilter = djangoapp-admin-login\nlogpath = DIR/access.log\nbantime = -1\n`,
    )
    .join('\n');
  const fail2ban = await startFail2ban({ jails });
  for (const [jail, held] of Object.entries(JAILS)) await fail2ban.client('set', jail, 'banip', ...held);
  // Another thread of fail2ban writes them.
  const expected = Object.values(JAILS).flat().length;
  await until('the bans in the database', () => {
    const database = new DatabaseSync(fail2ban.db, { readOnly: true, timeout: 5000 });
    const row = database.prepare('SELECT count(*) AS count FROM bips').get();
    database.close();
    return row?.count === expected;
  });
  return fail2ban;
}

interface Count {
  calls: number;
  killed: number;
  /** Killed while the lock was theirs, as far as that could be seen before another took it over. */
  inLock: number;
}

export async function startWorkload({
  place,
  fail2ban,
  isKilling,
  directory: given,
  isServed = false,
  reloading,
  addresses = ADDRESSES,
  config,
}: {
  place: Place;
  fail2ban?: Fail2ban;
  isKilling: boolean;
  /** A third of the calls go to a server. */
  isServed?: boolean;
  /** Where the list is to be, which is kept; by default a new temporary directory. */
  directory?: string;
  /** Options of each call about its reload. By default there is none. */
  reloading?: () => readonly string[];
  /** Which addresses the calls are about. */
  addresses?: readonly string[];
  /** Options of each call, as its configuration file has them. */
  config?: object;
}) {
  const directory = given ?? mkdtempSync(join(tmpdir(), 'banctl-workload-'));
  const banlist = join(directory, 'banlist.conf');
  const bandir = join(directory, 'bans');
  const configFile = join(directory, 'banctl.json');
  const where = [
    `--banlist=${banlist}`,
    ...(place === 'the directory' ? [`--bandir=${bandir}`] : []),
    ...(config === undefined ? [] : [`--config=${configFile}`]),
  ];
  if (config !== undefined) writeFileSync(configFile, JSON.stringify(config));
  const options = () => [
    ...where,
    ...(isKilling ? [`--lock-timeout=${LONGEST_WAIT}`] : []),
    ...(reloading?.() ?? [
      '--no-reload',
      `--apachectl=apache2 -f ${testConfiguration(directory, [banlist])}`,
    ]),
  ];
  if (!existsSync(banlist)) writeFileSync(banlist, '');
  if (place === 'the directory') mkdirSync(bandir);
  const server: Server | undefined = isServed
    ? await startServer({
        dir: mkdtempSync(join(tmpdir(), 'banctl-workload-server-')),
        options: [...where, '--no-reload'],
      })
    : undefined;
  const counts = new Map<string, Count>();
  /** By pid. */
  const running = new Map<number, { what: string; ended: Promise<unknown> }>();
  let isEnding = false;
  const typical = new Map<string, number>();
  // Who holds what, by `HOLDER ADDRESS`: true or false if that was acknowledged, absent if it can be both.
  const model = new Map<string, boolean>();
  let longest = 0;
  let mostFiles = 0;

  const namesIn = (path: string) => quietly(() => readdirSync(path)) ?? [];
  const bansIn = () => namesIn(bandir).filter((name) => /^(?:[\d.]+|[\da-f:]+)$/.test(name));
  /** Locks and temporary files, of calls under way or killed. */
  const temporaries = () => [
    ...namesIn(directory).filter((name) => /^\.?banlist\.conf\.(?!state$)/.test(name)),
    ...namesIn(bandir).filter((name) => !bansIn().includes(name)),
  ];
  const locks = () =>
    [directory, bandir].flatMap((path) =>
      namesIn(path)
        .filter((name) => name.endsWith('.lock'))
        .flatMap((name) => quietly(() => readdirSync(join(path, name))) ?? []),
    );

  function killInLock(pid: number, kill: () => void): NodeJS.Timeout {
    const timer = setInterval(() => {
      if (!locks().some((entry) => entry.startsWith(`${pid}-`))) return;
      clearInterval(timer);
      setTimeout(kill, Math.random() * TIME_IN_LOCK);
    }, 1);
    return timer;
  }

  /** Runs a program in a process group of its own, which may be killed; undefined if it was. */
  function run(what: string, command: readonly string[]): Promise<number | undefined> {
    const [program = '', ...args] = command;
    const count = counts.get(what) ?? { calls: 0, killed: 0, inLock: 0 };
    counts.set(what, count);
    count.calls += 1;
    const usual = typical.get(what) ?? 100;
    // The server may go on with what a killed client has asked for; so the server is killed instead.
    const mayKill = isKilling && !what.endsWith(' served');
    const life = mayKill && Math.random() < KILLED ? Math.random() * LONGEST_LIFE * usual : undefined;
    const begin = performance.now();
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'], detached: true });
    const pid = child.pid ?? 0;
    const kill = () => quietly(() => process.kill(-pid, 'SIGKILL'));
    // Half of them at any moment, half as soon as they hold a lock, which is a small part of their life. What a shell
    // has started has other pids.
    const isAimed = what !== 'shell' && Math.random() < 0.5;
    const timer = life === undefined ? undefined : isAimed ? killInLock(pid, kill) : setTimeout(kill, life);
    const ended = new Promise<number | undefined>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code) => {
        clearTimeout(timer);
        running.delete(pid);
        const time = performance.now() - begin;
        if (code === null) {
          count.killed += 1;
          if (locks().some((entry) => entry.startsWith(`${pid}-`))) count.inLock += 1;
        } else if (life === undefined) {
          typical.set(what, usual * 0.9 + time * 0.1);
          if (!what.startsWith('audit')) longest = Math.max(longest, time);
        }
        mostFiles = Math.max(mostFiles, temporaries().length);
        resolve(code === null || (code === NO_ANSWER && isKilling) ? undefined : code);
      });
    });
    running.set(pid, { what, ended });
    return ended;
  }

  /** Kills those calls that are under way, and awaits their end. */
  async function end(which: (what: string) => boolean): Promise<void> {
    const chosen = [...running].filter(([, { what }]) => which(what));
    for (const [pid] of chosen) quietly(() => process.kill(-pid, 'SIGKILL'));
    await Promise.allSettled(chosen.map(([, { ended }]) => ended));
  }

  const pick = <T>(values: readonly T[]): T => values[Math.floor(Math.random() * values.length)] as T;

  /** A request to the server in place of a call. */
  function nextRequest(holder: string, socket: string): ReturnType<typeof nextCall> {
    const one = pick(addresses);
    const verb = pick(['ban', 'ban', 'unban', 'flush'] as const);
    const address = verb === 'flush' ? '' : one;
    return {
      what: `${verb} served`,
      command: ['python3', client, socket, verb, address, holder, ...options()],
      makes: new Map((verb === 'flush' ? addresses : [one]).map((made) => [made, verb === 'ban'])),
    };
  }

  /** One call of a holder, or several at once by a shell, and what each of them makes of the holder's addresses. */
  function nextCall(holder: string): { what: string; command: string[]; makes: Map<string, boolean> } {
    if (server !== undefined && Math.random() < 1 / 3) return nextRequest(holder, server.socket);
    const one = pick(addresses);
    const single = (verb: 'ban' | 'unban') => [executable, verb, one, `--jail=${holder}`, ...options()];
    const held = JAILS[holder];
    const [what] = pick([
      ['ban'],
      ['ban'],
      ['ban'],
      ['unban'],
      ['unban'],
      ['flush'],
      ['shell'],
      ['sync'],
    ] as const);
    if (what === 'flush')
      return {
        what,
        command: [executable, 'flush', `--jail=${holder}`, ...options()],
        makes: new Map(addresses.map((address) => [address, false])),
      };
    if (what === 'sync' && held !== undefined && fail2ban !== undefined) {
      const from = Math.random() < 0.5 ? [] : ['--from-database', `--fail2ban-db=${fail2ban.db}`];
      return {
        what: from.length === 0 ? 'sync' : 'sync --from-database',
        command: [
          executable,
          'sync',
          `--jail=${holder}`,
          `--fail2ban-client=${fail2ban.clientCommand}`,
          ...from,
          ...options(),
        ],
        makes: new Map(ADDRESSES.map((address) => [address, held.includes(address)])),
      };
    }
    if (what === 'shell') {
      const makes = new Map(addresses.slice(0, 3).map((address) => [address, Math.random() < 0.6]));
      const calls = [...makes].map(
        ([address, isBan]) =>
          `'${executable}' ${isBan ? 'ban' : 'unban'} ${address} '--jail=${holder}' ${options()
            .map((word) => `'${word}'`)
            .join(' ')} >/dev/null & pids="$pids $!"`,
      );
      return {
        what,
        command: ['sh', '-c', `${calls.join('\n')}\nfor pid in $pids; do wait $pid || exit; done`],
        makes,
      };
    }
    const verb = what === 'unban' ? what : 'ban';
    return { what: verb, command: single(verb), makes: new Map([[one, verb === 'ban']]) };
  }

  /** `HOLDER ADDRESS` of each hold, as it stands there now. */
  function holdsNow(): Set<string> {
    const texts = [banlist, ...bansIn().map((name) => join(bandir, name))].map(
      (path) => quietly(() => readFileSync(path, 'utf8')) ?? '',
    );
    return new Set(
      texts.flatMap((text) => [...text.matchAll(/\| (\S+ \S+) since /g)].map(([, hold = '']) => hold)),
    );
  }

  function assertHolds(holds: ReadonlySet<string>, of = ''): void {
    for (const [hold, isHeld] of model)
      if (hold.startsWith(of)) assert.equal(holds.has(hold), isHeld, `${hold}: held, acknowledged`);
  }

  const versions = watchVersions(banlist, directory);
  const watched = place === 'the directory' ? watchFiles(bandir) : undefined;
  /** What a server keeps from one change to the next goes when it is quiet. */
  const rest = () =>
    until('no lock or temporary file', () => temporaries().length === 0, {
      limit: 10_000,
      detail: () => temporaries().join('\n'),
    });
  return {
    rest,
    where,
    /** Each version of the list that was seen. */
    versions: versions.seen,
    /** So many calls of one holder. Without kills each is looked at as soon as it has ended. */
    async hold(holder: string, calls: number): Promise<void> {
      for (let call = 0; call < calls && !isEnding; call += 1) {
        const { what, command, makes } = nextCall(holder);
        for (const address of makes.keys()) model.delete(`${holder} ${address}`);
        const code = await run(what, command);
        assert.ok(code === 0 || (code === undefined && isKilling), `${command.join(' ')} ended with ${code}`);
        if (code === undefined) continue;
        for (const [address, isHeld] of makes) {
          // An audit may release what a jail of fail2ban does not hold there.
          if (!isHeld || JAILS[holder]?.includes(address) !== false)
            model.set(`${holder} ${address}`, isHeld);
        }
        if (!isKilling) assertHolds(holdsNow(), `${holder} `);
      }
    },
    /** Bans by hand that are over soon, and audits that repair, until `isOver`. */
    async audit(isOver: () => boolean): Promise<void> {
      for (let turn = 0; !isOver() && !isEnding; turn += 1) {
        const asked =
          fail2ban !== undefined && turn % 3 === 2
            ? `--fail2ban-client=${fail2ban.clientCommand}`
            : '--no-fail2ban';
        const short = await run('ban --for', [executable, 'ban', pick(addresses), '--for=1', ...options()]);
        assert.ok(short === 0 || (short === undefined && isKilling), `a short ban ended with ${short}`);
        const what = asked === '--no-fail2ban' ? 'audit --fix --no-fail2ban' : 'audit --fix';
        const code = await run(what, [executable, 'audit', '--fix', asked, ...options()]);
        assert.ok(
          code === 0 || code === 1 || (code === undefined && isKilling),
          `an audit ended with ${code}`,
        );
      }
    },
    /** Kills the server again and again, and starts the next, until `isOver`. */
    async killServer(isOver: () => boolean): Promise<void> {
      while (server !== undefined && !isOver() && !isEnding) {
        await new Promise((resolve) => setTimeout(resolve, Math.random() * SERVER_LIFE));
        await server.daemon().end('SIGKILL');
        await server.start();
      }
    },
    /** Kills the audits that are under way: one takes seconds. */
    endAudits: () => end((what) => what.startsWith('audit')),
    /** What was acknowledged is there, each version was one that Apache accepts, and nothing has piled up. */
    async check(): Promise<void> {
      const { exitCode, stdout, stderr } = await banctl(['list', '--json', ...where]);
      assert.equal(exitCode, 0, stderr);
      const { bans } = JSON.parse(stdout) as { bans: { holds: { holder: string; address: string }[] }[] };
      // A hold keeps the address that was asked for, also where a network is banned for it.
      assertHolds(
        new Set(bans.flatMap(({ holds }) => holds.map(({ holder, address }) => `${holder} ${address}`))),
      );
      const texts = [...versions.seen];
      for (const text of texts)
        assert.match(
          text,
          /^(?:# banctl(?: widened after 3)?(?: \| \S+ \S+ since \S+ (?:for ever|until \S+))+\nRequire not ip [\d.a-f:]+(?:\/\d+)?\n)*$/,
        );
      for (let from = 0; from < texts.length; from += AT_ONCE)
        assert.equal(await refusedByApache(texts.slice(from, from + AT_ONCE)), '');
      assert.ok(mostFiles <= 8 * HOLDERS.length, `${mostFiles} temporary files at once`);
    },
    /** What killed calls have left goes with the next bans of the same addresses, each banned by itself. */
    async clear(): Promise<void> {
      for (const words of [
        ['unban', '--no-fail2ban'],
        ['ban', '--widen-after=65536'],
        ['unban', '--no-fail2ban'],
      ]) {
        const call = [...words, ...addresses, ...where, '--no-reload', `--lock-timeout=${LONGEST_WAIT}`];
        const { exitCode, stderr } = await banctl(call);
        assert.deepEqual([exitCode, stderr], [0, '']);
      }
      await rest();
      assert.deepEqual([...holdsNow()], []);
    },
    killed: () => [...counts.values()].reduce((total, count) => total + count.killed, 0),
    /** How much of what was done, in lines for `t.diagnostic`. */
    told(): string[] {
      const sum = (of: keyof Count) => [...counts.values()].reduce((total, count) => total + count[of], 0);
      const some = [...counts]
        .sort()
        .map(([what, { calls, killed, inLock }]) => `${what} ${killed}/${calls}/${inLock}`);
      return [
        `${sum('killed')} of ${sum('calls')} calls killed, ${sum('inLock')} of them seen to hold a lock; ` +
          `${versions.seen.size} versions of the list, ${watched?.count() ?? 0} looks at files, all whole; ` +
          `at most ${mostFiles} temporary files at once; the longest call took ${(longest / 1000).toFixed(2)} s`,
        `killed/called/in the lock: ${some.join(', ')}`,
      ];
    },
    async [Symbol.asyncDispose]() {
      // After a failure of one the others go on.
      isEnding = true;
      await end(() => true);
      if (server !== undefined) {
        await server[Symbol.asyncDispose]();
        rmSync(dirname(server.socket), { recursive: true });
      }
      versions[Symbol.dispose]();
      watched?.[Symbol.dispose]();
      if (given === undefined) rmSync(directory, { recursive: true });
      assert.deepEqual(watched?.faults ?? [], []);
    },
  };
}

/** Keeps each version of the list that can be seen. */
function watchVersions(banlist: string, directory: string) {
  const seen = new Set<string>();
  const watcher = watch(directory, (_event, name) => {
    if (name !== 'banlist.conf') return;
    const text = quietly(() => readFileSync(banlist, 'latin1'));
    if (text !== undefined) seen.add(text);
  });
  return { seen, [Symbol.dispose]: () => watcher.close() };
}

/** Looks at each file of the ban directory as it comes; one that is not whole fails at the end. */
function watchFiles(bandir: string) {
  let count = 0;
  const faults: string[] = [];
  const watcher = watch(bandir, (_event, name) => {
    if (name === null || !/^[\d.]+$|^[\da-f:]+$/.test(name)) return;
    const text = quietly(() => readFileSync(join(bandir, name), 'latin1'));
    if (text === undefined) return;
    count += 1;
    if (!/^# banctl(?: \| \S+ \S+ since \S+ (?:for ever|until \S+))+\nRequire not ip \S+\n$/.test(text))
      faults.push(`${name}: ${text}`);
  });
  return {
    count: () => count,
    faults,
    [Symbol.dispose]: () => watcher.close(),
  };
}

/** Texts that Apache tests in one go. */
const AT_ONCE = 300;

/** Apache's own test of each text, as an include file; empty if it accepts them all. */
async function refusedByApache(texts: readonly string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-workload-apache-'));
  try {
    const lists = texts.map((text, index) => {
      const path = join(directory, `${index}.conf`);
      writeFileSync(path, text, 'latin1');
      return path;
    });
    const { exitCode, stderr } = await execute('apache2', ['-t', '-f', testConfiguration(directory, lists)]);
    return exitCode === 0 ? '' : stderr;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A configuration that includes these lists, for Apache to test. */
function testConfiguration(directory: string, lists: readonly string[]): string {
  const path = join(directory, 'httpd.conf');
  if (existsSync(path)) return path;
  const modules = '/usr/lib/apache2/modules';
  const sections = lists.map(
    (list, index) =>
      `<Location "/${index}">\n<RequireAll>\nRequire all granted\nInclude ${list}\n</RequireAll>\n</Location>`,
  );
  writeFileSync(
    path,
    [
      `ServerRoot ${directory}`,
      'ServerName localhost',
      'Listen 127.0.0.1:8',
      'ErrorLog error.log',
      ...['mpm_event', 'authz_core', 'authz_host'].map(
        (name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`,
      ),
      ...sections,
    ].join('\n'),
  );
  return path;
}

function quietly<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
