import { readFileSync } from 'node:fs';
import { CONFIG_FILE } from '../cli/values.ts';
import { finishBeforeExit } from '../system/before-exit.ts';
import { isHeld } from '../system/lock-directory.ts';
import {
  childrenOf,
  hasSystemd,
  identify,
  isRunning,
  monotonicMs,
  type ProcessId,
  processId,
} from '../system/process.ts';
import type { ReloadOptions } from './types.ts';

/** The waiting process holds this lock, so that there are never two, even if the state cannot be written. */
export function waiterLockPath({ banlist }: Pick<ReloadOptions, 'banlist'>): string {
  return `${banlist}.waiter`;
}

/** True if a process waits to reload. The lock says so too where the state cannot be written. */
export function isWaitedFor(waiter: ProcessId | null, options: Pick<ReloadOptions, 'banlist'>): boolean {
  return (waiter !== null && isRunning(waiter)) || isHeld(waiterLockPath(options));
}

/**
 * Makes sure that one process waits to reload at the end of the interval: the existing one, or a new one. It runs in a
 * session of its own, so it survives its caller, and a kill of the caller's process group.
 *
 * @returns null if it cannot be started; the next call that may change something then reloads
 */
export function ensureWaiter(current: ProcessId | null, options: ReloadOptions): ProcessId | null {
  // A resident that the state names may have failed to wait, as on a full disk: it knows.
  const isResidents = options.onDeferred !== undefined && current === processId();
  if (!isResidents && isWaitedFor(current, options)) return current;
  if (options.onDeferred !== undefined) {
    options.onDeferred();
    return processId();
  }
  // Imported here because loading it takes a millisecond, and most calls start no process.
  const { spawn } = process.getBuiltinModule('node:child_process');
  const { isSea } = process.getBuiltinModule('node:sea');
  const self = isSea() ? [] : [...process.execArgv, process.argv[1] ?? ''];
  const line = [process.execPath, ...self, ...waiterArguments(options)];
  const isInUnit = hasSystemd();
  const [program = '', ...args] = isInUnit ? outOfUnit(line) : line;
  const child = spawn(program, args, { detached: true, stdio: 'ignore' });
  child.on('error', () => {});
  child.unref();
  if (child.pid === undefined) return null;
  if (isInUnit) finishBeforeExit(untilItRuns(child.pid, process.execPath));
  return identify(child.pid) ?? null;
}

/**
 * systemd ends all processes of a unit when the unit ends: a oneshot service, a session, fail2ban. A scope of its own
 * keeps the waiting process. Where systemd refuses one, the process waits in the unit of its caller.
 */
function outOfUnit(line: readonly string[]): string[] {
  const script = 'systemd-run --scope --collect --quiet -- "$@" 2>/dev/null || exec "$@"';
  return ['/bin/sh', '-c', script, 'sh', ...line];
}

/** systemd answers within some 10 ms, on a busy machine later. */
const SCOPE_LIMIT_MS = 3000;
const POLL_MS = 3;

/**
 * Waits until systemd-run has become the program, in its scope: the end of the call may be the end of its unit. The shell
 * stays as its parent, to run the program where systemd refuses. Only the call that starts the process waits, with no
 * lock held.
 *
 * @returns whether the program runs
 */
export async function untilItRuns(shell: number, program: string): Promise<boolean> {
  const deadline = monotonicMs() + SCOPE_LIMIT_MS;
  while (monotonicMs() < deadline) {
    if ([shell, ...childrenOf(shell)].some((pid) => programOf(pid) === program)) return true;
    if (identify(shell) === undefined) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return false;
}

/** The first word of its command line: none once it has ended, and while it becomes another program, proc_pid_cmdline(5). */
function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0', 1)[0] ?? '';
  } catch {
    return '';
  }
}

function waiterArguments(options: ReloadOptions): string[] {
  const args = [
    ['banlist', options.banlist],
    ['reload-interval', options.reloadInterval],
    ['lock-timeout', options.lockTimeout],
    ...(options.apachectl.length === 0 ? [''] : options.apachectl).map((control) => ['apachectl', control]),
    ['reload-command', options.reloadCommand ?? ''],
    ['record', options.record ?? ''],
    // The default need not be there, another one must.
    ['config', options.config === CONFIG_FILE ? '' : options.config],
  ];
  return ['reload', '--when-due', ...args.map(([name, value]) => `--${name}=${value}`)];
}
