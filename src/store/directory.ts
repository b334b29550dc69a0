import { lstatSync } from 'node:fs';
import { applyEdits, banAlone, formatBan } from '../banlist/ban-lines.ts';
import { changeList } from '../banlist/change.ts';
import { type Change, isPlacing, type Outcome, type Outcomes, type Placing } from '../bans/change.ts';
import { type Hold, now } from '../bans/hold.ts';
import { addHold, sameHolds, setHold } from '../bans/hold-changes.ts';
import { BanctlError, EXIT, prefixed } from '../system/errors.ts';
import type { Lock } from '../system/held-lock.ts';
import { type LockOptions, MovingLock, withLock, withLockAwaited } from '../system/lock.ts';
import { run } from '../system/program.ts';
import { Removals, removeFile } from '../system/remove.ts';
import { replaceFile, syncDirectoryOf } from '../system/write.ts';
import {
  type BanFiles,
  banFile,
  bansInDirectory,
  isBannedBy,
  isInDirectory,
  look,
  makeBandir,
  namesIn,
  readBanFile,
} from './ban-files.ts';
import type { Kept } from './kept.ts';
import type { NewFiles } from './new-files.ts';
import type { ChangeOptions, Store } from './types.ts';

/* Changes of the ban directory, see ban-files.ts. */

/** Seconds. */
const SYNC_LIMIT = 60;

/** Above this number, all files are written first and synced together: one sync takes a disk milliseconds. */
export const MOST_SYNCED_ALONE = 16;
/** From this many new files on, one list of all names is cheaper than a question for each. */
const STATS_WORTH_A_LISTING = 5000;
/** After this many files, a resident yields to other requests. */
const FILES_IN_ONE_GO = 64;

export interface DirectoryOptions extends ChangeOptions {
  readonly bandir: string;
  readonly read?: BanFiles | undefined;
}

export interface FileChange {
  readonly outcomes: Outcomes;
  readonly isChanged: boolean;
}

export interface FileOptions {
  readonly bandir: string;
  /** Seconds. */
  readonly lockTimeout: number;
  readonly dryRun: boolean;
  /** False: the caller syncs the files. */
  readonly durable: boolean;
  /** For more removals than one. */
  readonly removals?: Removals | undefined;
  /** For more files than one. */
  readonly moving?: MovingLock | undefined;
  /** The files from which the changes follow, by address. */
  readonly read?: BanFiles | undefined;
  readonly isWanted?: ChangeOptions['isWanted'];
}

/** The directory as the only place, for bans of single addresses. */
export function directoryStore(options: DirectoryOptions): Store {
  return {
    read: () => bansInDirectory(options.bandir),
    change: async (changesFor) => {
      const { read = new Map() } = options;
      const changes = changesFor(() => bansInDirectory(options.bandir, read));
      return { ...(await changeFiles({ ...options, read }, changes)), plan: { result: 'not-needed' } };
    },
  };
}

/**
 * Applies each change to the file of its address, one file after another.
 *
 * @throws BanctlError as of changeBanFile; the message says how many files are done
 */
async function changeFiles(options: DirectoryOptions, changes: readonly Change[]): Promise<FileChange> {
  const files = Map.groupBy(changes, banOf);
  const durable = files.size <= MOST_SYNCED_ALONE && options.sync === undefined;
  const { kept } = options;
  const removals = durable ? undefined : Removals.from(options.bandir, kept?.deleteLater);
  const moving = durable ? undefined : new MovingLock();
  const fileOptions = { ...options, durable, removals, moving };
  const isQuick = !options.dryRun && changes.some(isPlacing);
  let newFiles: NewFiles | undefined;
  const existing =
    kept !== undefined && isQuick && files.size > STATS_WORTH_A_LISTING
      ? readableNames(options.bandir)
      : undefined;
  const outcomes = new Map<Change, Outcome>();
  let isChanged = false;
  /** A file was made in vain, and may have what was then found under the lock. */
  let isUnsynced = false;
  let done = 0;
  const progress = options.progress?.(files.size);
  try {
    for (const [address, ofAddress] of files) {
      const isThere = () => existing?.has(address) ?? isInDirectory(options.bandir, address);
      let made: MadeFile | undefined;
      if (kept !== undefined && isQuick && ofAddress.every(isPlacing) && !isThere()) {
        newFiles ??= newFilesFor(kept, options.bandir, durable);
        made = createBanFile(options, newFiles, address, ofAddress);
        isUnsynced ||= made?.isSure === false;
      }
      const file =
        made?.isSure === true
          ? made
          : firstOf(made, await changeBanFileOf(options, fileOptions, address, ofAddress));
      isChanged ||= file.isChanged;
      for (const [change, outcome] of file.outcomes) outcomes.set(change, outcome);
      done += 1;
      progress?.step();
      if (kept !== undefined && done % FILES_IN_ONE_GO === 0) {
        // Others that want this file need not wait for all the rest.
        moving?.release();
        await new Promise(setImmediate);
      }
    }
  } catch (error) {
    throw isChanged ? afterDone(error, done, files.size) : error;
  } finally {
    if (!durable) newFiles?.close();
    moving?.release();
    removals?.end();
    progress?.stop();
  }
  const isDue = options.sync === 'all' || ((isChanged || isUnsynced) && !durable && options.sync !== 'later');
  if (isDue && !options.dryRun) await putOnDisk(options.bandir);
  return { isChanged, outcomes };
}

function newFilesFor(kept: Kept, bandir: string, durable: boolean): NewFiles {
  makeBandir(bandir);
  return kept.newFiles(bandir, durable);
}

