import { currentError, isPending, settled } from './state.ts';
import type { ReloadState } from './state-file.ts';
import { namesOf, type ReloadOptions, type ReloadReport } from './types.ts';
import { ensureWaiter } from './waiter.ts';

/*
 * When to reload. A reload is due while Apache is not known to have loaded the list's current directives, whichever program
 * changed them. The first change after a quiet time reloads at once. A process that waits for the end of the interval
 * covers the changes within it. The state records what is known, under the lock of the list.
 */

/** The limit, however long old processes of Apache linger. */
export const LONGEST_INTERVAL_SECONDS = 60;

const MOST_OWED = 8;

/** What a call must do about the reload: run it, or only report. */
export type Plan = 'reload' | ReloadReport;

/**
 * Decides, under the lock of the list, what a call must do. The caller writes a state that comes back changed.
 * An urgent call does not wait for the interval.
 */
export function planReload(
  known: ReloadState,
  options: ReloadOptions,
  isUrgent: boolean,
): { plan: Plan; state: ReloadState } {
  const names = namesOf(options);
  if (!isPending(known, names)) return { plan: { result: 'not-needed' }, state: settled(known) };
  const isSame =
    known.targets.length === names.length && known.targets.every((name, at) => name === names[at]);
  const state = isSame ? known : { ...known, targets: names };
  if (!options.reloads)
    return { plan: { result: 'skipped', message: 'apache was not reloaded, as requested' }, state };
  const isDue = isUrgent || options.reloadInterval === 0 || Date.now() >= dueTime(state, options);
  return isDue ? { plan: 'reload', state } : deferReload(state, options);
}

/** Leaves the reload to the process that waits until it is due. */
export function deferReload(
  known: ReloadState,
  options: ReloadOptions,
): { plan: ReloadReport; state: ReloadState } {
  const interval = Math.min(known.interval ?? options.reloadInterval, options.reloadInterval);
  const state = owing(interval === known.interval ? known : { ...known, interval }, options);
  const seconds = Math.max(1, Math.ceil((dueTime(state, options) - Date.now()) / 1000));
  const error = currentError(state);
  const message =
    error === null
      ? `apache reloads within ${seconds} s`
      : `a reload is tried again within ${seconds} s; the last one failed: ${error}`;
  const waiter = ensureWaiter(state.waiter, options);
  return {
    plan: { result: 'deferred', message },
    state: waiter === state.waiter ? state : { ...state, waiter },
  };
}

function owing(state: ReloadState, { apachectl, reloadCommand }: ReloadOptions): ReloadState {
  const commands = { apachectl, reloadCommand };
  const isOwed = state.owed.some((other) => JSON.stringify(other) === JSON.stringify(commands));
  return isOwed ? state : { ...state, owed: [commands, ...state.owed].slice(0, MOST_OWED) };
}

/** The shortest interval that this call, or a call with a deferred reload, has asked for. Seconds. */
export function shortestInterval({ interval }: ReloadState, { reloadInterval }: ReloadOptions): number {
  return Math.min(interval ?? reloadInterval, reloadInterval);
}

/** The earliest time of the next reload. Milliseconds since the epoch. */
export function dueTime(state: ReloadState, options: ReloadOptions): number {
  const interval = shortestInterval(state, options);
  const seconds = state.isLingering
    ? Math.max(interval, Math.min(state.spacing, LONGEST_INTERVAL_SECONDS))
    : interval;
  // An attempt in the future means that the clock has been set back since.
  return state.lastTry === null || state.lastTry > Date.now() ? 0 : state.lastTry + seconds * 1000;
}
