import { blames } from '../apache/configuration.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import type { Lock } from '../system/held-lock.ts';
import { monotonicMs } from '../system/process.ts';
import { type Asked, askAll } from './ask.ts';
import { attemptReload, pidFileOf } from './attempt.ts';
import { begin, takeReloadLock, updateState } from './locked.ts';
import { deferReload, planReload } from './plan.ts';
import { isPending, lookAtState, settled, withApache } from './state.ts';
import { type ReloadState, writeState } from './state-file.ts';
import { type ReloadOptions, type ReloadReport, targetsOf } from './types.ts';

/** How long a call waits for another process's reload. */
const LONGEST_WAIT_SECONDS = 45;

/**
 * Reloads Apache, unless another process has already made it load the list. If a reload is under way or has just ended, a
 * call that is not urgent leaves its reload to a later one.
 */
export async function reload(
  options: ReloadOptions,
  { isForced, isUrgent }: { isForced: boolean; isUrgent: boolean },
): Promise<ReloadReport> {
  const beganMs = monotonicMs();
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
    return await attemptReload(options, before, { isForced, beganMs });
  } finally {
    lock.release();
  }
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
