import { setTimeout as sleep } from 'node:timers/promises';
import {
  blames,
  type Configuration,
  pathsTo,
  problemOf,
  type Refusal,
  whyNotRead,
} from '../apache/configuration.ts';
import {
  findApache,
  hasOlderChild,
  type RunningApache,
  servingChildren,
  wasStopped,
  youngestOf,
} from '../apache/processes.ts';
import { reloadGracefully, requestGraceful, runReloadCommand } from '../apache/reload-signal.ts';
import { EMPTY, isOrdered } from '../banlist/digest.ts';
import { describeOverruling, overruling } from '../banlist/overruling.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { acquireLock, acquireLockAwaited, type Lock, withLock, withLockAwaited } from '../system/lock.ts';
import { processId } from '../system/process.ts';
import { readText } from '../system/read.ts';
import { record } from '../system/record.ts';
import { type Asked, ask, askAll } from './ask.ts';
import { deferReload, dueTime, LONGEST_INTERVAL_SECONDS, planReload, shortestInterval } from './plan.ts';
import {
  isLoadedBy,
  isPending,
  isStateBehind,
  knownApache,
  loadedNow,
  lookAtState,
  markOf,
  settled,
  wayOf,
  withApache,
  withError,
} from './state.ts';
import { type KnownApache, type ReloadState, writeState } from './state-file.ts';
import { namesOf, type ReloadOptions, type ReloadReport, type Target, targetsOf } from './types.ts';
import { waiterLockPath } from './waiter.ts';

/*
 * A reload in five steps: test each configuration, find each Apache, refuse what cannot work, signal, record. The lock
 * `LIST.reload` covers all steps, so bans can continue. The list's own lock covers only the beginning and the end.
 */

/** How long a call waits for another process's reload. */
const LONGEST_WAIT_SECONDS = 45;
/**
 * The limit for a reload together with that wait: fail2ban kills an action after 60 s, treats the ban as failed, and never
 * lifts it.
 */
const LONGEST_CALL_SECONDS = 55;
/** The limit without that wait: the sum of its programs' limits; see apache/reload-signal.ts. */
const STALE_SECONDS = 120;
/** Of the list that are watched; nearly always there is one. */
const MOST_PATHS = 8;
/** How often the waiting process checks whether its wait became shorter. */
const LOOK_MS = 250;
/** A call writes the state right after the list. If it has not after this time, it probably cannot. */
const UNHEARD_MS = 1500;

/**
 * Reloads Apache, unless another process has already made it load the list. If a reload is under way or has just ended, a
 * call that is not urgent leaves its reload to a later one.
 */
export async function reload(
  options: ReloadOptions,
  { isForced, isUrgent }: { isForced: boolean; isUrgent: boolean },
): Promise<ReloadReport> {
  const deadline = performance.now() + LONGEST_CALL_SECONDS * 1000;
  const mayWait = isUrgent || options.reloadInterval === 0;
  let lock: Lock;
  try {
    lock = await takeReloadLock(options, mayWait ? LONGEST_WAIT_SECONDS : 0);
  } catch (error) {
    if (!(error instanceof BanctlError && error.exitCode === EXIT.lockBusy)) throw error;
    if (mayWait)
      throw new BanctlError(
        EXIT.reloadRefused,
        `another reload has been running for over ${LONGEST_WAIT_SECONDS} s`,
      );
    return updateState(options, (state) => {
      const deferred = deferReload(state, options);
      return [deferred.state, deferred.plan];
    });
  }
  try {
    const { plan, before } = await updateState(options, (state) => {
      const { plan, state: planned } = planReload(state, options, isUrgent);
      const begun = isForced || plan === 'reload' ? begin(planned, options) : planned;
      return [begun, { plan, before: planned }];
    });
    if (!isForced && plan !== 'reload') return plan.result === 'not-needed' ? { result: 'done' } : plan;
    return await counted(new Reload(options, before, isForced, deadline));
  } finally {
    lock.release();
  }
}

/**
 * Waits until the deferred reload is due, without a lock of the list, and runs it. Returns at once if another process
 * waits already. A resident calls it after `onDeferred`. It also covers reloads that are deferred while this call
 * reloads.
 */
export async function reloadWhenDue(options: ReloadOptions): Promise<ReloadReport> {
  const report = await reloadOnceDue(options);
  const isOwed = options.onDeferred !== undefined && lookAtState(options.banlist).waiter === processId();
  return isOwed && report !== undefined ? reloadWhenDue(options) : (report ?? { result: 'not-needed' });
}

