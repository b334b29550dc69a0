import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { type Address, parseAddress, readAddress } from '../bans/address.ts';
import { isOver } from '../bans/hold.ts';
import { findProtected } from '../protection/protection.ts';
import { addressesIn, bansInDirectory, isBanName, namesIn, readBanFile } from '../store/ban-files.ts';
import { BanctlError, lineOf } from '../system/errors.ts';
import { isLockOrTemporary } from '../system/lock-directory.ts';
import type { Finding } from './finding.ts';

/** The problems of the ban directory itself. Times are seconds since the epoch. */
export function directoryFaults(bandir: string, protectedRanges: readonly Address[], now: number): Finding[] {
  return [...wrongNames(bandir), ...unreadable(bandir), ...wrongBans(bandir, protectedRanges, now)];
}

/** Apache looks up the visitor's address in the form that it prints: any other name has no effect. */
function wrongNames(bandir: string): Finding[] {
  const names = namesIn(bandir).filter((name) => !isBanName(name) && !isOfCall(bandir, name));
  return names.map((name) => {
    const meant = readAddress(name);
    const remedy = meant === undefined ? 'remove it' : `remove it, and banctl ban ${meant.text}`;
    return {
      code: 'bad-line',
      message: `${bandir}/${name} has no effect: its name is not an address as Apache writes it; ${remedy}`,
    };
  });
}

/** True for files that a running call makes; a lock is a directory, and may have disappeared. */
function isOfCall(bandir: string, name: string): boolean {
  if (!isLockOrTemporary(name)) return false;
  const isLock = name.endsWith('.lock');
  return !isLock || lstatSync(join(bandir, name), { throwIfNoEntry: false })?.isDirectory() !== false;
}

/** Apache refuses their addresses, but banctl cannot lift these bans. */
function unreadable(bandir: string): Finding[] {
  return addressesIn(bandir).flatMap((address): Finding[] => {
    try {
      readBanFile(bandir, address);
      return [];
    } catch (error) {
      if (!(error instanceof BanctlError)) throw error;
      return [{ code: 'bad-line', address, message: lineOf(error) }];
    }
  });
}

function wrongBans(bandir: string, ranges: readonly Address[], now: number): Finding[] {
  return bansInDirectory(bandir).flatMap(({ address, holds }): Finding[] => {
    const hit = findProtected(parseAddress(address), ranges);
    const which = hit?.text === address ? '' : ` by ${hit?.text}`;
    return [
      ...(hit === undefined
        ? []
        : [{ code: 'protected', address, message: `protected${which}, but banned` } as const]),
      ...holds
        .filter((hold) => isOver(hold, now))
        .map(
          ({ holder, id }) =>
            ({ code: 'expired', address, holder, id, message: `the hold of ${holder} is over` }) as const,
        ),
    ];
  });
}
