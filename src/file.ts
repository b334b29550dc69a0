import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { BanctlError, EXIT, reasonOf, systemCode } from './errors.ts';
import { discard, FileChanged, type Lock, LockLost, REMOVED, syncDirectory } from './lock.ts';
import { pause } from './process.ts';

/** A version of a file: inode, size and time of change. Each replacement gives another one. */
export type FileVersion = string;

export interface FileContent {
  /** Empty where there is no file. */
  readonly text: Buffer;
  /** Undefined where there is no file. */
  readonly version: FileVersion | undefined;
  /** Last change, milliseconds since the epoch; 0 where there is no file. */
  readonly modified: number;
}

/** A file as it was read; undefined where there was none. */
type SeenFile = Pick<FileContent, 'version'>;

const MOST_LINKS = 40;
/** A text that banctl is to hold in memory, also as text of Node's and each ban of it as an object. Bytes. */
const LONGEST_TEXT = 2 ** 26;
const INPUT_PIECE = 65_536;
/** Of more in one call the kernel makes larger units of memory, for which it may have to move others. Bytes. */
const WRITTEN_AT_ONCE = 2 ** 18;

/**
 * Where a path leads, through symbolic links, also if the last of them points to a file that is not there yet:
 * the file is replaced, the links stay.
 */
export function followLinks(path: string): string {
  return follow(path, () => true);
}

/**
 * The same for a file that is to be written. In a directory that somebody else may write, the link could lead to any
 * file: one counts only if it is root's, or the caller's own.
 *
 * @throws BanctlError notUnderstood for another's
 */
export function followOwnLinks(path: string): string {
  return follow(path, isOwn);
}

/** True for root, and for whom banctl runs as. */
export function isOwn(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

function follow(path: string, isFollowed: (uid: number) => boolean): string {
  let target = resolve(path);
  for (let links = 0; links < MOST_LINKS; links += 1) {
    const stat = lstat(target);
    if (stat === undefined || !stat.isSymbolicLink()) return target;
    if (!isFollowed(stat.uid)) {
      const whose = `${target} is a symbolic link that belongs to user ${stat.uid}`;
      throw new BanctlError(
        EXIT.notUnderstood,
        `${whose}; nothing was changed, remove it, or make it root's`,
      );
    }
    target = resolve(dirname(target), readlinkSync(target));
  }
  throw new BanctlError(EXIT.notUnderstood, `${path} is a loop of symbolic links; remove it`);
}

/**
 * Where a path leads for a program whose root directory is `root`: no link leads out of it. The path, or its end, need
 * not be there yet.
 */
export function followLinksBelow(root: string, path: string): string {
  const left = stepsOf(path);
  let reached: string[] = [];
  for (let links = 0; links < MOST_LINKS; ) {
    const step = left.pop();
    if (step === undefined) return join(root, ...reached);
    const here = join(root, ...reached, step);
    if (step === '..') reached.pop();
    else if (lstat(here)?.isSymbolicLink()) {
      const target = readlinkSync(here);
      if (target.startsWith('/')) reached = [];
      left.push(...stepsOf(target));
      links += 1;
    } else reached.push(step);
  }
  throw new BanctlError(EXIT.notUnderstood, `${join(root, path)} is a loop of symbolic links; remove it`);
}

/** The names in a path, the last one first. */
function stepsOf(path: string): string[] {
  return path
    .split('/')
    .filter((step) => step !== '' && step !== '.')
    .reverse();
}

/** True if two paths lead to the same place, whatever links they take. */
export function isSamePlace(one: string, other: string): boolean {
  if (followLinks(one) === followLinks(other)) return true;
  const [first, second] = [one, other].map((path) => statSync(path, { bigint: true, throwIfNoEntry: false }));
  return first !== undefined && first.dev === second?.dev && first.ino === second.ino;
}

function lstat(path: string) {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw cannotRead(path, error);
  }
}

/** Reads a regular text file, if it is there. @throws BanctlError notUnderstood for anything else. */
export function readText(path: string): FileContent {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(descriptor, { bigint: true });
    if (!stat.isFile())
      throw new BanctlError(EXIT.notUnderstood, `${path} is not a regular file; nothing was changed`);
    if (stat.size > LONGEST_TEXT)
      throw new BanctlError(EXIT.notUnderstood, `${path} is larger than 64 MiB; nothing was changed`);
    const text = readWhole(descriptor, Number(stat.size));
    if (text.includes(0)) {
      throw new BanctlError(
        EXIT.notUnderstood,
        `${path} is not a text file: it holds NUL bytes; nothing was changed`,
      );
    }
    return { text, version: versionOf(stat), modified: Number(stat.mtimeNs / 1_000_000n) };
  } catch (error) {
    if (descriptor === undefined && systemCode(error) === 'ENOENT')
      return { text: Buffer.alloc(0), version: undefined, modified: 0 };
    throw cannotRead(path, error);
  } finally {
    if (descriptor !== undefined) closeQuietly(descriptor);
  }
}

