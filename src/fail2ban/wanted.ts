import { type Address, isTooBroad, readAddress, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { findProtected, protectedRanges } from '../protection/protection.ts';
import type { HeldBan } from './client.ts';

interface WantedOptions {
  readonly protect: readonly string[];
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
}

/** A ban that fail2ban holds and that may be in the list. */
export interface WantedBan {
  readonly address: Address;
  readonly target: Address;
  readonly since: number;
  readonly until: number | null;
}

/**
 * Sorts what fail2ban holds: it takes any text for an address, and bans what has been protected or put into
 * `ignoreip` since. None of that may be banned.
 */
export function selectWanted(
  held: readonly HeldBan[],
  ignored: readonly string[],
  settings: WantedOptions,
): { wanted: WantedBan[]; refused: string[] } {
  const ranges = [
    ...protectedRanges(settings.protect),
    ...ignored.flatMap((entry) => readAddress(entry) ?? []),
  ];
  const wanted: WantedBan[] = [];
  const refused: string[] = [];
  for (const { address: text, since, until } of held) {
    const address = readAddress(text);
    const target = address === undefined ? undefined : widen(address, settings.prefixes);
    const isRefused =
      target === undefined || isTooBroad(target) || findProtected(target, ranges) !== undefined;
    if (isRefused || address === undefined) refused.push(text);
    else wanted.push({ address, target, since, until });
  }
  return { wanted, refused };
}

/** The change that puts a ban into the list as fail2ban holds it. */
export function addition(holder: string, { address, target, since, until }: WantedBan): Change {
  const duration = until === null ? null : until - since;
  return {
    verb: 'add',
    target: target.text,
    hold: { holder, address: address.text, since, duration, reason: null },
  };
}
