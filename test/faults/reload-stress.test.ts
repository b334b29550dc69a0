// When Apache loads the list, beside a model that knows nothing of digests, times and waiters: at rest, what Apache
// answers each address is what the list says. `scripts/test --torture` does it longer.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { systemCode } from '../../src/system/errors.ts';
import { type Apache, startApache } from '../lab/apache.ts';
import { executable } from '../lab/banctl.ts';
import { casesOf } from '../lab/cases.ts';
import { processesNaming } from '../lab/processes.ts';
import { until } from '../lab/wait.ts';

/** Four whose lines cancelled each other out in the first digest among them. */
const ADDRESSES = [
  '203.0.113.1',
  '203.0.113.2',
  '203.0.113.3',
  '198.51.100.77',
  '2001:db8::5',
  '2001:db8:0:7:1111:10fe:18b7:1001',
  '2001:db8:0:7:2222:13ab:1547:1001',
  '2001:db8:0:7:3333:10aa:13da:1001',
  '2001:db8:0:7:4444:1197:19f8:1001',
];
/** Which line of the list bans it depends on the order of lines alone. */
const SECTIONED = '192.0.2.77';
const NEVER_BANNED = '192.0.2.200';
const QUICK_SECONDS = 0.3;
/** Sections, in which nothing counts or everything does. */
const EMPTY = '<IfDefine BANCTL_NEVER>\n</IfDefine>\n';
const OUTSIDE = `Require not ip ${SECTIONED}\n${EMPTY}`;
const INSIDE = `<IfDefine BANCTL_NEVER>\nRequire not ip ${SECTIONED}\n</IfDefine>\n`;

const address = fc.constantFrom(...ADDRESSES);
const clock = fc.constantFrom('', '', '-1 day', '+1 day', '-3 seconds', '+40 seconds');
const call = {
  jail: fc.constantFrom('quick' as const, 'slow' as const),
  addresses: fc.oneof(
    fc.tuple(address),
    fc.constant(ADDRESSES.slice(-4)),
    fc.subarray(ADDRESSES, { minLength: 1 }),
  ),
  clock: fc.constant(''),
  killedAfterMs: fc.constant(undefined as number | undefined),
};
const fileTime = fc.constantFrom(-3600, -86_400, 3600, 0);

/** What may happen, by what a round is about. */
const EVENTS = {
  calls: fc.record({ kind: fc.constantFrom('ban' as const, 'ban' as const, 'unban' as const), ...call }),
  pauses: fc.record({ kind: fc.constant('pause' as const), ms: fc.integer({ min: 0, max: 500 }) }),
  clocks: fc.record({ kind: fc.constantFrom('ban' as const, 'unban' as const), ...call, clock }),
  kills: fc.oneof(
    fc.record({
      kind: fc.constantFrom('ban' as const, 'unban' as const),
      ...call,
      killedAfterMs: fc.integer({ min: 10, max: 600 }),
    }),
    fc.record({ kind: fc.constant('kill-waiters' as const) }),
  ),
  reloads: fc.record({ kind: fc.constant('foreign-reload' as const) }),
  edits: fc.oneof(
    fc.record({ kind: fc.constantFrom('append' as const, 'delete' as const), address }),
    fc.record({ kind: fc.constant('swap' as const) }),
  ),
  restores: fc.oneof(
    fc.record({ kind: fc.constant('save' as const) }),
    fc.record({
      kind: fc.constant('restore' as const),
      what: fc.constantFrom('list' as const, 'state' as const, 'both' as const),
    }),
  ),
  times: fc.record({ kind: fc.constantFrom('touch-pid' as const, 'touch-list' as const), seconds: fileTime }),
  state: fc.record({
    kind: fc.constant('state' as const),
    how: fc.constantFrom('removed' as const, 'garbage' as const, 'unwritable' as const, 'writable' as const),
  }),
  stops: fc.record({ kind: fc.constantFrom('stop' as const, 'start' as const) }),
};
type Topic = keyof typeof EVENTS;
const TOPICS = Object.keys(EVENTS) as Topic[];
type Event = (typeof EVENTS)[Topic] extends fc.Arbitrary<infer One> ? One : never;

