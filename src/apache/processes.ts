import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { childrenOf, hasSystemd, identify, isAlive, nameOf, type ProcessId } from '../system/process.ts';
import { type FileVersion, readText, versionOf } from '../system/read.ts';
import type { ReadableConfiguration } from './configuration.ts';
import { isOwnProgram } from './control.ts';

/** A PidFile at one moment. */
export interface PidFileSeen {
  readonly version: FileVersion;
  /** Inode and time of birth. Apache makes a new file at each reading, and no program can set either value. */
  readonly made: string;
}

/** A running Apache. */
export interface RunningApache {
  readonly pid: number;
  readonly process: ProcessId;
  readonly pidFile: string;
  /** Apache rewrites its PidFile each time it has read its configuration (ap_log_pid, server/log.c). */
  readonly seen: PidFileSeen;
}

/** Whether the configuration's Apache runs, as far as this host can see. */
export type Sighting =
  | { readonly is: 'running'; readonly apache: RunningApache }
  | { readonly is: 'stopped' }
  /** The PidFile names a process that this unit must not see, because of this setting of systemd.exec(5). */
  | { readonly is: 'hidden'; readonly setting: string }
  | { readonly is: 'unseen' };

const SYSTEMD_NAMES: readonly string[] = ['systemd', 'init'];
/** The state of a listening socket in /proc/net/tcp. */
const LISTEN = '0A';
/** `select` and `pselect6`: Apache's parent sleeps in one of them between two checks of its children. */
const SELECT_CALLS: Readonly<Record<string, readonly string[]>> = { x64: ['23', '270'], arm64: ['72'] };

export function seePidFile(path: string): PidFileSeen | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    return { version: versionOf(stat), made: `${stat.ino}:${stat.birthtimeNs}` };
  } catch {
    return undefined;
  }
}

/** The Apache that wrote this PidFile; undefined if it is not running. */
export function runningApache(pidFile: string): RunningApache | undefined {
  const seen = seePidFile(pidFile);
  const pid = seen === undefined ? undefined : pidIn(pidFile);
  if (seen === undefined || pid === undefined) return undefined;
  const id = isApache(pid) ? identify(pid) : undefined;
  return id === undefined ? undefined : { pid, process: id, pidFile, seen };
}

/**
 * True if this Apache was stopped, or started anew. It removes its PidFile when a signal stops it (event_run,
 * server/mpm/event/event.c), and not when it ends because of its configuration, or crashes.
 */
export function wasStopped({ pid, pidFile }: RunningApache): boolean {
  return pidIn(pidFile) !== pid;
}

/** Finds the Apache of a configuration that passed its test. */
export function findApache({ pidFile, control, isElsewhere }: ReadableConfiguration): Sighting {
  if (isElsewhere) return { is: 'unseen' };
  const apache = runningApache(pidFile);
  if (apache !== undefined) return { is: 'running', apache };
  // The pid belongs to another namespace, or the file is stale: then Apache's own program would signal a foreign process.
  const pid = pidIn(pidFile);
  const setting = pid === undefined ? undefined : hiding(pid);
  if (setting !== undefined) return { is: 'hidden', setting };
  const isOther = pid !== undefined && existsSync(`/proc/${pid}`) && !isOwnProgram(control);
  return { is: isOther ? 'unseen' : 'stopped' };
}

/** The setting that hides this process; undefined if none does, or if the process has ended. */
function hiding(pid: number): string | undefined {
  if (existsSync(`/proc/${pid}`)) return undefined;
  if (isAlive(pid)) return 'ProtectProc=';
  // Where systemd runs, it is process 1, except in a unit with processes of its own.
  const first = hasSystemd() ? nameOf(1) : undefined;
  return first === undefined || SYSTEMD_NAMES.includes(first) ? undefined : 'PrivatePIDs=';
}

function pidIn(pidFile: string): number | undefined {
  const pid = Number.parseInt(readTextOrEmpty(pidFile), 10);
  return Number.isNaN(pid) ? undefined : pid;
}

/** After a crash, a pid may belong to any other program. */
export function isApache(pid: number): boolean {
  return /^(?:apache|httpd)/.test(nameOf(pid) ?? '');
}

/**
 * True while Apache's parent sleeps between two checks of its children, so that it is not reading its configuration
 * (ap_wait_or_timeout, server/mpm_unix.c). False also if the system does not show it: proc_pid_syscall(5).
 */
export function isAtRest(pid: number): boolean {
  const [call = ''] = readOrEmpty(`/proc/${pid}/syscall`).split(' ', 1);
  return SELECT_CALLS[process.arch]?.includes(call) === true;
}

/** True if the system shows whether Apache {@link isAtRest}. */
export function showsRest(pid: number): boolean {
  return readOrEmpty(`/proc/${pid}/syscall`) !== '';
}

/** The serving children. */
export function servingChildren({ pid }: RunningApache): ProcessId[] {
  return childrenOf(pid).flatMap((child) => (isApache(child) ? (identify(child) ?? []) : []));
}

/** When the youngest child started, in ticks; null if there is none. */
export function youngestOf(children: readonly ProcessId[]): number | null {
  const starts = children.map((child) => Number(child.split('-')[1]));
  return starts.length === 0 ? null : Math.max(...starts);
}

/** True if a child as old as `generation` (see {@link youngestOf}) still serves. */
export function hasOlderChild(apache: RunningApache, generation: number): boolean {
  return servingChildren(apache).some((child) => (youngestOf([child]) ?? 0) <= generation);
}

/**
 * True while one of these children may still accept a visitor. Apache makes them stop listening before it reads its
 * configuration, but a busy machine may delay that. False if the system does not show it.
 */
export function someListen({ pid }: RunningApache, children: readonly ProcessId[]): boolean {
  const alive = children.map((child) => Number.parseInt(child, 10)).filter(isApache);
  // A child inherits its listening sockets, and the kernel's table of all sockets may be long.
  const own = new Set(linksIn(`/proc/${pid}/fd`).filter((link) => link.startsWith('socket:')));
  const shared = alive.flatMap((child) => linksIn(`/proc/${child}/fd`).filter((link) => own.has(link)));
  if (shared.length === 0) return false;
  const listening = new Set(['tcp', 'tcp6'].flatMap((family) => listeningSockets(pid, family)));
  return shared.some((link) => listening.has(link));
}

/** The names of the listening sockets in a process's network, as in its descriptors (proc_pid_net(5)). */
function listeningSockets(pid: number, family: string): string[] {
  const lines = readOrEmpty(`/proc/${pid}/net/${family}`).split('\n').slice(1);
  const columns = lines.map((line) => line.trim().split(/\s+/));
  return columns.filter(([, , , state]) => state === LISTEN).map((column) => `socket:[${column[9]}]`);
}

/** The targets of the links in a directory; none if it cannot be read. */
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

/** Reads any kind of file: opening a named pipe would wait for a writer. */
export function readTextOrEmpty(path: string): string {
  try {
    return readText(path).text.toString('latin1');
  } catch {
    return '';
  }
}

/** For kernel files, which have no size. */
export function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
