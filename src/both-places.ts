import { isSingle, readAddress } from './address.ts';
import { bansInDirectory, changeBanFile, isInDirectory, putOnDisk } from './bandir.ts';
import { type Change, changeList, type Outcome } from './banlist/change.ts';
import { type Ban, type BanFinder, bansOf, denyLines, findBans } from './banlist/text.ts';
import type { Changes } from './bans.ts';
import { type FileContent, readText } from './file.ts';
import { now } from './hold.ts';
import { type ChangeOptions, type ChangeReport, changeBanlist, DRY_RUN } from './list-change.ts';
import { isPending, readState } from './reload-state.ts';

/*
 * Bans in two places: single addresses have a file each in the ban directory and need no reload, ranges stand in the
 * list. Either place may hold what belongs into the other, from before the directory was set or a prefix was changed:
 * what is released is released in both, and a hold that moves is there before it goes.
 */

/** A change for one of the places; `index` tells which of the changes asked for it stands for, if any. */
interface Part {
  readonly change: Change;
  readonly index: number | undefined;
}

/** More files than this are written first and put on the disk together: a disk takes milliseconds for each. */
const MOST_SYNCED_ALONE = 16;

export async function changeBoth(
  options: ChangeOptions,
  bandir: string,
  changesFor: Changes,
): Promise<ChangeReport> {
  const { banlist, dryRun } = options;
  const at = now();
  const list = readText(banlist);
  const changes = changesFor(() => [...bansOf(denyLines(list.text)), ...bansInDirectory(bandir)]);
  const { files, listed, known } = divide(changes, findBans(list.text, changes.length));

  const told: (readonly Outcome[])[] = changes.map(() => []);
  const tell = (parts: readonly Part[], outcomes: readonly Outcome[]) => {
    parts
      .filter(({ change }) => change.verb === 'add' || change.verb === 'release')
      .forEach(({ index }, position) => {
        const outcome = outcomes[position];
        if (index !== undefined && outcome !== undefined) told[index] = [...(told[index] ?? []), outcome];
      });
  };

  const fileOptions = { ...options, durable: files.size <= MOST_SYNCED_ALONE };
  let isChanged = false;
  const progress = options.progress?.(files.size);
  for (const [address, parts] of files) {
    const changed = changeBanFile(bandir, address, changesOf(parts), at, fileOptions);
    isChanged ||= changed.isChanged;
    tell(parts, changed.outcomes);
    progress?.step();
  }
  progress?.stop();
  if (isChanged && !fileOptions.durable && !dryRun) await putOnDisk(bandir);

  const report = await changeListed(options, list, changesOf(listed), at);
  tell(listed, report.outcomes);
  if (isEnforced(report) && !dryRun) leaveFiles(bandir, changes, at, fileOptions);
  return {
    isChanged: isChanged || report.isChanged,
    outcomes: told.flatMap((outcomes, index) =>
      outcomes.length === 0 ? [] : [known.has(index) ? already(joined(outcomes)) : joined(outcomes)],
    ),
    reload: report.reload,
  };
}

interface Division {
  /** By address. */
  readonly files: ReadonlyMap<string, readonly Part[]>;
  readonly listed: readonly Part[];
  /** Additions to a file of what the list bans already, by their index. */
  readonly known: ReadonlySet<number>;
}

/** Which change is for which place. */
function divide(changes: readonly Change[], inList: BanFinder): Division {
  const files = new Map<string, Part[]>();
  const listed: Part[] = [];
  const known = new Set<number>();
  const toFile = (address: string, part: Part) => {
    const parts = files.get(address);
    if (parts === undefined) files.set(address, [part]);
    else parts.push(part);
  };
  changes.forEach((change, index) => {
    const address = change.verb === 'add' ? change.target : change.address;
    if (isRange(address)) {
      listed.push({ change, index });
      return;
    }
    toFile(address, { change, index });
    if (change.verb !== 'add') listed.push({ change, index });
    else {
      const named = inList.naming(address);
      if (named.some((ban) => ban.address === address)) known.add(index);
      if (named.some((ban) => isReplaced(ban, change)))
        listed.push({ change: withdrawal(change), index: undefined });
    }
  });
  return { files, listed, known };
}

function isRange(address: string): boolean {
  const read = readAddress(address);
  return read === undefined || !isSingle(read);
}

type Addition = Extract<Change, { verb: 'add' }>;

/** True for a ban in the other place that has the hold which is added here. */
function isReplaced(ban: Ban, { hold }: Addition): boolean {
  return ban.holds.some(({ holder, address }) => holder === hold.holder && address === hold.address);
}

/** The release of a hold where it does not belong any more. */
function withdrawal({ hold }: Addition): Change {
  return { verb: 'release', address: hold.address, holder: hold.holder };
}

/** The list is locked and written only if it is concerned, or if Apache has not loaded it as it is. */
async function changeListed(
  options: ChangeOptions,
  list: FileContent,
  changes: readonly Change[],
  at: number,
): Promise<ChangeReport> {
  const { edits, outcomes } = changeList(list.text, changes, at);
  if (edits.length > 0 || (!options.dryRun && isPending(readState(options.banlist, list))))
    return changeBanlist(options, () => changes);
  return { isChanged: false, outcomes, reload: options.dryRun ? DRY_RUN : { result: 'not-needed' } };
}

function isEnforced({ reload }: ChangeReport): boolean {
  return reload.result === 'done' || reload.result === 'not-needed';
}

/** What was widened to a range, and is enforced as one, needs no file of its own. */
function leaveFiles(
  bandir: string,
  changes: readonly Change[],
  at: number,
  options: Parameters<typeof changeBanFile>[4],
): void {
  for (const change of changes) {
    if (change.verb !== 'add' || !isRange(change.target) || !isInDirectory(bandir, change.hold.address))
      continue;
    changeBanFile(bandir, change.hold.address, [withdrawal(change)], at, options);
  }
}

/** What the two places say of one address. */
function joined(outcomes: readonly Outcome[]): Outcome {
  const [first, ...others] = outcomes;
  if (first === undefined) throw new Error('no place has said anything');
  const heldBy = [...new Set(outcomes.flatMap((outcome) => outcome.heldBy))];
  if (heldBy.length > 0) return { ...first, status: 'still-held', heldBy };
  return others.find(({ status }) => status === 'unbanned') ?? first;
}

function already(outcome: Outcome): Outcome {
  return outcome.status === 'banned' ? { ...outcome, status: 'already-banned' } : outcome;
}

function changesOf(parts: readonly Part[]): Change[] {
  return parts.map(({ change }) => change);
}
