import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { childrenOf, identify, nameOf, type ProcessId } from '../system/process.ts';
import { type FileVersion, readText, versionOf } from '../system/read.ts';
import type { ReadableConfiguration } from './configuration.ts';
import { isOwnProgram } from './control.ts';

/** A PidFile as it was seen. */
export interface PidFileSeen {
  readonly version: FileVersion;
  /** Inode and time of birth. Apache makes a new file at each reading; nobody can set either from outside. */
  readonly made: string;
}

/** An Apache that runs. */
export interface RunningApache {
  readonly pid: number;
  readonly process: ProcessId;
  readonly pidFile: string;
  /** Apache rewrites its PidFile each time it has read its configuration (ap_log_pid, server/log.c). */
  readonly seen: PidFileSeen;
}

/** Whether the Apache of a configuration runs, as far as it can be seen from here. */
export type Sighting =
  | { readonly is: 'running'; readonly apache: RunningApache }
  | { readonly is: 'stopped' }
  | { readonly is: 'unseen' };

/** The state of a listening socket in /proc/net/tcp. */
const LISTEN = '0A';
/** `select` and `pselect6`: Apache's parent sleeps in one of them between two looks at its children. */
const SELECT_CALLS: Readonly<Record<string, readonly string[]>> = { x64: ['23', '270'], arm64: ['72'] };

export function seePidFile(path: string): PidFileSeen | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    return { version: versionOf(stat), made: `${stat.ino}:${stat.birthtimeNs}` };
  } catch {
    return undefined;
  }
}

/** The Apache that wrote this PidFile; undefined if it does not run. */
export function runningApache(pidFile: string): RunningApache | undefined {
  const seen = seePidFile(pidFile);
  const pid = seen === undefined ? Number.NaN : pidIn(pidFile);
  const id = isApache(pid) ? identify(pid) : undefined;
  return seen === undefined || id === undefined ? undefined : { pid, process: id, pidFile, seen };
}

/** Looks for the Apache of a configuration that passed its test. */
export function findApache({ pidFile, control, isElsewhere }: ReadableConfiguration): Sighting {
  if (isElsewhere) return { is: 'unseen' };
  const apache = runningApache(pidFile);
  if (apache !== undefined) return { is: 'running', apache };
  // Its pid is one of another namespace, unless the file is stale: then Apache's own program would signal a stranger.
  const isOther = existsSync(`/proc/${pidIn(pidFile)}`) && !isOwnProgram(control);
  return { is: isOther ? 'unseen' : 'stopped' };
}

function pidIn(pidFile: string): number {
  return Number.parseInt(readTextOrEmpty(pidFile), 10);
}

/** After a crash a pid may belong to any other program. */
export function isApache(pid: number): boolean {
  return /^(?:apache|httpd)/.test(nameOf(pid) ?? '');
}

/**
 * True while Apache's parent sleeps between two looks at its children, so that it does not read its configuration at this
 * moment (ap_wait_or_timeout, server/mpm_unix.c). False also where the system does not show it: proc_pid_syscall(5).
 */
export function isAtRest(pid: number): boolean {
  const [call = ''] = readOrEmpty(`/proc/${pid}/syscall`).split(' ', 1);
  return SELECT_CALLS[process.arch]?.includes(call) === true;
}

/** True if the system shows whether {@link isAtRest}. */
export function showsRest(pid: number): boolean {
  return readOrEmpty(`/proc/${pid}/syscall`) !== '';
}

/** The children that serve. */
export function servingChildren({ pid }: RunningApache): ProcessId[] {
  return childrenOf(pid).flatMap((child) => (isApache(child) ? (identify(child) ?? []) : []));
}

/** When the youngest of the children was started, in ticks; null if there is none. */
export function youngestOf(children: readonly ProcessId[]): number | null {
  const starts = children.map((child) => Number(child.split('-')[1]));
  return starts.length === 0 ? null : Math.max(...starts);
}

/** True if a child serves on that is as old as `generation` (see {@link youngestOf}). */
export function hasOlderChild(apache: RunningApache, generation: number): boolean {
  return servingChildren(apache).some((child) => (youngestOf([child]) ?? 0) <= generation);
}

/**
 * True while one of these children may still accept a visitor. Apache tells them to stop listening before it reads its
 * configuration, and on a busy machine they may do so later. False where the system does not show it.
 */
export function someListen({ pid }: RunningApache, children: readonly ProcessId[]): boolean {
  const alive = children.map((child) => Number.parseInt(child, 10)).filter(isApache);
  // A child has its listening sockets from its parent, and the kernel's table of all sockets may be long.
  const own = new Set(linksIn(`/proc/${pid}/fd`).filter((link) => link.startsWith('socket:')));
  const shared = alive.flatMap((child) => linksIn(`/proc/${child}/fd`).filter((link) => own.has(link)));
  if (shared.length === 0) return false;
  const listening = new Set(['tcp', 'tcp6'].flatMap((family) => listeningSockets(pid, family)));
  return shared.some((link) => listening.has(link));
}

/** The names of the listening sockets in the network of a process, as its descriptors have them (proc_pid_net(5)). */
function listeningSockets(pid: number, family: string): string[] {
  const lines = readOrEmpty(`/proc/${pid}/net/${family}`).split('\n').slice(1);
  const columns = lines.map((line) => line.trim().split(/\s+/));
  return columns.filter(([, , , state]) => state === LISTEN).map((column) => `socket:[${column[9]}]`);
}

/** What the links in a directory lead to, none if it cannot be read. */
function linksIn(directory: string): string[] {
  try {
    return readdirSync(directory).map((name) => {
      try {
        return readlinkSync(`${directory}/${name}`);
      } catch {
        return '';
      }
    });
  } catch {
    return [];
  }
}

/** Whatever stands there: a named pipe would be waited for. */
export function readTextOrEmpty(path: string): string {
  try {
    return readText(path).text.toString('latin1');
  } catch {
    return '';
  }
}

/** Of the kernel, whose files have no size. */
export function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
