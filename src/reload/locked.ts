import type { Lock } from '../system/held-lock.ts';
import {
  acquireLock,
  acquireLockAwaited,
  type LockOptions,
  withLock,
  withLockAwaited,
} from '../system/lock.ts';
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
  return takeLock(`${options.banlist}.reload`, { timeout, stale: STALE_SECONDS }, options);
}

/** Takes a lock as calls do, or as a resident does, which answers others meanwhile. */
async function takeLock(
  path: string,
  limits: LockOptions,
  { endTurns }: Pick<ReloadOptions, 'endTurns'>,
): Promise<Lock> {
  return endTurns === undefined ? acquireLock(path, limits) : acquireLockAwaited(path, limits);
}

/** Takes the lock of the list itself, in which a resident may be in its own way. */
export async function takeListLock(options: ReloadOptions): Promise<Lock> {
  options.endTurns?.();
  return takeLock(options.banlist, { timeout: options.lockTimeout }, options);
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
