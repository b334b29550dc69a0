import { lstatSync, readdirSync } from 'node:fs';
import { BanctlError, EXIT, type Reason, reasonOf, systemCode } from './errors.ts';
import { hiddenName } from './hidden-name.ts';
import { quote } from './printable.ts';
import { isRunning, type ProcessId } from './process.ts';

/* The directory that is a lock, its entries, and the names of temporary files; see held-lock.ts. */

const IN_ITS_PLACE: Reason = { why: 'something else is in its place', hint: 'remove it' };

/** A temporary file older than this is a leftover, however slow its process may be. */
export const ABANDONED_MS = 60_000;

/** What a holder puts into the directory. Other users who can write there could put in anything. */
const ENTRY = /^\d+-\d+\.\d+(?:@.+)?$/s;

/** The directory that is the lock on `path`. */
export function lockPath(path: string): string {
  return `${path}.lock`;
}

/** True if a process holds the lock on `path`, or has left it behind. Also if the system does not show it: an attempt to take it will. */
export function isLocked(path: string): boolean {
  try {
    return lstatSync(lockPath(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

/** True while a process that runs holds the lock on `path`. */
export function isHeld(path: string): boolean {
  return ownersIn(lockPath(path)).some(isRunning);
}

/** True for a lock that a process which runs keeps under a temporary name between two changes: see MovingLock. */
export function isResting(directory: string): boolean {
  return ownersIn(directory).some(isRunning);
}

/** True for such a lock of a process that is gone. */
export function isRestingOfDead(directory: string): boolean {
  const owners = ownersIn(directory);
  return owners.length > 0 && !owners.some(isRunning);
}

function ownersIn(directory: string): ProcessId[] {
  try {
    return readdirSync(directory)
      .filter((entry) => ENTRY.test(entry))
      .map(ownerOf);
  } catch {
    return [];
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

/**
 * True for the names that write-file-atomic gives to temporary files of `base` and of the files beside it. In the executable
 * they begin with a dot, which they did not in older versions.
 */
export function isTemporaryOf(base: string, name: string): boolean {
  const [own, suffix] = name.startsWith(`.${base}`)
    ? [`.${base}`, /^(?:\.[a-z]+)?\.banctl-\d{1,10}$/]
    : [base, /^(?:\.[a-z]+)?\.(?:banctl-)?\d{1,10}$/];
  return name.startsWith(own) && suffix.test(name.slice(own.length));
}

/** The name of the one file in a temporary directory. */
export const REMOVED = 'removed';

/** True for the names of files in temporary directories, and of entries in locks. */
export function isOurs(name: string): boolean {
  return name === REMOVED || /^\d+$/.test(name) || ENTRY.test(name);
}

/** As long as the number in the name of a temporary file can be. */
const NUMBERS = 10 ** 10;

/** A temporary name beside `path`, for a directory. */
export function temporaryOf(path: string): string {
  return `${hiddenName(path)}.banctl-${randomNumber()}`;
}

/** The name of a directory for the files of many addresses, in the directory of these. */
export function sharedTemporary(what: 'new' | 'old'): string {
  return `${what}.banctl-${randomNumber()}`;
}

/** Another temporary name of the same kind. */
export function renumbered(temporary: string): string {
  return temporary.replace(/\d+$/, String(randomNumber()));
}

function randomNumber(): number {
  return Math.floor(Math.random() * NUMBERS);
}

export function isSharedTemporary(name: string): boolean {
  return /^(?:new|old)\.banctl-\d{1,10}$/.test(name);
}

/** True for the names that banctl gives to temporary directories. A person may have given another such a name. */
export function isTemporaryDirectory(name: string): boolean {
  return isSharedTemporary(name) || /^\..+\.banctl-\d{1,10}$/s.test(name);
}

/** True for the names of locks and of temporary files. */
export function isLockOrTemporary(name: string): boolean {
  return name.endsWith('.lock') || /\.banctl-\d{1,10}$/.test(name);
}

export function ownerOf(entry: string): ProcessId {
  return entry.replace(/[.@].*/s, '');
}

/**
 * Undefined if there is no lock.
 *
 * @throws BanctlError cannotWrite if anything else is there, or in it; it may belong to another program
 */
export function entriesOf(directory: string): string[] | undefined {
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

export function cannotLock(directory: string, error: unknown): BanctlError {
  const { why, hint } = reasonOf(error, {
    ENOENT: { why: 'its directory does not exist', hint: 'create it, or name another file' },
    ENOTDIR: IN_ITS_PLACE,
    EISDIR: IN_ITS_PLACE,
  });
  return new BanctlError(EXIT.cannotWrite, `cannot lock ${directory}: ${why}`, hint);
}