/** Undefined if another process waits. */
async function reloadOnceDue(options: ReloadOptions): Promise<ReloadReport | undefined> {
  const waiting = takeWaiterLock(options);
  if (waiting === undefined) return undefined;
  try {
    for (;;) {
      const isUnheard = (await untilDue(options)) === 'unheard';
      const lock = await takeReloadLock(options, 2 * STALE_SECONDS);
      try {
        const due = await updateState(options, (state) => {
          const asked = isUnheard ? askedForNone(state) : state;
          const isDue = !isPending(state) || Date.now() >= dueTime(asked, options);
          // As soon as the state names no waiting process, the next change starts one.
          if (!isDue) return [state, undefined];
          const next = isPending(state) ? state : settled(state);
          return [{ ...begin(next, options), owed: [], waiter: null }, next];
        });
        if (due === undefined) continue;
        waiting.release();
        return await reloadOwed(options, due);
      } finally {
        lock.release();
      }
    }
  } finally {
    waiting.release();
  }
}

function takeWaiterLock(options: ReloadOptions): Lock | undefined {
  try {
    return acquireLock(waiterLockPath(options), { timeout: 0, stale: Number.POSITIVE_INFINITY });
  } catch (error) {
    if (!(error instanceof BanctlError && error.exitCode === EXIT.lockBusy)) throw error;
    return undefined;
  }
}

/** Every Apache with a deferred reload, including those of other calls. */
async function reloadOwed(options: ReloadOptions, due: ReloadState): Promise<ReloadReport> {
  const reports: ReloadReport[] = [];
  const tried = new Set<string>();
  for (const commands of [options, ...due.owed]) {
    const one = { ...options, apachectl: commands.apachectl, reloadCommand: commands.reloadCommand };
    const names = namesOf(one).filter((name) => !tried.has(name));
    for (const name of names) tried.add(name);
    // A change since one of those attempts has its own process, which waits for the next interval.
    if (names.length === 0 || !isPending(lookAtState(options.banlist), names)) continue;
    const deadline = performance.now() + LONGEST_CALL_SECONDS * 1000;
    reports.push(await counted(new Reload(one, due, false, deadline)));
  }
  return worstOf(reports);
}

/** A reload counts with its duration, even if it failed. */
async function counted(reloading: Reload): Promise<ReloadReport> {
  const beginMs = performance.now();
  const report = await reloading.run();
  const { result } = report;
  const seconds = Math.round(performance.now() - beginMs) / 1000;
  if (result === 'done' || result === 'failed')
    record(reloading.options.record, { did: 'reload', result, seconds });
  return report;
}

/**
 * A later call may ask for a shorter interval, and the clock may be set. Where the state cannot be replaced, such a call
 * cannot be heard: the list has changed, and the state stays as it was.
 */
async function untilDue(options: ReloadOptions): Promise<'due' | 'unheard'> {
  let behindSince: number | undefined;
  for (;;) {
    const state = lookAtState(options.banlist);
    const isBehind = isStateBehind(options.banlist);
    behindSince = isBehind ? (behindSince ?? performance.now()) : undefined;
    const isUnheard = behindSince !== undefined && performance.now() - behindSince >= UNHEARD_MS;
    const left = dueTime(isUnheard ? askedForNone(state) : state, options) - Date.now();
    if (left <= 0 || !isPending(state)) return isUnheard ? 'unheard' : 'due';
    await sleep(Math.min(left, LOOK_MS));
  }
}

/** As if a call had asked for a reload at once; old children of Apache still lengthen the interval. */
function askedForNone(state: ReloadState): ReloadState {
  return { ...state, interval: 0 };
}

/** Requests for a shorter interval start anew, and this call's own reload is no longer due. */
function begin(state: ReloadState, options: ReloadOptions): ReloadState {
  return { ...state, targets: namesOf(options), interval: null };
}

async function takeReloadLock(options: ReloadOptions, timeout: number): Promise<Lock> {
  const path = `${options.banlist}.reload`;
  const limits = { timeout, stale: STALE_SECONDS };
  return options.isResident === true ? acquireLockAwaited(path, limits) : acquireLock(path, limits);
}

/** An Apache whose configuration passed its test, or which only a command knows. */
interface Found extends Asked {
  readonly is: 'running' | 'stopped' | 'unseen';
  readonly apache?: RunningApache;
}

/** The result for one of them. */
interface Ending {
  readonly report: ReloadReport;
  /** What to record about it. */
  readonly known?: KnownApache;
  /** The list does not matter to it. */
  readonly error?: string;
  readonly isLingering?: boolean;
}

class Reload {
  readonly options: ReloadOptions;
  private readonly before: ReloadState;
  private readonly isForced: boolean;
  private readonly deadline: number;
  private commandRun: Promise<string | undefined> | undefined;

  constructor(options: ReloadOptions, before: ReloadState, isForced: boolean, deadline: number) {
    this.options = options;
    this.before = before;
    this.isForced = isForced;
    this.deadline = deadline;
  }

