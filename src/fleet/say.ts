import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Hold, now } from '../bans/hold.ts';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';

/*
 * Releases that the other hosts are to hear of. A call writes a file before it changes anything; the agent removes it when
 * the engine has the lift. Without a fleet, nothing of this is loaded.
 */

export interface Saying {
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
const LONGEST_WAIT_MS = 1100;

export function saidDirectory(state: string): string {
  return join(state, 'said');
}

/**
 * Says that these are released, as far as they are among `seen`. When it returns, the clock has passed that time, so that a ban
 * that follows is a new one.
 *
 * @throws BanctlError cannotWrite: then nothing may be changed
 */
export async function say(state: string, keys: readonly string[], seen: readonly Hold[]): Promise<void> {
  if (keys.length === 0) return;
  const newest = seen.reduce((latest, { since }) => Math.max(latest, since), 0);
  const time = Math.max(now() - 1, newest);
  const waitMs = (time + 1) * 1000 - Date.now();
  if (waitMs > 0) await sleep(Math.min(waitMs, LONGEST_WAIT_MS));
  const directory = saidDirectory(state);
  makeDirectory(directory);
  const name = `${Date.now()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  const saying: Saying = { keys, time };
  replaceFile(join(directory, name), [Buffer.from(`${JSON.stringify(saying)}\n`)], { lock: undefined });
}

/** The holds of a jail that its unban ends before their time. */
export function endedEarly(holder: string, seen: readonly Hold[]): Hold[] {
  return seen.filter(
    (hold) => hold.holder === holder && (hold.until === null || hold.until > now() + ENDING_SECONDS),
  );
}

/** What waits to be heard, by the files' names; a file that cannot be read says nothing. */
export function readSaid(state: string): Map<string, Saying> {
  const said = new Map<string, Saying>();
  for (const name of namesIn(saidDirectory(state))
    .filter((one) => NAME.test(one))
    .sort()) {
    const saying = readSaying(join(saidDirectory(state), name));
    if (saying !== undefined) said.set(name, saying);
  }
  return said;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function readSaying(path: string): Saying | undefined {
  try {
    const { keys, time } = JSON.parse(readText(path).text.toString('utf8'));
    const isSaying = Array.isArray(keys) && keys.every((key) => typeof key === 'string');
    return isSaying && Number.isSafeInteger(time) ? { keys, time } : undefined;
  } catch {
    return undefined;
  }
}
