// What the executable asks of the kernel, as strace sees it.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { executable } from './banctl.ts';
import { execute } from './wait.ts';

/** A NAME is the last part of a path; `TEMPORARY` stands for what differs in temporary names. */
const NOTES: readonly [RegExp, (...names: string[]) => string][] = [
  [/^write\(1</, () => 'tell'],
  [/^(?:write|pwrite64)\(\d+<(\/[^>]*)>.*\) += [1-9]/, (name) => `write ${name}`],
  [/^(?:fsync|fdatasync)\(\d+<([^>]*)>\) += 0/, (name) => `fsync ${name}`],
  [/^syncfs\(\d+<([^>]*)>\) += 0/, (name) => `syncfs ${name}`],
  [
    /^rename\w*\((?:AT_\w+<[^>]*>, )?"([^"]*)", (?:AT_\w+<[^>]*>, )?"([^"]*)".*\) += 0/,
    (from, to) => `rename ${from} ${to}`,
  ],
  [/^(?:unlink|rmdir)\w*\((?:AT_\w+<[^>]*>, )?"([^"]*)".*\) += 0/, (name) => `remove ${name}`],
  [/^mkdir\w*\((?:AT_\w+<[^>]*>, )?"([^"]*)".*\) += 0/, (name) => `mkdir ${name}`],
];
const CALLS =
  'write,pwrite64,writev,fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat';

const nameOf = (path: string) => basename(path).replace(/^\.(.*)\.banctl-\d+$/, '$1.TEMPORARY');

/** Calls in the order of their ends: strace writes in two lines what another thread interrupts. */
function wholeCalls(trace: string): string[] {
  const begun = new Map<string, string>();
  const main = trace.slice(0, trace.indexOf(' '));
  return trace.split('\n').flatMap((line) => {
    const [, pid = '', text = ''] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const [start, unfinished] = text.split(' <unfinished ...>');
    if (unfinished !== undefined) {
      begun.set(pid, start ?? '');
      return [];
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(text);
    const call = resumed === null ? text : `${begun.get(pid)}${resumed[1]}`;
    // What a program that banctl calls writes there is not banctl's answer.
    return pid !== main && call.startsWith('write(1<') ? [] : [call];
  });
}

/**
 * Runs `banctl ARGS` and returns what it did, and the programs that it called, in order:
 * write NAME, fsync NAME, syncfs NAME, rename NAME NAME, remove NAME, mkdir NAME; `tell` is the answer.
 */
export async function traced(args: readonly string[]): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-traced-'));
  try {
    const output = join(directory, 'trace');
    const options = ['-f', '-y', '-s', '16', '-e', `trace=${CALLS}`, '-o', output];
    const { exitCode, stderr } = await execute('strace', [...options, executable, ...args]);
    assert.deepEqual([exitCode, stderr], [0, '']);
    return wholeCalls(readFileSync(output, 'utf8')).flatMap((call) => {
      for (const [pattern, note] of NOTES) {
        const found = pattern.exec(call);
        if (found !== null) return [note(...found.slice(1).map(nameOf))];
      }
      return [];
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}
