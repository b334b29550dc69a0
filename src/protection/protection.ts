import type { Widening } from '../banlist/networks.ts';
import { type Address, isIPv4, overlaps, parseAddress, readAddress } from '../bans/address.ts';
import { isHostName } from '../bans/host-name.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { quote } from '../system/printable.ts';
import { cannotReadInput, readInput } from '../system/read.ts';
import { type Protected, readNames } from './names.ts';
import { type Family, ownAddresses } from './own-addresses.ts';

/** The service in AWS's ip-ranges.json whose addresses CloudFront uses towards origins. */
export const CLOUDFRONT = 'CLOUDFRONT_ORIGIN_FACING';

/** Limit of a file, many times AWS's. Bytes. */
const LONGEST_FILE = 2 ** 24;

const FAMILIES = ['IPv4', 'IPv6'] as const;

const LOOPBACK: readonly Address[] = [
  { text: '127.0.0.0/8', bytes: [127, 0, 0, 0], prefix: 8 },
  { text: '::1', bytes: [...new Array(15).fill(0), 1], prefix: 128 },
];

/**
 * The ranges that are never banned: loopback, this host's own addresses, and `--protect`. With `targets`, omits own
 * addresses of other families, because reading IPv6 addresses takes long for the ban of an IPv4 one.
 */
export function protectedRanges({ protect, record }: Protected, targets?: readonly Address[]): Address[] {
  const isAsked = (family: Family) =>
    targets?.some((target) => isIPv4(target) === (family === 'IPv4')) !== false;
  const own = FAMILIES.filter(isAsked).flatMap(ownAddresses);
  const names = protect.some(isHostName) ? readNames(record) : undefined;
  return [
    ...LOOPBACK,
    ...own.flatMap((address) => readAddress(address) ?? []),
    ...protect.flatMap((entry) => {
      if (entry.startsWith('@')) return readRangesFile(entry.slice(1));
      return isHostName(entry) ? (names?.get(entry.toLowerCase()) ?? []) : [parseAddress(entry)];
    }),
  ];
}

/** The protected range that a ban of `target` would include. */
export function findProtected(target: Address, ranges: readonly Address[]): Address | undefined {
  return ranges.find((range) => overlaps(range, target));
}

/** When to ban a network instead of its addresses: never if it contains a protected address. */
export function wideningOf({
  widenAfter,
  protect,
  record,
}: Protected & { readonly widenAfter: number | undefined }): Widening | undefined {
  if (widenAfter === undefined) return undefined;
  let ranges: Address[] | undefined;
  const allows = (network: Address) => {
    ranges ??= protectedRanges({ protect, record });
    return findProtected(network, ranges) === undefined;
  };
  return { after: widenAfter, protect, allows };
}

/**
 * The ranges in a file that lists them, one a line, those of a service in AWS's ip-ranges.json, or of a search engine.
 *
 * @param source a path, or the descriptor of an open file, which `path` then names in errors
 * @throws BanctlError notUnderstood if it cannot be read, or anything in it is no range
 */
export function readRangesFile(
  source: string | number,
  service = CLOUDFRONT,
  path = String(source),
): Address[] {
  let text: string;
  try {
    text = readInput(source, LONGEST_FILE);
  } catch (error) {
    throw cannotReadInput(`the ranges in ${path}`, error, EXIT.notUnderstood);
  }
  const entries = text.trimStart().startsWith('{') ? readIpRanges(text, service, path) : readLines(text);
  return entries.map((entry) => {
    const range = readAddress(entry);
    if (range === undefined)
      throw new BanctlError(EXIT.notUnderstood, `${path}: not an address or CIDR range: ${quote(entry)}`);
    return range;
  });
}

/** The lines of a list, without comments and empty lines. */
export function readLines(text: string): string[] {
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim());
  return lines.filter((line) => line !== '');
}

/** Search engines publish their crawlers' addresses as `{"prefixes": [{"ipv6Prefix": …}, {"ipv4Prefix": …}]}`. */
interface Published {
  readonly ipv4Prefix?: unknown;
  readonly ipv6Prefix?: unknown;
}

function readIpRanges(text: string, wanted: string, path: string): string[] {
  try {
    const { prefixes, ipv6_prefixes = [] } = JSON.parse(text);
    const published = prefixes.flatMap((range: Published) => range.ipv4Prefix ?? range.ipv6Prefix ?? []);
    if (published.length > 0 && published.length === prefixes.length) return published.map(String);
    const ranges = [...prefixes, ...ipv6_prefixes].filter(({ service }) => service === wanted);
    if (ranges.length > 0) return ranges.map((range) => String(range.ip_prefix ?? range.ipv6_prefix));
  } catch {
    // The caller reports it.
  }
  throw new BanctlError(
    EXIT.notUnderstood,
    `${path} has no ranges of ${quote(wanted)}`,
    "is it AWS's ip-ranges.json, whole?",
  );
}
