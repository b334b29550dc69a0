import type { Ban } from '../banlist/text.ts';
import type { Change } from '../bans/change.ts';
import type { Hold } from '../bans/hold.ts';
import { changeBans, storeOf } from '../store/store.ts';
import type { ChangeOptions, ChangeReport, Changes, PlaceOptions } from '../store/types.ts';
import type { HolderTruth } from './truth.ts';
import { addition, selectWanted, type WantedBan, type WantedOptions } from './wanted.ts';

/** What makes the holds equal to what fail2ban holds. */
export interface Difference {
  readonly added: readonly { readonly holder: string; readonly ban: WantedBan }[];
  readonly released: readonly Hold[];
}

/** What these holders hold by now; nothing if that cannot be asked. */
export type AskAgain = (holders: ReadonlySet<string>) => Promise<readonly HolderTruth[]>;

export type RepairOptions = ChangeOptions & PlaceOptions & WantedOptions;

/** A ban that fail2ban changes again at each question is left to a later call. */
const MOST_ROUNDS = 3;

/**
 * Makes the changes, and asks fail2ban once more. It goes on while its answer is read and the list is changed: a ban that
 * it has lifted since must not come back, and one that it has restored since must not be lifted. Whatever it does after
 * the last question, its own call of banctl brings into the list.
 */
export async function repair(
  options: RepairOptions,
  difference: Difference,
  others: Changes,
  askAgain: AskAgain,
): Promise<ChangeReport> {
  const urgently = { ...options, isUrgent: true };
  let report = await changeBans(urgently, (bansNow) => [
    ...changesOf(difference),
    ...(typeof others === 'function' ? others(bansNow) : others),
  ]);
  if (options.dryRun) return report;
  let last = difference;
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const holders = new Set([...last.added, ...last.released].map(({ holder }) => holder));
    if (holders.size === 0) break;
    last = contradictions(last, await askAgain(holders), await readBans(options), options);
    if (last.added.length + last.released.length === 0) break;
    const { isChanged, reload } = await changeBans(urgently, changesOf(last));
    if (isChanged) report = { ...report, isChanged, reload };
  }
  return report;
}

/** The changes that a difference asks for. */
export function changesOf({ added, released }: Difference): Change[] {
  return [...released.map(releaseOf), ...added.map(({ holder, ban }) => addition(holder, ban))];
}

/** The release of exactly this hold: what came later stays. */
export function releaseOf(hold: Hold): Change {
  return { verb: 'release', address: hold.address, holder: hold.holder, seen: [hold] };
}

/** What was changed and is not so any more. */
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
      ({ holder, ban }) =>
        holder === hold.holder && ban.address.text === hold.address && ban.since === hold.since,
    );
  const gone = new Set(released.map(({ holder, address }) => `${holder} ${address}`));
  for (const { holder, address } of holds) gone.delete(`${holder} ${address}`);
  return {
    released: holds.filter(
      (hold) => byHolder.get(hold.holder)?.mayHold(hold.address) === false && isOurs(hold),
    ),
    added: truths.flatMap((truth) =>
      wantedOf(truth, options)
        .filter(({ address }) => gone.has(`${truth.holder} ${address.text}`))
        .map((ban) => ({ holder: truth.holder, ban })),
    ),
  };
}

/** What the jails of a holder hold and may hold, each address once. */
export function wantedOf({ jails }: HolderTruth, options: WantedOptions): WantedBan[] {
  const wanted = new Map<string, WantedBan>();
  for (const { held, ignored } of jails)
    for (const ban of selectWanted(held, ignored, options).wanted) {
      const earlier = wanted.get(ban.address.text);
      wanted.set(ban.address.text, earlier === undefined ? ban : longer(earlier, ban));
    }
  return [...wanted.values()];
}

/** Two bans of one address under one name last as long as the longer. */
function longer(one: WantedBan, other: WantedBan): WantedBan {
  const end = ({ until }: WantedBan) => until ?? Number.POSITIVE_INFINITY;
  return end(other) > end(one) ? other : one;
}

/** The bans in all places. */
export async function readBans(options: RepairOptions): Promise<readonly Ban[]> {
  return (await storeOf(options)).read();
}
