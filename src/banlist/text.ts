import { type Address, covers, readAddress } from '../bans/address.ts';
import { formatHolds, HOLDS_PREFIX, type Hold, parseHolds, parseWidened } from '../bans/hold.ts';
import {
  type DenyArgument,
  isContinued,
  isEnded,
  type LogicalLine,
  lineStart,
  logicalLineAt,
  logicalLines,
  logicalStart,
  otherSections,
  readDeny,
} from './lines.ts';

/*
 * The banlist as text, kept byte for byte. Everything here is pure. A ban is written as
 *
 *     # banctl | JAIL ADDRESS since TIME until TIME: REASON | …
 *     Require not ip ADDRESS
 *
 * Every other line is foreign.
 */

/** The lines that ban one address: the comment line with the holds, if any, and the `Require` line. */
export interface Ban {
  /** What Apache refuses, as canonical text. */
  readonly address: string;
  /** Empty for a line without a comment: its holder is unknown. */
  readonly holds: readonly Hold[];
  /** The number of held addresses that led to the ban of their network; undefined for any other ban. */
  readonly widenedAfter?: number | undefined;
  /** Bytes in the text, line ends included. */
  readonly start: number;
  readonly end: number;
}

/** A ban during its changes. */
export interface Draft {
  readonly address: string;
  readonly lines: readonly Ban[];
  holds: readonly Hold[];
  widenedAfter: number | undefined;
  /** A line without holds keeps the ban alive. */
  unknownHolder: boolean;
}

/** A `Require not ip` line in any spelling. */
export interface DenyLine extends LogicalLine {
  readonly arguments: readonly DenyArgument[];
  readonly holds: readonly Hold[];
  readonly widenedAfter: number | undefined;
  /** The beginning of its comment line with the holds, or of the line itself. */
  readonly banStart: number;
  /** In exactly the form of banctl and of the shell action before it: one address. */
  readonly isExact: boolean;
}

/** Replaces the bytes from `start` to `end`, which are whole logical lines, by `insert`. */
export interface Edit {
  readonly start: number;
  readonly end: number;
  readonly insert: string;
}

const DENY = 'Require not ip ';

/** The lines of a ban. */
export function formatBan(address: string, holds: readonly Hold[], widenedAfter?: number): string {
  return `${holds.length === 0 ? '' : `${formatHolds(holds, widenedAfter)}\n`}${DENY}${address}\n`;
}

/** The text after the edits, which must not overlap, in pieces, so that a change of one line does not copy a long list. */
export function applyEdits(text: Buffer, edits: readonly Edit[]): Buffer[] {
  const pieces: Buffer[] = [];
  let position = 0;
  for (const edit of [...edits].sort((one, other) => one.start - other.start || one.end - other.end)) {
    pieces.push(text.subarray(position, edit.start), Buffer.from(edit.insert));
    position = edit.end;
  }
  pieces.push(text.subarray(position));
  return pieces.filter((piece) => piece.length > 0);
}

/**
 * The position of new lines, chosen so that no existing byte changes its meaning: the end, or before a last line that has
 * no line end or is continued. If that last line ends a section, the position would be inside it: then the beginning.
 */
export function insertionPoint(text: Buffer): number {
  if (isEnded(text)) return text.length;
  const start = logicalStart(text, text.length - 1);
  const last = logicalLineAt(text, start, 0);
  if (last?.content.startsWith('</')) return 0;
  const above = holdsAbove(text, start, readDeny(last?.content ?? '') ?? []);
  return above === undefined ? start : above.start;
}

/** The bans that banctl manages: lines in its own form, and lines below its comment. */
export function bansOf(lines: readonly DenyLine[]): Ban[] {
  return lines.flatMap((line) => {
    const address = line.arguments[0]?.address;
    if (address === undefined || !isManaged(line)) return [];
    const { holds, widenedAfter, banStart: start, end } = line;
    return [{ address: address.text, holds, widenedAfter, start, end }];
  });
}

/** True for a line that represents one ban of banctl, whatever its form. */
export function isManaged(line: DenyLine): boolean {
  return line.isExact || (line.holds.length > 0 && line.arguments.length === 1);
}

