import { existsSync, readFileSync } from 'node:fs';
import { systemCode } from './errors.ts';

/** Identifies a process even after its pid is reused: `PID-START`, START as in {@link startOf}. */
export type ProcessId = string;

/** This process. */
export function processId(): ProcessId {
  return `${process.pid}-${ownStart()}`;
}

let start: number | undefined;

/** 0 if the system does not show it. */
function ownStart(): number {
  start ??= startOf(process.pid);
  return start ?? 0;
}

/** The process that has this pid now; undefined if no process has it. */
export function identify(pid: number): ProcessId | undefined {
  const start = startOf(pid);
  return start === undefined ? undefined : `${pid}-${start}`;
}

export function isRunning(id: ProcessId): boolean {
  return identify(Number.parseInt(id, 10)) === id;
}

/** systemd runs where this directory is: sd_booted(3). */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/** True also for a process that the system hides: hidepid= of proc(5). */
export function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}

/** When the process started, in clock ticks since boot; setting the clock does not change it. */
export function startOf(pid: number): number | undefined {
  const start = readStat(pid)?.fields[19];
  return start === undefined ? undefined : Number(start);
}

/** The processes whose parent is `pid`. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

/** The first 15 characters of the program's name, undefined if there is no such process. */
export function nameOf(pid: number): string | undefined {
  return readStat(pid)?.name;
}

/** Whether the process catches or ignores the signal; otherwise the signal ends it (proc_pid_status(5)). */
export function outlives(pid: number, signal: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    return [...status.matchAll(/^Sig(?:Ign|Cgt):\t(\w+)$/gm)].some(
      ([, mask = '0']) => (BigInt(`0x${mask}`) >> BigInt(signal - 1)) % 2n === 1n,
    );
  } catch {
    return false;
  }
}

/** proc_pid_stat(5): the name is in parentheses and may contain anything. A zombie counts as gone. */
function readStat(pid: number): { name: string; fields: string[] } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const end = stat.lastIndexOf(')');
    const fields = stat.slice(end + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return { name: stat.slice(stat.indexOf('(') + 1, end), fields };
  } catch {
    return undefined;
  }
}

const TICKS_A_SECOND = 100;
/** Node notices its own start some milliseconds late. */
const LATE_START_TICKS = 5;

/**
 * Clock ticks since boot, on the scale of {@link startOf}, never too low. A unit with `ProcSubset=pid` cannot read
 * /proc/uptime, and a container may have its own; this process's start and age give the same number.
 */
export function ticksNow(): number {
  const uptime = Number.parseFloat(readOrEmpty('/proc/uptime')) * TICKS_A_SECOND;
  if (Number.isFinite(uptime) && Math.abs(uptime - ticksByAge()) < TICKS_A_SECOND) return Math.floor(uptime);
  return Math.ceil(Math.max(uptime || 0, ticksByAge()));
}

function ticksByAge(): number {
  return ownStart() + process.uptime() * TICKS_A_SECOND + LATE_START_TICKS;
}

let boot: string | undefined;

/** Differs after each start of the system; undefined if the system hides it. */
export function bootId(): string | undefined {
  boot ??= readOrEmpty('/proc/sys/kernel/random/boot_id').trim();
  return boot || undefined;
}

function readOrEmpty(path: string): string {
  try {
    // Node opens, reads and closes it in one step in this encoding alone.
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Blocks this process, for synchronous code: everything under a lock is synchronous. */
export function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** Milliseconds of a clock that is never set; the global `performance` takes a millisecond to load. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
