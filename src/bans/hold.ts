import { BanctlError, EXIT } from '../system/errors.ts';
import { printable, quote } from '../system/printable.ts';
import { readAddress } from './address.ts';

/** One holder's reason for a ban. Times are whole seconds since the epoch. */
export interface Hold {
  /** {@link MANUAL}, a jail as {@link holderOf} writes it, or either on another host: `HOLDER@HOST`. */
  readonly holder: string;
  /** Canonical text of the address that was asked for; the ban may be a wider range. */
  readonly address: string;
  /** By what the jail counts, where that is not the address (`<F-ID>`): it holds the address once for each. */
  readonly id?: string | undefined;
  readonly since: number;
  /** null: for ever. */
  readonly until: number | null;
  readonly reason: string | null;
}

/** What distinguishes a hold from every other. */
export type HoldName = Pick<Hold, 'holder' | 'address' | 'id'>;

/** The holder of bans made by hand. No jail has this name: see {@link holderOf}. */
export const MANUAL = 'manual';
const JAIL_CALLED_MANUAL = '%6Danual';

/** The beginning of a comment line with holds. */
export const HOLDS_PREFIX = '# banctl ';
/** Follows it in the comment of a network that is banned instead of its addresses; the number of addresses comes next. */
const WIDENED = 'widened after ';
/** The beginning of such a network's comment, and of no other. */
export const WIDENED_PREFIX = HOLDS_PREFIX + WIDENED;
const BEGIN = /^# banctl (?:widened after (\d{1,9}) )?\| /;

/** The last time that {@link formatTime} can write. Seconds since the epoch. */
export const LAST_SECOND = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;
const LONGEST_REASON = 500;
const LONGEST_ID = 255;
const KEPT_OF_LONG_ID = 200;
/**
 * How a reason begins that carries an id: a version that knows none shows it as part of the reason. No reason begins so by
 * itself, because its `%` is escaped.
 */
