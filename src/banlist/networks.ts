import { type Address, isSingle, readAddress, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { type Hold, isOver, isSameAsked, nameOfHold } from '../bans/hold.ts';
import type { Ban, Draft } from './ban-lines.ts';

/*
 * An attacker with a network can use a new address for each try. So while several addresses of one network are held at
 * once, banctl bans the network instead, with their holds. Each hold keeps the address that was asked for. When fewer are
 * held, banctl bans each remaining address by itself again. The ban's comment records the number, for calls without the
 * option.
 */

/** When to ban a network instead of its addresses. */
export interface Widening {
  /** The number of addresses that must be held at once. */
  readonly after: number;
  /** The protected ranges as given: equal values protect the same. */
  readonly protect: readonly string[];
  /** False for a network that contains a protected address. */
  readonly allows: (network: Address) => boolean;
}

/** What recounting needs from a list during its changes. */
export interface Counted {
  readonly bans: readonly Ban[];
  readonly drafts: ReadonlyMap<string, Draft>;
  readonly draftOf: (address: string) => Draft;
  readonly widening: Widening | undefined;
  readonly now: number;
}

/** The size of network that a provider gives one customer, or that one attacker can be expected to have. Bits. */
const NETWORK = { ipv4: 24, ipv6: 64 };

/** The network to which an address counts; undefined for a range. */
export function networkOf(text: string): Address | undefined {
  const address = readAddress(text);
  return address === undefined || !isSingle(address) ? undefined : widen(address, NETWORK);
}

/** The networks whose count the changes may alter, by their text. */
export function networksOf(changes: readonly Change[]): Map<string, Address> {
  const networks = changes.flatMap((change) =>
    change.verb === 'count'
      ? (readAddress(change.address) ?? [])
      : addressesOf(change).flatMap((address) => networkOf(address) ?? []),
  );
  return new Map(networks.map((network) => [network.text, network]));
}

function addressesOf(change: Exclude<Change, { verb: 'count' }>): string[] {
  return change.verb === 'add' || change.verb === 'set'
    ? [change.target, change.hold.address]
    : [change.address];
}

/** Widens and narrows the networks of the changes. */
export function recount(changes: readonly Change[], counted: Counted): void {
  const networks = networksOf(changes);
  const counts = changes.filter((change) => change.verb === 'count');
  const elsewhere = new Map(counts.map(({ address, holds }) => [address, holds]));
  const isProtected = new Set(counts.flatMap((count) => (count.isProtected ? count.address : [])));
  const names = new Set([...counted.bans.map(({ address }) => address), ...counted.drafts.keys()]);
  const singles = Map.groupBy(names, (name) => networkOf(name)?.text);
  for (const [text, network] of networks) {
    const inside = (singles.get(text) ?? []).map(counted.draftOf);
    const allows = (other: Address) => !isProtected.has(text) && counted.widening?.allows(other) !== false;
    recountOne(network, inside, elsewhere.get(text) ?? [], { ...counted, allows });
  }
}

function recountOne(
  network: Address,
  singles: readonly Draft[],
  elsewhere: readonly Hold[],
  { draftOf, widening, now, allows }: Counted & Pick<Widening, 'allows'>,
): void {
  const draft = draftOf(network.text);
  const isWidened = draft.widenedAfter !== undefined;
  const after = widening?.after ?? draft.widenedAfter;
  // A network that is banned itself needs no widening.
  if (after === undefined || (!isWidened && (draft.holds.length > 0 || draft.unknownHolder))) return;
  const inside = [...draft.holds, ...singles.flatMap(({ holds }) => holds), ...elsewhere];
  const held = inside.filter((hold) => hold.address !== network.text && !isOver(hold, now));
  const isMany = new Set(held.map(({ address }) => address)).size >= after;
  if (isMany && allows(network)) {
    draft.widenedAfter = after;
    draft.holds = merged(draft.holds, [...singles.flatMap(({ holds }) => holds), ...elsewhere]);
    for (const single of singles) single.holds = [];
  } else if (isWidened) narrow(network, draft, elsewhere, draftOf);
}

function narrow(
  network: Address,
  draft: Draft,
  elsewhere: readonly Hold[],
  draftOf: (address: string) => Draft,
): void {
  const moved = draft.holds.filter(({ address }) => networkOf(address)?.text === network.text);
  draft.holds = draft.holds.filter((hold) => !moved.includes(hold));
  draft.widenedAfter = undefined;
  for (const hold of moved.filter((one) => !elsewhere.some((other) => isSameAsked(one, other)))) {
    const single = draftOf(hold.address);
    single.holds = merged(single.holds, [hold]);
  }
}

/** Each holder's hold on each address once: the newer one, at the place of the older. */
function merged(holds: readonly Hold[], newer: readonly Hold[]): Hold[] {
  const added = new Map<string, Hold>();
  for (const hold of newer) added.set(nameOfHold(hold), hold);
  const kept = holds.map((hold) => newer.findLast((other) => isSameAsked(hold, other)) ?? hold);
  for (const hold of kept) added.delete(nameOfHold(hold));
  return [...kept, ...added.values()];
}
