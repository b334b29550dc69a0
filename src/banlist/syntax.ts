import { type Address, readApacheArgument } from '../bans/address.ts';

/*
 * The list as lines, as Apache reads them (ap_cfg_getline in httpd's server/util.c): a backslash at the end of a line
 * joins it with the next one, in comments too, and white space around a line does not count.
 */

const TAB = 9;
const NEWLINE = 10;
const HASH = 35;
const RETURN = 13;
const SPACE = 32;
const LESS_THAN = 60;
const BACKSLASH = 92;
/** For short texts such as lines: Buffer's own function takes three times as long to start. */
const indexOfByte = Uint8Array.prototype.indexOf;
const ANY_DENY = /^require\s+(["']?)not\1\s+(["']?)ip\2(?:\s+(.*))?$/is;

/** The beginning or end of a section. Apache takes the first word out of its quotes. */
const SECTION = /^["']?<(\/?)\s*(\w+)/;

/** A line as Apache sees it: continued lines are joined. */
export interface LogicalLine {
  /** Bytes in the text, line end included. */
  readonly start: number;
  readonly end: number;
  /** Number of its first line in the file, from 1. */
  readonly number: number;
  /** Without continuations and the white space around it. */
  readonly content: string;
}

/** What a `Require not ip` line refuses. */
export interface DenyArgument {
  readonly text: string;
  /** Undefined if Apache would refuse it. */
  readonly address: Address | undefined;
}

/**
 * True for bytes inside a section whose lines Apache may ignore (`<IfDefine>`, `<IfModule>`, `<If>`), or may not treat as a
 * ban (`<RequireAny>`, `<Files>`). In `<RequireAll>` a line means the same as outside.
 */
export function otherSections(text: Buffer): (at: number) => boolean {
  const sections = findOtherSections(text);
  return sections.length === 0
    ? () => false
    : (at) => sections.some(({ start, end }) => at >= start && at < end);
}

export function isSectionEnd(content: string): boolean {
  return SECTION.exec(content)?.[1] === '/';
}

function findOtherSections(text: Buffer): { start: number; end: number }[] {
  const found: { start: number; end: number }[] = [];
  const open: { start: number; isOther: boolean }[] = [];
  for (let at = text.indexOf(LESS_THAN); at !== -1; ) {
    const line = logicalLineAt(text, logicalStart(text, at), 0);
    const [, slash, name = ''] = SECTION.exec(line?.content ?? '') ?? [];
    if (line !== undefined && slash === '')
      open.push({ start: line.start, isOther: name.toLowerCase() !== 'requireall' });
    else if (line !== undefined && slash === '/') {
      const closed = open.pop();
      if (closed?.isOther === true) found.push({ start: closed.start, end: line.end });
    }
    at = line === undefined ? -1 : text.indexOf(LESS_THAN, line.end);
  }
  const unclosed = open.find(({ isOther }) => isOther);
  if (unclosed !== undefined) found.push({ start: unclosed.start, end: text.length });
  return found;
}

/** The lines of a text as Apache reads them, including empty lines and comments. */
export function* logicalLines(text: Buffer): Generator<LogicalLine> {
  let start = 0;
  let number = 1;
  for (;;) {
    const line = logicalLineAt(text, start, number);
    if (line === undefined) return;
    yield line;
    for (
      let at = text.indexOf(NEWLINE, start);
      at !== -1 && at < line.end;
      at = text.indexOf(NEWLINE, at + 1)
    )
      number += 1;
    start = line.end;
  }
}

/**
 * Visits the directives of the lines, one by one, as bytes without surrounding blanks: no comments, no empty lines. Copies
 * only continued lines.
 */
export function visitDirectives(
  text: Buffer,
  visit: (bytes: Buffer, start: number, end: number) => void,
): void {
  for (let from = 0; from < text.length; ) {
    let next = lineEnd(text, from);
    if (isContinued(text, next)) {
      const line = logicalLineAt(text, from, 0);
      const bytes = Buffer.from(line?.content ?? '');
      if (bytes.length > 0 && bytes[0] !== HASH) visit(bytes, 0, bytes.length);
      next = line?.end ?? next;
    } else {
      let start = from;
      while (start < next && isBlank(text[start])) start += 1;
      let end = next;
      while (end > start && isBlank(text[end - 1])) end -= 1;
      if (start < end && text[start] !== HASH) visit(text, start, end);
    }
    from = next;
  }
}

/** isspace(3), as Apache has it. */
function isBlank(byte: number | undefined): boolean {
  return byte !== undefined && (byte === SPACE || (byte >= TAB && byte <= RETURN));
}

/** The arguments of a `Require not ip` line, undefined for any other line. Quotes are as in ap_getword_conf. */
export function readDeny(content: string): DenyArgument[] | undefined {
  const match = ANY_DENY.exec(content);
  if (match === null) return undefined;
  const words = match[3]?.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
  return words.map((text) => ({ text, address: readApacheArgument(text.replace(/^(["'])(.*)\1$/, '$2')) }));
}

/** The logical line that begins at `start`; undefined at the end. */
export function logicalLineAt(text: Buffer, start: number, number: number): LogicalLine | undefined {
  if (start >= text.length) return undefined;
  let end = lineEnd(text, start);
  if (!isContinued(text, end))
    return { start, end, number, content: text.toString('utf8', start, end).trim() };
  while (end < text.length && isContinued(text, end)) end = lineEnd(text, end);
  const content = text.toString('utf8', start, end).replace(/\\\r?\n/g, '');
  return { start, end, number, content: content.trim() };
}

/** True if the line that begins at `start` continues the line before it. */
export function isContinued(text: Buffer, start: number): boolean {
  if (start === 0 || text[start - 1] !== NEWLINE) return false;
  return text[start - 2] === BACKSLASH || (text[start - 2] === RETURN && text[start - 3] === BACKSLASH);
}

/** The beginning of the logical line that contains the byte at `at`. */
export function logicalStart(text: Buffer, at: number): number {
  let start = lineStart(text, at);
  while (isContinued(text, start)) start = lineStart(text, start - 1);
  return start;
}

/** The same for a line of the file, continued or not. */
export function lineStart(text: Buffer, at: number): number {
  return at === 0 ? 0 : text.lastIndexOf(NEWLINE, at - 1) + 1;
}

/** The position after the line end. */
export function lineEnd(text: Buffer, start: number): number {
  const newline = indexOfByte.call(text, NEWLINE, start);
  return newline === -1 ? text.length : newline + 1;
}

/** True if a line can follow the text without becoming part of its last line. */
export function isEnded(text: Buffer): boolean {
  return text.length === 0 || (text.at(-1) === NEWLINE && !isContinued(text, text.length));
}
