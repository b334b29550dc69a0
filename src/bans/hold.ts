import { BanctlError, EXIT } from '../system/errors.ts';
import { printable, quote } from '../system/printable.ts';

/** One holder's reason for a ban. Times are whole seconds since the epoch. */
export interface Hold {
  /** {@link MANUAL}, a jail as {@link holderOf} names it, or either on another host: `HOLDER@HOST`. */
  readonly holder: string;
  /** Canonical text of the address that was asked for; the ban may be a wider range. */
  readonly address: string;
  readonly since: number;
  /** null: for ever. */
  readonly until: number | null;
  readonly reason: string | null;
}

/** The holder of bans made by hand. No jail has this name: see {@link holderOf}. */
export const MANUAL = 'manual';
const JAIL_CALLED_MANUAL = '%6Danual';

/** How a comment line that carries holds begins. */
export const HOLDS_PREFIX = '# banctl ';
/** How the comment of a network goes on that is banned in place of so many addresses. */
const WIDENED = 'widened after ';
/** How the comment of such a ban begins, and that of no other. */
export const WIDENED_PREFIX = HOLDS_PREFIX + WIDENED;
const BEGIN = /^# banctl (?:widened after (\d{1,9}) )?\| /;

/** The last time that {@link formatTime} can write. Seconds since the epoch. */
export const LAST_SECOND = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;
const LONGEST_REASON = 500;
const TIME = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`;
const HOLD = new RegExp(String.raw`^(\S+) (\S+) since (${TIME}) (?:until (${TIME})|for ever)(?:: (.+))?$`);
/** V8 compiles it in no time, unlike classes of Unicode. */
const PLAIN = /^[\x20-\x7e]*$/;
const ISO = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?$/;

/**
 * The text that begins one hold and no other: the action looks for it with `grep -F`. A bar cannot stand
 * in a holder's name, an address or a reason (it is escaped), so nothing that a client writes can forge it.
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
  const reason = hold.reason === null ? '' : `: ${escapeReason(hold.reason)}`;
  return `${holdMark(hold.holder, hold.address)}${formatTime(hold.since)} ${end}${reason}`;
}

/** Reads what {@link formatHolds} wrote; undefined for any other line. */
export function parseHolds(line: string): Hold[] | undefined {
  const [begin] = line.startsWith(HOLDS_PREFIX) ? (BEGIN.exec(line) ?? []) : [];
  if (begin === undefined) return undefined;
  const holds: Hold[] = [];
  for (const text of line.slice(begin.length).split(' | ')) {
    const [, name, address, since, until, reason] = HOLD.exec(text) ?? [];
    const holder = readHolder(name ?? '');
    if (holder === undefined || address === undefined || since === undefined) return undefined;
    const sinceSeconds = Date.parse(since) / 1000;
    const untilSeconds = until === undefined ? null : Date.parse(until) / 1000;
    if (Number.isNaN(sinceSeconds) || Number.isNaN(untilSeconds)) return undefined;
    holds.push({
      holder,
      address,
      since: sinceSeconds,
      until: untilSeconds,
      reason: reason === undefined ? null : cleanReason(unescapeReason(reason)),
    });
  }
  return holds;
}

/** How many held addresses it took to ban their network, by its comment; undefined for any other ban. */
export function parseWidened(line: string): number | undefined {
  const [, count] = BEGIN.exec(line) ?? [];
  return count === undefined ? undefined : Number(count);
}

export function isOver(hold: Hold, now: number): boolean {
  return hold.until !== null && hold.until <= now;
}

/** Whole seconds since the epoch; a clock that is set to what no hold can say counts as the nearest that one can. */
export function now(): number {
  return Math.min(Math.max(0, Math.floor(Date.now() / 1000)), LAST_SECOND);
}

/** True for seconds since the epoch that can be written as ISO 8601 in four digits. */
export function isTime(seconds: number): boolean {
  return seconds >= 0 && seconds <= LAST_SECOND;
}

/** ISO 8601 in UTC, whole seconds. */
export const formatTime = remembering(
  (seconds: number) => `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`,
);

/** Seconds since the epoch (rounded, as fail2ban does in its database), or ISO 8601, UTC where it names no zone. */
export function parseTime(input: string): number {
  const isSeconds = /^\d+(?:\.\d+)?$/.test(input);
  const iso =
    ISO.test(input) && /T|\s/.test(input) && !/(?:Z|[+-]\d\d:?\d\d)$/.test(input) ? `${input}Z` : input;
  const isDate = ISO.test(input) && isInCalendar(input.slice(0, 10));
  const seconds = Math.round(isSeconds ? Number(input) : isDate ? Date.parse(iso) / 1000 : Number.NaN);
  if (!isTime(seconds)) {
    throw new BanctlError(
      EXIT.usage,
      `not a time: ${quote(input)}`,
      'give epoch seconds or ISO 8601, such as 2026-01-31T12:00:00Z',
    );
  }
  return seconds;
}

/** `Date.parse` takes 30 February for 2 March. */
function isInCalendar(day: string): boolean {
  const date = new Date(day);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}

/** When a hold ends; one that would end after the year 9999 never does. */
export function untilOf(since: number, duration: number | null): number | null {
  return duration === null || since + duration > LAST_SECOND ? null : since + duration;
}

/** A reason as it is kept: one line, no control or invisible formatting characters, no final backslash. */
export function cleanReason(input: string): string | null {
  const line = printable(input).replace(/\s+/g, ' ').trim();
  const cut = line.length > LONGEST_REASON ? Array.from(line).slice(0, LONGEST_REASON).join('') : line;
  return cut.replace(/[\\\s]+$/, '') || null;
}

/** Any name that fail2ban takes: it can hold blanks and quotes, but no control characters. */
export function isJailName(name: string): boolean {
  return name !== '' && (PLAIN.test(name) || !/\p{Cc}|\p{Cs}/u.test(name));
}

/**
 * The holder that stands for a jail of fail2ban. It is the jail's name, but for what would be mistaken for a ban by hand,
 * or for a hold of another host: `manual` becomes `%6Danual`, and `@` and `%` are escaped.
 */
export function holderOf(jail: string): string {
  return jail === MANUAL ? JAIL_CALLED_MANUAL : jail.replace(/[%@]/g, encodeURIComponent);
}

/** The name of the jail that a holder stands for. */
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

/** Undefined for what {@link holderText} cannot have written, or an older banctl, which escaped each `@`. */
function readHolder(text: string): string | undefined {
  try {
    const [holder = '', ...host] = text.split('@').map(decodeURIComponent);
    const isHolder = [holder, ...host].every(isJailName);
    if (!isHolder) return undefined;
    const local = text.split('@')[0] === MANUAL ? MANUAL : holderOf(holder);
    return [local, ...host.map((part) => part.replace(/[%@]/g, encodeURIComponent))].join('@');
  } catch {
    return undefined;
  }
}

/** One word of ASCII without a bar. */
const holderText = remembering((holder: string) =>
  encodeURIComponent(holder).replaceAll('%40', '@').replaceAll('%25', '%'),
);
const escapeReason = remembering((text: string) => text.replace(/[%|]/g, encodeURIComponent));

/** Thousands of bans of one call have the same holder, times and reason. */
function remembering<T>(format: (value: T) => string): (value: T) => string {
  const texts = new Map<T, string>();
  return (value) => {
    let text = texts.get(value);
    if (text === undefined) {
      text = format(value);
      texts.set(value, text);
    }
    return text;
  };
}

/** Only what was escaped: a comment can have been edited by hand, and a line end must not get out of it. */
function unescapeReason(text: string): string {
  return text.replace(/%7C/g, '|').replace(/%25/g, '%');
}
