import type { Settings } from '../cli/settings.ts';
import { migrateToBanlist, migrateToDirectory } from '../store/migrate.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { print, showJson } from '../terminal/print.ts';
import { terminalProgress } from '../terminal/progress.ts';
import { showReload } from './show-change.ts';

/** `banctl migrate --to bandir|banlist`: moves the bans of single addresses, so that at least one place always has each. */
export async function migrateCommand(settings: Settings): Promise<ExitCode> {
  const { to, banlist, bandir, reloads, dryRun, json } = settings;
  if (to === undefined) throw new BanctlError(EXIT.usage, 'migrate needs --to bandir or --to banlist');
  if (bandir === undefined) throw new BanctlError(EXIT.usage, 'migrate needs --bandir DIR');
  if (!reloads)
    throw new BanctlError(
      EXIT.usage,
      'migrate needs to reload Apache',
      'remove no-reload from the environment and the configuration file',
    );
  const options = { ...settings, bandir, progress: await terminalProgress() };
  const migration = await (to === 'bandir' ? migrateToDirectory : migrateToBanlist)(options);
  const { moved, left, reload } = migration;
  if (json) showJson({ changed: moved.length > 0 && !dryRun, moved, reload: reload.result });
  else {
    const count = (many: number, what: string) => `${many} ${what}${many === 1 ? '' : 's'}`;
    const rest =
      left === 0 ? '' : `; ${count(left, 'other line')} stay${left === 1 ? 's' : ''} in ${banlist}`;
    print(
      `${count(moved.length, 'ban')} ${dryRun ? 'would be ' : ''}moved to ${to === 'bandir' ? bandir : banlist}${rest}`,
    );
  }
  return showReload(reload, json);
}
