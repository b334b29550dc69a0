import { isSingle, parseAddress } from './address.ts';
import { type ApacheUser, canSearch, directoryRule, includedFiles, testConfig } from './apache.ts';
import { bansInDirectory, changeBanFile, makeDirectory, putOnDisk } from './bandir.ts';
import type { Change } from './banlist/change.ts';
import { type Ban, bansOf, denyLines } from './banlist/text.ts';
import { BanctlError, EXIT } from './errors.ts';
import { followLinks, readText } from './file.ts';
import { now } from './hold.ts';
import { type ChangeOptions, changeBanlist, DRY_RUN } from './list-change.ts';
import type { ReloadReport } from './reload-plan.ts';

/*
 * Moves bans from one place to the other. They are in both until the new place is known to be enforced, and a ban that
 * is changed in the old place meanwhile stays there.
 */

export interface MigrateOptions extends ChangeOptions {
  readonly bandir: string;
}

export interface Migration {
  readonly moved: readonly string[];
  /** Ranges, and what banctl does not manage. */
  readonly left: number;
  readonly reload: ReloadReport;
}

/** @throws BanctlError notUnderstood if Apache does not enforce the directory: then nothing has changed */
export async function migrateToDirectory(options: MigrateOptions): Promise<Migration> {
  const { banlist, bandir, dryRun } = options;
  const lines = denyLines(readText(banlist).text);
  const bans = bansOf(lines).filter(({ address }) => isSingle(parseAddress(address)));
  const moved = { moved: bans.map(({ address }) => address), left: lines.length - bans.length };
  await refuseUnlessEnforced(options);
  if (dryRun) return { ...moved, reload: DRY_RUN };
  const fileOptions = { ...options, durable: false };
  const progress = options.progress?.(bans.length);
  for (const { address, holds } of bans) {
    changeBanFile(bandir, address, [{ verb: 'adopt', address, holds }], now(), fileOptions);
    progress?.step();
  }
  progress?.stop();
  if (bans.length > 0) await putOnDisk(bandir);
  const { reload } = await changeBanlist({ ...options, isUrgent: true }, () => bans.map(releaseOf));
  return { ...moved, reload };
}

/** @throws BanctlError reloadRefused if Apache does not enforce the list: then every ban is still in the directory */
export async function migrateToBanlist(options: MigrateOptions): Promise<Migration> {
  const { bandir, dryRun } = options;
  const bans = bansInDirectory(bandir);
  const moved = { moved: bans.map(({ address }) => address), left: 0 };
  if (dryRun) return { ...moved, reload: DRY_RUN };
  const adopted = bans.map(({ address, holds }): Change => ({ verb: 'adopt', address, holds }));
  const { reload } = await changeBanlist({ ...options, isUrgent: true }, () => adopted);
  if (bans.length > 0) await refuseUnlessListed(options, reload);
  const fileOptions = { ...options, durable: false };
  const progress = options.progress?.(bans.length);
  for (const ban of bans) {
    changeBanFile(bandir, ban.address, [releaseOf(ban)], now(), fileOptions);
    progress?.step();
  }
  progress?.stop();
  if (bans.length > 0) await putOnDisk(bandir);
  return { ...moved, reload };
}

/** What was changed since it was read stays. */
function releaseOf({ address, holds }: Ban): Change {
  return { verb: 'release', address, holder: null, seen: holds };
}

async function refuseUnlessEnforced({ apachectl, bandir }: MigrateOptions): Promise<void> {
  const refuse = (message: string) => new BanctlError(EXIT.notUnderstood, `${message}; nothing was moved`);
  const test = await testConfig(apachectl);
  if (test.result !== 'passed') throw refuse(test.message);
  const rule = await directoryRule(apachectl, bandir, test.pidFile);
  if (rule === 'not-loaded')
    throw refuse(`apache has not read the rule for ${bandir} yet; banctl reload --force`);
  if (rule !== 'loaded') throw refuse(`apache has no rule that looks into ${bandir}`);
  makeDirectory(bandir);
  const { user } = test;
  if (user !== undefined && (await canSearch(bandir, user)) === false)
    throw refuse(unsearchable(user, bandir));
}

function unsearchable(user: ApacheUser, bandir: string): string {
  return `${user.name}, whom apache runs as, cannot search ${bandir}`;
}

async function refuseUnlessListed(
  { apachectl, banlist, bandir }: MigrateOptions,
  { result, message }: ReloadReport,
): Promise<void> {
  const stay = `the bans stay in ${bandir} too`;
  if (result === 'failed') throw new BanctlError(EXIT.reloadRefused, `${message}; ${stay}`);
  const files = await includedFiles(apachectl);
  if (files === undefined || !files.some((file) => followLinks(file) === banlist))
    throw new BanctlError(EXIT.reloadRefused, `apache does not read ${banlist}; ${stay}`);
}
