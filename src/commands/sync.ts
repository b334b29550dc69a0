import type { Outcome } from '../bans/change.ts';
import type { Settings } from '../cli/settings.ts';
import type { SyncPlan } from '../fail2ban/sync.ts';
import { wideningOf } from '../protection/protection.ts';
import { Lifts } from '../store/lifts.ts';
import type { ChangeReport, ChangesFor } from '../store/types.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { terminalProgress } from '../terminal/progress.ts';
import { recordChange, recordRefusal } from './record-change.ts';
import { showChange } from './show-change.ts';

/** `banctl sync --jail NAME`: makes the jail's holds equal to what fail2ban holds. */
export async function sync(settings: Settings): Promise<ExitCode> {
  const { jail } = settings;
  if (jail === undefined) throw new BanctlError(EXIT.usage, 'sync needs --jail NAME');
  return showChange(await synchronize(settings, jail), settings);
}

/** Everything but the answer, after which a call does nothing. */
async function synchronize(settings: Settings, jail: string): Promise<ChangeReport> {
  using lifts = new Lifts(settings);
  const planned = await planSync(settings, jail);
  if (typeof planned === 'string')
    return { isChanged: false, outcomes: [], reload: { result: 'not-needed', message: planned } };
  const { repair } = await import('../fail2ban/repair.ts');
  const options = { ...settings, progress: await terminalProgress(), widening: wideningOf(settings) };
  const { difference, others, askAgain } = planned.plan;
  const report = await repair(options, difference, others, askAgain, lifts);
  recordChange('sync', report.outcomes, settings);
  return { ...report, outcomes: [...report.outcomes, ...planned.skipped] };
}

/** The changes of a sync, and the addresses that it skips. A text says why there are no changes. Open {@link Lifts} before. */
export async function planSync(
  settings: Settings,
  jail: string,
): Promise<{ changes: ChangesFor; skipped: Outcome[]; plan: SyncPlan } | string> {
  const { planByDatabase, planByServer } = await import('../fail2ban/sync.ts');
  const plan = await (settings.fromDatabase ? planByDatabase : planByServer)(settings, jail);
  if (typeof plan === 'string') return plan;
  const { changesOf } = await import('../fail2ban/repair.ts');
  const skipped = plan.refused.map(({ address }) => address);
  recordRefusal('unusable', skipped, settings);
  return {
    changes: (bansNow) => [...changesOf(plan.difference), ...plan.others(bansNow)],
    skipped: skipped.map((address) => ({ address, status: 'skipped', heldBy: [], isChanged: false })),
    plan,
  };
}
