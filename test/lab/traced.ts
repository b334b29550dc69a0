// banctl, which tells on its fourth descriptor what it does that others can see, in order, a line each:
//
//   write NAME, fsync NAME, rename NAME NAME, remove NAME, mkdir NAME, run PROGRAM, tell
//
// A NAME is the last part of a path; temporary names have `TEMPORARY` for what differs. `tell` is the answer on standard
// output.
import childProcess from 'node:child_process';
import fs from 'node:fs';
import { basename } from 'node:path';
import { watchFileCalls } from './file-calls.ts';

const STANDARD_OUTPUT = 1;
const TOLD = 3;

const paths = new Map<number, string>([[STANDARD_OUTPUT, 'standard output']]);
const { writeSync } = fs;
const note = (line: string) => writeSync(TOLD, `${line}\n`);
const nameOf = (subject: unknown) =>
  basename(typeof subject === 'number' ? (paths.get(subject) ?? '?') : String(subject)).replace(
    /\.(?:banctl-)?\d{4,}$/,
    '.TEMPORARY',
  );

/** What is noted once it is done; a call of which nothing is written does nothing. */
const NOTES: Record<string, (args: readonly unknown[], result: unknown) => string | undefined> = {
  writeSync: ([descriptor], written) =>
    written === 0 ? undefined : descriptor === STANDARD_OUTPUT ? 'tell' : `write ${nameOf(descriptor)}`,
  fsyncSync: ([descriptor]) => `fsync ${nameOf(descriptor)}`,
  renameSync: ([from, to]) => `rename ${nameOf(from)} ${nameOf(to)}`,
  unlinkSync: ([path]) => `remove ${nameOf(path)}`,
  rmdirSync: ([path]) => `remove ${nameOf(path)}`,
  mkdirSync: ([path]) => `mkdir ${nameOf(path)}`,
};

watchFileCalls((name, args, call) => {
  const result = call();
  if (name === 'openSync') paths.set(Number(result), String(args[0]));
  const line = NOTES[name]?.(args, result);
  if (line !== undefined) note(line);
  return result;
});

// A program's end is what counts.
const { spawn } = childProcess;
childProcess.spawn = ((...args: Parameters<typeof spawn>) => {
  const child = spawn(...args);
  child.once('exit', () => note(`run ${args[0]}`));
  return child;
}) as typeof spawn;
(await import('node:module')).syncBuiltinESMExports();

await import('../../src/main.ts');