const round = fc
  .tuple(fc.subarray(TOPICS.slice(2), { maxLength: 3 }), fc.constantFrom(0.3, 1, 600))
  .chain(([topics, slowSeconds]) =>
    fc.record({
      topics: fc.constant(topics),
      slowSeconds: fc.constant(slowSeconds),
      events: fc.array(
        fc.record({
          event: fc.oneof(
            { arbitrary: EVENTS.calls as fc.Arbitrary<Event>, weight: 4 },
            { arbitrary: EVENTS.pauses as fc.Arbitrary<Event>, weight: 2 },
            ...topics.map((topic) => ({ arbitrary: EVENTS[topic] as fc.Arbitrary<Event>, weight: 2 })),
          ),
          isAwaited: fc.boolean(),
        }),
        { minLength: 4, maxLength: 14 },
      ),
    }),
  );
type Round = typeof round extends fc.Arbitrary<infer One> ? One : never;

/** What the list bans, as Apache reads the lines that are used here. */
function bannedIn(list: string): string[] {
  const counted = list.replaceAll(/<IfDefine BANCTL_NEVER>\n[^<]*<\/IfDefine>\n/g, '');
  return [...new Set([...counted.matchAll(/^Require not ip (\S+)$/gm)].map(([, one = '']) => one))].sort();
}

function isMade(directory: string): boolean {
  try {
    mkdirSync(directory);
    return true;
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    return false;
  }
}

/** The list as others change it, who take no lock. */
function foreignHand({ banlist, dir }: Apache) {
  const state = `${banlist}.state`;
  const saved = join(dir, 'saved');
  const edit = (change: (text: string) => string) => {
    writeFileSync(`${banlist}~`, change(readFileSync(banlist, 'utf8')));
    renameSync(`${banlist}~`, banlist);
  };
  /** As `cp -p` does. */
  const copy = (from: string, to: string) => {
    if (!existsSync(from) || statSync(from).isDirectory()) return;
    rmSync(to, { recursive: true, force: true });
    copyFileSync(from, to);
    const { atime, mtime } = statSync(from);
    utimesSync(to, atime, mtime);
  };
  return {
    append: (one: string) => edit((text) => `${text}Require not ip ${one}\n`),
    delete: (one: string) => edit((text) => text.replaceAll(`Require not ip ${one}\n`, '')),
    swap: () =>
      edit((text) => {
        const rest = text.replaceAll(INSIDE, '').replaceAll(OUTSIDE, '').replaceAll(EMPTY, '');
        return `${rest}${text.includes(OUTSIDE) ? INSIDE : OUTSIDE}`;
      }),
    save() {
      copy(banlist, `${saved}.list`);
      copy(state, `${saved}.state`);
    },
    restore(what: 'list' | 'state' | 'both') {
      if (what !== 'state') copy(`${saved}.list`, banlist);
      if (what !== 'list') copy(`${saved}.state`, state);
    },
    touch(path: string, seconds: number) {
      const time = Date.now() / 1000 + seconds;
      if (existsSync(path)) utimesSync(path, time, time);
    },
    state(how: 'removed' | 'garbage' | 'unwritable' | 'writable') {
      rmSync(state, { recursive: true, force: true });
      if (how === 'garbage') writeFileSync(state, '{"list":[],"digest":{},"waiter":7');
      // A call may write the state between the two.
      while (how === 'unwritable' && !isMade(state)) rmSync(state, { recursive: true, force: true });
    },
  };
}

