// interrupted.ts as a test sees it.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Failure } from './interrupted.ts';
import type { Order } from './order.ts';
import { stateOf } from './processes.ts';
import { until } from './wait.ts';

export type Interruptible = Disposable & {
  readonly child: ChildProcess;
  /** Does the order to its end; gives how many file system calls that took. */
  count(order: Order): Promise<number>;
  /** Does the order, whose calls may fail: undefined if it was done. */
  fails(order: Order): Promise<Failure | undefined>;
  /** Does the order until it is killed. */
  killed(order: Order): Promise<void>;
  /** Does the order until it is killed, or until its end: then the number of calls. */
  killedOrDone(order: Order): Promise<number | undefined>;
  /** Does the order until it stops, or until its end: then the number of calls. */
  stopped(order: Order): Promise<number | undefined>;
  /** How the last order has failed. */
  failure(): Failure | undefined;
  /** Goes on until it stops again, or until its end. */
  goesOn(): Promise<number | undefined>;
};

/** Hundreds of these are started. */
const cache = join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'banctl', 'tests');

export async function interruptible(): Promise<Interruptible> {
  const child = fork(join(import.meta.dirname, 'interrupted.ts'), {
    env: { ...process.env, NODE_COMPILE_CACHE: cache },
  });
  const limit = () => ({ signal: AbortSignal.timeout(20_000) });
  await once(child, 'message', limit());
  let calls: number | undefined;
  let failure: Failure | undefined;
  child.on('message', (answer: number | Failure) => {
    [calls, failure] = typeof answer === 'number' ? [answer, undefined] : [0, answer];
  });
  const tell = (order: Order) => {
    calls = undefined;
    child.send(order);
  };
  const stopOrEnd = async () => {
    await until('a stop, or the end', () => {
      assert.deepEqual([child.exitCode, child.signalCode], [null, null], 'it has ended');
      return calls !== undefined || stateOf(child) === 'T';
    });
    return calls;
  };
  return {
    child,
    async count(order) {
      tell(order);
      const [answer] = await once(child, 'message', limit());
      return Number(answer);
    },
    async fails(order) {
      tell({ ...order, mayFail: true });
      await once(child, 'message', limit());
      return failure;
    },
    async killed(order) {
      tell({ ...order, signal: 'SIGKILL' });
      const [, signal] = await once(child, 'exit', limit());
      assert.equal(signal, 'SIGKILL');
    },
    async killedOrDone(order) {
      tell({ ...order, signal: 'SIGKILL' });
      await until('a kill, or the end', () => calls !== undefined || child.signalCode !== null);
      return calls;
    },
    stopped(order) {
      tell({ ...order, signal: 'SIGSTOP' });
      return stopOrEnd();
    },
    failure: () => failure,
    goesOn() {
      child.kill('SIGCONT');
      return stopOrEnd();
    },
    [Symbol.dispose]() {
      child.kill('SIGKILL');
    },
  };
}

/**
 * Does `work` for each number from 1 to `calls`, some at once: most of the time is the start of a process. After a
 * failure those that are under way are awaited.
 */
export async function forEachCall(calls: number, work: (call: number) => Promise<void>): Promise<void> {
  const numbers = Array.from({ length: calls }, (_, index) => index + 1).values();
  const failures: unknown[] = [];
  const lane = async () => {
    for (const call of numbers) {
      await work(call).catch((error: unknown) => failures.push(error));
      if (failures.length > 0) return;
    }
  };
  await Promise.all(Array.from({ length: 4 }, lane));
  if (failures.length > 0) throw failures[0];
}
