import { lstatSync, readdirSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import lockfile from 'proper-lockfile';
import { BanctlError, EXIT, succeeds, systemCode } from './errors.ts';
import { cannotLock, isLocked, lockPath } from './lock-directory.ts';
import { monotonicMs, pause, processId } from './process.ts';
import { watchHolder } from './takeover.ts';

/*
 * A lock on a file is proper-lockfile's directory beside it, `FILE.lock`. The library recognizes a dead holder by the
 * age of that directory, and its takeover is a race between waiters. So banctl switches that takeover off, and the
 * holder puts an entry into the directory:
 *
 *     PID-START.TURN              holds the lock, the TURNth lock of this process
 *     PID-START.TURN@TEMPORARY    and is about to replace a file by this temporary file, or to remove a file by moving
 *                                 it into this temporary directory
 *
 * Only an empty directory can be removed. So the removal of the entry, in which exactly one process succeeds, decides
 * who takes over. A holder that was stopped, not killed, may continue at any time. The takeover removes its temporary
 * file or directory before its entry, and without its entry it cannot register another. So the rename that would undo
 * other processes' changes fails. A process that is late in removing an entry cannot remove the entry of a later turn.
 *
 * A call that changes thousands of files moves its directory, with the entry in it, from one file to the next, and a resident
 * moves it away and back between its changes of one file: see MovingLock.
 */

/** A lock as its holder sees it. */
export interface Lock {
  /**
   * Records the temporary file that is about to replace a file, or the directory that is about to take it away.
   *
   * @throws LockLost; BanctlError cannotWrite
   */
  registerTemporary(path: string): void;
  release(): void;
}

export interface LockOptions {
  /** Longest wait, in seconds. */
  readonly timeout: number;
  /** A living holder without progress for this long is stopped or hangs, and loses the lock. */
  readonly stale?: number;
  /** Moved here, and kept afterwards, instead of a lock that is made and removed for this file alone. */
  readonly moving?: MovingLock | undefined;
}

/** Nothing was written, because another process wrote first. The change must be made again. */
export class Overtaken extends Error {}

/** The lock was taken over while its holder was stopped. */
export class LockLost extends Overtaken {}

/** A program that takes no lock, such as an editor, changed the file after it was read. */
export class FileChanged extends Overtaken {}

const STALE_SECONDS = 10;
/** Between two looks at the lock. */
const LONGEST_PAUSE_MS = 250;
/** How often a change is made again because a program that takes no lock was faster. */
const MOST_REPETITIONS = 20;

/** How many times this process has tried to enter. */
let turns = 0;

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
type Waiting<T> = Generator<number, T, void>;

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

function tryLock(path: string): HeldLock | undefined {
  const directory = lockPath(path);
  const unlock = makeDirectory(path);
  if (unlock === undefined) return undefined;
  turns += 1;
  const name = `${processId()}.${turns}`;
  const entry = join(directory, name);
  try {
    writeFileSync(entry, '', { flag: 'wx' });
    // If the directory was taken for an abandoned one, two processes can have made an entry: then neither holds the lock.
    // A process that was stopped here can find its successor's entry instead of its own.
    // The directory may also have moved on with the entry, to a resting place.
    const entries = readdirSync(directory);
    if (entries.length !== 1 || entries[0] !== name) {
      unlinkSync(entry);
      return undefined;
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    succeeds(() => unlinkSync(entry));
    succeeds(() => rmdirSync(directory));
    throw cannotLock(directory, error);
  }
  return new HeldLock(directory, name, unlock);
}

class HeldLock implements Lock {
  readonly #name: string;
  #directory: string;
  /** The name, and the temporary file behind it. */
  #entry: string;
  /** Removes the directory where the library has made it. Undefined: it is elsewhere by now. */
  #unlock: (() => void) | undefined;

  constructor(directory: string, name: string, unlock: () => void) {
    this.#directory = directory;
    this.#name = name;
    this.#entry = name;
    this.#unlock = unlock;
  }

  get #path(): string {
    return `${this.#directory}/${this.#entry}`;
  }

  registerTemporary(temporary: string): void {
    const registered = `${this.#name}@${basename(temporary)}`;
    if (registered === this.#entry) return;
    try {
      renameSync(this.#path, `${this.#directory}/${registered}`);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw new LockLost();
      throw cannotLock(this.#directory, error);
    }
    this.#entry = registered;
  }

  release(): void {
    if (this.#unlock === undefined) succeeds(() => this.#removeOthers());
    // A process that lost its entry would remove its successor's directory.
    if (succeeds(() => unlinkSync(this.#path))) succeeds(this.#unlock ?? (() => rmdirSync(this.#directory)));
  }

  /** A call whose empty directory this one has replaced finds its entry gone if the directory has moved on since. */
  #removeOthers(): void {
    const entries = readdirSync(this.#directory);
    if (!entries.includes(this.#entry)) return;
    for (const other of entries) if (other !== this.#entry) unlinkSync(join(this.#directory, other));
  }

  /**
   * Makes it the lock on `path`. rename(2) replaces an empty directory: one without a holder, as a call leaves it for a moment
   * before it puts its entry in, and that call then finds another one's entry beside its own.
   *
   * @returns false if another process holds the lock on `path`, or has taken over this one
   */
  moveTo(path: string): boolean {
    return this.#directory === lockPath(path) || this.#move(lockPath(path));
  }

  /** Gives the lock up, and keeps the directory, where it locks nothing. */
  rest(directory: string): boolean {
    return this.#move(directory);
  }

  /**
   * Takes the lock that was given up, unless another call is seen taking it: a busy resident would be in its way always. A call
   * that begins at this very moment gives way, see tryLock.
   */
  wake(path: string): boolean {
    const [from, to] = [this.#directory, lockPath(path)];
    if (isLocked(path) || !succeeds(() => renameSync(from, to))) return false;
    if (this.#isIn(to)) {
      this.#directory = to;
      return true;
    }
    // It was removed as a leftover, or this process was stopped in between, and the lock has another holder by now.
    succeeds(() => rmdirSync(to));
    return false;
  }

  #move(to: string): boolean {
    const from = this.#directory;
    if (!this.#isIn(from) || !succeeds(() => renameSync(from, to))) return false;
    if (!this.#isIn(to)) {
      // This process was stopped between the two calls, for so long that the lock has another holder by now.
      if (!succeeds(() => renameSync(to, from))) succeeds(() => rmdirSync(to));
      return false;
    }
    // The library has notes about its lock, which it has no more.
    if (this.#unlock !== undefined) succeeds(this.#unlock);
    this.#unlock = undefined;
    this.#directory = to;
    return true;
  }

  #isIn(directory: string): boolean {
    return succeeds(() => lstatSync(`${directory}/${this.#entry}`));
  }
}

/**
 * A lock for many changes, of the files of one directory or of one file. It moves from each to the next in one step, because a
 * directory that is made and removed for each change takes longer than all other work on it. Release it at the end.
 */
export class MovingLock {
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

  /** After a change. */
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

/** Returns a function that removes the directory; undefined if the directory exists already. */
function makeDirectory(path: string): (() => void) | undefined {
  try {
    return lockfile.lockSync(path, {
      realpath: false,
      stale: Number.POSITIVE_INFINITY,
      update: 60_000,
      onCompromised: () => {},
    });
  } catch (error) {
    // ENOENT after the directory was made: another process took it for abandoned before the library looked at it.
    const isTaken = systemCode(error) === 'ENOENT' && !isCall(error, 'mkdir');
    if (systemCode(error) === 'ELOCKED' || isTaken) return undefined;
    throw cannotLock(lockPath(path), error);
  }
}

function isCall(error: unknown, call: string): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === call;
}