  async run(): Promise<ReloadReport> {
    const found: Found[] = [];
    for (const target of targetsOf(this.options)) {
      const asked = await ask(target, this.left());
      const refused = await this.refuse(asked);
      if (refused !== undefined) return refused;
      found.push(find(asked));
    }
    // If the list changed since the call began, Apache reads the new version now.
    const now = lookAtState(this.options.banlist);
    const endings: Ending[] = [];
    for (const one of found) endings.push(await this.signal(one, now));
    return this.record(now, endings);
  }

  private async refuse({ target, configuration }: Asked): Promise<ReloadReport | undefined> {
    if (configuration === undefined || configuration.result === 'passed') return undefined;
    if (configuration.result === 'no-apache' && target.reloadCommand !== undefined) return undefined;
    const message = problemOf(configuration) ?? '';
    return this.failed(message, configuration.result === 'refused' ? configuration.refusal : undefined);
  }

  private async signal(found: Found, now: ReloadState): Promise<Ending> {
    const { target, is, apache, configuration } = found;
    const known = knownApache(now, target.name);
    const pidFile = apache?.pidFile ?? (is === 'stopped' ? pidFileOf(configuration) : null);
    if (is === 'stopped') {
      const message = 'apache is not running; it reads the list when it starts';
      return { report: { result: 'skipped', message }, known: this.remember(target, pidFile, known) };
    }
    const notRead =
      apache === undefined || configuration === undefined || now.list === null
        ? undefined
        : whyNotRead(configuration, this.options.banlist);
    if (notRead !== undefined && !this.isForced) {
      const message = `apache ${notRead}`;
      // Without a ban in the list, Apache admits no visitor that banctl reports as banned.
      const result = now.digest === EMPTY ? 'skipped' : 'failed';
      return {
        report: { result, message },
        known: this.remember(target, pidFile, known),
        error: message,
      };
    }
    const twin = now.apaches.find((other) => pidFile !== null && other.pidFile === pidFile);
    if (!this.isForced && twin !== undefined && isLoadedBy(now, twin))
      return { report: { result: 'done' }, known: { ...twin, name: target.name } };
    const children = apache === undefined ? [] : servingChildren(apache);
    const isLingering =
      apache !== undefined &&
      twin?.process === apache.process &&
      twin.generation !== null &&
      hasOlderChild(apache, twin.generation);
    const paths = pathsTo(configuration, this.options.banlist).slice(0, MOST_PATHS);
    const way = wayOf(paths);
    const failure = await this.ask(target, apache);
    if (failure !== undefined && apache !== undefined && wasStopped(apache)) {
      const message = 'apache was stopped; it reads the list when it starts';
      return { report: { result: 'skipped', message }, known: this.remember(target, pidFile, known) };
    }
    if (failure !== undefined) return { report: { result: 'failed', message: failure }, error: failure };
    const but = notRead ?? this.overruled(now);
    return {
      report: {
        result: 'done',
        ...(but === undefined ? {} : { message: `apache was reloaded, but ${but}` }),
      },
      known: {
        name: target.name,
        pidFile,
        // If a link was switched during the reload, Apache may have read another file.
        loaded: notRead === undefined && wayOf(paths) === way ? loadedNow(now, pidFile) : null,
        ...markOf(pidFile),
        paths,
        way,
        process: apache?.process ?? null,
        generation: youngestOf(children),
      },
      isLingering,
      ...(notRead === undefined ? {} : { error: `apache ${notRead}` }),
    };
  }

  private overruled({ digest }: ReloadState): string | undefined {
    const { banlist } = this.options;
    const found = isOrdered(digest) ? overruling(readText(banlist).text) : undefined;
    return found === undefined ? undefined : describeOverruling(banlist, found);
  }

  private async ask(target: Target, apache: RunningApache | undefined): Promise<string | undefined> {
    const { reloadCommand, apachectl } = target;
    if (apache !== undefined) return reloadGracefully(apache, target, this.left());
    if (reloadCommand === undefined) return requestGraceful(apachectl, this.left());
    // One command reloads all of them.
    this.commandRun ??= runReloadCommand(reloadCommand, this.left());
    return this.commandRun;
  }

  private remember(target: Target, pidFile: string | null, known: KnownApache | undefined): KnownApache {
    if (known !== undefined && known.pidFile === pidFile) return known;
    const { name } = target;
    return { name, pidFile, loaded: null, ...markOf(pidFile), process: null, generation: null };
  }

