import { type Address, isTooBroad, readAddress, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { holdId } from '../bans/hold.ts';
import type { Protected } from '../protection/names.ts';
import { findProtected, protectedRanges } from '../protection/protection.ts';
import type { HeldBan } from './answers.ts';

export interface WantedOptions extends Protected {
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
}

/** A ban of fail2ban that may be in the list. */
export interface WantedBan {
  readonly address: Address;
  readonly target: Address;
  /** As in a hold. */
  readonly id: string | undefined;
  readonly since: number;
  readonly until: number | null;
}

/** A ban of fail2ban that may not. */
export interface RefusedBan {
  /** What fail2ban holds, which need not be an address. */
  readonly address: string;
  /** The protected range, if that is the reason. */
  readonly protectedBy: Address | undefined;
}

/**
 * Sorts fail2ban's bans: fail2ban accepts any text as an address, and may have banned addresses that were later protected or
 * put into `ignoreip`. banctl must not ban any of those.
 */
export function selectWanted(
  held: readonly HeldBan[],
  ignored: readonly string[],
  settings: WantedOptions,
): { wanted: WantedBan[]; refused: RefusedBan[] } {
  const ranges = protectedRanges(settings);
  const free = ignored.flatMap((entry) => readAddress(entry) ?? []);
  const wanted: WantedBan[] = [];
  const refused: RefusedBan[] = [];
  for (const { id, address: text, since, until } of held) {
    const address = readAddress(text);
    const target = address === undefined ? undefined : widen(address, settings.prefixes);
    const protectedBy = target === undefined ? undefined : findProtected(target, ranges);
    const isRefused =
      target === undefined || isTooBroad(target) || protectedBy !== undefined || findProtected(target, free);
    if (isRefused || address === undefined) refused.push({ address: text, protectedBy });
    else wanted.push({ address, target, id: holdId(id, text), since, until });
  }
  return { wanted, refused };
}

/** The change that puts fail2ban's ban into the list. */
export function addition(holder: string, { address, target, id, since, until }: WantedBan): Change {
  const duration = until === null ? null : until - since;
  return {
    verb: 'add',
    target: target.text,
    hold: { holder, address: address.text, id, since, duration, reason: null },
  };
}
