import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/**
 * The processes whose command line or environment holds `text`: a private directory's name, so that they are the
 * test's own.
 */
export function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => read(pid, 'cmdline').includes(text) || read(pid, 'environ').includes(text))
    .map(Number);
}

/** Empty for a process that has ended, is a zombie, or belongs to another user. */
function read(pid: string, what: 'cmdline' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${what}`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** The letter of proc_pid_stat(5): T is stopped. */
export function stateOf({ pid }: ChildProcess): string {
  return readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/.*\) /s, '').charAt(0);
}
