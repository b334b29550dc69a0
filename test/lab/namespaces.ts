// A part of this machine with a root, processes and perhaps a network of its own, made by a shell script in new namespaces.
// At the end all of it is gone.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.ts';

export type Namespaces = AsyncDisposable & {
  /** An empty directory at the beginning, the first argument of the script. */
  readonly directory: string;
  /** Process 1 in it, by its pid on this machine. */
  readonly first: string;
};

/** What to start. */
export interface Plan {
  /** For messages and for the directory's name. */
  readonly what: string;
  /** Options of unshare, such as `--net`; mounts and processes are always its own. */
  readonly own?: readonly string[];
  readonly script: string;
  /** The script's arguments after the directory. */
  readonly args?: readonly string[];
  /** True once it has started. */
  readonly isReady: (seen: { readonly first: string; readonly output: string }) => boolean;
}

export async function startNamespaces({
  what,
  own = [],
  script,
  args = [],
  isReady,
}: Plan): Promise<Namespaces> {
  const directory = mkdtempSync(join(tmpdir(), `banctl-${what}-`));
  const child = spawn(
    'unshare',
    ['--mount', ...own, '--pid', '--fork', '--kill-child', 'sh', '-c', script, 'sh', directory, ...args],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const end = async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const first = await until(
      `the ${what}`,
      () => {
        if (child.exitCode !== null) throw new Error(`no ${what} can be made:\n${output}`);
        // The only child of unshare is process 1 of the new namespace.
        const pid = readOrEmpty(`/proc/${child.pid}/task/${child.pid}/children`);
        return pid !== '' && isReady({ first: pid, output }) && pid;
      },
      { detail: () => output },
    );
    return { directory, first, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Empty for a process that has ended. */
export function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
