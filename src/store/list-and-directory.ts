import { type Ban, bansOf, denyLines } from '../banlist/ban-lines.ts';
import { changeList } from '../banlist/change.ts';
import { type BanFinder, findBans } from '../banlist/find.ts';
import { networksOf } from '../banlist/networks.ts';
import { isSingle, readAddress } from '../bans/address.ts';
import { type Change, isPlacing, type Outcome, type Outcomes } from '../bans/change.ts';
import { now, WIDENED_PREFIX } from '../bans/hold.ts';
import { isFresh, isPending, readState } from '../reload/state.ts';
import { namesOf } from '../reload/types.ts';
import { BanctlError, EXIT, lineOf } from '../system/errors.ts';
import { isLocked } from '../system/lock-directory.ts';
import { readText } from '../system/read.ts';
import {
  addressesWithin,
  type BanFiles,
  bansInDirectory,
  bansInFile,
  checkDirectory,
  isInDirectory,
} from './ban-files.ts';
import { afterDone, banOf, changeBanFile, type DirectoryOptions, directoryStore } from './directory.ts';
import { DRY_RUN, listStore } from './list.ts';
import { readPlaces } from './read.ts';
import type { ChangesFor, Store, Written } from './types.ts';

/*
 * Bans in two places: each single address has a file in the ban directory and needs no reload, ranges are in the list.
 * An address in the list stays there, even if another holder bans it too, until `migrate` has seen that Apache uses the
 * directory: without that, moving the ban would let the address in. A release applies to both places.
 */

export function bothStore(options: DirectoryOptions): Store {
  return {
    read: () => readBoth(options),
    change: (changesFor) => changeBoth(options, changesFor),
  };
}

function readBoth(options: DirectoryOptions): Ban[] {
  return readPlaces(options, ({ text }) => [
    ...bansOf(denyLines(text)),
    ...bansInDirectory(options.bandir, options.read),
  ]);
}

/** The directory first, because a ban takes effect there at once. */
async function changeBoth(given: DirectoryOptions, changesFor: ChangesFor): Promise<Written> {
  const read: BanFiles = new Map();
  const options = { ...given, read };
  const { banlist, bandir, dryRun } = options;
  options.endTurns?.();
  checkDirectory(bandir);
  const changes = changesFor(() => readBoth(options));
  const { filed, listed } = divide(changes, findBans(readText(banlist).text, changes.length), bandir);
  const inDirectory = await directoryStore(options).change(() => filed);
  // What follows may wait for a reload, with these options.
  read.clear();
  const all = new Set(filed.map(banOf)).size;
  try {
    const inList = await changeListed(options, listed, () => counts(options, changes));
    const again = dryRun ? [] : releaseAgain(options, listed);
    return {
      ...inList,
      isChanged: inDirectory.isChanged || inList.isChanged,
      outcomes: joined(changes, [inDirectory.outcomes, inList.outcomes, ...again]),
      inDirectory,
      ...leaveFiles(options, changes),
    };
  } catch (error) {
    throw inDirectory.isChanged ? afterDone(error, all, all) : error;
  }
}

/** Sorts changes by the place that they are for. */
function divide(
  changes: readonly Change[],
  inList: BanFinder,
  bandir: string,
): { filed: Change[]; listed: Change[] } {
  const filed: Change[] = [];
  const listed: Change[] = [];
  for (const change of changes) {
    const address = banOf(change);
    const isPlaced = isPlacing(change);
    const isListed = isRange(address) || (isPlaced && inList.naming(address).length > 0);
    if (isListed || !isPlaced) listed.push(change);
    if (!isRange(address) && (!isListed || isInDirectory(bandir, address))) filed.push(change);
  }
  return { filed, listed };
}

function isRange(address: string): boolean {
  const read = readAddress(address);
  return read === undefined || !isSingle(read);
}

/**
 * Locks and writes the list only if a change is for it, or if Apache has not loaded its current content. The current holder
 * of the lock then also takes care of that, so waiting for the lock would be useless.
 */
