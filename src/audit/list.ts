import { type DenyLine, denyLines } from '../banlist/ban-lines.ts';
import { type LogicalLine, logicalLines, otherSections } from '../banlist/syntax.ts';
import { type Address, covers, isPartial } from '../bans/address.ts';
import { HOLDS_PREFIX, isOver, parseHolds } from '../bans/hold.ts';
import { findProtected } from '../protection/protection.ts';
import { shorten } from '../system/printable.ts';

/** The findings in the text of the list itself. */
export interface ListFault {
  readonly code:
    | 'bad-line'
    | 'partial-address'
    | 'not-canonical'
    | 'duplicate'
    | 'shadowed'
    | 'protected'
    | 'expired';
  readonly line: number;
  readonly address?: string;
  /** The holder, if the finding is about one hold. */
  readonly holder?: string;
  readonly id?: string | undefined;
  readonly message: string;
}

/** All findings in a list, in the order of its lines. Times are seconds since the epoch. */
export function listFaults(text: Buffer, protectedRanges: readonly Address[], now: number): ListFault[] {
  const lines = denyLines(text);
  return [
    ...unreadableLines(text, lines),
    ...lines.flatMap((line) => spellingFaults(line)),
    ...repetitions(lines),
    ...lines.flatMap((line) => protectedFaults(line, protectedRanges)),
    ...lines.flatMap((line) => expiredHolds(line, now)),
  ].sort((one, other) => one.line - other.line);
}

function unreadableLines(text: Buffer, lines: readonly DenyLine[]): ListFault[] {
  const denying = new Set(lines.map((line) => line.start));
  const isElsewhere = otherSections(text);
  const withHolds = new Set(lines.filter((line) => line.holds.length > 0).map((line) => line.banStart));
  const bad = (line: LogicalLine, message: string): ListFault[] => [
    { code: 'bad-line', line: line.number, message },
  ];
  return [...logicalLines(text)].flatMap((line) => {
    if (isElsewhere(line.start))
      return /^require\s+not\s+ip/i.test(line.content)
        ? bad(line, 'not a ban: Apache may ignore its section; move it out of the section')
        : [];
    if (line.content.startsWith('#')) {
      const raw = text.toString('utf8', line.start, line.end).trimEnd();
      if (raw.includes('\n')) return bad(line, 'a comment that ends in a backslash hides the line after it');
      if (!line.content.startsWith(HOLDS_PREFIX) || withHolds.has(line.start)) return [];
      const isHolds = parseHolds(line.content) !== undefined;
      return bad(line, isHolds ? 'holds without a ban below them' : 'unreadable holds');
    }
    return !denying.has(line.start) && /require\s+not\s+ip/i.test(line.content)
      ? bad(line, 'a line that continues into another')
      : [];
  });
}

function spellingFaults(line: DenyLine): ListFault[] {
  const at = { line: line.number };
  if (line.arguments.length === 0) return [{ code: 'bad-line', ...at, message: 'no address' }];
  const different = [...new Map(line.arguments.map((argument) => [argument.text, argument])).values()];
  const refused = different.filter((argument) => argument.address === undefined);
  const partial = different.filter((argument) => isPartial(argument.text));
  const odd = refused.length + partial.length === 0 && !line.isExact;
  return [
    ...refused.map(
      ({ text }): ListFault => ({ code: 'bad-line', ...at, message: `Apache refuses ${shorten(text)}` }),
    ),
    ...partial.map(
      ({ text, address }): ListFault => ({
        code: 'partial-address',
        ...at,
        address: address?.text ?? text,
        message: `${text} bans all of ${address?.text}`,
      }),
    ),
    ...(odd
      ? [
          {
            code: 'not-canonical',
            ...at,
            message: `not in banctl's own form: ${shorten(line.content)}`,
          } as const,
        ]
      : []),
  ];
}

/** Addresses with more than one line, or inside a range of the list. */
function repetitions(lines: readonly DenyLine[]): ListFault[] {
  const first = new Map<string, number>();
  const faults: ListFault[] = [];
  const all = lines.flatMap((line) =>
    line.arguments.flatMap(({ address }) => (address ? [{ address, line }] : [])),
  );
  const isRange = ({ address }: { address: Address }) => address.text.includes('/');
  const ranges = [...new Map(all.filter(isRange).map((one) => [one.address.text, one])).values()];
  for (const { address, line } of all) {
    const earlier = first.get(address.text);
    if (earlier === undefined) first.set(address.text, line.number);
    else {
      const message = `banned by line ${earlier} already`;
      faults.push({ code: 'duplicate', line: line.number, address: address.text, message });
    }
    const wider = ranges.find(
      (range) => range.address.text !== address.text && covers(range.address, address),
    );
    if (wider !== undefined) {
      const message = `banned by ${wider.address.text} in line ${wider.line.number} too`;
      faults.push({ code: 'shadowed', line: line.number, address: address.text, message });
    }
  }
  return faults;
}

function protectedFaults(line: DenyLine, ranges: readonly Address[]): ListFault[] {
  return line.arguments.flatMap(({ address }) => {
    const hit = address === undefined ? undefined : findProtected(address, ranges);
    if (address === undefined || hit === undefined) return [];
    const message = `protected${hit.text === address.text ? '' : ` by ${hit.text}`}, but banned`;
    return [{ code: 'protected', line: line.number, address: address.text, message } as const];
  });
}

function expiredHolds(line: DenyLine, now: number): ListFault[] {
  return line.holds
    .filter((hold) => isOver(hold, now))
    .map(({ address, holder, id }) => ({
      code: 'expired',
      line: line.number,
      address,
      holder,
      id,
      message: `the hold of ${holder} is over`,
    }));
}
