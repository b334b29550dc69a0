import { appendFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { LAST_SECOND } from '../bans/hold.ts';
import { BanctlError } from '../system/errors.ts';
import { withLock } from '../system/lock.ts';
import { readText } from '../system/read.ts';
import { FULL_BYTES, formatLine, type Happening, LINE_START } from '../system/record.ts';
import { replaceFile } from '../system/write.ts';
import { isAmount, isCount, NO_TOTALS, readTotals, sumTotals, type Totals } from './totals.ts';

/*
 * Reads the record, and keeps it short with two files: when the newer one is long, the older one goes. One line carries over
 * its counts, so that a counter never goes back. Only the holder of the record's lock does that.
 */

/** An entry of the record, with its time in seconds since the epoch. */
export type Entry = Happening & { readonly at: number };

export interface RecordRead {
  readonly entries: readonly Entry[];
  readonly totals: Totals;
  /** The time of the oldest remaining entry, seconds since the epoch; null for an empty record. */
  readonly since: number | null;
  /** The record is full: banctl appends nothing more. */
  readonly isFull: boolean;
}

/** The limit of the newer file. Bytes. */
const LONG_BYTES = 4 * 2 ** 20;
const LOCK_SECONDS = 5;
const EMPTY: RecordRead = { entries: [], totals: NO_TOTALS, since: null, isFull: false };

/** The line that carries over the counts of a removed file. */
interface Carried {
  /** Identifies it. */
  readonly carried: string;
  /** The inode of the newer file: if the older file has it, the removed file is gone. */
  readonly file: number;
  readonly totals: Totals;
}

type Line = Entry | (Carried & { readonly at: number });

/**
 * Reads the record, and shortens it if it is long. A user who may not lock the record only reads it.
 *
 * @param longBytes the size from which the newer file becomes the older one
 */
export function readRecord(path: string | undefined, longBytes = LONG_BYTES): RecordRead {
  if (path === undefined || (inodeOf(path) === 0 && inodeOf(olderPath(path)) === 0)) return EMPTY;
  try {
    return withLock(path, { timeout: LOCK_SECONDS }, () => {
      finishRotation(path);
      if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > longBytes) rotate(path);
      return readFiles(path);
    });
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    return readFiles(path);
  }
}

function readFiles(path: string): RecordRead {
  const lines = [...linesOf(olderPath(path)), ...linesOf(path)];
  const entries = lines.filter((line): line is Entry => 'did' in line);
  return {
    entries,
    totals: totalsOf(lines),
    since: entries.reduce<number | null>((least, { at }) => Math.min(least ?? at, at), null),
    isFull: (statSync(path, { throwIfNoEntry: false })?.size ?? 0) >= FULL_BYTES,
  };
}

function totalsOf(lines: readonly Line[]): Totals {
  return sumTotals(lines.map((line) => ('did' in line ? line : line.totals)));
}

/** Removes the older file, renames the newer one to it, and begins a new one with the removed file's counts. */
function rotate(path: string): void {
  const carried: Carried = {
    carried: `${process.pid}-${Date.now()}`,
    file: inodeOf(path),
    totals: totalsOf(linesOf(olderPath(path))),
  };
  // Without space for this line, nothing is removed.
  replaceFile(nextPath(path), [Buffer.from(formatLine(Date.now(), carried))], {
    lock: undefined,
    mode: 0o640,
  });
  renameSync(path, olderPath(path));
  finishRotation(path);
}

/** Appends the carried line, once. The next reader finishes or undoes a rotation that was killed. */
function finishRotation(path: string): void {
  const [line] = linesOf(nextPath(path));
  if (line !== undefined && 'carried' in line && line.file === inodeOf(olderPath(path))) {
    const isThere = linesOf(path).some((other) => 'carried' in other && other.carried === line.carried);
    if (!isThere) appendFileSync(path, readText(nextPath(path)).text, { mode: 0o640 });
  }
  rmSync(nextPath(path), { force: true });
}

/** The readable lines of a file: a full disk can tear a line, and the next line then follows it directly. */
function linesOf(path: string): Line[] {
  const text = readText(path).text.toString('utf8');
  return text.split('\n').flatMap((line) => {
    const begin = line.lastIndexOf(LINE_START);
    return begin === -1 ? [] : (parseLine(line.slice(begin)) ?? []);
  });
}

function parseLine(text: string): Line | undefined {
  try {
    const { at, ...line } = JSON.parse(text);
    if (!isCount(at) || at > LAST_SECOND) return undefined;
    const carried = typeof line.carried === 'string' ? readTotals(line.totals) : undefined;
    if (carried !== undefined) return { at, carried: line.carried, file: Number(line.file), totals: carried };
    return isHappening(line) ? { at, ...line } : undefined;
  } catch {
    return undefined;
  }
}

/** Any program that can write the file may have put anything into it. */
function isHappening(line: Readonly<Record<string, unknown>>): line is Happening & Record<string, unknown> {
  const { did, by, count, lifted, how, why, result, seconds, addresses } = line;
  const isBy = by === null || typeof by === 'string';
  const isList =
    addresses === undefined ||
    (Array.isArray(addresses) && addresses.every((one) => typeof one === 'string'));
  if (did === 'reload') return (result === 'done' || result === 'failed') && isAmount(seconds);
  if (!isBy || !isList || !isCount(count)) return false;
  if (did === 'ban') return true;
  if (did === 'unban') return typeof how === 'string' && isCount(lifted);
  return did === 'refuse' && typeof why === 'string';
}

function inodeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? 0;
}

function olderPath(path: string): string {
  return `${path}.1`;
}

function nextPath(path: string): string {
  return `${path}.next`;
}
