// A process that changes bans as banctl does, and stops or kills itself right before some of its file system calls, or
// lets them fail: it does the orders that come as messages, and answers each with how many calls it has made in the
// directory, or with how it has failed.

import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { watchFileCalls } from './file-calls.ts';
import type { Order } from './order.ts';

const READS = /^(?:exists|[fl]?stat|read|readFile|readdir|readlink|realpath|access|close)Sync$/;

let order: Order | undefined;
let calls = 0;

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
  readonly exitCode: number | undefined;
  readonly message: string;
}

watchFileCalls((name, [subject, written], call) => {
  // A warning is no call of interest, nor to be seen among the results of the tests.
  if (order?.mayFail && subject === 2) return (written as Buffer).length;
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

const { change } = await import('./call.ts');
const { BanctlError } = await import('../../src/system/errors.ts');
const { acquireLock } = await import('../../src/system/lock.ts');
const { doSetup } = await import('./installing.ts');
const { repairFiles } = await import('../../src/audit/files.ts');
// Loaded now, for the calls to be the same each time.
await import('../../src/store/both.ts');
// Not at the end, which few of these see.
flushCompileCache();
process.on('message', async (message: Order) => {
  for (const path of message.takesOver ?? []) acquireLock(path, { timeout: 10, stale: 0.05 }).release();
  const banlist = join(message.directory, 'banlist.conf');
  [order, calls] = [message, 0];
  try {
    if (message.setup !== undefined) doSetup(message.directory, message.setup);
    else await change(banlist, message.changes, message.bandir);
  } catch (error) {
    if (message.mayFail !== true) throw error;
    const exitCode = error instanceof BanctlError ? error.exitCode : undefined;
    process.send?.({ exitCode, message: String(error) } satisfies Failure);
    return;
  } finally {
    order = undefined;
  }
  if (message.fixes) repairFiles({ banlist, bandir: message.bandir, lockTimeout: 10 });
  process.send?.(calls);
});
process.send?.('ready');
