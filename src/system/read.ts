import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, statSync } from 'node:fs';
import { BanctlError, EXIT, type ExitCode, reasonOf, systemCode } from './errors.ts';
import { pause } from './process.ts';
/** A version of a file: inode, size and times of change. Each replacement makes a new version. */
export type FileVersion = string;

export interface FileContent {
  /** Empty if the file does not exist. */
  readonly text: Buffer;
  /** Undefined if the file does not exist. */
  readonly version: FileVersion | undefined;
  /** Last change, milliseconds since the epoch; 0 if the file does not exist. */
  readonly modified: number;
}
/** Limit of a text that banctl keeps in memory, also as a string and with an object for each ban. */
export const LONGEST_TEXT_BYTES = 2 ** 26;
const INPUT_PIECE_BYTES = 65_536;

/**
 * Reads a regular text file if it exists.
 *
 * @param isBlankOfNuls true: NUL bytes alone are an empty text. A power cut can leave them in place of a text that was not
 * synced (ext4, delayed allocation)
 * @throws BanctlError notUnderstood for anything else
 */
export function readText(path: string, isBlankOfNuls = false): FileContent {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(descriptor, { bigint: true });
    if (!stat.isFile())
      throw new BanctlError(EXIT.notUnderstood, `${path} is not a regular file`, 'nothing was changed');
    if (stat.size > LONGEST_TEXT_BYTES)
      throw new BanctlError(EXIT.notUnderstood, `${path} is larger than 64 MiB`, 'nothing was changed');
    const whole = readWhole(descriptor, Number(stat.size));
    const text = isBlankOfNuls && whole.every((byte) => byte === 0) ? Buffer.alloc(0) : whole;
    if (text.includes(0)) {
      throw new BanctlError(
        EXIT.notUnderstood,
        `${path} is not a text file: it contains NUL bytes`,
        'nothing was changed',
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

/** The text is complete by then, so an error changes nothing. */
function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor);
  } catch {
    // Linux releases the descriptor even so: close(2).
  }
}

/**
 * Reads a user's input to its end, pipes included: `banctl ban -`, `--config <(…)`.
 *
 * @param source a path, or the descriptor of an open file
 * @throws Error with the system's code, EFBIG for more than `most` bytes, or ENODATA for a pipe without a writer
 */
export function readInput(source: string | number, most: number): string {
  if (typeof source === 'number') return readUpTo(source, most).toString('utf8');
  const descriptor = openSync(source, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const bytes = readUpTo(descriptor, most);
    // Waiting for a writer of a named pipe could last for ever, and going on without its content would be worse.
    if (bytes.length === 0 && fstatSync(descriptor).isFIFO()) throw failure('ENODATA');
    return bytes.toString('utf8');
  } finally {
    closeSync(descriptor);
  }
}

function readUpTo(descriptor: number, most: number): Buffer {
  const pieces: Buffer[] = [];
  for (let length = 0; length <= most; ) {
    const piece = Buffer.allocUnsafe(INPUT_PIECE_BYTES);
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

/** The error of {@link readInput} as banctl reports it, under the name that `what` gives the input. */
export function cannotReadInput(what: string, error: unknown, exitCode: ExitCode): BanctlError {
  if (systemCode(error) === undefined) throw error;
  const { why, hint } = reasonOf(error, {
    ENOENT: { why: 'the file does not exist' },
    EBADF: { why: 'it is not open for reading' },
    EISDIR: { why: 'it is a directory', hint: 'give a file' },
    EFBIG: { why: 'it is too long', hint: 'give a shorter one' },
    ENODATA: { why: 'the pipe has no writer', hint: 'give a file' },
  });
  return new BanctlError(exitCode, `cannot read ${what}: ${why}`, hint);
}

/** The writer of a non-blocking pipe may be slow. */
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

/** Undefined if the file does not exist. */
export function statFile(path: string): { version: FileVersion; modified: number } | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    return { version: versionOf(stat), modified: Number(stat.mtimeNs / 1_000_000n) };
  } catch {
    return undefined;
  }
}

/**
 * When a file, or the link to it, last changed or appeared at its path; milliseconds since the epoch. The time of the last
 * change alone can be older: moving or copying a file can keep it.
 */
export function putThere(path: string): number {
  const times = [lstatSync, statSync].map((stat) => stat(path, { throwIfNoEntry: false })?.ctimeMs ?? 0);
  return Math.max(...times);
}

export function versionOf(stat: {
  ino: bigint;
  size: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
}): FileVersion {
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

export function cannotRead(path: string, error: unknown): BanctlError {
  if (systemCode(error) === undefined) throw error;
  const { why, hint } = reasonOf(error);
  return new BanctlError(EXIT.notUnderstood, `cannot read ${path}: ${why}`, hint);
}
