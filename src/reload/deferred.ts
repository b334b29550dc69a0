import { setTimeout as sleep } from 'node:timers/promises';
import { BanctlError, EXIT } from '../system/errors.ts';
import type { Lock } from '../system/held-lock.ts';
import { acquireLock } from '../system/lock.ts';
import { monotonicMs, processId } from '../system/process.ts';
import { type FileVersion, statFile } from '../system/read.ts';
import { attemptReload, worstOf } from './attempt.ts';
import { begin, STALE_SECONDS, takeReloadLock, updateState } from './locked.ts';
import { dueTime } from './plan.ts';
import { isPending, isStateBehind, lookAtState, settled } from './state.ts';
import { type ReloadState, statePath } from './state-file.ts';
import { namesOf, type ReloadOptions, type ReloadReport } from './types.ts';
import { waiterLockPath } from './waiter.ts';

/** How often the waiting process checks whether its wait became shorter. */
const LOOK_MS = 250;
/** A call writes the state right after the list, a resident soon. If none has after this time, it probably cannot be written. */
const UNHEARD_MS = 1500;

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
    reports.push(await attemptReload(one, due, { isForced: false, beganMs: monotonicMs() }));
  }
  return worstOf(reports);
}

/**
 * A later call may ask for a shorter interval, and the clock may be set. Where the state cannot be replaced, such a call
 * cannot be heard: the list has changed, and the state stays as it was.
 */
async function untilDue(options: ReloadOptions): Promise<'due' | 'unheard'> {
  let behind: { readonly written: FileVersion | undefined; readonly sinceMs: number } | undefined;
  for (;;) {
    const state = lookAtState(options.banlist);
    const written = statFile(statePath(options.banlist))?.version;
    if (!isStateBehind(options.banlist)) behind = undefined;
    // In a burst of changes, it is behind at most moments, but is written again and again.
    else if (behind === undefined || behind.written !== written) behind = { written, sinceMs: monotonicMs() };
    const isUnheard = behind !== undefined && monotonicMs() - behind.sinceMs >= UNHEARD_MS;
    const left = dueTime(isUnheard ? askedForNone(state) : state, options) - Date.now();
    if (left <= 0 || !isPending(state)) return isUnheard ? 'unheard' : 'due';
    await sleep(Math.min(left, LOOK_MS));
  }
}

/** As if a call had asked for a reload at once; old children of Apache still lengthen the interval. */
function askedForNone(state: ReloadState): ReloadState {
  return { ...state, interval: 0 };
}
