import type { Options } from 'execa';

/** How another program ended. */
export interface ProgramResult {
  /** Undefined if the program could not be started, or was killed. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  /** What the program printed, or why it has no exit code. */
  readonly stderr: string;
  /** False if the program does not exist, or is not executable. */
  readonly isFound: boolean;
  readonly isTimedOut: boolean;
}

/** Limit for both outputs together. */
const MOST_OUTPUT_BYTES = 16_000_000;
/** How long to read after the program's end, if one of its own children keeps the outputs open. */
const LAST_OUTPUT_MS = 250;
/** How long to wait for the end of a killed program: one that waits for a disk may not end. */
const KILL_GRACE_MS = 1000;
/** Signals that end banctl also end the program: from fail2ban's time limit, a person, or a closed terminal. */
let endings: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];

/** From now on, signals do not end programs: the caller handles them, and finishes what it has begun. */
export function surviveEndings(): void {
  endings = [];
}

/**
 * Runs a command line without a shell: spaces separate words, and a backslash escapes a space. After `timeout` seconds,
 * kills the program and everything it started. Does not wait for processes that a finished program leaves behind.
 */
export async function run(
  commandLine: string,
  args: readonly string[],
  timeout: number,
): Promise<ProgramResult> {
  const { execa, parseCommandString } = await import('execa');
  const [program = '', ...words] = parseCommandString(commandLine);
  const options = {
    reject: false,
    stdin: 'ignore',
    // Its own process group, so that banctl can kill everything that a script started.
    detached: true,
    // execa would copy every line of output into the error message, and there can be millions.
    buffer: false,
    cwd: workingDirectory(),
    env: { PATH: withSystemPrograms(process.env.PATH) },
  } satisfies Options;
  let group: number | undefined;
  const endWith = (signal: NodeJS.Signals) => {
    killGroup(group);
    for (const ending of endings) process.removeListener(ending, endWith);
    process.kill(process.pid, signal);
  };
  // Installed before the start: the signal may arrive at that moment.
  for (const ending of endings) process.on(ending, endWith);
  const child = execa(program, [...words, ...args], options);
  group = child.pid;
  let length = 0;
  const collect = (stream: NodeJS.ReadableStream) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= MOST_OUTPUT_BYTES) chunks.push(chunk);
      else killGroup(group);
    });
    return () => Buffer.concat(chunks).toString().replace(/\n$/, '');
  };
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const closeOutputs = () => {
    child.stdout.destroy();
    child.stderr.destroy();
  };
  let isTimedOut = false;
  let later: NodeJS.Timeout | undefined;
  const isLeft = new Promise<undefined>((resolve) => {
    later = setTimeout(() => {
      isTimedOut = true;
      killGroup(group);
      later = setTimeout(() => resolve(undefined), KILL_GRACE_MS);
    }, timeout * 1000);
  });
  child.nodeChildProcess.once('exit', () => {
    clearTimeout(later);
    // Node delivers the last output first, even if this timer is late.
    later = setTimeout(() => setImmediate(closeOutputs), LAST_OUTPUT_MS);
  });
  const result = await Promise.race([child, isLeft]);
  clearTimeout(later);
  for (const ending of endings) process.removeListener(ending, endWith);
  if (result === undefined) {
    closeOutputs();
    child.nodeChildProcess.unref();
  }
  const isFlood = length > MOST_OUTPUT_BYTES;
  return {
    exitCode: isFlood ? undefined : result?.exitCode,
    stdout: stdout(),
    stderr: isFlood ? 'it printed more than 16 MB' : (whyNot(program, result) ?? stderr()),
    isFound: !['ENOENT', 'ENOTDIR', 'EACCES'].includes(result?.code ?? ''),
    isTimedOut,
  };
}

interface Ending {
  readonly code?: string | undefined;
  readonly signal?: string | undefined;
}

/** Why the program has no exit code; undefined if it has one. */
function whyNot(program: string, ending: Ending | undefined): string | undefined {
  if (ending?.signal !== undefined) return `it was killed by ${ending.signal}`;
  if (ending?.code === undefined) return undefined;
  const why = { ENOENT: 'not found', EACCES: 'it is not executable', E2BIG: 'its command line is too long' };
  return `${program}: ${why[ending.code as keyof typeof why] ?? ending.code}`;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The group has ended already.
  }
}

/** If the working directory was removed, programs run in the root directory. */
function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}

/**
 * cron's PATH lacks the directories of Apache's and fail2ban's programs. Drops empty and relative entries: with them, root
 * would run a file that another user put into the working directory.
 */
function withSystemPrograms(path = '/usr/bin:/bin'): string {
  const directories = [...path.split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return [...new Set(directories.filter((directory) => directory.startsWith('/')))].join(':');
}
