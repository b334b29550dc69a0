import type { Ban } from '../banlist/ban-lines.ts';
import { tidyOver } from '../banlist/change.ts';
import type { Change } from '../bans/change.ts';
import { holderOf, now } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { bannedAnywhere } from '../store/read.ts';
import { changeBans } from '../store/store.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { terminalProgress } from '../terminal/progress.ts';
import { recordChange } from './record-change.ts';
import { showChange } from './show-change.ts';
import { releaseByHand } from './unban.ts';

/** `banctl flush --jail NAME`: releases everything that the jail holds. `--all`: releases every ban. */
export async function flush(settings: Settings): Promise<ExitCode> {
  const { jail, all } = settings;
  if ((jail === undefined) !== all)
    throw new BanctlError(EXIT.usage, 'flush needs either --jail NAME or --all');
  const urgently = { ...settings, isUrgent: true, progress: await terminalProgress() };
  if (jail === undefined) return releaseByHand(urgently, bannedAnywhere(settings));
  const report = await changeBans(urgently, (bansNow) => releaseHeldBy(holderOf(jail), bansNow()));
  recordChange('flush', report.outcomes, settings);
  return showChange(report, settings);
}

export function releaseHeldBy(holder: string, bans: readonly Ban[]): Change[] {
  const holds = bans.flatMap((ban) => ban.holds).filter((hold) => hold.holder === holder);
  const addresses = new Set(holds.map((hold) => hold.address));
  return [
    ...[...addresses].map((address) => ({ verb: 'release', address, holder }) as const),
    ...tidyOver(bans, now()),
  ];
}
