import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { BanctlError, EXIT } from '../system/errors.ts';
import { monotonicMs } from '../system/process.ts';

export interface OwnAddress {
  readonly address: string;
  readonly family: 'IPv4' | 'IPv6';
}

/** A resident asks for each of thousands of bans. Addresses may come and go at any time. */
const KEPT_MS = 1000;
let kept: { readonly addresses: readonly OwnAddress[]; readonly until: number } | undefined;

/** This host's addresses, as they are or were a second ago. */
export function ownAddresses(): readonly OwnAddress[] {
  if (kept === undefined || monotonicMs() >= kept.until)
    kept = { addresses: askForAddresses(), until: monotonicMs() + KEPT_MS };
  return kept.addresses;
}

/**
 * RestrictAddressFamilies= of a unit can forbid the question to the kernel; its files in /proc then answer it.
 */
function askForAddresses(): OwnAddress[] {
  try {
    return Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  } catch {
    return [...readTable('fib_trie', readRoutes), ...readTable('if_inet6', readInterfaces)];
  }
}

function readTable(name: string, read: (table: string) => OwnAddress[]): OwnAddress[] {
  const path = `/proc/self/net/${name}`;
  try {
    return read(readFileSync(path, 'latin1'));
  } catch (error) {
    // A kernel without IPv6 has no such file.
    if (name === 'if_inet6') return [];
    throw new BanctlError(
      EXIT.notUnderstood,
      `cannot read this host's own addresses, which are never banned: ${String(error)}`,
      'add AF_INET, AF_INET6 and AF_NETLINK to RestrictAddressFamilies= of the unit',
    );
  }
}

/** The lines "|-- ADDRESS" that a line "/32 host LOCAL" follows (fib_trie_seq_show in net/ipv4/fib_trie.c). */
export function readRoutes(table: string): OwnAddress[] {
  const found = table.matchAll(/\|-- ([\d.]+)\n\s*\/32 host LOCAL/g);
  const addresses = new Set([...found].map(([, address = '']) => address));
  return [...addresses].map((address) => ({ address, family: 'IPv4' }));
}

/** Each line begins with the address, in 32 digits (if6_seq_show in net/ipv6/addrconf.c). */
export function readInterfaces(table: string): OwnAddress[] {
  const found = table.matchAll(/^[\da-f]{32}(?= )/gm);
  return [...found].map(([digits]) => ({ address: (digits.match(/.{4}/g) ?? []).join(':'), family: 'IPv6' }));
}
