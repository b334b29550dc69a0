import { compareAddresses, overlaps, readAddress } from '../bans/address.ts';
import { type Hold, holderOf } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import type { ReportedBan } from '../store/read.ts';

/** The bans that `list` prints, in the order of `--sort`. */
export function selectBans(
  bans: readonly ReportedBan[],
  { jail, network, sort }: Pick<Settings, 'jail' | 'network' | 'sort'>,
): ReportedBan[] {
  const held = jail === undefined ? bans : heldBy(bans, holderOf(jail));
  const inside =
    network === undefined
      ? held
      : held.filter(({ address }) => {
          const banned = readAddress(address);
          return banned !== undefined && overlaps(banned, network);
        });
  return sort === undefined ? [...inside] : sorted(inside, sort);
}

/** With that holder's holds only. */
function heldBy(bans: readonly ReportedBan[], holder: string): ReportedBan[] {
  return bans
    .map((ban) => ({ ...ban, holds: ban.holds.filter((hold) => hold.holder === holder) }))
    .filter(({ holds }) => holds.length > 0);
}

/** A ban with several holds sorts by its first hold in that order; equal bans keep the list's order. */
function sorted(bans: readonly ReportedBan[], sort: NonNullable<Settings['sort']>): ReportedBan[] {
  if (sort === 'address') return byAddress(bans);
  const keyed = bans.map((ban) => ({ ban, key: keyOf(ban.holds, sort) }));
  keyed.sort((one, other) => (one.key < other.key ? -1 : one.key > other.key ? 1 : 0));
  return keyed.map(({ ban }) => ban);
}

function byAddress(bans: readonly ReportedBan[]): ReportedBan[] {
  const keyed = bans.map((ban) => ({ ban, address: readAddress(ban.address) }));
  keyed.sort(({ address: one }, { address: other }) =>
    one === undefined || other === undefined ? 0 : compareAddresses(one, other),
  );
  return keyed.map(({ ban }) => ban);
}

/** Unknown holders and times come last, and so does "for ever". */
function keyOf(holds: readonly Hold[], sort: 'holder' | 'since' | 'until'): string | number {
  if (sort === 'holder') return holds.map(({ holder }) => holder).sort()[0] ?? '\uffff';
  const times = holds.map((hold) => (sort === 'since' ? hold.since : (hold.until ?? Number.MAX_VALUE)));
  return Math.min(...times, Number.POSITIVE_INFINITY);
}
