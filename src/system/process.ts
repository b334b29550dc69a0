import { readFileSync } from 'node:fs';

/** A process that no later one can be mistaken for: `PID-START`, START as in {@link startOf}. */
export type ProcessId = string;

/** This process. */
export function processId(): ProcessId {
  return identify(process.pid) ?? `${process.pid}-0`;
}

/** The process that has this pid now, undefined if there is none. */
export function identify(pid: number): ProcessId | undefined {
  const start = startOf(pid);
  return start === undefined ? undefined : `${pid}-${start}`;
}

export function isRunning(id: ProcessId): boolean {
  return identify(Number.parseInt(id, 10)) === id;
}

/** Clock ticks since boot at which the process started, whatever the clock on the wall was set to meanwhile. */
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

/** Whether the process catches or ignores the signal: one that does neither is ended by it (proc_pid_status(5)). */
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

/** proc_pid_stat(5): the name stands in parentheses and may hold anything. A zombie counts as gone. */
function readStat(pid: number): { name: string; fields: string[] } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const end = stat.lastIndexOf(')');
    const fields = stat.slice(end + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return { name: stat.slice(stat.indexOf('(') + 1, end), fields };
  } catch {
    return undefined;
  }
}

/** Clock ticks since boot, USER_HZ of them a second: proc_uptime(5). */
export function ticksNow(): number {
  return Math.floor(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 100);
}

/** Stops this process for a time, in milliseconds: for calls that are synchronous, as all those under a lock are. */
export function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
