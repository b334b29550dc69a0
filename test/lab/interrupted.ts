// A process that runs the program of the executable (shipped.ts), and stops or kills itself right before some of the
// program's file system calls, or lets them fail: it does the orders that come as messages, and answers each with how
// many calls were made in the directory, or with how the program failed.

import { mkdtempSync, rmSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { acquireLock } from '../../src/system/lock.ts';
import { watchedFileSystem } from './file-calls.ts';
import { lineOf, type Order } from './order.ts';
import { shippedProgram } from './shipped.ts';

const READS = /^(?:exists|[fl]?stat|read|readFile|readdir|readlink|realpath|access|close)Sync$/;
const STANDARD_ERROR = 2;

let order: Order | undefined;
let calls = 0;
let said = '';

function interrupt(signal: NodeJS.Signals): void {
  process.kill(process.pid, signal);
  // Another thread may take the signal: until it has, this one may not go on.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
}

function fail(code: string, name: string): never {
  throw Object.assign(new Error(`${code}: injected, ${name}`), { code });
}

/** How a call ended that a test lets fail. */
export interface Failure {
  readonly exitCode: number;
  readonly message: string;
}

/** What the program prints is not to be seen among the results of the tests. */
function keepOutput(descriptor: number, text: Buffer, from = 0): number {
  if (descriptor === STANDARD_ERROR) said += text.subarray(from).toString();
  return text.length - from;
}

const fileSystem = watchedFileSystem((name, args, call) => {
  const [subject] = args;
  if (name === 'writeSync' && (subject === 1 || subject === STANDARD_ERROR))
    return keepOutput(...(args as Parameters<typeof keepOutput>));
  const isSkipped = order?.skipsReads && READS.test(name);
  if (
    order !== undefined &&
    !isSkipped &&
    (typeof subject === 'number' || String(subject).startsWith(order.directory))
  ) {
    calls += 1;
    if (order.before?.includes(calls)) {
      if (order.signal !== undefined) interrupt(order.signal);
      if (order.error !== undefined) fail(order.error, name);
    }
  }
  return call();
});

/** Of the order that is being done, as the executable carries it. */
const kit = { getAsset: () => JSON.stringify(order?.setup?.kit) };
const run = shippedProgram({ fs: fileSystem, sea: kit });

/** Takes the locks from holders that are stopped or killed. */
function takeOver(paths: readonly string[]): void {
  for (const path of paths) acquireLock(path, { timeout: 10, stale: 0.05 }).release();
}

/**
 * A process never takes a lock twice by the same name, but the sources and each run of the program count for themselves.
 * The sources begin where no run gets to.
 */
function countTurns(): void {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-turns-'));
  for (let turn = 0; turn < 50; turn += 1) acquireLock(join(directory, 'file'), { timeout: 10 }).release();
  rmSync(directory, { recursive: true });
}

async function runOrder(message: Order): Promise<Failure | undefined> {
  [order, calls, said] = [message, 0, ''];
  const exitCode = await run(lineOf(message));
  order = undefined;
  return exitCode === 0 ? undefined : { exitCode, message: said.replace(/^banctl: |\n$/g, '') };
}

async function repair({ directory, bandir }: Order): Promise<void> {
  const places = [`--banlist=${join(directory, 'banlist.conf')}`, `--bandir=${bandir}`];
  const exitCode = await run([
    'audit',
    '--fix',
    ...places,
    '--apachectl=false',
    '--no-fail2ban',
    '--no-reload',
  ]);
  if (exitCode > 1) throw new Error(`the audit ended with ${exitCode}: ${said}`);
}

let isCounted = false;
process.on('message', async (message: Order) => {
  if (message.takesOver !== undefined) {
    if (!isCounted) countTurns();
    isCounted = true;
    takeOver(message.takesOver);
  }
  const isIdle = message.setup === undefined && message.serves === undefined && message.changes.length === 0;
  const failure = isIdle ? undefined : await runOrder(message);
  if (failure !== undefined && message.mayFail !== true) throw new Error(JSON.stringify(failure));
  if (message.fixes) await repair(message);
  process.send?.(failure ?? calls);
});
// Now, since few of these processes reach their end.
flushCompileCache();
process.send?.('ready');
