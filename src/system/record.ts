import { closeSync, constants, existsSync, fstatSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/*
 * The record: one line for each ban, unban, refusal and reload, so that counters outlive a call and the report knows
 * what ended. A line is appended in one write, which the kernel keeps whole beside other writers. It is never synced,
 * and a record that cannot be written is no reason for a ban to fail. src/report/record.ts reads it and keeps it short.
 */

/** What happened. `by` is a jail; null is a person. */
export type Happening =
  | {
      readonly did: 'ban';
      readonly by: string | null;
      readonly count: number;
      readonly addresses?: Addresses;
    }
  | {
      readonly did: 'unban';
      readonly by: string | null;
      /** Which command lifted them: unban, flush, sync, or audit. */
      readonly how: string;
      /** Those that this call released; `lifted` also has those that fail2ban released when this call asked it to. */
      readonly count: number;
      readonly lifted: number;
      readonly addresses?: Addresses;
    }
  | {
      readonly did: 'refuse';
      readonly by: string | null;
      readonly why: RefusalReason;
      readonly count: number;
      readonly addresses?: Addresses;
    }
  | { readonly did: 'reload'; readonly result: 'done' | 'failed'; readonly seconds: number };

export type RefusalReason = 'protected' | 'too-broad' | 'unusable';

type Addresses = readonly string[];

/** Of a call with more addresses, only the number is kept. */
const MOST_ADDRESSES = 20;
/** Where neither audit nor report runs to shorten it, the record ends here. Bytes. */
export const FULL_BYTES = 16 * 2 ** 20;
/** How every line begins: text within JSON has its quotes escaped, so this marks the next line after a torn one. */
export const LINE_START = '{"at":';

const FLAGS =
  constants.O_WRONLY |
  constants.O_APPEND |
  constants.O_CREAT |
  // Root writes here: not through a link, and not into a pipe without a reader.
  constants.O_NOFOLLOW |
  constants.O_NONBLOCK;

/** Appends a line, if the record's directory exists. Without a path, nothing is recorded. */
export function record(path: string | undefined, happening: Happening): void {
  // Asked first, because an error of open(2) takes longer than all the rest.
  if (path === undefined || !existsSync(dirname(path))) return;
  try {
    const descriptor = openSync(path, FLAGS, 0o640);
    try {
      const stat = fstatSync(descriptor);
      if (stat.isFile() && stat.size < FULL_BYTES) writeSync(descriptor, formatLine(Date.now(), happening));
    } finally {
      closeSync(descriptor);
    }
  } catch {
    // No directory, no permission, no space: the report says since when the record has something.
  }
}

/** @param atMs milliseconds since the epoch */
export function formatLine(atMs: number, happening: object): string {
  return `${JSON.stringify({ at: Math.round(atMs / 1000), ...happening })}\n`;
}

/** The addresses of a call, if they are few enough to keep. */
export function fewAddresses(addresses: readonly string[]): { addresses?: Addresses } {
  return addresses.length > MOST_ADDRESSES ? {} : { addresses };
}
