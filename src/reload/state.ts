import { type Digest, digestOf } from '../banlist/digest.ts';
import { BanctlError, lineOf } from '../system/errors.ts';
import type { Lock } from '../system/lock.ts';
import type { ProcessId } from '../system/process.ts';
import { type FileContent, type FileVersion, readText, statFile } from '../system/read.ts';
import { replaceFile } from '../system/write.ts';
import { warn } from '../terminal/print.ts';

/**
 * What is known of Apache and the list, kept beside it in `LIST.state` and changed under its lock only. It is a
 * memory aid: each field is checked against what is there, and a state that is lost costs one reload at most.
 */
export interface ReloadState {
  /** The version of the list that `digest` was taken of. */
  readonly list: FileVersion | null;
  readonly digest: Digest;
  /** When the list began to tell Apache what it tells now. Milliseconds since the epoch. */
  readonly since: number;
  /** How Apache was asked where its PidFile is, and what it said. */
  readonly apachectl: string | null;
  readonly pidFile: string | null;
  /** What Apache has loaded, as long as its PidFile is of this version. */
  readonly loaded: { readonly digest: Digest; readonly pidFile: FileVersion | null } | null;
  /** Ends of the last reload that was seen and of the last try. Milliseconds since the epoch. */
  readonly lastReload: number | null;
  readonly lastTry: number | null;
  /** Seconds from the last try to the next. */
  readonly spacing: number;
  /** Clock ticks at the last reload: children of Apache that are older are of an older generation. */
  readonly generation: number | null;
  readonly error: string | null;
  /** The process that waits to reload when the interval is over. */
  readonly waiter: ProcessId | null;
}

const UNKNOWN: ReloadState = {
  list: null,
  digest: [0, 0],
  since: 0,
  apachectl: null,
  pidFile: null,
  loaded: null,
  lastReload: null,
  lastTry: null,
  spacing: 0,
  generation: null,
  error: null,
  waiter: null,
};

/**
 * Somebody else's reload read the list at an unknown time before it rewrote the PidFile. A list that was older
 * than this by then has been read. Milliseconds.
 */
const LONGEST_READING = 10_000;
/** The last time of a Date. Milliseconds since the epoch. */
const LAST_TIME = 8.64e15;

export function statePath(banlist: string): string {
  return `${banlist}.state`;
}

/** The state, brought up to date with the list as it is. */
export function readState(banlist: string, list: FileContent): ReloadState {
  const state = parseState(banlist);
  if (state.list !== null && state.list === (list.version ?? null)) return state;
  const read = withDigest(state, digestOf(list.text), list.modified);
  // It may have told something else meanwhile, although it tells the same again.
  return { ...read, since: Math.max(read.since, list.modified), list: list.version ?? null };
}

/** The state after the list was changed, by banctl or somebody else, to one with this digest. */
export function withDigest(state: ReloadState, digest: Digest, since: number): ReloadState {
  return sameDigest(state.digest, digest) ? state : { ...state, digest, since };
}

/**
 * Only with the lock of the list. Neither worth a wait for the disk nor a failure, but a warning: by then the list has
 * changed, and a call that failed would leave a ban that fail2ban does not lift.
 *
 * @throws LockLost
 */
export function writeState(banlist: string, state: ReloadState, lock: Lock): void {
  try {
    replaceFile(statePath(banlist), [Buffer.from(`${JSON.stringify(state)}\n`)], { lock, durable: false });
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    if (!isWarned)
      warn(`${lineOf(error)}; until it can be written, apache is reloaded more often than needed`);
    isWarned = true;
  }
}

/** A call writes the state several times. */
let isWarned = false;

/** True if the list tells Apache something that it is not known to have loaded. */
export function isPending(state: ReloadState): boolean {
  const { list, loaded, digest, since, pidFile, lastReload } = state;
  // There is no list, and nobody knows of one.
  if (list === null && loaded === null) return false;
  const pidFileNow = pidFile === null ? undefined : statFile(pidFile);
  const isAsLoaded = loaded !== null && sameDigest(loaded.digest, digest);
  if (loaded !== null && loaded.pidFile === (pidFileNow?.version ?? null)) return !isAsLoaded;
  if (pidFileNow === undefined) return true;
  // Apache was reloaded or started by somebody else since, and found the list as it was at the last reload.
  // A reload in the future is from a clock that has been set back since: it says nothing about what came later.
  if (isAsLoaded && lastReload !== null && lastReload <= Date.now() && since <= lastReload) return false;
  return pidFileNow.modified - since < LONGEST_READING;
}

function parseState(banlist: string): ReloadState {
  try {
    const state = { ...UNKNOWN, ...JSON.parse(readText(statePath(banlist)).text.toString()) };
    return isState(state) ? state : UNKNOWN;
  } catch {
    return UNKNOWN;
  }
}

/** Whoever may write the file could have put anything there, and no call is to fail because of it. */
function isState(state: Readonly<Record<keyof ReloadState, unknown>>): state is ReloadState {
  const { loaded } = state;
  return (
    [state.list, state.apachectl, state.pidFile, state.error, state.waiter].every(isTextOrNull) &&
    [state.lastReload, state.lastTry, state.generation].every((time) => time === null || isNumber(time)) &&
    [state.since, state.spacing].every(isNumber) &&
    isDigest(state.digest) &&
    (loaded === null ||
      (typeof loaded === 'object' &&
        'digest' in loaded &&
        isDigest(loaded.digest) &&
        'pidFile' in loaded &&
        isTextOrNull(loaded.pidFile)))
  );
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === 'string';
}

/** One that can be a time in milliseconds. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= LAST_TIME;
}

function isDigest(value: unknown): value is Digest {
  return Array.isArray(value) && value.length === UNKNOWN.digest.length && value.every(isNumber);
}

function sameDigest(one: Digest, other: Digest): boolean {
  return one[0] === other[0] && one[1] === other[1];
}
