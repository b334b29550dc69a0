// A process that changes bans as banctl does, and stops or kills itself right before some of its file system calls:
// it does the orders that come as messages, and answers each with how many calls it has made in the directory.
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import type { Change } from '../../src/banlist/change.ts';
import { watchFileCalls } from './file-calls.ts';

export interface Order {
  readonly directory: string;
  readonly changes: readonly Change[];
  /** Undefined: every ban stands in the list. */
  readonly bandir?: string | undefined;
  readonly signal?: NodeJS.Signals;
  /** Numbers of the calls, from 1. */
  readonly before?: readonly number[];
  /** Calls that change nothing do not count: it is the same to be killed before such a one or the next. */
  readonly skipsReads?: boolean;
  /** Files whose lock it takes first, from a holder that is stopped or killed. */
  readonly takesOver?: readonly string[];
  /** It repairs as `audit --fix` does. */
  readonly fixes?: boolean;
}

const READS = /^(?:exists|[fl]?stat|read|readFile|readdir|readlink|realpath|access|close)Sync$/;

let order: Order | undefined;
let calls = 0;

function interrupt(signal: NodeJS.Signals): void {
  process.kill(process.pid, signal);
  // Another thread may take the signal: until it has, this one may not go on.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
}

watchFileCalls((name, [subject], call) => {
  const isSkipped = order?.skipsReads && READS.test(name);
  if (
    order !== undefined &&
    !isSkipped &&
    (typeof subject === 'number' || String(subject).startsWith(order.directory))
  ) {
    calls += 1;
    if (order.signal !== undefined && order.before?.includes(calls)) interrupt(order.signal);
  }
  return call();
});

const { change } = await import('./call.ts');
const { acquireLock } = await import('../../src/lock.ts');
const { repairFiles } = await import('../../src/audit/files.ts');
// Loaded now, for the calls to be the same each time.
await import('../../src/both-places.ts');
// Not at the end, which few of these see.
flushCompileCache();
process.on('message', async (message: Order) => {
  for (const path of message.takesOver ?? []) acquireLock(path, { timeout: 10, stale: 0.05 }).release();
  const banlist = join(message.directory, 'banlist.conf');
  [order, calls] = [message, 0];
  await change(banlist, message.changes, message.bandir);
  order = undefined;
  if (message.fixes) repairFiles({ banlist, bandir: message.bandir, lockTimeout: 10 });
  process.send?.(calls);
});
process.send?.('ready');
