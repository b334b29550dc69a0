import { type Address, covers } from '../bans/address.ts';
import { type Ban, bansOf, bansOfLine, type DenyLine, denyLineAt, denyLines } from './ban-lines.ts';
import { lineEnd, logicalLineAt, logicalStart, otherSections, readDeny } from './syntax.ts';

/* How to find one ban, or a few, in a long list; pure. */

/** Finds bans in a text, by whatever method. The audit handles ranges that are written as partial addresses. */
export interface BanFinder {
  /** The bans of exactly this address or range, and those with a hold that asked for it. */
  naming(address: string): readonly Ban[];
  /** The wider ranges that contain the address. */
  covering(address: Address): readonly string[];
}

const IN_ADDRESS = Buffer.from('0123456789abcdef.:/');
/** From this many addresses on, one pass over the text is cheaper than a search for each. */
const SEARCHES_WORTH_A_PASS = 8;

/** A finder for `count` searches. */
export function findBans(text: Buffer, count: number): BanFinder {
  return count > SEARCHES_WORTH_A_PASS ? indexBans(denyLines(text)) : searchBans(text);
}

/** For a text of this ban alone. */
export function findAlone(ban: Ban): BanFinder {
  return { naming: (address) => (address === ban.address ? [ban] : []), covering: () => [] };
}

/** Searches the text: skips every line that does not contain the address. */
export function searchBans(text: Buffer): BanFinder {
  const answers = new Map<string, readonly Ban[]>();
  const isElsewhere = otherSections(text);
  return {
    naming(address) {
      const known = answers.get(address);
      if (known !== undefined) return known;
      const needle = Buffer.from(` ${address}`);
      const found = new Map<string, Ban>();
      for (let at = text.indexOf(needle); at !== -1; ) {
        if (isInAddress(text[at + needle.length])) {
          at = text.indexOf(needle, at + needle.length);
          continue;
        }
        const line = isElsewhere(at) ? undefined : denyLineAt(text, at);
        for (const ban of line === undefined ? [] : bansOfLine(line))
          if (isNamed(ban, address)) found.set(`${ban.start} ${ban.address}`, ban);
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
  };
}

/** True for a byte that makes the address before it another, longer one. */
function isInAddress(byte: number | undefined): boolean {
  return byte !== undefined && IN_ADDRESS.includes(byte);
}

function isNamed(ban: Ban, address: string): boolean {
  return ban.address === address || ban.holds.some((hold) => hold.address === address);
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
  return {
    naming: (address) => bans.get(address) ?? [],
    covering: (address) => ranges.filter((range) => isWider(range, address)).map((range) => range.text),
  };
}

function isWider(range: Address, address: Address): boolean {
  return range.text !== address.text && covers(range, address);
}
