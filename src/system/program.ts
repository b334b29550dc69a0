import type { Options } from 'execa';

/** How another program ended. */
export interface ProgramResult {
  /** Undefined if it could not be started, or was killed. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  /** What it has said, or why there is no exit code. */
  readonly stderr: string;
  /** False if there is no such program, or none that may be run. */
  readonly isFound: boolean;
  readonly isTimedOut: boolean;
}

/** Bytes of both outputs. */
const MOST_OUTPUT = 16_000_000;
/** How long is read on after its end, if something that it has started keeps its outputs open. Milliseconds. */
const LAST_WORDS = 250;
/** How long the end of a killed program is waited for: one that waits for a disk may have none. Milliseconds. */
const LAST_BREATH = 1000;
/** What ends banctl meanwhile ends the program too: fail2ban's limit, a person, a terminal that is closed. */
const ENDINGS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/**
 * Runs a command line, without a shell: words are split at spaces, a backslash escapes one. What it started is
 * killed with it after `timeout` seconds; what it leaves behind when it ends by itself is not waited for.
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
    // A process group of its own, so that what a script started is killed with the script.
    detached: true,
    // Of a failure execa would make a message with each line of the output, and there can be millions.
    buffer: false,
    cwd: workingDirectory(),
    env: { PATH: withSystemPrograms(process.env.PATH) },
  } satisfies Options;
  let group: number | undefined;
  const endWith = (signal: NodeJS.Signals) => {
    killGroup(group);
    for (const ending of ENDINGS) process.removeListener(ending, endWith);
    process.kill(process.pid, signal);
  };
  // Before it is started: the signal may come right then.
  for (const ending of ENDINGS) process.on(ending, endWith);
  const child = execa(program, [...words, ...args], options);
  group = child.pid;
  let length = 0;
  const collect = (stream: NodeJS.ReadableStream) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= MOST_OUTPUT) chunks.push(chunk);
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
      later = setTimeout(() => resolve(undefined), LAST_BREATH);
    }, timeout * 1000);
  });
  child.nodeChildProcess.once('exit', () => {
    clearTimeout(later);
    // What it said last is read before, however late this comes.
    later = setTimeout(() => setImmediate(closeOutputs), LAST_WORDS);
  });
  const result = await Promise.race([child, isLeft]);
  clearTimeout(later);
  for (const ending of ENDINGS) process.removeListener(ending, endWith);
  if (result === undefined) {
    closeOutputs();
    child.nodeChildProcess.unref();
  }
  const isFlood = length > MOST_OUTPUT;
  return {
    exitCode: isFlood ? undefined : result?.exitCode,
    stdout: stdout(),
    stderr: isFlood ? 'it says more than 16 MB' : (whyNot(program, result) ?? stderr()),
    isFound: !['ENOENT', 'ENOTDIR', 'EACCES'].includes(result?.code ?? ''),
    isTimedOut,
  };
}

interface Ending {
  readonly code?: string | undefined;
  readonly signal?: string | undefined;
}

/** Why it has no exit code; undefined if it has one. */
function whyNot(program: string, ending: Ending | undefined): string | undefined {
  if (ending?.signal !== undefined) return `it was killed by ${ending.signal}`;
  if (ending?.code === undefined) return undefined;
  const why = { ENOENT: 'not found', EACCES: 'it may not be executed', E2BIG: 'its line is too long' };
  return `${program}: ${why[ending.code as keyof typeof why] ?? ending.code}`;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}

/** Where somebody has removed it, a program can be run all the same. */
function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}

/**
 * cron's PATH lacks the directories where Apache's and fail2ban's programs are. An empty or relative entry would have
 * root run what somebody has put into the directory in which banctl was called.
 */
function withSystemPrograms(path = '/usr/bin:/bin'): string {
  const directories = [...path.split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return [...new Set(directories.filter((directory) => directory.startsWith('/')))].join(':');
}
