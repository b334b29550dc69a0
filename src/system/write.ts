import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { copyAttributes } from './attributes.ts';
import { BanctlError, EXIT, reasonOf, systemCode } from './errors.ts';
import { FileChanged, type Lock, LockLost } from './held-lock.ts';
import { lstat } from './links.ts';
import { type FileContent, type FileVersion, statFile } from './read.ts';
import { syncDirectory } from './sync-directory.ts';

/** The version of a file as it was read; undefined if it did not exist. */
export type SeenFile = Pick<FileContent, 'version'>;
/** Called with the reason if access lists and extended attributes are lost. */
export type OnLoss = (why: string) => void;
/** Of more in one call the kernel makes larger units of memory, for which it may have to move others. */
const WRITE_CHUNK_BYTES = 2 ** 18;

/**
 * Replaces a file by one that contains `pieces`, in one step: readers see the complete old or the complete new text, even
 * after a crash or on a full disk. Mode and owner stay; a new file gets `mode`, and so does any file without `keepsMode`. With
 * `durable`, the file and its directory are on the disk when this returns. `seen` is the version that the new text is based on:
 * if a program that takes no lock changed the file since, the file stays. Without a lock, the last of two writers wins. With
 * `keepsAttributes`, access lists and extended attributes stay too.
 *
 * @throws Overtaken if the lock was taken over or the file changed; BanctlError cannotWrite
 */
export function replaceFile(
  path: string,
  pieces: readonly Uint8Array[],
  {
    lock,
    seen,
    durable = true,
    mode = 0o644,
    keepsMode = true,
    keepsAttributes,
  }: {
    lock: Lock | undefined;
    seen?: SeenFile;
    durable?: boolean;
    mode?: number;
    keepsMode?: boolean;
    keepsAttributes?: OnLoss | undefined;
  },
): void {
  let temporary: string | undefined;
  try {
    const existing = statSync(path, { bigint: true, throwIfNoEntry: false });
    // A rename would replace even /dev/null by a file.
    if (existing?.isFile() === false)
      throw new BanctlError(
        EXIT.cannotWrite,
        `cannot write ${path}: it is not a regular file`,
        'move it away, or give another path',
      );
    // The library ignores short writes, so its hook writes the text and checks each count.
    writeFileAtomic.sync(path, '', {
      mode: existing === undefined || !keepsMode ? mode : Number(existing.mode) & 0o7777,
      // Else the library asks for it once more.
      ...(existing === undefined ? {} : { chown: { uid: Number(existing.uid), gid: Number(existing.gid) } }),
      fsync: false,
      tmpfileCreated(created) {
        temporary = created;
        lock?.registerTemporary(created);
        if (keepsAttributes !== undefined) keepAttributes(path, created, keepsAttributes);
        writeWhole(created, pieces, durable);
        refuseChanged(path, seen);
      },
    });
  } catch (error) {
    if (lock !== undefined && isGone(error, temporary)) throw new LockLost();
    throw cannotWrite(path, error);
  }
  if (durable) syncDirectoryOf(path);
}

/** The version of a file that was just written. If another program has removed it already, an empty one, which matches none. */
export function versionWritten(path: string): FileVersion {
  return statFile(path)?.version ?? '';
}

/**
 * Makes a directory, and its parents, that all users may search. The umask is set instead of the mode afterwards: a call
 * that is killed in between must not leave a directory that Apache cannot search.
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
      ENOENT: { why: 'the file system allows no directory there', hint: 'give another path' },
      ENOTDIR: inItsPlace,
    });
    throw new BanctlError(EXIT.cannotWrite, `cannot make ${directory}: ${why}`, hint);
  } finally {
    process.umask(umask);
  }
}

/** Node's own `recursive` loops for ever below a directory that takes no entries, such as /proc. */
function makeWithParents(directory: string): void {
  const parent = dirname(directory);
  if (lstat(parent) === undefined) makeWithParents(parent);
  try {
    mkdirSync(directory, { mode: 0o755 });
    // If a power cut removed the directory, a ban in it would be lost however durable its file is.
    syncDirectory(parent);
  } catch (error) {
    // Another call may have made it first.
    if (systemCode(error) !== 'EEXIST' || !statSync(directory).isDirectory()) throw error;
  }
}

function keepAttributes(path: string, created: string, onLoss: OnLoss): void {
  const lost = copyAttributes(path, created);
  if (lost !== undefined) onLoss(lost);
}

/** Called right before the rename. Only what others write between the two is lost. @throws FileChanged */
export function refuseChanged(path: string, seen: SeenFile | undefined): void {
  if (seen !== undefined && statFile(path)?.version !== seen.version) throw new FileChanged();
}

/** Writes into the file that was created for it, and not into a file or link that has taken its place. */
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
    for (const piece of joined(pieces)) {
      for (let written = 0; written < piece.length; ) {
        const count = Math.min(WRITE_CHUNK_BYTES, piece.length - written);
        written += writeSync(descriptor, piece, written, count);
      }
    }
    if (durable) fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Pieces that fit into one call are written by one. */
function joined(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return bytes > WRITE_CHUNK_BYTES ? pieces : [Buffer.concat(pieces)];
}

/** @throws BanctlError cannotWrite: the change is made, but a power cut may undo it */
export function syncDirectoryOf(path: string): void {
  try {
    syncDirectory(dirname(path));
  } catch (error) {
    const { why, hint } = reasonOf(error);
    throw new BanctlError(EXIT.cannotWrite, `${path} was changed, but may not be on the disk: ${why}`, hint);
  }
}

/** A takeover of the lock removes the temporary file first, which makes the late holder fail here. */
function isGone(error: unknown, temporary: string | undefined): boolean {
  const path = error instanceof Error && 'path' in error ? error.path : undefined;
  return systemCode(error) === 'ENOENT' && temporary !== undefined && path === temporary;
}

/** The system's error as banctl reports it. Rethrows every other error. */
export function cannotWrite(path: string, error: unknown): BanctlError {
  if (error instanceof BanctlError) return error;
  if (systemCode(error) === undefined) throw error;
  const { why, hint } = reasonOf(error);
  const whole = 'the old file is unchanged';
  return new BanctlError(
    EXIT.cannotWrite,
    `cannot write ${path}: ${why}`,
    hint === undefined ? whole : `${hint}; ${whole}`,
  );
}
