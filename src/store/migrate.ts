import { existsSync } from 'node:fs';
import { type Configuration, problemOf, readsFile } from '../apache/configuration.ts';
import { canSearch, directoryRule } from '../apache/directory-rule.ts';
import {
  type Ban,
  bansOf,
  bansOfLine,
  type DenyLine,
  denyLines,
  foreignArguments,
} from '../banlist/ban-lines.ts';
import { isSingle, parseAddress } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { askAll } from '../reload/ask.ts';
import type { ReloadReport } from '../reload/types.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { withLock } from '../system/lock.ts';
import { readText } from '../system/read.ts';
import { addressesIn, bansInDirectory, makeBandir, readBanFile } from './ban-files.ts';
import { changeBanFile, putOnDisk } from './directory.ts';
import { DRY_RUN } from './list.ts';
import { changeBans } from './store.ts';
import type { ChangeOptions } from './types.ts';

/*
 * Moves bans from one place to the other. Both places have them until Apache is known to enforce the new place. A ban that
 * changes in the old place during the migration stays there.
 */

/** So many bans can be copied within the time that another call may wait for the list. */
const COPIED_AT_ONCE = 500;

export interface MigrateOptions extends ChangeOptions {
  readonly bandir: string;
}

export interface Migration {
  readonly moved: readonly string[];
  /** Ranges, and lines that banctl does not manage. */
  readonly left: number;
  readonly reload: ReloadReport;
}

/** @throws BanctlError notUnderstood if Apache does not enforce the directory; nothing has changed then */
export async function migrateToDirectory(options: MigrateOptions): Promise<Migration> {
  const { banlist, bandir, lockTimeout, dryRun } = options;
  await refuseUnlessEnforced(options);
  const { singles, others } = readList(banlist);
  if (dryRun) return { moved: addressesOf(singles), left: others, reload: DRY_RUN };
  const progress = options.progress?.(singles.length);
  const moved = new Map<string, Ban>();
  // A concurrent unban finds the ban in the list: after the copy it removes both, before it there is nothing to copy.
  for (let isDone = false; !isDone; ) {
    withLock(banlist, { timeout: lockTimeout }, () => {
      const left = readList(banlist).singles.filter(({ address }) => !moved.has(address));
      for (const ban of left.slice(0, COPIED_AT_ONCE)) {
        const { address, holds } = ban;
        changeBanFile({ ...options, durable: false }, address, [{ verb: 'adopt', address, holds }]);
        moved.set(address, ban);
        progress?.step();
      }
      isDone = left.length <= COPIED_AT_ONCE;
    });
  }
  progress?.stop();
  if (moved.size > 0) await putOnDisk(bandir);
  const { reload } = await changeBans({ ...options, bandir: undefined, isUrgent: true }, () =>
    [...moved.values()].map(ceded),
  );
  return { moved: [...moved.keys()], left: readList(banlist).others, reload };
}

interface ListRead {
  readonly singles: readonly Ban[];
  /** The number of lines about something else. */
  readonly others: number;
}

/** The bans of single addresses, one for each address. */
function readList(banlist: string): ListRead {
  const lines = denyLines(readText(banlist).text);
  const bans = bansOf(lines).filter(isOfOne);
  const singles = new Map<string, Ban>();
  for (const ban of bans) {
    const earlier = singles.get(ban.address);
    singles.set(
      ban.address,
      earlier === undefined ? ban : { ...ban, holds: [...earlier.holds, ...ban.holds] },
    );
  }
  return { singles: [...singles.values()], others: lines.filter(hasOthers).length };
}

function isOfOne({ address }: Ban): boolean {
  return isSingle(parseAddress(address));
}

function hasOthers(line: DenyLine): boolean {
  return line.arguments.length === 0 || foreignArguments(line).length > 0 || !bansOfLine(line).every(isOfOne);
}

function addressesOf(bans: readonly Ban[]): string[] {
  return bans.map(({ address }) => address);
}

/**
 * @throws BanctlError reloadRefused if Apache does not enforce the list: every ban is still in the directory then;
 *   notUnderstood if a file cannot be read: nothing has changed then
 */
export async function migrateToBanlist(options: MigrateOptions): Promise<Migration> {
  const { bandir, dryRun } = options;
  for (const address of addressesIn(bandir)) readBanFile(bandir, address);
  let bans = bansInDirectory(bandir);
  if (dryRun) return { moved: addressesOf(bans), left: 0, reload: DRY_RUN };
  const { reload } = await changeBans({ ...options, bandir: undefined, isUrgent: true }, () => {
    // Under the list's lock, so that a concurrent unban finds the ban there.
    bans = bansInDirectory(bandir);
    return bans.map(({ address, holds }): Change => ({ verb: 'adopt', address, holds }));
  });
  if (bans.length > 0) await refuseUnlessListed(options, reload);
  const fileOptions = { ...options, durable: false };
  const progress = options.progress?.(bans.length);
  for (const ban of bans) {
    changeBanFile(fileOptions, ban.address, [ceded(ban)]);
    progress?.step();
  }
  progress?.stop();
  if (bans.length > 0) await putOnDisk(bandir);
  return { moved: addressesOf(bans), left: 0, reload };
}

/** Keeps what has changed since it was read. */
function ceded({ address, holds }: Ban): Change {
  return { verb: 'cede', address, holds };
}

async function refuseUnlessEnforced(options: MigrateOptions): Promise<void> {
  for (const { configuration } of await askAll(options)) await refuseUnlessSeen(options, configuration);
}

/** @param configuration undefined for an Apache that only a reload command knows */
async function refuseUnlessSeen(
  { bandir, dryRun }: MigrateOptions,
  configuration: Configuration | undefined,
): Promise<void> {
  const refuse = (message: string) => new BanctlError(EXIT.notUnderstood, message, 'nothing was moved');
  if (configuration === undefined)
    throw refuse('banctl cannot see the configuration of an apache that only --reload-command knows');
  if (configuration.result !== 'passed') throw refuse(problemOf(configuration) ?? '');
  const { state, paths } = directoryRule(configuration, bandir);
  if (state === 'not-loaded')
    throw refuse(`apache has not read the rule for ${bandir} yet; banctl reload --force`);
  if (state !== 'loaded') throw refuse(`apache has no rule that looks into ${bandir}`);
  if (!dryRun) makeBandir(bandir);
  const { user } = configuration;
  if (user === undefined || !existsSync(bandir)) return;
  for (const path of new Set([...paths, bandir]))
    if ((await canSearch(path, user)) === false)
      throw refuse(`apache's user ${user.name} cannot search ${path}`);
}

async function refuseUnlessListed(options: MigrateOptions, { result, message }: ReloadReport): Promise<void> {
  const { banlist, bandir } = options;
  const stay = `the bans stay in ${bandir} too`;
  if (result === 'failed') throw new BanctlError(EXIT.reloadRefused, `${message}`, stay);
  const asked = await askAll(options);
  const isRead = asked.every(
    ({ configuration }) => configuration !== undefined && readsFile(configuration, banlist) === true,
  );
  if (!isRead) throw new BanctlError(EXIT.reloadRefused, `apache does not read ${banlist}`, stay);
}
