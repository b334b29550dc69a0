import { BanctlError, EXIT } from '../system/errors.ts';
import { quote } from '../system/printable.ts';

/*
 * Durations in fail2ban's syntax: its str2seconds() (server/mytime.py) sums up parts, with or without blanks and signs
 * between them, and accepts these units in any case. Its year has 365.25 days, its month a twelfth of that.
 */

const DAY = 86_400;
const YEAR = 365.25 * DAY;

const UNITS: readonly (readonly [names: RegExp, seconds: number])[] = [
  [/^(?:seconds?|sec?|ss?)$/i, 1],
  [/^(?:minutes?|min?|mm?)$/i, 60],
  [/^(?:hours?|hou?|hh?)$/i, 3600],
  [/^(?:days?|da|dd?)$/i, DAY],
  [/^(?:weeks?|wee?|ww?)$/i, 7 * DAY],
  [/^(?:months?|mon?)$/i, YEAR / 12],
  [/^(?:years?|yea?|yy?)$/i, YEAR],
];

/** A sign, a number and a unit; `*` multiplies the part before. */
const PART = /[ \t]*([-+*]?)[ \t]*(\d+(?:\.\d+)?)[ \t]*([a-z]*)/iy;

/** Tolerance for binary numbers above the given decimal one: 1.1 hours must not be a second more than 3960. */
const TOLERANCE = 1e-6;

/** Whole seconds of a duration (`600`, `10m`, `1h30m`, `1d 12h`, `1y`); null for `-1`, which is for ever in fail2ban. */
export function parseDuration(input: string): number | null {
  if (input === '-1') return null;
  const seconds = sumOf(input);
  if (seconds === undefined || !(seconds >= 0)) {
    throw new BanctlError(
      EXIT.usage,
      `not a duration: ${quote(input)}`,
      'give seconds, or 10m, 1h30m, "1d 12h", 1y, or -1 for ever',
    );
  }
  return Math.max(0, Math.ceil(seconds - TOLERANCE));
}

function sumOf(input: string): number | undefined {
  const text = input.replace(/[ \t]+$/, '');
  const parts: number[] = [];
  PART.lastIndex = 0;
  while (PART.lastIndex < text.length) {
    const [, sign = '', number, unit = ''] = PART.exec(text) ?? [];
    const seconds = Number(number) * (unit === '' ? 1 : unitSeconds(unit));
    const before = sign === '*' ? parts.pop() : 1;
    if (Number.isNaN(seconds) || before === undefined) return undefined;
    parts.push((sign === '-' ? -1 : 1) * before * seconds);
  }
  return parts.length === 0 ? undefined : parts.reduce((sum, part) => sum + part, 0);
}

function unitSeconds(unit: string): number {
  return UNITS.find(([names]) => names.test(unit))?.[1] ?? Number.NaN;
}