/** Lines of several addresses below a comment of banctl's. */
export function joinedLines(lines: readonly DenyLine[]): DenyLine[] {
  return lines.filter((line) => line.holds.length > 0 && !isManaged(line));
}

/**
 * Every `Require not ip` line that bans, with the holds in the comment directly above it. A line inside a section that
 * Apache may ignore is foreign.
 */
export function denyLines(text: Buffer): readonly DenyLine[] {
  const known = lastRead?.deref();
  if (known?.text.equals(text)) return known.lines;
  const lines = readDenyLines(text);
  lastRead = new WeakRef({ text, lines });
  return lines;
}

/** An audit and a report read the same list several times. It is given up with the next collection of garbage. */
let lastRead: WeakRef<{ readonly text: Buffer; readonly lines: readonly DenyLine[] }> | undefined;

function readDenyLines(text: Buffer): DenyLine[] {
  const found: DenyLine[] = [];
  const isElsewhere = otherSections(text);
  let above: LogicalLine | undefined;
  for (const line of logicalLines(text)) {
    const args = isElsewhere(line.start) ? undefined : readDeny(line.content);
    if (args !== undefined) {
      const holds = above === undefined ? undefined : holdsFor(above.content, args);
      const isExact = args.length === 1 && isExactLine(text, line, args[0]?.address);
      const banStart = holds === undefined || above === undefined ? line.start : above.start;
      const widenedAfter = holds === undefined ? undefined : parseWidened(above?.content ?? '');
      found.push({ ...line, arguments: args, holds: holds ?? [], widenedAfter, banStart, isExact });
    }
    above = line.content.startsWith(HOLDS_PREFIX) ? line : undefined;
  }
  return found;
}

/**
 * A foreign line without some of its arguments, and with these holds in its comment as far as they are for the others.
 * Nothing is left of a line that has no others.
 */
export function withoutArguments(
  line: DenyLine,
  holds: readonly Hold[],
  isRemoved: (argument: DenyArgument) => boolean,
): Edit {
  const kept = line.arguments.filter((argument) => !isRemoved(argument));
  const held = holds.filter((hold) => kept.some((argument) => isFor(hold, argument)));
  const comment = held.length === 0 ? '' : `${formatHolds(held, line.widenedAfter)}\n`;
  const insert =
    kept.length === 0 ? '' : `${comment}${DENY}${kept.map((argument) => argument.text).join(' ')}\n`;
  return { start: line.banStart, end: line.end, insert };
}

/** True if a hold asked for what the argument bans. */
export function isFor(hold: Hold, argument: DenyArgument): boolean {
  const asked = readAddress(hold.address);
  return asked !== undefined && argument.address !== undefined && covers(argument.address, asked);
}

/**
 * The holds in a comment, if they belong to the line below it: each hold's address must be one that the line bans.
 * Otherwise the comment's own line was removed, and this line must not inherit the holds.
 */
export function holdsFor(comment: string, args: readonly DenyArgument[]): Hold[] | undefined {
  const holds = parseHolds(comment);
  return holds?.every((hold) => args.some((argument) => isFor(hold, argument))) ? holds : undefined;
}

/** The same for the comment above the line at `start`, with where it begins. */
export function holdsAbove(
  text: Buffer,
  start: number,
  args: readonly DenyArgument[],
): Pick<Ban, 'holds' | 'widenedAfter' | 'start'> | undefined {
  if (start === 0) return undefined;
  const aboveStart = lineStart(text, start - 1);
  if (isContinued(text, aboveStart)) return undefined;
  const comment = text.toString('utf8', aboveStart, start).trim();
  const holds = holdsFor(comment, args);
  return holds === undefined ? undefined : { holds, widenedAfter: parseWidened(comment), start: aboveStart };
}

/** True for a line in exactly the form of banctl and of the shell action before it. */
export function isExactLine(text: Buffer, line: LogicalLine, address: Address | undefined): boolean {
  if (address === undefined) return false;
  const raw = text.toString('latin1', line.start, line.end);
  return raw === `${DENY}${address.text}\n` || raw === DENY + address.text;
}
