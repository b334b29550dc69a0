import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { succeeds, systemCode } from './errors.ts';
import {
  cannotLock,
  entriesOf,
  isOurs,
  isRestingOfDead,
  isSharedTemporary,
  isTemporaryDirectory,
  isTemporaryOf,
  ownerOf,
  REMOVED,
  renumbered,
} from './lock-directory.ts';
import { isRunning, monotonicMs } from './process.ts';
import { syncDirectory } from './sync-directory.ts';

/* How a waiter takes the lock of a dead or stopped holder; see held-lock.ts for why that is safe. */

/** A directory that stays empty for this long was left by a process that died before it made its entry. */
const NAMELESS_SECONDS = 0.5;

/** For open(2): not what a link leads to. */
export const DIRECTORY_ITSELF = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * Watches the holder of a lock. Call the returned function repeatedly: it removes a holder that is dead, or that shows no
 * progress for `stale` seconds by a clock that no program can set, and returns whether it did.
 */
export function watchHolder(directory: string, stale: number): () => boolean {
  let seen = '';
  let since = monotonicMs();
  return () => {
    const entries = entriesOf(directory);
    if (entries === undefined) return true;
    const state = `${statSync(directory, { throwIfNoEntry: false })?.ino} ${entries.join(' ')}`;
    if (state !== seen) [seen, since] = [state, monotonicMs()];
    const age = (monotonicMs() - since) / 1000;
    const [entry] = entries;
    if (entry === undefined) return age > NAMELESS_SECONDS && takeAway(directory, () => rmdirSync(directory));
    return (!isRunning(ownerOf(entry)) || age > stale) && evict(directory, entry);
  };
}

function evict(directory: string, entry: string): boolean {
  const [, temporary = ''] = /@(.+)/s.exec(entry) ?? [];
  if (isTemporaryOf(basename(directory, '.lock'), temporary) || isSharedTemporary(temporary))
    discard(join(dirname(directory), temporary));
  removeUnregistered(directory);
  // The holder may have died after its rename and before its sync; the next one relies on the disk.
  succeeds(() => syncDirectory(dirname(directory)));
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

/** Removes the locks on `path` whose process was killed while they rested: see MovingLock. They lock nothing. */
export function removeRestingLocks(path: string): void {
  succeeds(() => {
    for (const name of readdirSync(dirname(path))) {
      const directory = join(dirname(path), name);
      if (isTemporaryOf(basename(path), name) && isRestingOfDead(directory)) discard(directory);
    }
  });
}

/** Removes a temporary file, or a temporary directory with banctl's files in it. A directory with anything else in it stays. */
export function discard(temporary: string): void {
  if (succeeds(() => unlinkSync(temporary)) || succeeds(() => rmdirSync(temporary))) return;
  // Its holder may move more files into it, until it has another name. Older versions gave it one that a person could give.
  const isNamedByUs = isTemporaryDirectory(basename(temporary));
  const aside = renumbered(temporary);
  const directory = isNamedByUs && succeeds(() => renameSync(temporary, aside)) ? aside : temporary;
  succeeds(() => {
    empty(directory, isNamedByUs ? isOurs : (name) => name === REMOVED);
    rmdirSync(directory);
  });
}

/** Another user may be able to put a link in the directory's place at any moment, so its files are named by its descriptor. */
function empty(directory: string, isDeleted: (name: string) => boolean): void {
  const descriptor = openSync(directory, DIRECTORY_ITSELF);
  try {
    const place = `/proc/self/fd/${descriptor}`;
    for (const name of readdirSync(place)) if (isDeleted(name)) unlinkSync(`${place}/${name}`);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Removes what a holder left that was killed between creating a temporary file and registering it: an empty one. Another call
 * that shares such a directory among its files makes it again.
 */
function removeUnregistered(directory: string): void {
  const beside = dirname(directory);
  for (const name of readdirSync(beside)) {
    const path = join(beside, name);
    if (!isTemporaryOf(basename(directory, '.lock'), name) && !isSharedTemporary(name)) continue;
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) succeeds(() => rmdirSync(path));
    else if (stat?.size === 0) succeeds(() => unlinkSync(path));
  }
}
