import { type Address, covers, readAddress } from '../bans/address.ts';
import {
  formatHolds,
  HOLDS_PREFIX,
  type Hold,
  parseHolds,
  parseWidened,
  WIDENED_PREFIX,
} from '../bans/hold.ts';
import {
  type DenyArgument,
  isContinued,
  isEnded,
  isSectionEnd,
  type LogicalLine,
  lineStart,
  logicalLineAt,
  logicalLines,
  logicalStart,
  otherSections,
  readDeny,
} from './syntax.ts';

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
  /** The line, if it bans other addresses too. */
  readonly joined?: DenyLine | undefined;
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

/** A comment that does not go on in the next line. */
const WHOLE_COMMENT = /^#[^\n]*[^\\\r\n]\n$/;

/** True for a text of one ban as {@link formatBan} makes it, which needs no parser. */
export function isBanAlone(text: Buffer, address: string): boolean {
  const line = `${DENY}${address}\n`;
  const start = text.length - line.length;
  if (start < 0 || text.toString('latin1', start) !== line) return false;
  return start === 0 || WHOLE_COMMENT.test(text.toString('latin1', 0, start));
}

/** The ban of such a text, if all its holds are of this address; undefined for any other text. */
export function banAlone(text: Buffer, address: string): Ban | undefined {
  if (!isBanAlone(text, address)) return undefined;
  const comment = text.toString('utf8', 0, text.length - DENY.length - address.length - 1).trim();
  if (comment.startsWith(WIDENED_PREFIX)) return undefined;
  const holds = comment === '' ? [] : parseHolds(comment);
  if (holds?.every((hold) => hold.address === address) !== true) return undefined;
  return { address, holds, start: 0, end: text.length };
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
  if (last !== undefined && isSectionEnd(last.content)) return 0;
  const deny = last === undefined ? undefined : denyLine(text, last, lineAbove(text, start));
  return deny?.banStart ?? start;
}

/** The bans that banctl manages: lines in its own form, and what has a hold in a comment of banctl's directly above. */
export function bansOf(lines: readonly DenyLine[]): Ban[] {
  return lines.flatMap(bansOfLine);
}

/** A person may have joined lines: then each address with a hold is a ban, and the others are foreign. */
export function bansOfLine(line: DenyLine): Ban[] {
  const { banStart: start, end, widenedAfter } = line;
  if (isManaged(line)) {
    const address = line.arguments[0]?.address;
    return address === undefined
      ? []
      : [{ address: address.text, holds: line.holds, widenedAfter, start, end }];
  }
  if (line.holds.length === 0) return [];
  const banned = new Map(line.arguments.map((argument) => [argument.address?.text, argument]));
  return [...banned].flatMap(([address, argument]) => {
    const holds = heldBy(line, argument);
    if (address === undefined || holds.length === 0) return [];
    return [
      {
        address,
        holds,
        widenedAfter: address.includes('/') ? widenedAfter : undefined,
        start,
        end,
        joined: line,
      },
    ];
  });
}

/** The holds in the line's comment that asked for this one of its addresses. */
export function heldBy(line: Pick<DenyLine, 'arguments' | 'holds'>, argument: DenyArgument): readonly Hold[] {
  return line.arguments.length === 1 ? line.holds : line.holds.filter((hold) => isFor(hold, argument));
}

/** True for a line that represents one ban of banctl, whatever its form. */
function isManaged(line: DenyLine): boolean {
  return line.isExact || (line.holds.length > 0 && line.arguments.length === 1);
}

/** What a line bans without a ban that banctl manages. */
export function foreignArguments(line: DenyLine): readonly DenyArgument[] {
  const bans = bansOfLine(line);
  if (bans.length === 0) return line.arguments;
  const managed = new Set(bans.map(({ address }) => address));
  return line.arguments.filter(({ address }) => address === undefined || !managed.has(address.text));
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
    const deny = isElsewhere(line.start) ? undefined : denyLine(text, line, above);
    if (deny !== undefined) found.push(deny);
    above = line.content.startsWith(HOLDS_PREFIX) ? line : undefined;
  }
  return found;
}

/** The line as a `Require not ip` line, with the holds in the comment above it. */
function denyLine(
  text: Buffer,
  line: LogicalLine,
  above: Pick<LogicalLine, 'start' | 'content'> | undefined,
): DenyLine | undefined {
  const args = readDeny(line.content);
  if (args === undefined) return undefined;
  const holds = above === undefined ? undefined : holdsFor(above.content, args);
  const isExact = args.length === 1 && isExactLine(text, line, args[0]?.address);
  const banStart = holds === undefined || above === undefined ? line.start : above.start;
  const widenedAfter = holds === undefined ? undefined : parseWidened(above?.content ?? '');
  return { ...line, arguments: args, holds: holds ?? [], widenedAfter, banStart, isExact };
}

/** The line that bans, if the byte at `at` is in it or in the comment above it. Its number is not known. */
export function denyLineAt(text: Buffer, at: number): DenyLine | undefined {
  const start = lineStart(text, at);
  const line = isContinued(text, start) ? undefined : logicalLineAt(text, start, 0);
  if (line === undefined) return undefined;
  if (!line.content.startsWith(HOLDS_PREFIX)) return denyLine(text, line, lineAbove(text, start));
  const below = logicalLineAt(text, line.end, 0);
  return below === undefined ? undefined : denyLine(text, below, line);
}

/**
 * A line in which bans of banctl and foreign ones are joined, written anew: `bans` are the lines of the former, and the
 * latter stay together in a line of their own. Nothing is left of a line of which nothing is kept.
 */
export function rewritten(line: DenyLine, bans: readonly string[], kept: readonly DenyArgument[]): Edit {
  const others = kept.length === 0 ? [] : [`${DENY}${kept.map(({ text }) => text).join(' ')}\n`];
  return { start: line.banStart, end: line.end, insert: [...bans, ...others].join('') };
}

/** True if a hold asked for what the argument bans. */
function isFor(hold: Hold, argument: DenyArgument): boolean {
  const asked = readAddress(hold.address);
  return asked !== undefined && argument.address !== undefined && covers(argument.address, asked);
}

/**
 * The holds in a comment, if they belong to the line below it: each hold's address must be one that the line bans.
 * Otherwise the comment's own line was removed, and this line must not inherit the holds.
 */
function holdsFor(comment: string, args: readonly DenyArgument[]): Hold[] | undefined {
  const holds = parseHolds(comment);
  return holds?.every((hold) => args.some((argument) => isFor(hold, argument))) ? holds : undefined;
}

function lineAbove(text: Buffer, start: number): { start: number; content: string } | undefined {
  if (start === 0) return undefined;
  const aboveStart = lineStart(text, start - 1);
  if (isContinued(text, aboveStart)) return undefined;
  return { start: aboveStart, content: text.toString('utf8', aboveStart, start).trim() };
}

/** True for a line in exactly the form of banctl and of the shell action before it. */
function isExactLine(text: Buffer, line: LogicalLine, address: Address | undefined): boolean {
  if (address === undefined) return false;
  const raw = text.toString('latin1', line.start, line.end);
  return raw === `${DENY}${address.text}\n` || raw === DENY + address.text;
}
