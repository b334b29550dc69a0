import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Hold, isByHand, now } from '../bans/hold.ts';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';

/*
 * Releases that the other hosts are to hear of. A call writes a file before it changes anything; the agent removes it when
 * the engine has the lift. Without a fleet, nothing of this is loaded.
 */

export interface LiftNote {
  /** `*`, `ADDRESS`, or `ADDRESS HOLDER` for a hold of this host. */
  readonly keys: readonly string[];
  /** What was held at this time or before is released. Seconds. */
  readonly time: number;
}

/** The key of the lift of everything. */
export const ALL = '*';

/** A hold that ends in a moment ends by itself, everywhere. Seconds. */
const ENDING_SECONDS = 2;
const NAME = /^\d{13}-\d+-[0-9a-f]{8}$/;
const LONGEST_WAIT_MS = 2100;

export function liftNotesDirectory(state: string): string {
  return join(state, 'said');
}

/**
 * The time of a release: none of the holds that the call has seen is newer. fail2ban rounds the time of a ban, so what it
 * restores can begin a second later than the list says. What it has released itself, it does not restore. Seconds.
 */
export function liftTime(seen: readonly Hold[], now: number, isByJail: boolean): number {
  return seen.reduce((latest, { holder, since }) => {
    const isRestored = !isByJail && !isByHand(holder);
    return Math.max(latest, isRestored ? since + 1 : since);
  }, now - 1);
}

/**
 * Notes that these are released, as far as they are among `seen`. When it returns, the clock has passed that time, so that a ban
 * that follows is a new one: only an unban within two seconds of the ban has to wait.
 *
 * @param isByJail the jail has released them itself
 * @throws BanctlError cannotWrite: then nothing may be changed
 */
export async function noteLift(
  state: string,
  keys: readonly string[],
  seen: readonly Hold[],
  isByJail = false,
): Promise<void> {
  if (keys.length === 0) return;
  const time = liftTime(seen, now(), isByJail);
  const waitMs = (time + 1) * 1000 - Date.now();
  if (waitMs > 0) await sleep(Math.min(waitMs, LONGEST_WAIT_MS));
  const directory = liftNotesDirectory(state);
  makeDirectory(directory);
  const name = `${Date.now()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  const note: LiftNote = { keys, time };
  replaceFile(join(directory, name), [Buffer.from(`${JSON.stringify(note)}\n`)], { lock: undefined });
}

/** The holds of a jail that its unban ends before their time. */
export function endedEarly(holder: string, seen: readonly Hold[]): Hold[] {
  return seen.filter(
    (hold) => hold.holder === holder && (hold.until === null || hold.until > now() + ENDING_SECONDS),
  );
}

/** What waits to be heard, by the files' names; a file that cannot be read says nothing. */
export function readLiftNotes(state: string): Map<string, LiftNote> {
  const notes = new Map<string, LiftNote>();
  for (const name of namesIn(liftNotesDirectory(state))
    .filter((one) => NAME.test(one))
    .sort()) {
    const note = readLiftNote(join(liftNotesDirectory(state), name));
    if (note !== undefined) notes.set(name, note);
  }
  return notes;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function readLiftNote(path: string): LiftNote | undefined {
  try {
    const { keys, time } = JSON.parse(readText(path).text.toString('utf8'));
    const isNote = Array.isArray(keys) && keys.every((key) => typeof key === 'string');
    return isNote && Number.isSafeInteger(time) ? { keys, time } : undefined;
  } catch {
    return undefined;
  }
}