async function changeListed(
  options: DirectoryOptions,
  listed: readonly Change[],
  counted: () => readonly Change[],
): Promise<Written> {
  const { banlist, dryRun, widening } = options;
  const changes = () => [...listed, ...counted()];
  // Another process that holds the lock may be about to move a ban here that was since released in the directory, or to
  // drop a hold that this list still shows.
  const mayMove = listed.length > 0 && isLocked(banlist);
  const list = readText(banlist);
  const { edits, outcomes } = changeList(list.text, changes(), now(), { widening });
  if (mayMove || edits.length > 0) return listStore(options).change(changes);
  if (dryRun) return { isChanged: false, outcomes, plan: DRY_RUN };
  const state = readState(banlist, list);
  // An empty list that banctl has never changed needs no reload.
  if (isFresh(state) || !isPending(state, namesOf(options)))
    return { isChanged: false, outcomes, plan: { result: 'not-needed' } };
  try {
    return await listStore(options).change(changes);
  } catch (error) {
    // Everything asked for is done. If the call failed now, fail2ban would never lift the ban.
    if (!(error instanceof BanctlError)) throw error;
    const why = error.exitCode === EXIT.lockBusy ? 'another banctl is changing it' : lineOf(error);
    const message = `apache has not loaded the list; ${why}`;
    return { isChanged: false, outcomes, plan: { result: 'deferred', message } };
  }
}

/** What the directory holds of each changed network; the list needs it for widening. */
function counts({ banlist, bandir, widening }: DirectoryOptions, changes: readonly Change[]): Change[] {
  if (widening === undefined && !readText(banlist).text.includes(WIDENED_PREFIX)) return [];
  return [...networksOf(changes).values()].map((network) => ({
    verb: 'count',
    address: network.text,
    holds: addressesWithin(bandir, network).flatMap((address) =>
      bansInFile(bandir, address).flatMap(({ holds }) => holds),
    ),
  }));
}

/** What a migration moved out of the list after the directory was read and before the list was. */
function releaseAgain(options: DirectoryOptions, listed: readonly Change[]): Outcomes[] {
  return listed
    .filter((change) => change.verb === 'release' && isInDirectory(options.bandir, change.address))
    .map((change) => changeBanFile({ ...options, durable: true }, banOf(change), [change]).outcomes);
}

/** An address that Apache refuses by a widened range needs no file. */
function leaveFiles(options: DirectoryOptions, changes: readonly Change[]): Pick<Written, 'whenEnforced'> {
  const { bandir, dryRun } = options;
  const widened = changes.flatMap((change) =>
    change.verb === 'add' && isRange(change.target) && isInDirectory(bandir, change.hold.address)
      ? [{ verb: 'release', address: change.hold.address, holder: change.hold.holder } as const]
      : [],
  );
  if (dryRun || widened.length === 0) return {};
  return {
    whenEnforced: async () => {
      await directoryStore({ ...options, progress: undefined }).change(() => widened);
    },
  };
}

/** The outcomes of both places for each change. */
function joined(changes: readonly Change[], places: readonly Outcomes[]): Outcomes {
  return new Map(
    changes.flatMap((change) => {
      const outcomes = places.flatMap((place) => place.get(change) ?? []);
      return outcomes.length === 0 ? [] : [[change, join(outcomes)] as const];
    }),
  );
}

function join(outcomes: readonly Outcome[]): Outcome {
  const [first, ...others] = outcomes;
  if (first === undefined) throw new Error('no place has said anything');
  const isChanged = outcomes.some((outcome) => outcome.isChanged);
  const heldBy = [...new Set(outcomes.flatMap((outcome) => outcome.heldBy))];
  if (heldBy.length > 0) return { ...first, isChanged, status: 'still-held', heldBy };
  const telling = others.find(({ status }) => status === 'unbanned' || status === 'already-banned') ?? first;
  return { ...telling, isChanged };
}
