import { spawn } from 'node:child_process';

/**
 * Asks again and again until `ask` gives something other than undefined or false, and returns that.
 * After `limit` ms it fails, saying what was waited for and what `detail` adds (the end of a log, mostly).
 */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  { limit = 60_000, detail = () => '' }: { limit?: number; detail?: () => string } = {},
): Promise<Exclude<T, undefined | false>> {
  const end = performance.now() + limit;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
    if (performance.now() > end) throw new Error(`waited ${limit} ms for ${what}\n${detail()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * For `rmSync`, of a directory in which an action may still write: fail2ban reports a ban before the ban's action has ended,
 * and the action outlives a killed fail2ban.
 */
export const AT_REST = { recursive: true, force: true, maxRetries: 50, retryDelay: 20 };

/** The last lines of a text. */
export function tail(text: string, lines = 20): string {
  return text.split('\n').slice(-lines).join('\n');
}

export type Finished = { exitCode: number; stdout: string; stderr: string };

/** Runs a program to its end, whatever its exit code; `input` is its standard input. After `limit` ms it fails. */
export function execute(command: string, args: string[], input = '', limit = 180_000): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { timeout: limit });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) =>
      signal
        ? reject(new Error(`${command} ${args.join(' ')}: ${signal}\n${stderr}`))
        : resolve({ exitCode: code ?? -1, stdout, stderr }),
    );
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

export type Daemon = {
  readonly pid: number;
  /** What it has written to its standard output and error. */
  output(): string;
  running(): boolean;
  /** Sends the signal, awaits the end; SIGKILL after `limit` ms. Does nothing if it has ended. */
  end(signal?: NodeJS.Signals, limit?: number): Promise<void>;
};

/**
 * Starts a server in the foreground. The kernel ends it when this process ends, however that happens
 * (setpriv --pdeathsig), so that no test leaves one behind.
 */
export function daemon(command: string, args: string[], env: Record<string, string> = {}): Daemon {
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', command, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  const ended = new Promise<void>((resolve) => {
    child.on('error', (error) => {
      output += error.message;
      resolve();
    });
    child.on('exit', () => resolve());
  });
  const running = () => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  return {
    pid: child.pid ?? -1,
    output: () => output,
    running,
    async end(signal = 'SIGTERM', limit = 10_000) {
      if (!running()) return;
      child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), limit);
      await ended;
      clearTimeout(late);
    },
  };
}
