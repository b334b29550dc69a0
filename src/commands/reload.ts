import type { Settings } from '../cli/settings.ts';
import { reload, reloadWhenDue } from '../reload/run.ts';
import { isPending, readState } from '../reload/state.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { ExitCode } from '../system/errors.ts';
import { readText } from '../system/read.ts';
import { showJson } from '../terminal/print.ts';
import { showReload } from './show-change.ts';

/** `banctl reload`: makes Apache load the list if it has not, or in any case. Does not wait for the interval. */
export async function reloadCommand(settings: Settings): Promise<ExitCode> {
  const report = settings.whenDue ? await reloadWhenDue(settings) : await reloadNow(settings);
  if (settings.json) showJson({ reload: report.result });
  return showReload(report, settings.json);
}

async function reloadNow(settings: Settings): Promise<ReloadReport> {
  const { banlist, force, dryRun, reloads } = settings;
  const isNeeded = force || isPending(readState(banlist, readText(banlist)));
  if (!isNeeded) return { result: 'not-needed', message: 'apache has loaded the list as it is' };
  if (dryRun) return { result: 'skipped', message: 'apache would be reloaded' };
  if (!reloads) return { result: 'skipped', message: 'apache was not reloaded, as asked' };
  const report = await reload(settings, { isForced: force, isUrgent: true });
  return report.result === 'done' ? { message: 'apache has loaded the list', ...report } : report;
}