/** A file that was made without a lock. Unless that is sure, the change is to be made again, under the lock. */
interface MadeFile extends FileChange {
  readonly isSure: boolean;
}

/**
 * Undefined if no file was made.
 *
 * @throws BanctlError cannotWrite: the file is there, but a power cut may remove it
 */
function createBanFile(
  { bandir, isWanted = () => true }: DirectoryOptions,
  newFiles: NewFiles,
  address: string,
  changes: readonly Placing[],
): MadeFile | undefined {
  const areWanted = () => changes.every(isWanted);
  if (!areWanted()) return undefined;
  const time = now();
  let holds: Hold[] = [];
  const outcomes = new Map<Change, Outcome>();
  for (const change of changes) {
    const before = holds;
    holds = change.verb === 'add' ? addHold(before, change.hold, time) : setHold(before, change.hold, time);
    const status = before.length === 0 ? 'banned' : 'already-banned';
    const isChanged = !sameHolds(before, holds);
    outcomes.set(change, { address: change.hold.address, status, heldBy: [], isChanged });
  }
  const result = newFiles.create(address, formatBan(address, holds), areWanted);
  if (result === 'not-made') return undefined;
  if (newFiles.durable) syncDirectoryOf(banFile(bandir, address));
  return { outcomes, isChanged: true, isSure: result === 'made' };
}

/** Where the change under the lock finds what the made file has, that file was the change. */
function firstOf(made: MadeFile | undefined, locked: FileChange): FileChange {
  return made === undefined || locked.isChanged ? locked : made;
}

/** Undefined if the directory cannot be listed, which no change needs. */
function readableNames(bandir: string): ReadonlySet<string> | undefined {
  try {
    return new Set(namesIn(bandir));
  } catch {
    return undefined;
  }
}

/** Says how many are done, because the error is about the rest. */
export function afterDone(error: unknown, done: number, all: number): unknown {
  if (!(error instanceof BanctlError)) return error;
  return prefixed(`${done} of ${all} addresses are done; then: `, error);
}

/** The address or range that a change bans or releases. */
export function banOf(change: Change): string {
  return isPlacing(change) ? change.target : change.address;
}

/**
 * Applies changes about one address to its file, under the file's own lock.
 *
 * @throws BanctlError as of withLock, readText and replaceFile; the file is then unchanged
 */
export function changeBanFile(options: FileOptions, address: string, changes: readonly Change[]): FileChange {
  const change = fileChange(options, address, changes);
  if (typeof change !== 'function') return change;
  return withLock(banFile(options.bandir, address), lockOptionsOf(options), change);
}

async function changeBanFileOf(
  { kept }: DirectoryOptions,
  options: FileOptions,
  address: string,
  changes: readonly Change[],
): Promise<FileChange> {
  if (kept === undefined) return changeBanFile(options, address, changes);
  const change = fileChange(options, address, changes);
  if (typeof change !== 'function') return change;
  return withLockAwaited(banFile(options.bandir, address), lockOptionsOf(options), change);
}

function lockOptionsOf({ lockTimeout, moving }: FileOptions): LockOptions {
  return { timeout: lockTimeout, moving };
}

/** The work under the file's lock; does at once what needs no lock. */
function fileChange(
  { bandir, dryRun, durable, removals, isWanted, read }: FileOptions,
  address: string,
  changes: readonly Change[],
): FileChange | ((lock: Lock) => FileChange) {
  const apply = (text: Buffer) => {
    const wanted = isWanted === undefined ? changes : changes.filter(isWanted);
    const { edits, outcomes } = changeList(text, wanted, now(), { alone: banAlone(text, address) });
    return { outcomes, isChanged: edits.length > 0, pieces: applyEdits(text, edits) };
  };
  if (dryRun) return apply(readBanFile(bandir, address).text);
  const path = banFile(bandir, address);
  if (changes.some((change) => isPlacing(change) || change.verb === 'adopt')) makeBandir(bandir);
  else if (!isInDirectory(bandir, address)) return apply(Buffer.alloc(0));
  let known = read?.get(address);
  return (lock) => {
    let seen = known ?? readBanFile(bandir, address);
    let result = apply(seen.text);
    if (known !== undefined && !result.isChanged) {
      seen = readBanFile(bandir, address);
      result = apply(seen.text);
    }
    // A file that has changed since is read when the change is made again.
    known = undefined;
    const { outcomes, isChanged, pieces } = result;
    if (!isChanged) {
      // Whoever made the ban may not have come to the end.
      if (durable && seen.version !== undefined && changes.some(isPlacing)) syncDirectoryOf(path);
      return { outcomes, isChanged };
    }
    if (isBannedBy(Buffer.concat(pieces), address)) {
      refuseLink(path);
      replaceFile(path, pieces, { lock, seen, durable });
    } else removeFile(path, { lock, seen, durable, removals });
    return { outcomes, isChanged };
  };
}

/** Following a link could lead to a file that other links name too, outside what the lock protects. */
function refuseLink(path: string): void {
  if (look(path, lstatSync)?.isSymbolicLink() && look(path) !== undefined)
    throw new BanctlError(
      EXIT.notUnderstood,
      `${path} is a symbolic link`,
      'nothing was changed, make it a file',
    );
}

/**
 * Syncs everything that was written without `durable`: one call for thousands of files.
 *
 * @throws BanctlError cannotWrite
 */
export async function putOnDisk(bandir: string): Promise<void> {
  const { exitCode, stderr } = await run('sync --file-system', [bandir], SYNC_LIMIT);
  if (exitCode !== 0)
    throw new BanctlError(
      EXIT.cannotWrite,
      `${bandir} was changed, but may not be on the disk: ${stderr.trim() || 'sync failed'}`,
    );
}