const ID_PREFIX = '%id=';
const TIME = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`;
const HOLD = new RegExp(String.raw`^(\S+) (\S+) since (${TIME}) (?:until (${TIME})|for ever)(?:: (.+))?$`);
/** Unlike Unicode classes, V8 compiles this without delay. */
const PLAIN = /^[\x20-\x7e]*$/;
const ISO = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?$/;

/**
 * The text at the beginning of exactly one hold: the action searches for it with `grep -F`. A holder's name, an address and
 * a reason never contain a bar (it is escaped), so a client cannot forge this text.
 */
export function holdMark(holder: string, address: string): string {
  return `| ${holderText(holder)} ${address} since `;
}

/** The comment line for a ban's holds, without its line end. */
export function formatHolds(holds: readonly Hold[], widenedAfter?: number): string {
  const why = widenedAfter === undefined ? '' : `${WIDENED}${widenedAfter} `;
  return HOLDS_PREFIX + why + holds.map(formatHold).join(' ');
}

function formatHold(hold: Hold): string {
  const end = hold.until === null ? 'for ever' : `until ${formatTime(hold.until)}`;
  const id = hold.id === undefined ? '' : ` ${ID_PREFIX}${encodeURIComponent(hold.id)}`;
  const reason = hold.reason === null ? '' : ` ${escapeReason(hold.reason)}`;
  const colon = id === '' && reason === '' ? '' : ':';
  return `${holdMark(hold.holder, hold.address)}${formatTime(hold.since)} ${end}${colon}${id}${reason}`;
}

/** Parses what {@link formatHolds} wrote; undefined for any other line. */
export function parseHolds(line: string): Hold[] | undefined {
  const [begin] = line.startsWith(HOLDS_PREFIX) ? (BEGIN.exec(line) ?? []) : [];
  if (begin === undefined) return undefined;
  const holds: Hold[] = [];
  for (const text of line.slice(begin.length).split(' | ')) {
    const [, name, address, since, until, reason] = HOLD.exec(text) ?? [];
    const holder = readHolder(name ?? '');
    if (holder === undefined || address === undefined || since === undefined) return undefined;
    const sinceSeconds = secondsOf(since);
    const untilSeconds = until === undefined ? null : secondsOf(until);
    if (Number.isNaN(sinceSeconds) || Number.isNaN(untilSeconds)) return undefined;
    holds.push({
      holder,
      address,
      since: sinceSeconds,
      until: untilSeconds,
      ...readWhy(reason),
    });
  }
  return holds;
}

/** Of a time in a comment; thousands of bans have the same. */
const secondsOf = remembering((text: string) => Date.parse(text) / 1000);

/** The id and the reason, as {@link formatHold} writes them. */
function readWhy(text: string | undefined): Pick<Hold, 'id' | 'reason'> {
  if (text === undefined) return { reason: null };
  if (!text.startsWith(ID_PREFIX)) return { reason: cleanReason(unescapeReason(text)) };
  const [word = '', ...words] = text.slice(ID_PREFIX.length).split(' ');
  const id = decoded(word);
  if (id === undefined) return { reason: cleanReason(unescapeReason(text)) };
  return { id: cleanId(id), reason: cleanReason(unescapeReason(words.join(' '))) };
}

/** Undefined for nothing, and for what cannot have been escaped. */
function decoded(word: string): string | undefined {
  try {
    return decodeURIComponent(word) || undefined;
  } catch {
    return undefined;
  }
}

/** The id of a jail's hold on an address; undefined if the jail counts by the address itself. */
export function holdId(counted: string, address: string): string | undefined {
  const isAddress = counted === address || readAddress(counted)?.text === (readAddress(address)?.text ?? '');
  return counted === '' || isAddress ? undefined : cleanId(counted);
}

/** An attacker chooses it: a long one is kept as its beginning and a sum of all of it. */
export function cleanId(input: string): string {
  const text = input.toWellFormed();
  if (text.length <= LONGEST_ID) return text;
  let sum = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1)
    sum = Math.imul(sum ^ text.charCodeAt(index), 0x01000193);
  return `${text.slice(0, KEPT_OF_LONG_ID).toWellFormed()}~${text.length}-${sum >>> 0}`;
}

/** True for two states of one hold: a holder has one for each address, or for each id of an address. */
export function isSameAsked(one: HoldName, other: HoldName): boolean {
  return one.holder === other.holder && one.address === other.address && one.id === other.id;
}

/** One text for all states of a hold. */
export function nameOfHold({ holder, address, id }: HoldName): string {
  return id === undefined ? `${holder} ${address}` : `${holder} ${address} ${id}`;
}

/** The number of held addresses that led to the ban of their network, from its comment; undefined for any other ban. */
export function parseWidened(line: string): number | undefined {
  const [, count] = line.startsWith(WIDENED_PREFIX) ? (BEGIN.exec(line) ?? []) : [];
  return count === undefined ? undefined : Number(count);
}

export function isOver(hold: Pick<Hold, 'until'>, now: number): boolean {
  return hold.until !== null && hold.until <= now;
}

/** Whole seconds since the epoch. If the clock shows a time that a hold cannot express, the nearest that it can. */
export function now(): number {
  return Math.min(Math.max(0, Math.floor(Date.now() / 1000)), LAST_SECOND);
}

/** True for seconds since the epoch that ISO 8601 can write with a four-digit year. */
export function isTime(seconds: number): boolean {
  return seconds >= 0 && seconds <= LAST_SECOND;
}

/** ISO 8601 in UTC, whole seconds. With toISOString(), V8 would look for the local time zone, which costs each ban 1.3 ms. */
export const formatTime = remembering((seconds: number) => {
  const date = new Date(seconds * 1000);
  const day = [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate()];
  const time = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()];
  return `${day.map(twoDigits).join('-')}T${time.map(twoDigits).join(':')}Z`;
});

function twoDigits(part: number): string {
  return String(part).padStart(2, '0');
}

/** Seconds since the epoch (rounded, as in fail2ban's database), or ISO 8601, in UTC if it names no zone. */
export function parseTime(input: string): number {
  const isSeconds = /^\d+(?:\.\d+)?$/.test(input);
  const seconds = Math.round(isSeconds ? Number(input) : secondsOfDate(input));
  if (!isTime(seconds)) {
    throw new BanctlError(
      EXIT.usage,
      `not a time: ${quote(input)}`,
      'give epoch seconds or ISO 8601, such as 2026-01-31T12:00:00Z',
    );
  }
  return seconds;
}

/** NaN for anything but ISO 8601. */
function secondsOfDate(input: string): number {
  if (!ISO.test(input) || !isInCalendar(input.slice(0, 10))) return Number.NaN;
  const isLocal = /T|\s/.test(input) && !/(?:Z|[+-]\d\d:?\d\d)$/.test(input);
  return Date.parse(isLocal ? `${input}Z` : input) / 1000;
}

/** `Date.parse` reads 30 February as 2 March. */
function isInCalendar(day: string): boolean {
  const date = new Date(day);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}

/** The end of a hold; null if it would be after the year 9999. */
export function untilOf(since: number, duration: number | null): number | null {
  return duration === null || since + duration > LAST_SECOND ? null : since + duration;
}

/** A reason in its stored form: one line, no control or invisible formatting characters, no final backslash. */
export function cleanReason(input: string): string | null {
  const line = printable(input).replace(/\s+/g, ' ').trim();
  const cut = line.length > LONGEST_REASON ? Array.from(line).slice(0, LONGEST_REASON).join('') : line;
  return cut.replace(/[\\\s]+$/, '') || null;
}

/** Any name that fail2ban accepts: it can contain blanks and quotes, but no control characters. */
export function isJailName(name: string): boolean {
  return name !== '' && (PLAIN.test(name) || !/\p{Cc}|\p{Cs}/u.test(name));
}

/**
 * The holder for a jail of fail2ban: the jail's name, escaped if it could be mistaken for a ban by hand, or for a hold of
 * another host. `manual` becomes `%6Danual`, and `@` and `%` are escaped.
 */
export function holderOf(jail: string): string {
  return jail === MANUAL ? JAIL_CALLED_MANUAL : escapeMarks(jail);
}

function escapeMarks(name: string): string {
  return name.replaceAll('%', '%25').replaceAll('@', '%40');
}

/** The jail's name for a holder. */
export function jailOf(holder: string): string {
  return holder.replaceAll('%6D', 'm').replaceAll('%40', '@').replaceAll('%25', '%');
}

/** True for {@link MANUAL}, here or on another host. */
export function isByHand(holder: string): boolean {
  return holder === MANUAL || holder.startsWith(`${MANUAL}@`);
}

/** True for the holder of another host. */
export function isOfOtherHost(holder: string): boolean {
  return holder.includes('@');
}

/** Undefined for a text that neither {@link holderText} wrote nor an older banctl, which escaped each `@`. */
const readHolder = remembering((text: string): string | undefined => {
  try {
    const [holder = '', ...host] = text.split('@').map(decodeURIComponent);
    const isHolder = [holder, ...host].every(isJailName);
    if (!isHolder) return undefined;
    const local = text.split('@')[0] === MANUAL ? MANUAL : holderOf(holder);
    return [local, ...host.map(escapeMarks)].join('@');
  } catch {
    return undefined;
  }
});

/** One word of ASCII without a bar. */
const holderText = remembering((holder: string) =>
  encodeURIComponent(holder).replaceAll('%40', '@').replaceAll('%25', '%'),
);
const escapeReason = remembering((text: string) => text.replace(/[%|]/g, encodeURIComponent));

/** How many results are remembered: a resident lives long. */
const MOST_REMEMBERED = 65_536;

/** Remembers the last results, because thousands of bans of one call share holder, times and reason. */
function remembering<T, R>(format: (value: T) => R): (value: T) => R {
  const known = new Map<T, R>();
  return (value) => {
    let result = known.get(value);
    if (result === undefined) {
      result = format(value);
      if (known.size >= MOST_REMEMBERED) known.clear();
      known.set(value, result);
    }
    return result;
  };
}

/** Unescapes only what was escaped: a person may have edited the comment, and a line end must never get out of it. */
function unescapeReason(text: string): string {
  return text.replace(/%7C/g, '|').replace(/%25/g, '%');
}
