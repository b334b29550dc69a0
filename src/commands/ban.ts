import { type Address, isTooBroad, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { holderOf, MANUAL } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { findProtected, protectedRanges } from '../protection/protection.ts';
import { changeBans } from '../store/store.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { progressOf, readAddresses } from './operands.ts';
import { showChange } from './show-change.ts';

/** `banctl ban ADDRESS...`: adds a hold to each. */
export async function ban(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const { jail, since, duration, reason, prefixes } = settings;
  const addresses = readAddresses(operands);
  if (!settings.force)
    refuseUnwise(
      addresses.map((address) => widen(address, prefixes)),
      settings.protect,
    );
  const holder = jail === undefined ? MANUAL : holderOf(jail);
  const changes = addresses.map(
    (address): Change => ({
      verb: 'add',
      target: widen(address, prefixes).text,
      hold: { holder, address: address.text, since, duration, reason },
    }),
  );
  const progress = await progressOf(operands);
  return showChange(await changeBans({ ...settings, progress }, changes), settings);
}

function refuseUnwise(targets: readonly Address[], protect: readonly string[]): void {
  const ranges = protectedRanges(protect, targets);
  for (const target of targets) {
    if (isTooBroad(target)) {
      throw new BanctlError(
        EXIT.notPermitted,
        `${target.text} is too broad`,
        'nothing was changed, --force bans it all the same',
      );
    }
    const hit = findProtected(target, ranges);
    if (hit !== undefined) {
      const which = hit.text === target.text ? 'is protected' : `is protected by ${hit.text}`;
      throw new BanctlError(
        EXIT.notPermitted,
        `${target.text} ${which}`,
        'nothing was changed, --force bans it all the same',
      );
    }
  }
}
