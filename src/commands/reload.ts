import type { Settings } from '../cli/settings.ts';
import { reloadWhenDue } from '../reload/deferred.ts';
import { reload } from '../reload/run.ts';
import { isPending, lookAtState } from '../reload/state.ts';
import { namesOf, type ReloadReport } from '../reload/types.ts';
import { EXIT, type ExitCode } from '../system/errors.ts';
import { showJson } from '../terminal/print.ts';
import { showReload } from './show-change.ts';

/** `banctl reload`: makes Apache load the list if it has not, or always with --force. Does not wait for the interval. */
export async function reloadCommand(settings: Settings): Promise<ExitCode> {
  if (settings.whenDue) return reloadLater(settings);
  const report = await reloadNow(settings);
  if (settings.json) showJson({ reload: report.result });
  return showReload(report, settings.json);
}

/** Prints nothing, because no process reads it, and a shell would take a failure for systemd-run's: see reload/waiter.ts. */
async function reloadLater(settings: Settings): Promise<ExitCode> {
  await reloadWhenDue(settings);
  return EXIT.done;
}

async function reloadNow(settings: Settings): Promise<ReloadReport> {
  const { banlist, force, dryRun, reloads } = settings;
  const isNeeded = force || isPending(lookAtState(banlist), namesOf(settings));
  if (!isNeeded) return { result: 'not-needed', message: 'apache has loaded the latest list' };
  if (dryRun) return { result: 'skipped', message: 'apache would be reloaded' };
  if (!reloads) return { result: 'skipped', message: 'apache was not reloaded, as requested' };
  const report = await reload(settings, { isForced: force, isUrgent: true });
  return report.result === 'done' ? { message: 'apache has loaded the list', ...report } : report;
}
