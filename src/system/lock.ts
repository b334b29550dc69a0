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
 * A lock on a file is proper-lockfile's directory beside it, `FILE.lock`. The library tells a dead holder by the
 * age of that directory, and its takeover is a race between those who wait. So its takeover is switched off, and
 * the holder puts an entry into the directory:
 *
 *     PID-START.TURN              holds the lock, for the TURNth time that this process holds one
 *     PID-START.TURN@TEMPORARY    and is writing this temporary file, which is to replace a file beside the directory,
 *                                 or moves that file into this temporary directory, to remove it
 *
 * Only an empty directory can be removed, so it is the removal of the entry, in which one process succeeds and
 * no other, that decides who takes over. A holder that was stopped rather than killed may go on at any time. Its
 * temporary file or directory is removed before its entry, and without its entry it cannot register another. Thus
 * the rename with which it would undo what others did meanwhile fails. And who was about to remove an entry, and is
 * late, cannot remove that of a later turn.
 */

/** A lock as its holder sees it. */
export interface Lock {
  /**
   * Names the temporary file that is about to replace a file, or the directory to take it away.
   *
   * @throws LockLost; BanctlError cannotWrite
   */
  registerTemporary(path: string): void;
  release(): void;
}

export interface LockOptions {
  /** Longest wait, in seconds. */
  readonly timeout: number;
  /** A living holder that shows no progress for this long is stopped or hangs, and is replaced. Seconds. */
  readonly stale?: number;
}

/** Nothing was written, because somebody else did meanwhile: the change is to be made again. */
export class Overtaken extends Error {}

/** The lock was taken over while its holder was stopped. */
export class LockLost extends Overtaken {}

/** Somebody who takes no lock, an editor or a script, has changed the file since it was read. */
export class FileChanged extends Overtaken {}

const IN_ITS_PLACE: Reason = { why: 'something else is in its place', hint: 'remove it' };

const STALE = 10;
/** A directory that stays empty for this long was left by a process that died before it made its entry. Seconds. */
const NAMELESS = 0.5;
/** Between two looks at the lock. Milliseconds. */
const LONGEST_PAUSE = 250;
/** So many times a change is made again because of somebody who takes no lock. */
const MOST_REPETITIONS = 20;
/** What is older than this, and temporary, was left, however slow a process may be. Milliseconds. */
export const ABANDONED = 60_000;

/** How many times this process has tried to enter. */
let turns = 0;

/** What a holder puts into the directory. Somebody else who may write beside the list could put anything there. */
const ENTRY = /^\d+-\d+\.\d+(?:@.+)?$/s;

/** The name of a removed file in its temporary directory. */
export const REMOVED = 'removed';

/**
 * Runs `work` while holding the lock on `path`, again if it was overtaken. `path` need not exist. The process sleeps
 * while it waits.
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

/** True if somebody holds the lock on `path` at this moment, or has left it behind. */
export function isLocked(path: string): boolean {
  return lstatSync(lockPath(path), { throwIfNoEntry: false }) !== undefined;
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

function* acquiring(path: string, { timeout, stale = STALE }: LockOptions): Waiting<Lock> {
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
    // The longer the queue, the longer the wait: hundreds that ask each few milliseconds leave the holder no time.
    yield 1 + Math.random() * Math.min(LONGEST_PAUSE, 9 + (now() - start) / 10);
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
    // Two can have made an entry if the directory was taken for an abandoned one: then neither holds the lock. And a
    // process that was stopped here can find its successor's entry in place of its own.
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
      // Who has lost its entry would remove its successor's directory.
      if (quietly(() => unlinkSync(entry))) quietly(unlock);
    },
  };
}

/** Returns how to remove the directory, or undefined if it is there already. */
function makeDirectory(path: string): (() => void) | undefined {
  try {
    return lockfile.lockSync(path, {
      realpath: false,
      stale: Number.POSITIVE_INFINITY,
      update: 60_000,
      onCompromised: () => {},
    });
  } catch (error) {
    // ENOENT once it was made: it was taken for an abandoned one before the library had looked at it.
    const isTaken = systemCode(error) === 'ENOENT' && !isCall(error, 'mkdir');
    if (systemCode(error) === 'ELOCKED' || isTaken) return undefined;
    throw cannotLock(lockPath(path), error);
  }
}

/**
 * Watches who holds a lock. The function returned is to be called again and again; it removes a holder that is
 * dead, or shows no progress for `stale` seconds by this process's own clock (the system's may be set back), and
 * says whether it did.
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
    if (entry === undefined) return age > NAMELESS && takeAway(directory, () => rmdirSync(directory));
    return (!isRunning(ownerOf(entry)) || age > stale) && evict(directory, entry);
  };
}

function evict(directory: string, entry: string): boolean {
  const [, temporary = ''] = /@(.+)/s.exec(entry) ?? [];
  if (isTemporaryOf(basename(directory, '.lock'), temporary)) discard(join(dirname(directory), temporary));
  removeUnregistered(directory);
  // It may have done its work and not lived to see it on the disk, where the next will take it to be.
  quietly(() => syncDirectory(dirname(directory)));
  return (
    takeAway(directory, () => unlinkSync(join(directory, entry))) &&
    takeAway(directory, () => rmdirSync(directory))
  );
}

/**
 * True if it worked, false if another process was faster.
 *
 * @throws BanctlError cannotWrite if nobody can: to wait would be in vain
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
  // Its holder may go on at this moment and move the file into it: once, it has no other.
  if (!isGone()) isGone();
}

/** A rename, or a new directory, is on disk once the directory that names it is: fsync(2). */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** What a holder that was killed between making something temporary and registering it has left: it is empty. */
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

/** True for the names that write-file-atomic gives to the temporary files of `base` and of what lies beside it. */
export function isTemporaryOf(base: string, name: string): boolean {
  return name.startsWith(base) && /^(?:\.[a-z]+)?\.(?:banctl-)?\d{1,10}$/.test(name.slice(base.length));
}

/** True for a name that a lock, or a call under way, gives to what lies beside the file that it is about. */
export function isLockOrTemporary(name: string): boolean {
  return name.endsWith('.lock') || /\.banctl-\d{1,10}$/.test(name);
}

/** True if nobody holds the lock on `path` any more, who has left it behind. */
export function isAbandoned(path: string): boolean {
  const directory = lockPath(path);
  const stat = lstatSync(directory, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return false;
  try {
    const entries = entriesOf(directory);
    const [entry] = entries ?? [];
    if (entry === undefined) return entries !== undefined && Date.now() - stat.mtimeMs > ABANDONED;
    return !isRunning(ownerOf(entry));
  } catch {
    // What is not a lock is the audit's other findings' to tell.
    return false;
  }
}

function ownerOf(entry: string): ProcessId {
  return entry.replace(/[.@].*/s, '');
}

/**
 * Undefined if there is no lock.
 *
 * @throws BanctlError cannotWrite if something else stands there, or in it: its owner may want it
 */
function entriesOf(directory: string): string[] | undefined {
  let entries: string[];
  try {
    // A link to nothing looks like no lock and can never be one; another link would lead to nobody's entries.
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

/** True if it worked. What does not work here has been done by another process. */
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
