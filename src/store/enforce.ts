import { takeListLock } from '../reload/locked.ts';
import type { ReloadReport } from '../reload/types.ts';
import { BanctlError, lineOf } from '../system/errors.ts';
import { Overtaken } from '../system/held-lock.ts';
import { readText } from '../system/read.ts';
import { replaceFile, versionWritten } from '../system/write.ts';
import type { ChangeOptions, Replaced, Written } from './types.ts';

/** The result of a change after Apache was asked to load it. */
export interface Enforced extends Pick<Written, 'isChanged' | 'outcomes'> {
  readonly reload: ReloadReport;
}

/**
 * The second half of a change: makes Apache load what was written, if this call is the one to do so. If Apache's test
 * blames the list because of the change, restores the previous list.
 */
export async function enforce(options: ChangeOptions, written: Written): Promise<Enforced> {
  const { isChanged, outcomes, plan, replaced, whenEnforced } = written;
  const reload = plan === 'reload' ? await reloadNow(options) : plan;
  if (isEnforced(reload)) await whenEnforced?.();
  const mayTakeBack = replaced !== undefined && (await isListBlamed(reload, options));
  if (!mayTakeBack || !(await takeBack(options, replaced))) return { isChanged, outcomes, reload };
  const message = `apache refuses the list with this change, so banctl took it back: ${reload.message}`;
  return { ...withoutList(written), reload: { result: 'failed', message, isTakenBack: true } };
}

function withoutList({ outcomes, inDirectory }: Written): Pick<Written, 'isChanged' | 'outcomes'> {
  const skipped = [...outcomes].map(
    ([change, outcome]) =>
      [
        change,
        inDirectory?.outcomes.get(change) ?? { ...outcome, status: 'skipped', isChanged: false },
      ] as const,
  );
  return { isChanged: inDirectory?.isChanged === true, outcomes: new Map(skipped) };
}

function isEnforced({ result }: ReloadReport): boolean {
  return result === 'done' || result === 'not-needed';
}

/** The change is in the list by now, so every error is reported as an error of the reload. */
async function reloadNow(options: ChangeOptions): Promise<ReloadReport> {
  const { reload } = await import('../reload/run.ts');
  try {
    return await reload(options, { isForced: false, isUrgent: options.isUrgent === true });
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    return { result: 'failed', message: lineOf(error) };
  }
}

async function isListBlamed(report: ReloadReport, options: ChangeOptions): Promise<boolean> {
  return report.refusal !== undefined && (await import('../reload/run.ts')).isListBlamed(report, options);
}

/**
 * Restores the list from before a change, if no process has changed it since and Apache accepts it. Holds the lock while
 * Apache tests, because Apache tests the list in its place.
 */
async function takeBack(options: ChangeOptions, replaced: Replaced): Promise<boolean> {
  const { banlist } = options;
  const { keepsAttributes } = replaced;
  const { isAccepted } = await import('../reload/run.ts');
  const lock = await takeListLock(options);
  try {
    const current = readText(banlist);
    if (current.version !== replaced.version) return false;
    replaceFile(banlist, [replaced.before], { lock, seen: current, keepsAttributes });
    const restored = versionWritten(banlist);
    if (await isAccepted(options, lock)) return true;
    replaceFile(banlist, [current.text], { lock, seen: { version: restored }, keepsAttributes });
    return false;
  } catch (error) {
    if (!(error instanceof Overtaken)) throw error;
  } finally {
    lock.release();
  }
  await replaced.changeAgain();
  return false;
}
