import { readAddress } from '../bans/address.ts';
import {
  cleanReason,
  type Hold,
  holderOf,
  isJailName,
  isOfOtherHost,
  jailOf,
  LAST_SECOND,
  MANUAL,
} from '../bans/hold.ts';
import { ALL } from './lift-notes.ts';

/*
 * What hosts share, as the engine keeps it: fields `ADDRESS HOLDER@HOST` with values `[since, until, reason]`, and lifts.
 * Everything is canonical, so that equal texts are equal holds; what is not canonical is not read.
 */

/** What a hold says, apart from whose it is and of which address. */
export type Value = Pick<Hold, 'since' | 'until' | 'reason'>;

/** A time in whole seconds for each thing that was lifted: `*`, `ADDRESS`, or `ADDRESS HOLDER@HOST`. */
export type Lifts = ReadonlyMap<string, number>;

/** How long a lift is remembered. */
export const REMEMBERED_SECONDS = 30 * 24 * 3600;

/**
 * What begins so far ahead is from a clock that was wrong, or an attacker. Such a ban could never be lifted, and such a lift would
 * free for ever.
 */
export const FUTURE_SECONDS = 24 * 3600;

const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;
const LONGEST_FIELD = 400;
export const LONGEST_VALUE = 4000;

export function isHostName(name: string): boolean {
  return HOST.test(name);
}

/** `HOLDER@HOST` of a holder of this host, or of another. */
export function holderAt(holder: string, self: string): string {
  return isOfOtherHost(holder) ? holder : `${holder}@${self}`;
}

export function hostOf(holder: string): string {
  return holder.slice(holder.lastIndexOf('@') + 1);
}

export function fieldOf({ address, holder }: Pick<Hold, 'address' | 'holder'>, self: string): string {
  return `${address} ${holderAt(holder, self)}`;
}

/** Undefined for what no host would write. */
export function readField(field: string): Pick<Hold, 'address' | 'holder'> | undefined {
  if (field.length > LONGEST_FIELD) return undefined;
  const blank = field.indexOf(' ');
  const address = field.slice(0, Math.max(blank, 0));
  const holder = field.slice(blank + 1);
  if (readAddress(address)?.text !== address) return undefined;
  const [local = '', host = '', ...more] = holder.split('@');
  if (more.length > 0 || !isHostName(host) || !isJailName(local)) return undefined;
  return local === MANUAL || holderOf(jailOf(local)) === local ? { address, holder } : undefined;
}

export function formatValue({ since, until, reason }: Value): string {
  return JSON.stringify([since, until, reason]);
}

/** Undefined for what {@link formatValue} would write in another way, or the list could not keep. */
export function readValue(text: string): Value | undefined {
  if (text.length > LONGEST_VALUE) return undefined;
  let parts: unknown;
  try {
    parts = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(parts) || parts.length !== 3) return undefined;
  const [since, until, reason] = parts;
  if (!isWhole(since) || !(until === null || isWhole(until))) return undefined;
  if (!(reason === null || (typeof reason === 'string' && reason !== '' && cleanReason(reason) === reason)))
    return undefined;
  const value: Value = { since, until, reason };
  return formatValue(value) === text ? value : undefined;
}

function isWhole(time: unknown): time is number {
  return Number.isSafeInteger(time) && Number(time) >= 0 && Number(time) <= LAST_SECOND;
}

/** True for the key of a lift. */
export function isLiftKey(key: string): boolean {
  return (
    key === ALL ||
    (key.length <= LONGEST_FIELD && readAddress(key)?.text === key) ||
    readField(key) !== undefined
  );
}

export function sameValue(one: Value, other: Value): boolean {
  return one.since === other.since && one.until === other.until && one.reason === other.reason;
}

/** The lift that a hold has to be newer than, with its key; undefined if there is none. */
export function liftOf(
  lifts: Lifts,
  address: string,
  field: string,
): { readonly key: string; readonly time: number } | undefined {
  let found: { key: string; time: number } | undefined;
  for (const key of [ALL, address, field]) {
    const time = lifts.get(key);
    if (time !== undefined && (found === undefined || time > found.time)) found = { key, time };
  }
  return found;
}

/** True if the first hold runs longer than the second. */
export function runsLonger(one: Value, other: Value): boolean {
  return other.until !== null && (one.until === null || one.until > other.until);
}
