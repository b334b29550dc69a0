import { type Address, compareAddresses, covers, isTooBroad, readAddress } from '../bans/address.ts';
import { askAll } from '../reload/ask.ts';
import { reload } from '../reload/run.ts';
import type { ReloadOptions, ReloadReport } from '../reload/types.ts';
import { DRY_RUN } from '../store/list.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { Overtaken } from '../system/held-lock.ts';
import { acquireLock } from '../system/lock.ts';
import { putThere, readText, statFile } from '../system/read.ts';
import { removeFile } from '../system/remove.ts';
import { replaceFile, versionWritten } from '../system/write.ts';
import { readLines } from './protection.ts';

/*
 * The ranges of a service, in one file with two readers. Apache trusts them as proxies that may name a visitor
 * (RemoteIPTrustedProxyList, mod_remoteip), and banctl never bans them (--protect @FILE). So the two cannot disagree. A
 * proxy in the file may claim any address for its visitors, so only plausible ranges replace it.
 */

export interface RangesOptions extends ReloadOptions {
  readonly force: boolean;
  readonly dryRun: boolean;
}

export interface RangesReport {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** The number of ranges. */
  readonly count: number;
  /** Apache refused its configuration, so banctl restored the file. */
  readonly isUndone?: boolean;
  readonly reload: ReloadReport;
}

const HEADER = '# Written by "banctl ranges", which replaces all of it.\n';
/** The part of the existing ranges that may disappear at once. */
const MOST_LOST = 0.5;
/** The lock is held during Apache's reload and its waits. Seconds. */
const STALE = 180;

/**
 * Writes these ranges into the file, and makes Apache load it if it has not.
 *
 * @throws BanctlError notUnderstood or notPermitted for implausible ranges; cannotWrite; lockBusy. Nothing has changed
 *   then.
 */
export async function keepRanges(
  path: string,
  ranges: readonly Address[],
  options: RangesOptions,
): Promise<RangesReport> {
  const wanted = simplify(ranges);
  if (wanted.length === 0)
    throw new BanctlError(EXIT.notUnderstood, 'the input has no ranges', 'nothing was changed');
  const broad = wanted.find(isTooBroad);
  if (broad !== undefined)
    throw new BanctlError(EXIT.notPermitted, `${broad.text} is too broad to trust`, 'nothing was changed');
  const lock = acquireLock(path, { timeout: options.lockTimeout, stale: STALE });
  try {
    const before = readText(path);
    const known = readKnown(before.text);
    refuseLoss(path, known, wanted, options);
    const added = minus(wanted, known);
    const removed = minus(known, wanted);
    const report = { added, removed, count: wanted.length };
    const text = Buffer.from(`${HEADER}${wanted.map((range) => `${range.text}\n`).join('')}`);
    const isChanged = added.length + removed.length > 0;
    if (options.dryRun) return { ...report, reload: isChanged ? DRY_RUN : { result: 'not-needed' } };
    if (isChanged) replaceFile(path, [text], { lock, seen: before });
    const seen = isChanged ? { version: versionWritten(path) } : before;
    if (!isChanged && (await isLoaded(path, options))) return { ...report, reload: { result: 'not-needed' } };
    if (!options.reloads)
      return { ...report, reload: { result: 'skipped', message: 'apache was not reloaded, as requested' } };
    const loaded = await reload(options, { isForced: true, isUrgent: true });
    if (!isChanged || loaded.refusal === undefined) return { ...report, reload: loaded };
    if (before.version === undefined) removeFile(path, { lock, seen });
    else replaceFile(path, [before.text], { lock, seen });
    const message = `${path} was left as it was: ${loaded.message}`;
    return { ...report, isUndone: true, reload: { ...loaded, message } };
  } catch (error) {
    if (!(error instanceof Overtaken)) throw error;
    throw new BanctlError(EXIT.lockBusy, `${path} was changed by another process`, 'try again');
  } finally {
    lock.release();
  }
}

/** Sorted, without ranges inside other ranges. */
function simplify(ranges: readonly Address[]): Address[] {
  const sorted = [...ranges].sort(compareAddresses);
  const kept: Address[] = [];
  for (const range of sorted) {
    const last = kept.at(-1);
    if (last === undefined || !covers(last, range)) kept.push(range);
  }
  return kept;
}

function minus(ranges: readonly Address[], others: readonly Address[]): string[] {
  const texts = new Set(others.map((range) => range.text));
  return ranges.map((range) => range.text).filter((text) => !texts.has(text));
}

/** The file's current ranges. banctl never wrote lines that are not ranges. */
function readKnown(text: Buffer): Address[] {
  return readLines(text.toString()).flatMap((line) => readAddress(line) ?? []);
}

/** A truncated or wrong list would lock out every visitor who comes through a missing proxy. */
function refuseLoss(
  path: string,
  known: readonly Address[],
  wanted: readonly Address[],
  { force }: RangesOptions,
): void {
  const lost = known.filter((range) => !wanted.some((other) => covers(other, range)));
  if (force || lost.length <= known.length * MOST_LOST) return;
  throw new BanctlError(
    EXIT.notUnderstood,
    `${lost.length} of the ${known.length} ranges in ${path} would go, ${lost[0]?.text} first`,
    'nothing was changed, --force accepts it',
  );
}

/** True if Apache has read its configuration since the file was put there, or will read it at its start. */
async function isLoaded(path: string, options: RangesOptions): Promise<boolean> {
  const asked = await askAll(options);
  return asked.every(({ configuration }) => {
    if (configuration?.result !== 'passed') return true;
    return putThere(path) < (statFile(configuration.pidFile)?.modified ?? Number.POSITIVE_INFINITY);
  });
}