/** What was read is whole, whatever becomes of the descriptor. */
function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor);
  } catch {
    // It is closed all the same: close(2).
  }
}

/**
 * Reads what a user gives to be read, a pipe too, up to its end: `banctl ban -`, `--config <(…)`.
 *
 * @param source a path, or the descriptor of an open file
 * @throws Error with the system's code, EFBIG for more than `most` bytes, or ENODATA for a pipe without a writer
 */
export function readInput(source: string | number, most: number): string {
  if (typeof source === 'number') return readUpTo(source, most).toString('utf8');
  const descriptor = openSync(source, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const bytes = readUpTo(descriptor, most);
    // To wait for who opens a named pipe may be to wait for ever; to go on without what it was to say is worse.
    if (bytes.length === 0 && fstatSync(descriptor).isFIFO()) throw failure('ENODATA');
    return bytes.toString('utf8');
  } finally {
    closeSync(descriptor);
  }
}

function readUpTo(descriptor: number, most: number): Buffer {
  const pieces: Buffer[] = [];
  for (let length = 0; length <= most; ) {
    const piece = Buffer.allocUnsafe(INPUT_PIECE);
    const count = readOrWait(descriptor, piece);
    if (count === 0) return Buffer.concat(pieces, length);
    pieces.push(piece.subarray(0, count));
    length += count;
  }
  throw failure('EFBIG');
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** What to say of an error of {@link readInput}. */
export function reasonOfInput(error: unknown): string {
  if (systemCode(error) === undefined) throw error;
  return reasonOf(error, {
    ENOENT: 'there is no such file',
    EBADF: 'it is not open for reading',
    EISDIR: 'it is a directory; give a file',
    EFBIG: 'it is too long; give a shorter one',
    ENODATA: 'nobody writes into that pipe; give a file',
  });
}

/** Whoever writes into a pipe that was made non-blocking may be slow. */
function readOrWait(descriptor: number, piece: Buffer): number {
  for (;;) {
    try {
      return readSync(descriptor, piece);
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
      pause(10);
    }
  }
}

/** Undefined if there is no such file. */
export function statFile(path: string): { version: FileVersion; modified: number } | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    return { version: versionOf(stat), modified: Number(stat.mtimeNs / 1_000_000n) };
  } catch {
    return undefined;
  }
}

/**
 * When a file, or the link to it, was last changed or put in its place; milliseconds since the epoch. A file that is
 * moved or copied there can keep an older time of its last change.
 */
export function putThere(path: string): number {
  const times = [lstatSync, statSync].map((stat) => stat(path, { throwIfNoEntry: false })?.ctimeMs ?? 0);
  return Math.max(...times);
}

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
        `cannot write ${path}: it is not a regular file; move it away, or give another path`,
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
    const inItsPlace = 'something else is in its place; move it away';
    const reason = reasonOf(error, {
      EEXIST: inItsPlace,
      ENOENT: 'no directory can be made there; give another path',
      ENOTDIR: inItsPlace,
    });
    throw new BanctlError(EXIT.cannotWrite, `cannot make ${directory}: ${reason}`);
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

function versionOf(stat: { ino: bigint; size: bigint; mtimeNs: bigint; ctimeNs: bigint }): FileVersion {
  return `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
}

function readWhole(descriptor: number, size: number): Buffer {
  const text = Buffer.allocUnsafeSlow(size);
  let length = 0;
  while (length < size) {
    const count = readSync(descriptor, text, length, size - length, length);
    if (count === 0) break;
    length += count;
  }
  return text.subarray(0, length);
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
        `cannot write ${path}: somebody else has changed it; try again`,
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
    throw new BanctlError(
      EXIT.cannotWrite,
      `${path} was changed, but may not be on the disk: ${reasonOf(error)}`,
    );
  }
}

/** Who takes a lock over removes the temporary file first, so that nothing can be done with it any more. */
function isGone(error: unknown, temporary: string | undefined): boolean {
  const path = error instanceof Error && 'path' in error ? error.path : undefined;
  return systemCode(error) === 'ENOENT' && temporary !== undefined && path === temporary;
}

export function cannotRead(path: string, error: unknown): BanctlError {
  if (systemCode(error) === undefined) throw error;
  return new BanctlError(EXIT.notUnderstood, `cannot read ${path}: ${reasonOf(error)}`);
}

/** What the system says, told as banctl does; anything else is thrown on. */
export function cannotWrite(path: string, error: unknown): BanctlError {
  if (error instanceof BanctlError) return error;
  if (systemCode(error) === undefined) throw error;
  return new BanctlError(EXIT.cannotWrite, `cannot write ${path}: ${reasonOf(error)}; the old file is whole`);
}
