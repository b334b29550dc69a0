import { appendFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { LAST_SECOND } from '../bans/hold.ts';
import { BanctlError } from '../system/errors.ts';
import { withLock } from '../system/lock.ts';
import { readText } from '../system/read.ts';
import { FULL_BYTES, formatLine, type Happening, LINE_START } from '../system/record.ts';
import { replaceFile } from '../system/write.ts';
import { isAmount, isCount, NO_TOTALS, readTotals, sumTotals, type Totals } from './totals.ts';

/*
 * Reads the record, and keeps it short: two files, of which the older goes when the newer is long. What it had counted
 * is carried over in one line, so that a counter never goes back. Only the holder of the record's lock does that.
 */

/** An entry of the record, with its time in seconds since the epoch. */
export type Entry = Happening & { readonly at: number };

export interface RecordRead {
  readonly entries: readonly Entry[];
  readonly totals: Totals;
  /** When the oldest entry that is left was written, seconds since the epoch; null for an empty record. */
  readonly since: number | null;
  /** Nothing is appended any more. */
  readonly isFull: boolean;
}

/** The newer file may become as long as this. Bytes. */
const LONG_BYTES = 4 * 2 ** 20;
const LOCK_SECONDS = 5;
const EMPTY: RecordRead = { entries: [], totals: NO_TOTALS, since: null, isFull: false };

/** The line that carries over what a file that has gone had counted. */
interface Carried {
  /** Identifies it. */
  readonly carried: string;
  /** The inode of the newer file: if the older one has it, that file has gone. */
  readonly file: number;
  readonly totals: Totals;
}

type Line = Entry | (Carried & { readonly at: number });

/**
 * Reads what is recorded, and shortens the record if it is long. A user who may not lock the record reads it as it is.
 *
 * @param longBytes from which size on the newer file becomes the older one
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

/** Drops the older file, makes the newer one the older, and begins a new one with what the dropped one had counted. */
function rotate(path: string): void {
  const carried: Carried = {
    carried: `${process.pid}-${Date.now()}`,
    file: inodeOf(path),
    totals: totalsOf(linesOf(olderPath(path))),
  };
  // Without space for this line nothing is dropped.
  replaceFile(nextPath(path), [Buffer.from(formatLine(Date.now(), carried))], {
    lock: undefined,
    mode: 0o640,
  });
  renameSync(path, olderPath(path));
  finishRotation(path);
}

/** Appends the carried line, once. A rotation that was killed is finished, or undone, by the next reader. */
function finishRotation(path: string): void {
  const [line] = linesOf(nextPath(path));
  if (line !== undefined && 'carried' in line && line.file === inodeOf(olderPath(path))) {
    const isThere = linesOf(path).some((other) => 'carried' in other && other.carried === line.carried);
    if (!isThere) appendFileSync(path, readText(nextPath(path)).text, { mode: 0o640 });
  }
  rmSync(nextPath(path), { force: true });
}

/** What can be read of a file's lines: one may be torn, by a full disk, and the next stand behind it. */
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

/** Any program that can write the file could have put anything there. */
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
