import { lstatSync, readdirSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import lockfile from 'proper-lockfile';
import { succeeds, systemCode } from './errors.ts';
import { cannotLock, isLocked, lockPath } from './lock-directory.ts';
import { processId } from './process.ts';

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
 * moves it away and back between its changes of one file: see MovingLock in lock.ts.
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

/** Nothing was written, because another process wrote first. The change must be made again. */
export class Overtaken extends Error {}

/** The lock was taken over while its holder was stopped. */
export class LockLost extends Overtaken {}

/** A program that takes no lock, such as an editor, changed the file after it was read. */
export class FileChanged extends Overtaken {}

/** How many times this process has tried to enter. */
let turns = 0;

/** Takes the lock on `path`, if it is free. @throws BanctlError cannotWrite if it cannot be made */
export function tryLock(path: string): HeldLock | undefined {
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

/** A lock that this process holds, or held until another took it over. */
export class HeldLock implements Lock {
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
