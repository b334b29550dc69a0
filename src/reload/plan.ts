import { isPending, type ReloadState } from './state.ts';
import type { ReloadOptions, ReloadReport } from './types.ts';
import { ensureWaiter } from './waiter.ts';

/*
 * When to reload. A reload is due while the list tells Apache something that it is not known to have loaded,
 * whoever changed it. The first change after a quiet time reloads at once; what follows within the interval is
 * left to a process that waits for its end. What is known is in the state, under the lock of the list.
 */

/** However long old processes of Apache linger. Seconds. */
export const LONGEST_INTERVAL = 60;

/** What a call is to do about the reload: it, or nothing but to report. */
export type Plan = 'reload' | ReloadReport;

/**
 * Decides, under the lock of the list, what a call is to do. A state that comes back changed is to be written.
 * An urgent call does not wait for the interval.
 */
export function planReload(
  state: ReloadState,
  options: ReloadOptions,
  isUrgent: boolean,
): { plan: Plan; state: ReloadState } {
  if (!isPending(state)) return { plan: { result: 'not-needed' }, state };
  if (!options.reloads)
    return { plan: { result: 'skipped', message: 'apache was not reloaded, as asked' }, state };
  const isDue = isUrgent || options.reloadInterval === 0 || Date.now() >= dueTime(state, options);
  return isDue ? { plan: 'reload', state } : deferReload(state, options);
}

/** Leaves the reload to the process that waits until it is due. */
export function deferReload(
  state: ReloadState,
  options: ReloadOptions,
): { plan: ReloadReport; state: ReloadState } {
  const seconds = Math.max(1, Math.ceil((dueTime(state, options) - Date.now()) / 1000));
  const message =
    state.error === null
      ? `apache reloads within ${seconds} s`
      : `a reload is tried again within ${seconds} s; the last one failed: ${state.error}`;
  return {
    plan: { result: 'deferred', message },
    state: { ...state, waiter: ensureWaiter(state.waiter, options) },
  };
}

/** When the next reload may be. Milliseconds since the epoch. */
export function dueTime(state: ReloadState, options: ReloadOptions): number {
  const spacing = Math.max(options.reloadInterval, Math.min(state.spacing, LONGEST_INTERVAL));
  // A try in the future is from a clock that has been set back since.
  return state.lastTry === null || state.lastTry > Date.now() ? 0 : state.lastTry + spacing * 1000;
}
