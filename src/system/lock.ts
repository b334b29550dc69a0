import { BanctlError, EXIT } from './errors.ts';
import { FileChanged, type HeldLock, type Lock, Overtaken, tryLock } from './held-lock.ts';
import { lockPath } from './lock-directory.ts';
import { monotonicMs, pause } from './process.ts';
import { watchHolder } from './takeover.ts';

/*
 * Waiting for a lock on a file, and changing what it protects. How one process holds it and another takes it over: see
 * held-lock.ts.
 */

export interface LockOptions {
  /** Longest wait, in seconds. */
  readonly timeout: number;
  /** A living holder without progress for this long is stopped or hangs, and loses the lock. */
  readonly stale?: number;
  /** Taken here, and kept afterwards, instead of a lock that is made and removed for this change alone. */
  readonly moving?: ReusedLock | undefined;
}

/** A lock that is kept from one change to the next: see {@link MovingLock}. */
export interface ReusedLock {
  take(path: string, options: LockOptions): Waiting<HeldLock>;
  /** After a change. */
  rest(): void;
  /** After a failed change, and at the end. */
  release(): void;
}

const STALE_SECONDS = 10;
/** Between two looks at the lock. */
const LONGEST_PAUSE_MS = 250;
/** How often a change is made again because a program that takes no lock was faster. */
const MOST_REPETITIONS = 20;

/**
 * Runs `work` while holding the lock on `path`, and again if another process overtook it. `path` need not exist. The
 * process sleeps while it waits.
 *
 * @throws BanctlError lockBusy if the lock was not free in time; cannotWrite if it cannot be made
 */
export function withLock<T>(path: string, options: LockOptions, work: (lock: Lock) => T): T {
  return pausing(working(path, options, work));
}

/** The same for a resident, which answers others while it waits. `work` itself still runs in one go. */
export function withLockAwaited<T>(path: string, options: LockOptions, work: (lock: Lock) => T): Promise<T> {
  return awaiting(working(path, options, work));
}

/** Takes the lock on `path`, to be released by the caller. Throws as {@link withLock} does. */
export function acquireLock(path: string, options: LockOptions): Lock {
  return pausing(acquiring(path, options));
}

/** The same for a resident, which answers others while it waits. */
export function acquireLockAwaited(path: string, options: LockOptions): Promise<Lock> {
  return awaiting(acquiring(path, options));
}

/** Work that may have to wait: it yields how long, in milliseconds. */
export type Waiting<T> = Generator<number, T, void>;

function pausing<T>(steps: Waiting<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    pause(value);
  }
}

async function awaiting<T>(steps: Waiting<T>): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    await new Promise((resolve) => setTimeout(resolve, value));
  }
}

function* working<T>(path: string, options: LockOptions, work: (lock: Lock) => T): Waiting<T> {
  const { moving } = options;
  for (let changed = 0; ; ) {
    const lock = yield* moving === undefined ? acquiring(path, options) : moving.take(path, options);
    let isDone = false;
    try {
      const result = work(lock);
      isDone = true;
      return result;
    } catch (error) {
      if (!(error instanceof Overtaken)) throw error;
      if (error instanceof FileChanged) changed += 1;
      if (changed > MOST_REPETITIONS)
        throw new BanctlError(
          EXIT.lockBusy,
          `${path} is changed by another program all the time`,
          'nothing was changed, try again',
        );
    } finally {
      if (moving === undefined) lock.release();
      else if (isDone) moving.rest();
      else moving.release();
    }
  }
}

function* acquiring(path: string, { timeout, stale = STALE_SECONDS }: LockOptions): Waiting<HeldLock> {
  const start = monotonicMs();
  const deadline = start + timeout * 1000;
  const evictIfDead = watchHolder(lockPath(path), stale);
  for (;;) {
    const lock = tryLock(path);
    if (lock !== undefined) return lock;
    if (evictIfDead()) continue;
    if (monotonicMs() >= deadline) {
      throw new BanctlError(
        EXIT.lockBusy,
        `${path} is locked by another banctl for over ${timeout} s`,
        'nothing was changed, try again',
      );
    }
    // The pause grows with the queue: hundreds of waiters that ask every few milliseconds would starve the holder.
    yield 1 + Math.random() * Math.min(LONGEST_PAUSE_MS, 9 + (monotonicMs() - start) / 10);
  }
}

/**
 * A lock for many changes, of the files of one directory or of one file. It moves from each to the next in one step, because a
 * directory that is made and removed for each change takes longer than all other work on it. Release it at the end.
 */
export class MovingLock implements ReusedLock {
  readonly #resting: string | undefined;
  #lock: HeldLock | undefined;
  #isResting = false;

  /**
   * @param resting where it waits between two changes, so that other processes can take the lock; else it stays at the last
   *   file until the next change
   */
  constructor(resting?: string) {
    this.#resting = resting;
  }

  *take(path: string, options: LockOptions): Waiting<HeldLock> {
    const known = this.#lock;
    if (known !== undefined && (this.#isResting ? known.wake(path) : known.moveTo(path))) {
      this.#isResting = false;
      return known;
    }
    this.release();
    const lock = yield* acquiring(path, options);
    // Another change of this process may have taken one during the wait.
    this.release();
    this.#lock = lock;
    return lock;
  }

  rest(): void {
    if (this.#resting === undefined || this.#lock === undefined) return;
    this.#isResting = this.#lock.rest(this.#resting);
    if (!this.#isResting) this.release();
  }

  release(): void {
    this.#lock?.release();
    this.#lock = undefined;
    this.#isResting = false;
  }
}
