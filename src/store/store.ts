import type { Change, Outcome, Outcomes } from '../bans/change.ts';
import type { ReloadReport } from '../reload/types.ts';
import { announceLifts } from './lifts.ts';
import { listStore } from './list.ts';
import type { ChangeOptions, ChangeReport, Changes, PlaceOptions, Store, Written } from './types.ts';

export type StoreOptions = ChangeOptions & PlaceOptions;

/** The results of many callers' changes. */
export interface TogetherReport {
  readonly isChanged: boolean;
  /** For each of the callers, in their order. */
  readonly outcomes: readonly (readonly Outcome[])[];
  readonly reload: ReloadReport;
}

/** The places of these options: the list, or the list and a ban directory. */
export async function storeOf(options: StoreOptions): Promise<Store> {
  const { bandir } = options;
  if (bandir === undefined) return listStore(options);
  return (await import('./list-and-directory.ts')).bothStore({ ...options, bandir });
}

/**
 * Changes bans and has Apache enforce them.
 *
 * @throws BanctlError as of withLock, readText and replaceFile; nothing has changed in the list then
 */
export async function changeBans(options: StoreOptions, changes: Changes): Promise<ChangeReport> {
  const { isChanged, outcomes, reload } = await changeTogether(options, [changes]);
  return { isChanged, outcomes: outcomes.flat(), reload };
}

/**
 * The same for many callers that wait: all their changes become one write, one sync, and at most one reload. Check each
 * caller's input before, because an error affects all callers.
 */
export async function changeTogether(
  options: StoreOptions,
  callers: readonly Changes[],
): Promise<TogetherReport> {
  const { written, outcomesOf } = await writeTogether(options, callers);
  if (written.plan !== 'reload' && written.whenEnforced === undefined)
    return { isChanged: written.isChanged, outcomes: outcomesOf(written.outcomes), reload: written.plan };
  const { enforce } = await import('./enforce.ts');
  const { isChanged, outcomes, reload } = await enforce(options, written);
  return { isChanged, outcomes: outcomesOf(outcomes), reload };
}

/** What was written, and how to divide the outcomes among the callers. */
export interface WrittenTogether {
  readonly written: Written;
  readonly outcomesOf: (outcomes: Outcomes) => readonly (readonly Outcome[])[];
}

/** The first half: on return, all changes are on the disk, and `written` remains to be enforced (see enforce.ts). */
export async function writeTogether(
  options: StoreOptions,
  callers: readonly Changes[],
): Promise<WrittenTogether> {
  const store = await storeOf(options);
  let asked: (readonly Change[])[] = [];
  const written = await store.change((bansNow) => {
    asked = callers.map((changes) => (typeof changes === 'function' ? changes(bansNow) : changes));
    const all = asked.flat();
    if (!options.isRepair && !options.dryRun) announceLifts(options.banlist, all);
    return all;
  });
  return {
    written,
    outcomesOf: (outcomes) => asked.map((changes) => changes.flatMap((change) => outcomes.get(change) ?? [])),
  };
}
