import { setTimeout as sleep } from 'node:timers/promises';
import {
  countOlderChildren,
  reloadGracefully,
  runningApache,
  runReloadCommand,
  testConfig,
} from './apache.ts';
import { readText, statFile } from './file.ts';
import { acquireLock, type Lock, withLock } from './lock.ts';
import { ticksNow } from './process.ts';
import { deferReload, dueTime, type ReloadOptions, type ReloadReport } from './reload-plan.ts';
import { isPending, type ReloadState, readState, writeState } from './reload-state.ts';

const LONGEST_INTERVAL = 60;
/** How long a call waits for a reload that is under way, in seconds; fail2ban kills an action after 60. */
const LONGEST_WAIT = 45;
/** A reload may take as long as its programs may; see apache.ts. Seconds. */
const STALE = 120;

/**
 * Reloads Apache, unless another process has loaded the list meanwhile. Holds a lock of its own, so that bans go
 * on. If another reload is under way, one that may not wait leaves the next to the process that waits.
 */
export async function reload(
  options: ReloadOptions,
  { isForced, mayWait }: { isForced: boolean; mayWait: boolean },
): Promise<ReloadReport> {
  let lock: Lock;
  try {
    lock = acquireLock(`${options.banlist}.reload`, { timeout: mayWait ? LONGEST_WAIT : 0, stale: STALE });
  } catch (error) {
    if (mayWait) throw error;
    return updateState(options, (state) => {
      const deferred = deferReload(state, options);
      return [deferred.state, deferred.plan];
    });
  }
  try {
    return await reloadLocked(options, isForced);
  } finally {
    lock.release();
  }
}

/** Waits until the reload that was deferred is due, holding no lock, and does it. */
export async function reloadWhenDue(options: ReloadOptions): Promise<ReloadReport> {
  for (;;) {
    const wait = updateState(options, (state) => {
      const remaining = isPending(state) ? dueTime(state, options) - Date.now() : 0;
      // Once the waiter is not named any more, the next change starts another.
      return remaining > 0 ? [state, remaining] : [{ ...state, waiter: null }, 0];
    });
    if (wait === 0) return reload(options, { isForced: false, mayWait: true });
    await sleep(wait);
  }
}

async function reloadLocked(options: ReloadOptions, isForced: boolean): Promise<ReloadReport> {
  const known = updateState(options, (state) => [state, state]);
  if (!isForced && !isPending(known)) return { result: 'done' };
  const failed = (message: string, more: Partial<ReloadReport & ReloadState> = {}): ReloadReport => {
    updateState(options, (state) => [{ ...state, lastTry: Date.now(), error: message }, undefined]);
    return { result: 'failed', message, ...more };
  };
  const test = await testConfig(options.apachectl);
  if (test.result === 'failed') return failed(test.message, { isConfigRefused: true });
  if (test.result === 'no-apache' && options.reloadCommand === undefined) return failed(test.message);

  const apache = test.result === 'passed' ? runningApache(test.pidFile) : undefined;
  const pidFile = test.result === 'passed' ? test.pidFile : null;
  if (test.result === 'passed' && apache === undefined) {
    updateState(options, (state) => [
      { ...state, ...asked(options, pidFile), lastTry: Date.now(), error: null },
      undefined,
    ]);
    return { result: 'skipped', message: 'apache is not running; it reads the list when it starts' };
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
      ? await runReloadCommand(options.reloadCommand ?? '')
      : await reloadGracefully(apache, options);
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
        loaded: isSame ? { digest: before.digest, pidFile: version } : null,
        lastReload: now,
        lastTry: now,
        spacing,
        generation,
        error: null,
      },
      undefined,
    ];
  });
  return { result: 'done' };
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
