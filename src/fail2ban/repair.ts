import type { Ban } from '../banlist/ban-lines.ts';
import type { Change } from '../bans/change.ts';
import { type Hold, nameOfHold } from '../bans/hold.ts';
import type { Lifts } from '../store/lifts.ts';
import { changeBans, storeOf } from '../store/store.ts';
import type { ChangeOptions, ChangeReport, Changes, PlaceOptions } from '../store/types.ts';
import type { HolderTruth } from './truth.ts';
import { addition, selectWanted, type WantedBan, type WantedOptions } from './wanted.ts';

/** A ban of fail2ban's that becomes a hold, or gives one its times. */
export interface Addition {
  readonly holder: string;
  readonly ban: WantedBan;
}

/** The changes that make the holds equal to fail2ban's bans. */
export interface Difference {
  readonly added: readonly Addition[];
  readonly released: readonly Hold[];
}

/** What these holders hold now; nothing if fail2ban cannot be asked. */
export type AskAgain = (holders: ReadonlySet<string>) => Promise<readonly HolderTruth[]>;

export type RepairOptions = ChangeOptions & PlaceOptions & WantedOptions;

/** After so many rounds, a ban that fail2ban changes again each time is left to a later call. */
const MOST_ROUNDS = 3;

/**
 * Makes the changes, then asks fail2ban once more, because fail2ban continues to work in between. A ban that was lifted since
 * must not come back, and a ban that fail2ban has restored since must not be lifted. What fail2ban does after the last
 * answer reaches the list by its own call of banctl.
 *
 * @param lifts opened before the first question
 */
export async function repair(
  options: RepairOptions,
  difference: Difference,
  others: Changes,
  askAgain: AskAgain,
  lifts: Lifts,
): Promise<ChangeReport> {
  const urgently = { ...options, ...lifts.options, isUrgent: true };
  let report = await changeBans(urgently, (bansNow) => [
    ...changesOf(difference),
    ...(typeof others === 'function' ? others(bansNow) : others),
  ]);
  if (options.dryRun) return report;
  let last = difference;
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const holders = new Set([...last.added, ...last.released].map(({ holder }) => holder));
    if (holders.size === 0) break;
    lifts.forget();
    last = contradictions(last, await askAgain(holders), await readBans(options), options);
    if (last.added.length + last.released.length === 0) break;
    const { isChanged, reload } = await changeBans(urgently, changesOf(last));
    if (isChanged) report = { ...report, isChanged, reload };
  }
  return report;
}

export function changesOf({ added, released }: Difference): Change[] {
  return [...released.map(releaseOf), ...added.map(({ holder, ban }) => addition(holder, ban))];
}

/** Releases exactly this hold; a later hold stays. */
export function releaseOf(hold: Hold): Change {
  const { address, holder, id = null } = hold;
  return { verb: 'release', address, holder, id, seen: [hold] };
}

/** The changes that fail2ban has reversed since. */
function contradictions(
  { added, released }: Difference,
  truths: readonly HolderTruth[],
  bans: readonly Ban[],
  options: WantedOptions,
): Difference {
  const holds = bans.flatMap((ban) => ban.holds);
  const byHolder = new Map(truths.map((truth) => [truth.holder, truth]));
  const isOurs = (hold: Hold) =>
    added.some(
      ({ holder, ban }) => ban.since === hold.since && nameOfWanted(holder, ban) === nameOfHold(hold),
    );
  const gone = new Set(released.map(nameOfHold));
  for (const hold of holds) gone.delete(nameOfHold(hold));
  return {
    released: holds.filter((hold) => byHolder.get(hold.holder)?.mayHold(hold) === false && isOurs(hold)),
    added: truths.flatMap((truth) =>
      wantedOf(truth, options)
        .filter((ban) => gone.has(nameOfWanted(truth.holder, ban)))
        .map((ban) => ({ holder: truth.holder, ban })),
    ),
  };
}

/** The name of the hold for fail2ban's ban. */
export function nameOfWanted(holder: string, { address, id }: WantedBan): string {
  return nameOfHold({ holder, address: address.text, id });
}

/** The bans and possible bans of a holder's jails, each address and id once. */
export function wantedOf({ jails }: HolderTruth, options: WantedOptions): WantedBan[] {
  const wanted = new Map<string, WantedBan>();
  for (const { held, ignored } of jails)
    for (const ban of selectWanted(held, ignored, options).wanted) {
      const name = nameOfWanted('', ban);
      const earlier = wanted.get(name);
      wanted.set(name, earlier === undefined ? ban : longer(earlier, ban));
    }
  return [...wanted.values()];
}

/** Of two bans of one address under one name, the longer counts. */
function longer(one: WantedBan, other: WantedBan): WantedBan {
  const end = ({ until }: WantedBan) => until ?? Number.POSITIVE_INFINITY;
  return end(other) > end(one) ? other : one;
}

/** The bans in all places. */
export async function readBans(options: RepairOptions): Promise<readonly Ban[]> {
  return (await storeOf(options)).read();
}