/** Processes of banctl about this list that no test has started: they wait, or reload after having waited. */
function waiters(banlist: string, started: ReadonlySet<number>): number[] {
  return processesNaming(banlist).filter((pid) => {
    try {
      // faketime is the parent of what it starts.
      const parent = Number(
        readFileSync(`/proc/${pid}/stat`, 'latin1')
          .replace(/.*\) \S /s, '')
          .split(' ')[0],
      );
      const isCall = started.has(pid) || started.has(parent);
      return !isCall && readlinkSync(`/proc/${pid}/exe`) === executable;
    } catch {
      return false;
    }
  });
}

/** Calls of banctl, and their answers about bans. */
function callers(apache: Apache) {
  const started = new Set<number>();
  /** By `JAIL ADDRESS`: whether it is held, by the answers; absent if a killed call has left that open. */
  const told = new Map<string, boolean | undefined>();
  const options = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`, '--json'];

  async function run(args: readonly string[], offset = '', killedAfterMs?: number) {
    const faketime = offset === '' ? [] : ['faketime', `now ${offset}`];
    const env = { ...process.env, NO_FAKE_STAT: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' };
    const [program = '', ...words] = [...faketime, executable, ...args, ...options];
    const child = spawn(program, words, { env, detached: true });
    if (child.pid !== undefined) started.add(child.pid);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    const late =
      killedAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killedAfterMs);
    // What it leaves behind has its standard output closed.
    const [exitCode] = (await once(child, 'close', { signal: AbortSignal.timeout(90_000) })) as [
      number | null,
    ];
    clearTimeout(late);
    return { exitCode, stdout, stderr };
  }
  return { started, told, run };
}

async function answers(apache: Apache): Promise<string[]> {
  const banned: string[] = [];
  for (const from of [...ADDRESSES, SECTIONED, NEVER_BANNED])
    if ((await apache.get('/', { from })) === 403) banned.push(from);
  return banned.sort();
}

async function play(apache: Apache, { topics, slowSeconds, events }: Round) {
  const hand = foreignHand(apache);
  const { started, told, run } = callers(apache);
  const interval = (jail: string) => `--reload-interval=${jail === 'quick' ? QUICK_SECONDS : slowSeconds}`;
  const isStopping = topics.includes('stops');
  /** A jail's calls come one after the other, as fail2ban makes them. */
  const lanes = new Map<string, Promise<void>>();
  const seen = { most: 0 };
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      seen.most = Math.max(seen.most, waiters(apache.banlist, started).length);
      await sleep(30);
    }
  })();

  async function callBanctl(event: Extract<Event, { kind: 'ban' | 'unban' }>) {
    const { kind, jail, addresses, killedAfterMs } = event;
    const keys = addresses.map((one) => `${jail} ${one}`);
    for (const key of keys) told.set(key, undefined);
    const args = [kind, ...addresses, `--jail=${jail}`, interval(jail)];
    const { exitCode, stdout, stderr } = await run(args, event.clock, killedAfterMs);
    if (exitCode === null) return;
    const isDone = exitCode === 0 || (exitCode === 69 && isStopping);
    assert.ok(isDone, `${args.join(' ')}: ${exitCode} ${stdout}${stderr}`);
    for (const key of keys) told.set(key, kind === 'ban');
  }

  async function happen(event: Event): Promise<void> {
    switch (event.kind) {
      case 'ban':
      case 'unban': {
        const lane = (lanes.get(event.jail) ?? Promise.resolve()).then(() => callBanctl(event));
        lanes.set(event.jail, lane);
        return lane;
      }
      case 'pause':
        return sleep(event.ms);
      case 'kill-waiters':
        for (const pid of waiters(apache.banlist, started)) killQuietly(pid);
        return;
      case 'foreign-reload':
        if (apache.running()) await apache.ask('-k', 'graceful');
        return;
      case 'append':
      case 'delete':
        return hand[event.kind](event.address);
      case 'swap':
      case 'save':
        return hand[event.kind]();
      case 'restore':
        return hand.restore(event.what);
      case 'touch-pid':
        return hand.touch(apache.pidFile, event.seconds);
      case 'touch-list':
        return hand.touch(apache.banlist, event.seconds);
      case 'state':
        return hand.state(event.how);
      case 'stop':
        return apache.stop();
      case 'start':
        if (!apache.running()) await apache.start();
        return;
    }
  }

  const under: Promise<void>[] = [];
  try {
    for (const { event, isAwaited } of events) {
      const isAlone = ['stop', 'start', 'foreign-reload', 'pause'].includes(event.kind);
      const one = happen(event);
      if (isAwaited || isAlone) await one;
      else under.push(one);
    }
    await Promise.all([...under, ...lanes.values()]);
  } finally {
    await Promise.allSettled(under);
    isOver = true;
    await watching;
  }
  if (!apache.running()) await apache.start();
  return { started, told, run, most: seen.most, writable: () => hand.state('writable') };
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** Where no program has done anything that banctl cannot notice without a call. */
const NEEDS_NO_CALL: readonly Topic[] = ['clocks', 'reloads', 'times', 'state'];

test('at rest, apache answers what the list says, and at most one process has waited', async (t) => {
  const mpm =
    'StartServers 2\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
  await using apache = await startApache({ remoteip: true, mpm, list: OUTSIDE });
  const rounds = casesOf(t, Number(process.env.ROUNDS ?? 4), round);
  let count = 0;
  for (const [number, one] of rounds.entries()) {
    const what = () => `round ${number}: ${JSON.stringify(one)}\n${readFileSync(apache.banlist, 'utf8')}`;
    const { started, told, run, most, writable } = await play(apache, one).catch((error: Error) => {
      error.message += `\n${what()}`;
      throw error;
    });
    count += one.events.length;
    assert.ok(most <= 2, `${most} processes waited, ${what()}`);
    const quickCall = ['unban', NEVER_BANNED, '--jail=quick', `--reload-interval=${QUICK_SECONDS}`];
    const needsCall = one.slowSeconds === 600 || one.topics.some((topic) => !NEEDS_NO_CALL.includes(topic));
    if (needsCall) {
      const { exitCode, stderr } = await run(quickCall);
      assert.equal(exitCode, 0, `${stderr} ${what()}`);
    }
    let answered: string[] = [];
    await until(
      'apache to answer what the list says',
      async () => {
        answered = await answers(apache);
        return answered.join() === bannedIn(readFileSync(apache.banlist, 'utf8')).join();
      },
      {
        limit: 40_000,
        detail: () => `${needsCall ? 'after' : 'without'} a call, 403 for ${answered}\n${what()}`,
      },
    );
    const isForeign = one.topics.some((topic) => topic === 'edits' || topic === 'restores');
    if (!isForeign) checkTold(readFileSync(apache.banlist, 'utf8'), told, what);
    writable();
    await until(
      'a call that finds nothing to do',
      async () => {
        const before = apache.reloads();
        const { stdout, stderr } = await run(quickCall);
        assert.equal(stderr, '', what());
        return JSON.parse(stdout).reload === 'not-needed' && apache.reloads() === before;
      },
      { limit: 40_000, detail: what },
    );
    const left = waiters(apache.banlist, started);
    assert.ok(left.length <= 1, `${left.length} processes wait, ${what()}`);
    for (const pid of left) killQuietly(pid);
    writeFileSync(apache.banlist, OUTSIDE);
    assert.equal((await run(['reload'])).exitCode, 0, what());
  }
  t.diagnostic(`${count} events in ${rounds.length} rounds, ${apache.reloads()} reloads`);
});

/** What the answers said of each ban is true. */
function checkTold(list: string, told: ReadonlyMap<string, boolean | undefined>, what: () => string): void {
  for (const [key, isHeld] of told) {
    if (isHeld === undefined) continue;
    // An edit by hand has left only the comment of a ban.
    const [, one] = key.split(' ');
    const isThere = list
      .split('\n')
      .some((line, at, lines) => line.includes(`${key} since `) && lines[at + 1] === `Require not ip ${one}`);
    assert.equal(isThere, isHeld, `${key}, ${what()}`);
  }
}
