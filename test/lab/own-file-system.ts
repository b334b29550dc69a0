// A file system of its own (tmpfs), which only the programs see that are run in it: it can be small, read-only, or full,
// and is gone afterwards, whatever was mounted in it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { executable } from './banctl.ts';
import { execute, type Finished } from './wait.ts';

export type OwnFileSystem = AsyncDisposable & {
  /** Where it is for what is run in it. */
  readonly directory: string;
  /** The same place as this process sees it. */
  readonly outside: string;
  /** What runs a program there, before its name. */
  readonly enter: readonly [string, ...string[]];
  /** Runs a program there, whatever its exit code. */
  run(program: string, args: readonly string[], input?: string): Promise<Finished>;
  /** Runs a shell script in the directory; a failure of it is an error. */
  shell(script: string): Promise<void>;
  banctl(args: readonly string[], input?: string): Promise<Finished>;
  /** Leaves room for so many pages, or files and directories, more than there are. */
  leave(what: 'pages' | 'inodes', count: number): Promise<void>;
  /** Leaves room enough. */
  free(): Promise<void>;
};

/** Something is in it always, since a tmpfs of the size 0 has no limit. */
const ROOM = 'size=16m,nr_inodes=1000';
export const PAGE = 4096;

export async function ownFileSystem(): Promise<OwnFileSystem> {
  const mountPoint = mkdtempSync(join(tmpdir(), 'banctl-mount-'));
  const directory = join(mountPoint, 'site');
  // It lives as long as its standard input is open, so that it ends with this process however that does.
  const child = spawn(
    'unshare',
    [
      '--mount',
      'sh',
      '-c',
      'mount -t tmpfs -o "$2" none "$1" && mkdir "$1/site" && echo used >"$1/used" && echo mounted && exec cat',
      'sh',
      mountPoint,
      ROOM,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const [said] = await Promise.race([once(child.stdout, 'data'), ended]);
  if (String(said) !== 'mounted\n') throw new Error(`no file system could be mounted in ${mountPoint}`);

  const enter = ['nsenter', `--target=${child.pid}`, '--mount'] as const;
  const [nsenter, ...options] = enter;
  const run = (program: string, args: readonly string[], input?: string) =>
    execute(nsenter, [...options, program, ...args], input);
  const done = async (program: string, args: readonly string[]) => {
    const { exitCode, stdout, stderr } = await run(program, args);
    if (exitCode !== 0) throw new Error(`${program} ${args.join(' ')}: ${exitCode} ${stdout}${stderr}`);
  };
  const outside = `/proc/${child.pid}/root${directory}`;
  const remount = (options: string) => done('mount', ['-o', `remount,${options}`, mountPoint]);
  return {
    directory,
    outside,
    enter,
    run,
    shell: (script) => done('sh', ['-e', '-c', `cd "$1"\n${script}`, 'sh', directory]),
    banctl: (args, input) => run(executable, args, input),
    async leave(what, count) {
      const { blocks, bfree, bsize, files, ffree } = statfsSync(outside);
      if (what === 'pages') await remount(`size=${(blocks - bfree + count) * bsize}`);
      else await remount(`nr_inodes=${files - ffree + count}`);
    },
    free: () => remount(ROOM),
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
      rmSync(mountPoint, { recursive: true });
    },
  };
}
