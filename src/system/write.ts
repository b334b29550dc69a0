import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { BanctlError, EXIT, reasonOf, systemCode } from './errors.ts';
import { lstat } from './links.ts';
import { discard, FileChanged, type Lock, LockLost, REMOVED, syncDirectory } from './lock.ts';
import { type FileContent, type FileVersion, statFile } from './read.ts';

/** A file as it was read; undefined where there was none. */
type SeenFile = Pick<FileContent, 'version'>;
/** Of more in one call the kernel makes larger units of memory, for which it may have to move others. Bytes. */
const WRITTEN_AT_ONCE = 2 ** 18;

/**
 * Replaces a file by one that holds `pieces`, in one step: readers see the old or the new text, whole, also after
 * a crash or on a full disk. Mode and owner stay; a new file gets `mode`. With `durable`, the file and its
 * directory are on the disk when this returns. `seen` is what the new text was made of: if somebody who takes no lock
 * has changed the file since, it stays. Without a lock, the last of two writers wins.
 *
 * @throws Overtaken if the lock was taken over or the file changed meanwhile; BanctlError cannotWrite
 */
export function replaceFile(
  path: string,
  pieces: readonly Uint8Array[],
  {
    lock,
    seen,
    durable = true,
    mode = 0o644,
  }: { lock: Lock | undefined; seen?: SeenFile; durable?: boolean; mode?: number },
): FileVersion {
  let temporary: string | undefined;
  try {
    const existing = statSync(path, { bigint: true, throwIfNoEntry: false });
    // A rename would put a file in the place of /dev/null too.
    if (existing?.isFile() === false)
      throw new BanctlError(
        EXIT.cannotWrite,
        `cannot write ${path}: it is not a regular file`,
        'move it away, or give another path',
      );
    // The library does not notice a short write, so the text is written in its hook, where each count is looked at.
    writeFileAtomic.sync(path, '', {
      mode: existing === undefined ? mode : Number(existing.mode) & 0o7777,
      fsync: false,
      tmpfileCreated(created) {
        temporary = created;
        lock?.registerTemporary(created);
        writeWhole(created, pieces, durable);
        refuseChanged(path, seen);
      },
    });
  } catch (error) {
    if (lock !== undefined && isGone(error, temporary)) throw new LockLost();
    throw cannotWrite(path, error);
  }
  if (durable) syncDirectoryOf(path);
  // Somebody may have removed it already: then it has no version that will be met again.
  return statFile(path)?.version ?? '';
}

/**
 * Removes a file. A call that was stopped meanwhile, and has lost the lock, must not remove what others have written
 * since: so the file is moved into a temporary directory, which who takes the lock over removes first.
 *
 * @throws Overtaken if the lock was taken over or the file changed meanwhile; BanctlError cannotWrite
 */
export function removeFile(
  path: string,
  { lock, seen, durable = true }: { lock: Lock; seen: SeenFile; durable?: boolean },
): void {
  const temporary = `${path}.banctl-${process.pid}`;
  try {
    makeAnew(temporary);
    lock.registerTemporary(temporary);
    refuseChanged(path, seen);
    renameSync(path, join(temporary, REMOVED));
  } catch (error) {
    discard(temporary);
    if (systemCode(error) === 'ENOENT') throw new LockLost();
    throw cannotWrite(path, error);
  }
  discard(temporary);
  if (durable) syncDirectoryOf(path);
}

/**
 * Makes a directory, and those above it, that everybody may search. The umask is set, not the mode afterwards: a call
 * that is killed in between must not leave one that is closed to Apache.
 *
 * @throws BanctlError cannotWrite
 */
export function makeDirectory(directory: string): void {
  const umask = process.umask(0o022);
  try {
    makeWithParents(directory);
  } catch (error) {
    const inItsPlace = { why: 'something else is in its place', hint: 'move it away' };
    const { why, hint } = reasonOf(error, {
      EEXIST: inItsPlace,
      ENOENT: { why: 'no directory can be made there', hint: 'give another path' },
      ENOTDIR: inItsPlace,
    });
    throw new BanctlError(EXIT.cannotWrite, `cannot make ${directory}: ${why}`, hint);
  } finally {
    process.umask(umask);
  }
}

/** Node's own `recursive` never ends where a directory exists but takes none, such as in /proc. */
function makeWithParents(directory: string): void {
  const parent = dirname(directory);
  if (lstat(parent) === undefined) makeWithParents(parent);
  try {
    mkdirSync(directory, { mode: 0o755 });
    // A ban in a directory that a power cut takes away would be lost, however durable its file is.
    syncDirectory(parent);
  } catch (error) {
    // Another call may be faster.
    if (systemCode(error) !== 'EEXIST' || !statSync(directory).isDirectory()) throw error;
  }
}

/** Right before the rename: what others write between the two, and only that, is lost. */
function refuseChanged(path: string, seen: SeenFile | undefined): void {
  if (seen !== undefined && statFile(path)?.version !== seen.version) throw new FileChanged();
}

/** A directory where maybe a process that was killed, or somebody else, has left something. */
function makeAnew(directory: string): void {
  try {
    mkdirSync(directory);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    discard(directory);
    mkdirSync(directory);
  }
}

/** Into the file that was made for it, and no other that has taken its place or is meant by a link. */
function writeWhole(path: string, pieces: readonly Uint8Array[], durable: boolean): void {
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    const { nlink, size } = fstatSync(descriptor);
    if (nlink > 1 || size !== 0)
      throw new BanctlError(
        EXIT.cannotWrite,
        `cannot write ${path}: another process has changed it`,
        'try again',
      );
    for (const piece of pieces) {
      for (let written = 0; written < piece.length; ) {
        const count = Math.min(WRITTEN_AT_ONCE, piece.length - written);
        written += writeSync(descriptor, piece, written, count);
      }
    }
    if (durable) fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** @throws BanctlError cannotWrite: the change is made, but a power cut may undo it */
function syncDirectoryOf(path: string): void {
  try {
    syncDirectory(dirname(path));
  } catch (error) {
    const { why, hint } = reasonOf(error);
    throw new BanctlError(EXIT.cannotWrite, `${path} was changed, but may not be on the disk: ${why}`, hint);
  }
}

/** Who takes a lock over removes the temporary file first, so that nothing can be done with it any more. */
function isGone(error: unknown, temporary: string | undefined): boolean {
  const path = error instanceof Error && 'path' in error ? error.path : undefined;
  return systemCode(error) === 'ENOENT' && temporary !== undefined && path === temporary;
}

/** What the system says, told as banctl does; anything else is thrown on. */
export function cannotWrite(path: string, error: unknown): BanctlError {
  if (error instanceof BanctlError) return error;
  if (systemCode(error) === undefined) throw error;
  const { why, hint } = reasonOf(error);
  const whole = 'the old file is whole';
  return new BanctlError(
    EXIT.cannotWrite,
    `cannot write ${path}: ${why}`,
    hint === undefined ? whole : `${hint}; ${whole}`,
  );
}
