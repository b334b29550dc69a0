import { BanctlError, EXIT } from '../system/errors.ts';
import { monotonicMs } from '../system/process.ts';
import { readInput } from '../system/read.ts';

/** As in node:os. */
export type Family = 'IPv4' | 'IPv6';

/** A resident asks for each of thousands of bans. Addresses may come and go at any time. */
const KEPT_MS = 1000;
const kept = new Map<Family, { readonly addresses: readonly string[]; readonly until: number }>();

/** This host's addresses of a family, as they are or were a second ago. */
export function ownAddresses(family: Family): readonly string[] {
  const known = kept.get(family);
  if (known !== undefined && monotonicMs() < known.until) return known.addresses;
  const addresses = askForAddresses(family);
  kept.set(family, { addresses, until: monotonicMs() + KEPT_MS });
  return addresses;
}

const TABLES = {
  IPv4: { path: '/proc/self/net/fib_trie', read: readRoutes },
  IPv6: { path: '/proc/self/net/if_inet6', read: readInterfaces },
} as const;

/** The table of a router with all routes of the Internet has hundreds of megabytes; a string of Node holds 512. */
const SHORT_BYTES = 2 ** 16;
const LONGEST_BYTES = 2 ** 29 - 2 ** 16;

/**
 * The kernel's files in /proc answer fastest: loading node:os and its question take half a millisecond of each ban. They have
 * the addresses for which the host accepts packets. Where they are long or hidden, the question is asked.
 * RestrictAddressFamilies= of a unit can forbid it; then only the files are left.
 */
function askForAddresses(family: Family): readonly string[] {
  try {
    const addresses = readTable(family, SHORT_BYTES);
    // Every host has a loopback address; a sandbox may have an empty file.
    if (addresses.length > 0) return addresses;
  } catch {
    // Longer than that, or hidden.
  }
  return askKernel(family);
}

function askKernel(family: Family): readonly string[] {
  try {
    const interfaces = process.getBuiltinModule('node:os').networkInterfaces();
    const all = Object.values(interfaces).flatMap((addresses) => addresses ?? []);
    return all.filter((one) => one.family === family).map(({ address }) => address);
  } catch {
    return readWholeTable(family);
  }
}

function readWholeTable(family: Family): readonly string[] {
  try {
    return readTable(family, LONGEST_BYTES);
  } catch (error) {
    // A kernel without IPv6 has no such file.
    if (family === 'IPv6') return [];
    throw new BanctlError(
      EXIT.notUnderstood,
      `cannot read this host's own addresses, which are never banned: ${String(error)}`,
      'add AF_INET, AF_INET6 and AF_NETLINK to RestrictAddressFamilies= of the unit',
    );
  }
}

function readTable(family: Family, longestBytes: number): readonly string[] {
  const { path, read } = TABLES[family];
  return read(readInput(path, longestBytes));
}

/** The lines "|-- ADDRESS", and among those below it "/32 host LOCAL" (fib_trie_seq_show in net/ipv4/fib_trie.c). */
export function readRoutes(table: string): string[] {
  const found = table.matchAll(/\|-- ([\d.]+)\n(?:\s*\/.*\n)*?\s*\/32 host LOCAL/g);
  return [...new Set([...found].map(([, address = '']) => address))];
}

/** Each line begins with the address, in 32 digits (if6_seq_show in net/ipv6/addrconf.c). */
export function readInterfaces(table: string): string[] {
  const found = table.matchAll(/^[\da-f]{32}(?= )/gm);
  return [...found].map(([digits]) => (digits.match(/.{4}/g) ?? []).join(':'));
}
