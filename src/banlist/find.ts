import { type Address, covers } from '../bans/address.ts';
import { parseHolds, parseWidened } from '../bans/hold.ts';
import {
  isContinued,
  lineEnd,
  lineStart,
  logicalLineAt,
  logicalStart,
  otherSections,
  readDeny,
} from './lines.ts';
import {
  type Ban,
  bansOf,
  type DenyLine,
  denyLines,
  holdsAbove,
  holdsFor,
  isExactLine,
  joinedLines,
} from './text.ts';

/* How to find one ban, or a few, in a long list; pure. */

/** Finds bans in a text, by whatever method. The audit handles ranges that are written as partial addresses. */
export interface BanFinder {
  /** The bans of exactly this address or range, and those with a hold that asked for it. */
  naming(address: string): readonly Ban[];
  /** The wider ranges that contain the address. */
  covering(address: Address): readonly string[];
  /** True if holds on it stand above a line of several addresses, which banctl does not write. */
  isJoined(address: string): boolean;
}

/** From this many addresses on, one pass over the text is cheaper than a search for each. */
const SEARCHES_WORTH_A_PASS = 8;

/** A finder for `count` searches. */
export function findBans(text: Buffer, count: number): BanFinder {
  return count > SEARCHES_WORTH_A_PASS ? indexBans(denyLines(text)) : searchBans(text);
}

/** Searches the text: skips every line that does not contain the address. */
export function searchBans(text: Buffer): BanFinder {
  const answers = new Map<string, readonly Ban[]>();
  const joined = new Set<string>();
  const isElsewhere = otherSections(text);
  const finder: BanFinder = {
    naming(address) {
      const known = answers.get(address);
      if (known !== undefined) return known;
      const needle = Buffer.from(` ${address}`);
      const found = new Map<number, Ban>();
      for (let at = text.indexOf(needle); at !== -1; ) {
        const ban = isElsewhere(at) ? undefined : banNamedAt(text, at, address);
        if (ban !== undefined) found.set(ban.start, ban);
        else if (!isElsewhere(at) && isJoinedAt(text, at, address)) joined.add(address);
        // Each line once: a range can have holds of thousands of addresses that begin with this one's text.
        const end = lineEnd(text, at);
        at = end === text.length ? -1 : text.indexOf(needle, end);
      }
      const bans = [...found.values()];
      answers.set(address, bans);
      return bans;
    },
    covering(address) {
      const found: string[] = [];
      for (let at = text.indexOf('/'); at !== -1; ) {
        const line = logicalLineAt(text, logicalStart(text, at), 0);
        const args = isElsewhere(at) ? [] : (readDeny(line?.content ?? '') ?? []);
        for (const { address: range } of args) {
          if (range !== undefined && isWider(range, address)) found.push(range.text);
        }
        at = line === undefined ? -1 : text.indexOf('/', line.end);
      }
      return found;
    },
    isJoined(address) {
      finder.naming(address);
      return joined.has(address);
    },
  };
  return finder;
}

/** Searches lines that have been parsed. */
export function indexBans(lines: readonly DenyLine[]): BanFinder {
  const bans = new Map<string, Ban[]>();
  for (const ban of bansOf(lines)) {
    for (const name of new Set([ban.address, ...ban.holds.map((hold) => hold.address)])) {
      const named = bans.get(name);
      if (named === undefined) bans.set(name, [ban]);
      else named.push(ban);
    }
  }
  const ranges = lines
    .flatMap((line) => line.arguments)
    .flatMap(({ address }) => (address === undefined || !address.text.includes('/') ? [] : [address]));
  const joined = new Set(joinedLines(lines).flatMap((line) => line.holds.map((hold) => hold.address)));
  return {
    naming: (address) => bans.get(address) ?? [],
    covering: (address) => ranges.filter((range) => isWider(range, address)).map((range) => range.text),
    isJoined: (address) => joined.has(address),
  };
}

function isWider(range: Address, address: Address): boolean {
  return range.text !== address.text && covers(range, address);
}

/** The ban that contains the occurrence of an address at `at`, if any. */
function banNamedAt(text: Buffer, at: number, address: string): Ban | undefined {
  const start = lineStart(text, at);
  if (isContinued(text, start)) return undefined;
  const line = logicalLineAt(text, start, 0);
  if (line === undefined) return undefined;
  const holds = parseHolds(line.content);
  if (holds === undefined) {
    const args = readDeny(line.content);
    if (args?.length !== 1 || args[0]?.address?.text !== address) return undefined;
    const above = holdsAbove(text, start, args);
    const isOwn = above !== undefined || isExactLine(text, line, args[0].address);
    return isOwn
      ? {
          address,
          holds: above?.holds ?? [],
          widenedAfter: above?.widenedAfter,
          start: above?.start ?? start,
          end: line.end,
        }
      : undefined;
  }
  if (!holds.some((hold) => hold.address === address)) return undefined;
  const below = logicalLineAt(text, line.end, 0);
  const args = below === undefined ? undefined : readDeny(below.content);
  if (below === undefined || args?.length !== 1 || holdsFor(line.content, args) === undefined)
    return undefined;
  const widenedAfter = parseWidened(line.content);
  return { address: args[0]?.address?.text ?? address, holds, widenedAfter, start, end: below.end };
}

/** True if the occurrence of an address at `at` is a hold in a comment above a line of several addresses. */
function isJoinedAt(text: Buffer, at: number, address: string): boolean {
  const start = lineStart(text, at);
  const comment = isContinued(text, start) ? undefined : logicalLineAt(text, start, 0);
  if (comment === undefined || !parseHolds(comment.content)?.some((hold) => hold.address === address))
    return false;
  const args = readDeny(logicalLineAt(text, comment.end, 0)?.content ?? '') ?? [];
  return args.length > 1 && holdsFor(comment.content, args) !== undefined;
}