  private async record(seen: ReloadState, endings: readonly Ending[]): Promise<ReloadReport> {
    const report = worstOf(endings.map((ending) => ending.report));
    await updateState(this.options, (state) => {
      // If the list changed during the reload, Apache may have read the old or the new version.
      const isSeen = state.list === seen.list && state.digest === seen.digest;
      // A hold may have changed: banctl has followed the file since it wrote it under the lock.
      const isFollowed = [seen, state].every(({ mark }) => mark.count === this.before.mark.count);
      const isSame = isSeen || (isFollowed && state.digest === seen.digest);
      const keep = (known: KnownApache): KnownApache => {
        if (isSeen || known.loaded === null) return known;
        return { ...known, loaded: isSame ? { ...known.loaded, list: state.list } : null, wasAtRest: false };
      };
      let recorded = state;
      for (const { known } of endings) if (known !== undefined) recorded = withApache(recorded, keep(known));
      const now = Date.now();
      const isDone = endings.some((ending) => ending.report.result === 'done');
      const spaced = isDone ? { ...this.spacing(endings), lastReload: now } : {};
      const error = endings.find((ending) => ending.error !== undefined)?.error ?? null;
      return [withError({ ...recorded, ...spaced, lastTry: now }, error), undefined];
    });
    return report;
  }

  private spacing(endings: readonly Ending[]): Pick<ReloadState, 'spacing' | 'isLingering'> {
    const { before, options } = this;
    const interval = shortestInterval(before, options);
    const isLingering = endings.some((ending) => ending.isLingering === true);
    const doubled = 2 * (before.isLingering ? before.spacing : interval);
    const spacing = isLingering ? Math.max(interval, Math.min(LONGEST_INTERVAL_SECONDS, doubled)) : interval;
    return { spacing, isLingering };
  }

  private async failed(message: string, refusal: Refusal | undefined): Promise<ReloadReport> {
    await updateState(this.options, (state) => [
      withError({ ...state, lastTry: Date.now() }, message),
      undefined,
    ]);
    return { result: 'failed', message, ...(refusal === undefined ? {} : { refusal }) };
  }

  private left(): number {
    return Math.max(1, (this.deadline - performance.now()) / 1000);
  }
}

function find(asked: Asked): Found {
  if (asked.configuration?.result !== 'passed') return { ...asked, is: 'unseen' };
  return { ...asked, ...findApache(asked.configuration) };
}

function pidFileOf(configuration: Configuration | undefined): string | null {
  return configuration?.result === 'passed' ? configuration.pidFile : null;
}

/** Of several Apaches: one that failed, else one that was reloaded; messages about the others are appended. */
function worstOf(reports: readonly ReloadReport[]): ReloadReport {
  const [first, ...others] = [...reports].sort((one, other) => rank(one) - rank(other));
  if (first === undefined) return { result: 'not-needed' };
  const message = first.message ?? others.find((report) => report.message !== undefined)?.message;
  return message === undefined ? first : { ...first, message };
}

function rank({ result }: ReloadReport): number {
  return ['failed', 'done'].indexOf(result) >>> 0;
}

/** True if Apache's test blames the list. */
export function isListBlamed(report: ReloadReport, options: ReloadOptions): boolean {
  const { refusal } = report;
  if (refusal === undefined) return false;
  return targetsOf(options).some(({ apachectl }) => blames(refusal, options.banlist, apachectl));
}

/**
 * Under the list's lock, which the caller holds: true if every Apache accepts the restored list. The state then records
 * which Apaches have loaded it.
 */
export async function isAccepted(options: ReloadOptions, lock: Lock): Promise<boolean> {
  const asked = await askAll(options);
  const isPassed = asked.every(({ configuration }) => (configuration?.result ?? 'passed') === 'passed');
  if (!isPassed) return false;
  const state = asked.reduce(recognized, lookAtState(options.banlist));
  writeState(options.banlist, isPending(state) ? state : settled(state), lock);
  return true;
}

/** Another name for the same Apache has loaded what that Apache was seen to load. */
function recognized(state: ReloadState, { target, configuration }: Asked): ReloadState {
  const pidFile = pidFileOf(configuration);
  const twin = state.apaches.find((apache) => pidFile !== null && apache.pidFile === pidFile);
  return twin === undefined ? state : withApache(state, { ...twin, name: target.name });
}

/** Reads the state together with the list, and writes the result of `update`. */
async function updateState<T>(
  options: ReloadOptions,
  update: (state: ReloadState) => [ReloadState, T],
): Promise<T> {
  const { banlist, lockTimeout } = options;
  const work = (lock: Lock) => {
    const state = lookAtState(banlist);
    const [updated, result] = update(state);
    if (updated !== state) writeState(banlist, updated, lock);
    return result;
  };
  const limits = { timeout: lockTimeout };
  return options.isResident === true
    ? withLockAwaited(banlist, limits, work)
    : withLock(banlist, limits, work);
}
