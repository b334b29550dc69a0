import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import lockfile from 'proper-lockfile';
import { BanctlError, EXIT, type Reason, reasonOf, systemCode } from './errors.ts';
import { quote } from './printable.ts';
import { isRunning, type ProcessId, pause, processId } from './process.ts';

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
}

/** Nothing was written, because another process wrote first. The change must be made again. */
export class Overtaken extends Error {}

/** The lock was taken over while its holder was stopped. */
export class LockLost extends Overtaken {}

/** A program that takes no lock, such as an editor, changed the file after it was read. */
export class FileChanged extends Overtaken {}

const IN_ITS_PLACE: Reason = { why: 'something else is in its place', hint: 'remove it' };

const STALE_SECONDS = 10;
/** A directory that stays empty for this long was left by a process that died before it made its entry. */
const NAMELESS_SECONDS = 0.5;
/** Between two looks at the lock. */
const LONGEST_PAUSE_MS = 250;
/** How often a change is made again because a program that takes no lock was faster. */
const MOST_REPETITIONS = 20;
/** A temporary file older than this is a leftover, however slow its process may be. */
export const ABANDONED_MS = 60_000;

/** How many times this process has tried to enter. */
let turns = 0;

/** What a holder puts into the directory. Other users who can write there could put in anything. */
const ENTRY = /^\d+-\d+\.\d+(?:@.+)?$/s;

/** The name of a removed file in its temporary directory. */
export const REMOVED = 'removed';

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

