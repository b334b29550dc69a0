import { setTimeout as sleep } from 'node:timers/promises';
import {
  countOlderChildren,
  reloadGracefully,
  runningApache,
  runReloadCommand,
  testConfig,
  whyNotRead,
} from '../apache/apache.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { acquireLock, type Lock, withLock } from '../system/lock.ts';
import { ticksNow } from '../system/process.ts';
import { readText, statFile } from '../system/read.ts';
import { record } from '../system/record.ts';
import { deferReload, dueTime, LONGEST_INTERVAL, planReload } from './plan.ts';
import { isPending, type ReloadState, readState, writeState } from './state.ts';
import type { ReloadOptions, ReloadReport } from './types.ts';

/** How long a call waits for a reload that is under way, in seconds. */
const LONGEST_WAIT = 45;
/**
 * How long a reload may take together with that wait, in seconds: fail2ban kills an action after 60, takes the ban for
 * failed, and never lifts it.
 */
const LONGEST_CALL = 55;
/** A reload may take as long as its programs may; see apache.ts. Seconds. */
const STALE = 120;

/**
 * Reloads Apache, unless another process has loaded the list meanwhile. Holds a lock of its own, so that bans go
 * on. A call that is not urgent leaves the reload to a later one if another is under way or has just been.
 */
export async function reload(
  options: ReloadOptions,
  { isForced, isUrgent }: { isForced: boolean; isUrgent: boolean },
): Promise<ReloadReport> {
  const deadline = performance.now() + LONGEST_CALL * 1000;
  const mayWait = isUrgent || options.reloadInterval === 0;
  let lock: Lock;
  try {
    lock = acquireLock(reloadLockPath(options), { timeout: mayWait ? LONGEST_WAIT : 0, stale: STALE });
  } catch (error) {
    if (!(error instanceof BanctlError && error.exitCode === EXIT.lockBusy)) throw error;
    if (mayWait)
      throw new BanctlError(EXIT.reloadRefused, `another reload is under way for over ${LONGEST_WAIT} s`);
    return updateState(options, (state) => {
      const deferred = deferReload(state, options);
      return [deferred.state, deferred.plan];
    });
  }
  try {
    const plan = updateState(options, (state) => {
      const { plan, state: planned } = planReload(state, options, isUrgent);
      return [planned, plan];
    });
    if (!isForced && plan !== 'reload') return plan.result === 'not-needed' ? { result: 'done' } : plan;
    return await countedReload(options, { isForced, deadline });
  } finally {
    lock.release();
  }
}

/** Waits until the reload that was deferred is due, holding no lock, and does it. */
export async function reloadWhenDue(options: ReloadOptions): Promise<ReloadReport> {
  for (;;) {
    await sleep(updateState(options, (state) => [state, Math.max(0, dueTime(state, options) - Date.now())]));
    // Nobody waits for this process, so it may outwait a holder that is stopped.
    const lock = acquireLock(reloadLockPath(options), { timeout: 2 * STALE, stale: STALE });
    try {
      const isDue = updateState(options, (state) => {
        // Once the waiter is not named any more, the next change starts another.
        const isDue = !isPending(state) || Date.now() >= dueTime(state, options);
        return [isDue ? { ...state, waiter: null } : state, isDue ? state : undefined];
      });
      if (isDue !== undefined)
        return isPending(isDue)
          ? await countedReload(options, {
              isForced: false,
              deadline: performance.now() + LONGEST_CALL * 1000,
            })
          : { result: 'not-needed' };
    } finally {
      lock.release();
    }
  }
}

function reloadLockPath({ banlist }: ReloadOptions): string {
  return `${banlist}.reload`;
}

/** A reload that was tried counts, with its length. */
async function countedReload(
  options: ReloadOptions,
  how: Parameters<typeof reloadLocked>[1],
): Promise<ReloadReport> {
  const begin = performance.now();
  const report = await reloadLocked(options, how);
  const { result } = report;
  const seconds = Math.round(performance.now() - begin) / 1000;
  if (result === 'done' || result === 'failed') record(options.record, { did: 'reload', result, seconds });
  return report;
}

/** @param deadline by `performance.now()` */
async function reloadLocked(
  options: ReloadOptions,
  { isForced, deadline }: { isForced: boolean; deadline: number },
): Promise<ReloadReport> {
  const left = () => Math.max(1, (deadline - performance.now()) / 1000);
  const known = updateState(options, (state) => [state, state]);
  const failed = (message: string, more: Partial<ReloadReport> = {}): ReloadReport => {
    updateState(options, (state) => [{ ...state, lastTry: Date.now(), error: message }, undefined]);
    return { result: 'failed', message, ...more };
  };
  const test = await testConfig(options.apachectl, left());
  if (test.result === 'failed') return failed(test.message, { isConfigRefused: test.isRefused });
  if (test.result === 'no-apache' && options.reloadCommand === undefined) return failed(test.message);

  const apache = test.result === 'passed' ? runningApache(test.pidFile) : undefined;
  const pidFile = test.result === 'passed' ? test.pidFile : null;
  const skipped = (message: string, error: string | null): ReloadReport => {
    updateState(options, (state) => [
      { ...state, ...asked(options, pidFile), lastTry: Date.now(), error },
      undefined,
    ]);
    return { result: 'skipped', message };
  };
  if (test.result === 'passed' && apache === undefined) {
    return skipped('apache is not running; it reads the list when it starts', null);
  }
  const notRead =
    apache === undefined || known.list === null
      ? undefined
      : await whyNotRead(options.apachectl, options.banlist, left());
  if (notRead !== undefined && !isForced) {
    const message = `apache ${notRead}`;
    return skipped(message, message);
  }

  const lingering =
    apache !== undefined && known.generation !== null && countOlderChildren(apache, known.generation) > 0;
  const spacing = Math.max(
    options.reloadInterval,
    lingering ? Math.min(LONGEST_INTERVAL, known.spacing * 2) : 0,
  );
  const generation = ticksNow();
  const before = updateState(options, (state) => [state, state]);
  const failure =
    apache === undefined
      ? await runReloadCommand(options.reloadCommand ?? '', left())
      : await reloadGracefully(apache, options, left());
  if (failure !== undefined) return failed(failure);
  updateState(options, (state) => {
    const isSame = state.since === before.since && state.digest.join() === before.digest.join();
    const version = pidFile === null ? null : (statFile(pidFile)?.version ?? null);
    const now = Date.now();
    return [
      {
        ...state,
        ...asked(options, pidFile),
        // A list that was changed meanwhile may have been read before or after its change.
        loaded: isSame && notRead === undefined ? { digest: before.digest, pidFile: version } : null,
        lastReload: now,
        lastTry: now,
        spacing,
        generation,
        error: notRead === undefined ? null : `apache ${notRead}`,
      },
      undefined,
    ];
  });
  return {
    result: 'done',
    ...(notRead === undefined ? {} : { message: `apache was reloaded, but ${notRead}` }),
  };
}

function asked(options: ReloadOptions, pidFile: string | null): Pick<ReloadState, 'apachectl' | 'pidFile'> {
  return { apachectl: options.apachectl ?? null, pidFile };
}

/** Reads the state, with the list as it is, and writes what `update` makes of it. */
function updateState<T>(options: ReloadOptions, update: (state: ReloadState) => [ReloadState, T]): T {
  const { banlist, lockTimeout } = options;
  return withLock(banlist, { timeout: lockTimeout }, (lock) => {
    const state = readState(banlist, readText(banlist));
    const [updated, result] = update(state);
    if (updated !== state) writeState(banlist, updated, lock);
    return result;
  });
}
