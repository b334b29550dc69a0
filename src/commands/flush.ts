import { type Change, tidyOver } from '../banlist/change.ts';
import type { Ban } from '../banlist/text.ts';
import { changeBans } from '../bans.ts';
import { BanctlError, EXIT, type ExitCode } from '../errors.ts';
import { now } from '../hold.ts';
import { showChange } from '../output.ts';
import { terminalProgress } from '../progress.ts';
import { bannedAnywhere } from '../report.ts';
import type { Settings } from '../settings.ts';
import { releaseByHand } from './unban.ts';

/** `banctl flush --jail NAME`: releases everything that the jail holds. `--all`: every ban there is. */
export async function flush(settings: Settings): Promise<ExitCode> {
  const { jail, all } = settings;
  if ((jail === undefined) !== all)
    throw new BanctlError(EXIT.usage, 'flush needs either --jail NAME or --all');
  const urgently = { ...settings, isUrgent: true, progress: await terminalProgress() };
  if (jail === undefined) return releaseByHand(urgently, bannedAnywhere(settings));
  return showChange(await changeBans(urgently, (bansNow) => releaseHeldBy(jail, bansNow())), settings);
}

function releaseHeldBy(holder: string, bans: readonly Ban[]): Change[] {
  const holds = bans.flatMap((ban) => ban.holds).filter((hold) => hold.holder === holder);
  const addresses = new Set(holds.map((hold) => hold.address));
  return [
    ...[...addresses].map((address) => ({ verb: 'release', address, holder }) as const),
    ...tidyOver(bans, now()),
  ];
}