/** True if a process holds the lock on `path`, or has left it behind. Also if the system does not tell: taking it will. */
export function isLocked(path: string): boolean {
  try {
    return lstatSync(lockPath(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
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
  for (let changed = 0; ; ) {
    const lock = yield* acquiring(path, options);
    try {
      return work(lock);
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
      lock.release();
    }
  }
}

function* acquiring(path: string, { timeout, stale = STALE_SECONDS }: LockOptions): Waiting<Lock> {
  const start = now();
  const deadline = start + timeout * 1000;
  const evictIfDead = watchHolder(lockPath(path), stale);
  for (;;) {
    const lock = tryLock(path);
    if (lock !== undefined) return lock;
    if (evictIfDead()) continue;
    if (now() >= deadline) {
      throw new BanctlError(
        EXIT.lockBusy,
        `${path} is locked by another banctl for over ${timeout} s`,
        'nothing was changed, try again',
      );
    }
    // The pause grows with the queue: hundreds of waiters that ask every few milliseconds would starve the holder.
    yield 1 + Math.random() * Math.min(LONGEST_PAUSE_MS, 9 + (now() - start) / 10);
  }
}

/** The directory that is the lock on `path`. */
export function lockPath(path: string): string {
  return `${path}.lock`;
}

function tryLock(path: string): Lock | undefined {
  const directory = lockPath(path);
  const unlock = makeDirectory(path);
  if (unlock === undefined) return undefined;
  turns += 1;
  const name = `${processId()}.${turns}`;
  let entry = join(directory, name);
  try {
    writeFileSync(entry, '', { flag: 'wx' });
    // If the directory was taken for an abandoned one, two processes can have made an entry: then neither holds the lock.
    // A process that was stopped here can find its successor's entry instead of its own.
    if (readdirSync(directory).some((other) => other !== name)) {
      unlinkSync(entry);
      return undefined;
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    quietly(() => unlinkSync(entry));
    quietly(() => rmdirSync(directory));
    throw cannotLock(directory, error);
  }
  return {
    registerTemporary(temporary) {
      const registered = join(directory, `${name}@${basename(temporary)}`);
      try {
        renameSync(entry, registered);
      } catch (error) {
        if (systemCode(error) === 'ENOENT') throw new LockLost();
        throw cannotLock(directory, error);
      }
      entry = registered;
    },
    release() {
      // A process that lost its entry would remove its successor's directory.
      if (quietly(() => unlinkSync(entry))) quietly(unlock);
    },
  };
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

/**
 * Watches the holder of a lock. Call the returned function repeatedly: it removes a holder that is dead, or that shows no
 * progress for `stale` seconds by a clock that nobody can set, and returns whether it did.
 */
function watchHolder(directory: string, stale: number): () => boolean {
  let seen = '';
  let since = now();
  return () => {
    const entries = entriesOf(directory);
    if (entries === undefined) return true;
    const state = `${statSync(directory, { throwIfNoEntry: false })?.ino} ${entries.join(' ')}`;
    if (state !== seen) [seen, since] = [state, now()];
    const age = (now() - since) / 1000;
    const [entry] = entries;
    if (entry === undefined) return age > NAMELESS_SECONDS && takeAway(directory, () => rmdirSync(directory));
    return (!isRunning(ownerOf(entry)) || age > stale) && evict(directory, entry);
  };
}

function evict(directory: string, entry: string): boolean {
  const [, temporary = ''] = /@(.+)/s.exec(entry) ?? [];
  if (isTemporaryOf(basename(directory, '.lock'), temporary)) discard(join(dirname(directory), temporary));
  removeUnregistered(directory);
  // The holder may have died after its rename and before its sync; the next one relies on the disk.
  quietly(() => syncDirectory(dirname(directory)));
  return (
    takeAway(directory, () => unlinkSync(join(directory, entry))) &&
    takeAway(directory, () => rmdirSync(directory))
  );
}

/**
 * True if it worked, false if another process was faster.
 *
 * @throws BanctlError cannotWrite if no process can remove it, so that waiting is useless
 */
function takeAway(directory: string, remove: () => void): boolean {
  try {
    remove();
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) return false;
    throw cannotLock(directory, error);
  }
}

/** Removes a temporary file, or a temporary directory with the file in it. */
export function discard(temporary: string): void {
  if (quietly(() => unlinkSync(temporary))) return;
  const isGone = () => {
    quietly(() => unlinkSync(join(temporary, REMOVED)));
    return quietly(() => rmdirSync(temporary));
  };
  // Its holder may continue at this moment and move the file into it. It can do so only once.
  if (!isGone()) isGone();
}

/** A rename, or a new directory, is on the disk once its parent directory is: fsync(2). */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Removes what a holder left that was killed between creating a temporary file and registering it: an empty one. */
function removeUnregistered(directory: string): void {
  const beside = dirname(directory);
  for (const name of readdirSync(beside)) {
    const path = join(beside, name);
    if (!isTemporaryOf(basename(directory, '.lock'), name)) continue;
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) quietly(() => rmdirSync(path));
    else if (stat?.size === 0) quietly(() => unlinkSync(path));
  }
}

/** True for the names that write-file-atomic gives to temporary files of `base` and of the files beside it. */
export function isTemporaryOf(base: string, name: string): boolean {
  return name.startsWith(base) && /^(?:\.[a-z]+)?\.(?:banctl-)?\d{1,10}$/.test(name.slice(base.length));
}

/** True for the names of locks and of temporary files. */
export function isLockOrTemporary(name: string): boolean {
  return name.endsWith('.lock') || /\.banctl-\d{1,10}$/.test(name);
}

/** True while a process that runs holds the lock on `path`. */
export function isHeld(path: string): boolean {
  try {
    return readdirSync(lockPath(path)).some((entry) => ENTRY.test(entry) && isRunning(ownerOf(entry)));
  } catch {
    return false;
  }
}

/** True if the holder of the lock on `path` is gone and has left the lock behind. */
export function isAbandoned(path: string): boolean {
  const directory = lockPath(path);
  const stat = lstatSync(directory, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return false;
  try {
    const entries = entriesOf(directory);
    const [entry] = entries ?? [];
    if (entry === undefined) return entries !== undefined && Date.now() - stat.mtimeMs > ABANDONED_MS;
    return !isRunning(ownerOf(entry));
  } catch {
    // Other findings of the audit report what is not a lock.
    return false;
  }
}

function ownerOf(entry: string): ProcessId {
  return entry.replace(/[.@].*/s, '');
}

/**
 * Undefined if there is no lock.
 *
 * @throws BanctlError cannotWrite if anything else is there, or in it; it may belong to another program
 */
function entriesOf(directory: string): string[] | undefined {
  let entries: string[];
  try {
    // A dangling link looks like no lock and can never become one. Any other link leads to files that are not entries.
    if (!lstatSync(directory).isDirectory()) throw inItsPlace(directory);
    entries = readdirSync(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error instanceof BanctlError ? error : cannotLock(directory, error);
  }
  const foreign = entries.find((entry) => !ENTRY.test(entry));
  if (foreign !== undefined) throw inItsPlace(directory, foreign);
  return entries;
}

function inItsPlace(directory: string, entry?: string): BanctlError {
  const why = entry === undefined ? IN_ITS_PLACE.why : `${quote(entry)} is in it`;
  return new BanctlError(EXIT.cannotWrite, `cannot lock ${directory}: ${why}`, IN_ITS_PLACE.hint);
}

function cannotLock(directory: string, error: unknown): BanctlError {
  const { why, hint } = reasonOf(error, {
    ENOENT: { why: 'its directory does not exist', hint: 'create it, or name another file' },
    ENOTDIR: IN_ITS_PLACE,
    EISDIR: IN_ITS_PLACE,
  });
  return new BanctlError(EXIT.cannotWrite, `cannot lock ${directory}: ${why}`, hint);
}

function isCall(error: unknown, call: string): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === call;
}

/** True if it worked. If not, another process has done it. */
function quietly(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

/** Milliseconds of a clock that is never set; the global `performance` takes a millisecond to load. */
function now(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
