import { changeList } from '../banlist/change.ts';
import { type Digest, digestOf, minus, plus } from '../banlist/digest.ts';
import { applyEdits, type Edit } from '../banlist/text.ts';
import type { Change, Outcome } from '../bans/change.ts';
import { now } from '../bans/hold.ts';
import { type Plan, planReload } from '../reload/plan.ts';
import { readState, withDigest, writeState } from '../reload/state.ts';
import type { ReloadReport } from '../reload/types.ts';
import { BanctlError } from '../system/errors.ts';
import { followLinks } from '../system/links.ts';
import { acquireLock, Overtaken, withLock } from '../system/lock.ts';
import { type FileVersion, readText } from '../system/read.ts';
import { replaceFile } from '../system/write.ts';
import type { ChangeOptions, ChangeReport } from './types.ts';

/** What becomes of the reload in a dry run. */
export const DRY_RUN: ReloadReport = { result: 'skipped', message: 'nothing was changed: this is a dry run' };

interface Written {
  readonly outcomes: readonly Outcome[];
  readonly isChanged: boolean;
  readonly plan: Plan;
  /** What is needed to take the change back; undefined if nothing was written. */
  readonly replaced?: Replaced;
}

interface Replaced {
  readonly before: Buffer;
  readonly version: FileVersion;
}

/**
 * Applies changes to the list in one step and reloads Apache if that is needed. `changesFor` is given the list
 * as it is under the lock. What it returns is on disk when the report comes, unless the report says that it was
 * taken back: Apache's test refused the list because of it.
 *
 * @throws BanctlError as of withLock, readText and replaceFile: then nothing has changed
 */
export async function changeBanlist(
  options: ChangeOptions,
  changesFor: (text: Buffer) => readonly Change[],
): Promise<ChangeReport> {
  const written = writeChanges(options, changesFor);
  const { outcomes, isChanged, plan, replaced } = written;
  if (plan !== 'reload') return { isChanged, outcomes, reload: plan };
  const report = await reloadNow(options);
  if (!isListAtFault(report, options.banlist) || replaced === undefined) {
    return { isChanged, outcomes, reload: report };
  }
  const isTakenBack = await takeBack(options, replaced, () => writeChanges(options, changesFor));
  if (!isTakenBack) return { isChanged, outcomes, reload: report };
  const message = `apache refuses the list with this change, so it was taken back: ${report.message}`;
  const skipped = outcomes.map((outcome) => ({ ...outcome, status: 'skipped' as const }));
  return { isChanged: false, outcomes: skipped, reload: { result: 'failed', message } };
}

/** The change is in the list by now: whatever goes wrong with the reload is told as that. */
async function reloadNow(options: ChangeOptions): Promise<ReloadReport> {
  const { reload } = await import('../reload/run.ts');
  try {
    return await reload(options, { isForced: false, isUrgent: options.isUrgent === true });
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    return { result: 'failed', message: error.message };
  }
}

/** False if Apache's test blames another file: then it says nothing of the list. */
function isListAtFault({ isConfigRefused, message }: ReloadReport, banlist: string): boolean {
  const [, blamed] = / line \d+ of (.+?): /.exec(message ?? '') ?? [];
  return isConfigRefused === true && (blamed === undefined || followLinks(blamed) === banlist);
}

function writeChanges(options: ChangeOptions, changesFor: (text: Buffer) => readonly Change[]): Written {
  const { banlist, lockTimeout, dryRun } = options;
  const at = now();
  if (dryRun) {
    const { text } = readText(banlist);
    const { edits, outcomes } = changeList(text, changesFor(text), at);
    return { outcomes, isChanged: edits.length > 0, plan: DRY_RUN };
  }
  return withLock(banlist, { timeout: lockTimeout }, (lock) => {
    const list = readText(banlist);
    const changes = changesFor(list.text);
    const progress = options.progress?.(changes.length);
    const { edits, outcomes } = changeList(list.text, changes, at, progress?.step);
    progress?.stop();
    const before = readState(banlist, list);
    const isChanged = edits.length > 0;
    const version = isChanged
      ? replaceFile(banlist, applyEdits(list.text, edits), { lock, seen: list })
      : undefined;
    const changed =
      version === undefined
        ? before
        : { ...withDigest(before, digestAfter(before.digest, list.text, edits), Date.now()), list: version };
    const { plan, state } = planReload(changed, options, options.isUrgent === true);
    if (state !== before) writeState(banlist, state, lock);
    const written = { outcomes, isChanged, plan };
    return version === undefined ? written : { ...written, replaced: { before: list.text, version } };
  });
}

function digestAfter(digest: Digest, text: Buffer, edits: readonly Edit[]): Digest {
  const correct = (sum: Digest, { start, end, insert }: Edit) =>
    plus(minus(sum, digestOf(text.subarray(start, end))), digestOf(Buffer.from(insert)));
  return edits.reduce(correct, digest);
}

/**
 * Puts the list back as it was before a change, if nobody has changed it since and Apache accepts it so. The
 * lock is held while Apache tests, because it tests the list where it lies.
 */
async function takeBack(
  options: ChangeOptions,
  replaced: Replaced,
  changeAgain: () => unknown,
): Promise<boolean> {
  const { banlist, lockTimeout } = options;
  const { testConfig } = await import('../apache/apache.ts');
  const lock = acquireLock(banlist, { timeout: lockTimeout });
  try {
    const current = readText(banlist);
    if (current.version !== replaced.version) return false;
    const restored = replaceFile(banlist, [replaced.before], { lock, seen: current });
    const test = await testConfig(options.apachectl);
    if (test.result === 'passed') return true;
    replaceFile(banlist, [current.text], { lock, seen: { version: restored } });
    return false;
  } catch (error) {
    if (!(error instanceof Overtaken)) throw error;
  } finally {
    lock.release();
  }
  changeAgain();
  return false;
}
