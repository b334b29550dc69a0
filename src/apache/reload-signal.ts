import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemCode } from '../system/errors.ts';
import { hasSystemd, isRunning, monotonicMs, outlives } from '../system/process.ts';
import { run } from '../system/program.ts';

import { callControl, describe } from './control.ts';
import {
  isApache,
  isAtRest,
  type RunningApache,
  readOrEmpty,
  runningApache,
  servingChildren,
  showsRest,
  someListen,
} from './processes.ts';

/** The given way to reload Apache, if any. */
export interface ReloadWays {
  readonly apachectl: string | undefined;
  readonly reloadCommand: string | undefined;
}

/** How long a reload may take, including Apache's reading. */
const RELOAD_LIMIT_SECONDS = 25;
const START_LIMIT_SECONDS = 10;
/** How long banctl waits for a reading that another process started. */
const OTHER_READING_LIMIT_MS = 3000;
/** How long banctl waits for old children that still listen: a hanging child may never stop, but answers no request. */
const CLOSING_LIMIT_MS = 2000;
const POLL_MS = 5;

/**
 * Asks a running Apache to reload gracefully, and waits until it has read its configuration. Undefined, or the error.
 */
export async function reloadGracefully(
  apache: RunningApache,
  ways: ReloadWays,
  limitSeconds: number = RELOAD_LIMIT_SECONDS,
): Promise<string | undefined> {
  const seconds = Math.min(limitSeconds, RELOAD_LIMIT_SECONDS);
  const deadline = monotonicMs() + seconds * 1000;
  const left = () => (deadline - monotonicMs()) / 1000;
  const failure = (await whenStarted(apache, left())) ?? (await whenRested(apache));
  if (failure !== undefined) return failure;
  const before = runningApache(apache.pidFile)?.seen ?? apache.seen;
  const children = servingChildren(apache);
  const refusal = await requestReload(apache, ways, left());
  if (refusal !== undefined) return refusal;
  let readAt: number | undefined;
  while (monotonicMs() < deadline) {
    const now = runningApache(apache.pidFile);
    if (now === undefined && !isRunning(apache.process))
      return 'apache ended while it was reloading; see its error log';
    if (now !== undefined && now.seen.version !== before.version) {
      readAt ??= monotonicMs();
      if (monotonicMs() - readAt > CLOSING_LIMIT_MS || !someListen(now, children)) return undefined;
    }
    await sleep(POLL_MS);
  }
  return `apache has not read its configuration again within ${Math.round(seconds)} s; see its error log`;
}

/**
 * Waits until Apache is ready for the signal of a graceful reload (AP_SIG_GRACEFUL). Apache writes its PidFile some
 * milliseconds earlier (event_run, server/mpm/event/event.c), when the signal would end it. Undefined, or the error.
 */
async function whenStarted({ pid }: RunningApache, limitSeconds: number): Promise<string | undefined> {
  const seconds = Math.min(limitSeconds, START_LIMIT_SECONDS);
  const deadline = monotonicMs() + seconds * 1000;
  while (!outlives(pid, constants.signals.SIGUSR1)) {
    if (!isApache(pid)) return 'apache ended while it was starting; see its error log';
    if (monotonicMs() >= deadline)
      return `apache has not started within ${Math.round(seconds)} s; see its error log`;
    await sleep(POLL_MS);
  }
  return undefined;
}

/**
 * Waits for the end of a reading that another process started. It may have begun before the list changed, and its new
 * PidFile would look like that of the following reload.
 */
async function whenRested({ pid }: RunningApache): Promise<undefined> {
  const deadline = monotonicMs() + OTHER_READING_LIMIT_MS;
  while (!isAtRest(pid) && showsRest(pid) && monotonicMs() < deadline) await sleep(POLL_MS);
}

async function requestReload(
  apache: RunningApache,
  { apachectl, reloadCommand }: ReloadWays,
  limitSeconds: number,
): Promise<string | undefined> {
  if (reloadCommand !== undefined) return runReloadCommand(reloadCommand, limitSeconds);
  const sent = sendGraceful(apache);
  if (sent !== 'not permitted') return sent;
  // Mode replace, the default, would cancel a stop that waits in systemd's queue.
  const unit = hasSystemd() ? unitOf(apache) : undefined;
  return unit === undefined
    ? requestGraceful(apachectl, limitSeconds)
    : runReloadCommand(`systemctl reload --job-mode=fail ${unit}`, limitSeconds);
}

/** The signal cannot start a stopped Apache, needs no further reading, and cancels no job of systemd. */
function sendGraceful({ pid, process: id }: RunningApache): 'not permitted' | string | undefined {
  if (!isRunning(id) || !isApache(pid)) return 'apache ended before it could reload';
  try {
    process.kill(pid, 'SIGUSR1');
    return undefined;
  } catch (error) {
    return systemCode(error) === 'EPERM' ? 'not permitted' : 'apache ended before it could reload';
  }
}

/** Lets the control program reload an Apache that cannot be seen or signalled from here. Undefined, or the error. */
export async function requestGraceful(
  apachectl: string | undefined,
  limitSeconds: number = RELOAD_LIMIT_SECONDS,
): Promise<string | undefined> {
  const seconds = Math.min(limitSeconds, RELOAD_LIMIT_SECONDS);
  const { control, outcome } = await callControl(apachectl, ['-k', 'graceful'], seconds);
  return outcome.exitCode === 0 ? undefined : describe(`${control} -k graceful`, outcome, seconds);
}

/** Undefined, or why the command failed. */
export async function runReloadCommand(
  command: string,
  limitSeconds: number = RELOAD_LIMIT_SECONDS,
): Promise<string | undefined> {
  const seconds = Math.min(limitSeconds, RELOAD_LIMIT_SECONDS);
  const outcome = await run(command, [], seconds);
  return outcome.exitCode === 0 ? undefined : describe(command, outcome, seconds);
}

function unitOf({ pid }: RunningApache): string | undefined {
  return systemdUnit(readOrEmpty(`/proc/${pid}/cgroup`));
}

/** The system unit of an Apache process, from its /proc/PID/cgroup (cgroups(7)). */
export function systemdUnit(cgroup: string): string | undefined {
  const [, unit] =
    /^\d+:(?:name=systemd)?:(?!\/user\.slice\/).*\/([^/]*(?:apache|httpd)[^/]*\.service)$/m.exec(cgroup) ??
    [];
  return unit;
}
