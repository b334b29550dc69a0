import type { Options } from 'execa';

/** How another program ended. */
export interface Outcome {
  /** Undefined if it could not be started, or was killed. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** False if there is no such program. */
  readonly isFound: boolean;
  readonly isTimedOut: boolean;
}

const MOST_OUTPUT = 16_000_000;

/**
 * Runs a command line, without a shell: words are split at spaces, a backslash escapes one. What it started is
 * killed with it after `timeout` seconds.
 */
export async function run(commandLine: string, args: readonly string[], timeout: number): Promise<Outcome> {
  const { execa, parseCommandString } = await import('execa');
  const [program = '', ...words] = parseCommandString(commandLine);
  const options = {
    reject: false,
    stdin: 'ignore',
    // A process group of its own, so that what a script started is killed with the script.
    detached: true,
    cleanup: true,
    maxBuffer: MOST_OUTPUT,
    env: { PATH: withSystemPrograms(process.env.PATH) },
  } satisfies Options;
  const child = execa(program, [...words, ...args], options);
  let isTimedOut = false;
  const timer = setTimeout(() => {
    isTimedOut = true;
    killGroup(child.pid);
  }, timeout * 1000);
  const result = await child;
  clearTimeout(timer);
  if (result.isMaxBuffer) killGroup(child.pid);
  const isFound = !(result.code === 'ENOENT' || result.code === 'EACCES');
  return {
    exitCode: result.exitCode,
    stdout: String(result.stdout ?? ''),
    stderr: isFound ? String(result.stderr ?? '') : `${program}: not found`,
    isFound,
    isTimedOut,
  };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}

/** cron's PATH lacks the directories where Apache's and fail2ban's programs are. */
function withSystemPrograms(path = '/usr/bin:/bin'): string {
  return [...new Set([...path.split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'])].join(':');
}
