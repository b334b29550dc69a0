import { chmodSync, readdirSync, statSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isTemporaryOf, withLock } from '../lock.ts';
import { statePath } from '../reload-state.ts';
import type { Finding } from './finding.ts';

/** A temporary file that is older than this belongs to no call that still runs. Milliseconds. */
const ABANDONED = 60_000;
const WRITABLE_BY_OTHERS = 0o022;

/** Temporary files of calls that were killed; only what can be nobody else's: `banlist.conf.1` is a backup. */
export function leftovers(banlist: string): string[] {
  const directory = dirname(banlist);
  const names = entriesOf(directory).filter(
    (name) => isTemporaryOf(basename(banlist), name) && /\.banctl-\d+$/.test(name),
  );
  return names
    .map((name) => join(directory, name))
    .filter((path) => Date.now() - (modeOf(path)?.modified ?? Date.now()) > ABANDONED);
}

export function fileFindings(banlist: string, config: string): Finding[] {
  return [
    ...leftovers(banlist).map(
      (path): Finding => ({ code: 'leftover', message: `${path} was left by a call that was killed` }),
    ),
    ...[banlist, statePath(banlist), dirname(banlist), config].flatMap((path) => permissionFindings(path)),
  ];
}

/** Removes what is left over, and takes write permission on banctl's own files from all but their owner. */
export function repairFiles(banlist: string, lockTimeout: number): void {
  withLock(banlist, { timeout: lockTimeout }, () => {
    for (const path of leftovers(banlist)) unlinkSync(path);
    for (const path of [banlist, statePath(banlist)]) {
      const mode = modeOf(path)?.mode;
      if (mode !== undefined && (mode & WRITABLE_BY_OTHERS) !== 0)
        chmodSync(path, mode & 0o7777 & ~WRITABLE_BY_OTHERS);
    }
  });
}

function permissionFindings(path: string): Finding[] {
  const mode = modeOf(path)?.mode;
  if (mode === undefined || (mode & WRITABLE_BY_OTHERS) === 0) return [];
  return [
    {
      code: 'unsafe-permissions',
      message: `${path} can be written by others than its owner; chmod go-w ${path}`,
    },
  ];
}

function modeOf(path: string): { mode: number; modified: number } | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : { mode: stat.mode, modified: stat.mtimeMs };
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
