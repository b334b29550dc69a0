import type { Change } from '../banlist/change.ts';
import { bansOf, denyLines } from '../banlist/text.ts';
import { changeBans } from '../bans.ts';
import { BanctlError, EXIT, type ExitCode } from '../errors.ts';
import { showChange } from '../output.ts';
import type { Settings } from '../settings.ts';

/** `banctl flush --jail NAME`: releases everything that the jail holds. `--all`: every ban there is. */
export async function flush(settings: Settings): Promise<ExitCode> {
  const { jail, all } = settings;
  if ((jail === undefined) !== all) {
    throw new BanctlError(EXIT.usage, 'flush needs either --jail NAME or --all');
  }
  const report = await changeBans({ ...settings, isUrgent: true }, (text) =>
    jail === undefined ? releaseAll(text) : releaseHeldBy(jail, text),
  );
  return showChange(report, settings);
}

function releaseHeldBy(holder: string, text: Buffer): Change[] {
  const holds = bansOf(denyLines(text)).flatMap((ban) => ban.holds);
  const addresses = new Set(holds.filter((hold) => hold.holder === holder).map((hold) => hold.address));
  return [...addresses].map((address) => ({ verb: 'release', address, holder }));
}

function releaseAll(text: Buffer): Change[] {
  const banned = denyLines(text).flatMap((line) =>
    line.arguments.flatMap(({ address }) => address?.text ?? []),
  );
  return [...new Set(banned)].map((address) => ({ verb: 'release', address, holder: null }));
}
