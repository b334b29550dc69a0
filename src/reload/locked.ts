import type { Lock } from '../system/held-lock.ts';
import { acquireLock, acquireLockAwaited, withLock, withLockAwaited } from '../system/lock.ts';
import { lookAtState } from './state.ts';
import { type ReloadState, writeState } from './state-file.ts';
import { namesOf, type ReloadOptions } from './types.ts';

/*
 * The lock `LIST.reload` covers all steps of a reload, so bans can continue. The list's own lock covers only the beginning and
 * the end, when the state is written.
 */

/** The limit of a reload without a wait for another one: the sum of its programs' limits; see apache/reload-signal.ts. */
export const STALE_SECONDS = 120;

/** @param timeout seconds */
export async function takeReloadLock(options: ReloadOptions, timeout: number): Promise<Lock> {
  const path = `${options.banlist}.reload`;
  const limits = { timeout, stale: STALE_SECONDS };
  return options.endTurns !== undefined ? acquireLockAwaited(path, limits) : acquireLock(path, limits);
}

/** Requests for a shorter interval start anew, and this call's own reload is no longer due. */
export function begin(state: ReloadState, options: ReloadOptions): ReloadState {
  return { ...state, targets: namesOf(options), interval: null };
}

/** Reads the state together with the list, and writes the result of `update`. */
export async function updateState<T>(
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
  options.endTurns?.();
  return options.endTurns !== undefined
    ? withLockAwaited(banlist, limits, work)
    : withLock(banlist, limits, work);
}
