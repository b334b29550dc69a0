import { type Address, isTooBroad, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { holderOf, holdId, MANUAL, now, parseTime } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { findProtected, protectedRanges, wideningOf } from '../protection/protection.ts';
import { changeBans } from '../store/store.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';
import { progressOf, readAddresses } from './operands.ts';
import { recordChange, recordRefusal } from './record-change.ts';
import { showChange } from './show-change.ts';

/** `banctl ban ADDRESS...`: adds a hold to each. */
export async function ban(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const changes = planBan(settings, readAddresses(operands));
  const progress = await progressOf(operands);
  const report = await changeBans({ ...settings, progress, widening: wideningOf(settings) }, changes);
  recordChange('ban', report.outcomes, settings);
  const exitCode = showChange(report, settings);
  if (settings.jail === undefined && settings.duration !== null && !settings.dryRun)
    await warnOfEnd(settings);
  return exitCode;
}

/** fail2ban ends a jail's ban itself. */
async function warnOfEnd(settings: Settings): Promise<void> {
  const { isAuditLate, NO_AUDIT } = await import('../system/last-audit.ts');
  if (isAuditLate(settings, Date.now())) warn(NO_AUDIT);
}

/** @throws BanctlError notPermitted for a protected or too broad address */
export function planBan(settings: Settings, addresses: readonly Address[]): Change[] {
  const { jail, duration, reason, prefixes } = settings;
  // In a fleet the beginning shows which of two values is newer: a renewed ban begins anew.
  const since = timeOf(settings.since) ?? (settings.fleet === undefined ? undefined : now());
  const asked = addresses.map((address) => ({ address: address.text, target: widen(address, prefixes) }));
  if (!settings.force)
    refuseUnwise(
      asked.map(({ target }) => target),
      settings,
    );
  const holder = jail === undefined ? MANUAL : holderOf(jail);
  return asked.map(({ address, target }) => ({
    verb: 'add',
    target: target.text,
    hold: { holder, address, id: idOf(settings, address), since, duration, reason },
  }));
}

/** Only a jail counts by something. */
export function idOf({ jail, id }: Settings, address: string): string | undefined {
  return jail === undefined || id === undefined ? undefined : holdId(id, address);
}

/** The beginning of a ban is a time; only a report accepts a time span. */
function timeOf(since: Settings['since']): number | undefined {
  return typeof since === 'object' ? parseTime(since.text) : since;
}

function refuseUnwise(targets: readonly Address[], settings: Settings): void {
  const ranges = protectedRanges(settings, targets);
  for (const target of targets) {
    if (isTooBroad(target)) {
      recordRefusal('too-broad', [target.text], settings);
      throw new BanctlError(
        EXIT.notPermitted,
        `${target.text} is too broad`,
        'nothing was changed, --force bans it anyway',
      );
    }
    const hit = findProtected(target, ranges);
    if (hit !== undefined) {
      recordRefusal('protected', [target.text], settings);
      const which = hit.text === target.text ? 'is protected' : `is protected by ${hit.text}`;
      throw new BanctlError(
        EXIT.notPermitted,
        `${target.text} ${which}`,
        'nothing was changed, --force bans it anyway',
      );
    }
  }
}
