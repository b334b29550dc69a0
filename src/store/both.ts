import { changeList } from '../banlist/change.ts';
import { type BanFinder, bansOf, denyLines, findBans } from '../banlist/text.ts';
import { isSingle, readAddress } from '../bans/address.ts';
import type { Change, Outcome } from '../bans/change.ts';
import { now } from '../bans/hold.ts';
import { isPending, readState } from '../reload/state.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { readText } from '../system/read.ts';
import {
  bansInDirectory,
  changeBanFile,
  checkDirectory,
  type FileOptions,
  isInDirectory,
  putOnDisk,
} from './directory.ts';
import { changeBanlist, DRY_RUN } from './list.ts';
import type { ChangeOptions, ChangeReport, Changes } from './types.ts';

/*
 * Bans in two places: single addresses have a file each in the ban directory and need no reload, ranges stand in the
 * list. An address that the list names already stays there, whoever else wants it banned, until `migrate` has seen that
 * Apache looks into the directory: moved without that, it could get in. What is released is released in both places.
 */

/** A change for one of the places; `index` tells which of the changes asked for it stands for. */
interface Part {
  readonly change: Change;
  readonly index: number;
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
  checkDirectory(bandir);
  const list = readText(banlist);
  const changes = changesFor(() => [...bansOf(denyLines(list.text)), ...bansInDirectory(bandir)]);
  const { files, listed } = divide(changes, findBans(list.text, changes.length), bandir);

  const told: (readonly Outcome[])[] = changes.map(() => []);
  const tell = (parts: readonly Part[], outcomes: readonly Outcome[]) => {
    parts
      .filter(({ change }) => change.verb === 'add' || change.verb === 'release')
      .forEach(({ index }, position) => {
        const outcome = outcomes[position];
        if (outcome !== undefined) told[index] = [...(told[index] ?? []), outcome];
      });
  };

  const fileOptions = { ...options, durable: files.size <= MOST_SYNCED_ALONE };
  let isChanged = false;
  let done = 0;
  /** An error is of what was left to do. */
  const afterDone = (error: unknown) =>
    isChanged && error instanceof BanctlError
      ? new BanctlError(error.exitCode, `${done} of ${files.size} addresses are done; then: ${error.message}`)
      : error;
  const progress = options.progress?.(files.size);
  try {
    for (const [address, parts] of files) {
      const changed = changeBanFile(bandir, address, changesOf(parts), at, fileOptions);
      isChanged ||= changed.isChanged;
      tell(parts, changed.outcomes);
      done += 1;
      progress?.step();
    }
  } catch (error) {
    throw afterDone(error);
  } finally {
    progress?.stop();
  }
  if (isChanged && !fileOptions.durable && !dryRun) await putOnDisk(bandir);

  let report: ChangeReport;
  try {
    report = await changeListed(options, changesOf(listed), at);
    tell(listed, report.outcomes);
    if (!dryRun) tell(...releaseAgain(bandir, listed, at, options));
    if (isEnforced(report) && !dryRun) leaveFiles(bandir, changes, at, fileOptions);
  } catch (error) {
    throw afterDone(error);
  }
  return {
    isChanged: isChanged || report.isChanged,
    outcomes: told.flatMap((outcomes) => (outcomes.length === 0 ? [] : [joined(outcomes)])),
    reload: report.reload,
  };
}

/** Which change is for which place. */
function divide(
  changes: readonly Change[],
  inList: BanFinder,
  bandir: string,
): { files: Map<string, Part[]>; listed: Part[] } {
  const files = new Map<string, Part[]>();
  const listed: Part[] = [];
  changes.forEach((change, index) => {
    const part = { change, index };
    const address = change.verb === 'add' ? change.target : change.address;
    const isListed = isRange(address) || (change.verb === 'add' && inList.naming(address).length > 0);
    if (isListed || change.verb !== 'add') listed.push(part);
    if (isRange(address) || (isListed && !isInDirectory(bandir, address))) return;
    const parts = files.get(address);
    if (parts === undefined) files.set(address, [part]);
    else parts.push(part);
  });
  return { files, listed };
}

function isRange(address: string): boolean {
  const read = readAddress(address);
  return read === undefined || !isSingle(read);
}

type Addition = Extract<Change, { verb: 'add' }>;

/** The release of a hold where it does not belong any more. */
function withdrawal({ hold }: Addition): Change {
  return { verb: 'release', address: hold.address, holder: hold.holder };
}

/**
 * The list is locked and written only if it is concerned, or if Apache has not loaded it as it is: whoever holds the
 * lock then sees to that too, so that nothing waits for it in vain.
 */
async function changeListed(
  options: ChangeOptions,
  changes: readonly Change[],
  at: number,
): Promise<ChangeReport> {
  const list = readText(options.banlist);
  const { edits, outcomes } = changeList(list.text, changes, at);
  if (edits.length > 0) return changeBanlist(options, () => changes);
  if (options.dryRun) return { isChanged: false, outcomes, reload: DRY_RUN };
  if (!isPending(readState(options.banlist, list)))
    return { isChanged: false, outcomes, reload: { result: 'not-needed' } };
  try {
    return await changeBanlist(options, () => changes);
  } catch (error) {
    // Everything asked for is done: a call that failed would leave a ban that fail2ban does not lift.
    if (!(error instanceof BanctlError)) throw error;
    const why = error.exitCode === EXIT.lockBusy ? 'another banctl is changing it' : error.message;
    const message = `apache has not loaded the list; ${why}`;
    return { isChanged: false, outcomes, reload: { result: 'deferred', message } };
  }
}

/** What a migration has taken out of the list, after the directory was looked at and before the list was. */
function releaseAgain(
  bandir: string,
  listed: readonly Part[],
  at: number,
  options: ChangeOptions,
): [Part[], Outcome[]] {
  const again = listed.filter(
    ({ change }) => change.verb === 'release' && isInDirectory(bandir, change.address),
  );
  const outcomes = again.flatMap(({ change }) =>
    change.verb === 'release'
      ? changeBanFile(bandir, change.address, [change], at, { ...options, durable: true }).outcomes
      : [],
  );
  return [again, outcomes];
}

function isEnforced({ reload }: ChangeReport): boolean {
  return reload.result === 'done' || reload.result === 'not-needed';
}

/** What was widened to a range, and is enforced as one, needs no file of its own. */
function leaveFiles(bandir: string, changes: readonly Change[], at: number, options: FileOptions): void {
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
  return others.find(({ status }) => status === 'unbanned' || status === 'already-banned') ?? first;
}

function changesOf(parts: readonly Part[]): Change[] {
  return parts.map(({ change }) => change);
}
