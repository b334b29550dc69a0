import { changeBans } from '../bans.ts';
import type { ExitCode } from '../errors.ts';
import { showChange } from '../output.ts';
import type { Settings } from '../settings.ts';
import { readAddresses } from './operands.ts';

/** `banctl unban ADDRESS...`: releases the jail's hold, or without a jail every hold. */
export async function unban(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const addresses = readAddresses(operands);
  const holder = settings.jail ?? null;
  const report = await changeBans(settings, () =>
    addresses.map((address) => ({ verb: 'release', address: address.text, holder })),
  );
  return showChange(report, settings);
}
