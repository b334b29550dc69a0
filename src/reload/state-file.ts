import { closeSync, openSync, readSync } from 'node:fs';
import { type Digest, type DigestKey, EMPTY, isDigest, isDigestKey } from '../banlist/digest.ts';
import { BanctlError, lineOf } from '../system/errors.ts';
import type { Lock } from '../system/held-lock.ts';
import type { ProcessId } from '../system/process.ts';
import { type FileVersion, readText } from '../system/read.ts';
import { replaceFile } from '../system/write.ts';
import { warn } from '../terminal/print.ts';
import type { ApacheCommands } from './types.ts';

/* The file in which banctl keeps what it knows about the list and each Apache that reads it; see state.ts. */

export interface ReloadState {
  /** The key of all digests here. Only root can read the file: see banlist/digest.ts. */
  readonly key: DigestKey;
  /** The version of the list that `digest` is of. */
  readonly list: FileVersion | null;
  readonly digest: Digest;
  /** The version of the list that is known to have neither an access list nor extended attributes. */
  readonly plain: FileVersion | null;
  /** The version that banctl wrote with those of the version before. */
  readonly attributed: FileVersion | null;
  readonly mark: Mark;
  /** The names of the Apaches that the last call concerned. */
  readonly targets: readonly string[];
  readonly apaches: readonly KnownApache[];
  /** Ends of the last reload that banctl saw, and of the last attempt. Milliseconds since the epoch. */
  readonly lastReload: number | null;
  readonly lastTry: number | null;
  /** Seconds from the last attempt to the next, and whether old children of Apache have lengthened them. */
  readonly spacing: number;
  readonly isLingering: boolean;
  /** The shortest interval that a call with a deferred reload has asked for. Seconds. */
  readonly interval: number | null;
  /** The names of the Apaches with a deferred reload: other calls may use other names. */
  readonly owed: readonly ApacheCommands[];
  readonly error: string | null;
  /** The PidFile at the time of the error: a later one comes from a successful reading. */
  readonly errorAt: string | null;
  /** The process that waits to reload at the end of the interval. */
  readonly waiter: ProcessId | null;
}

/** The moment when the list got its current content, or was first seen with it. */
interface Mark {
  /** Counts these moments: a list that was changed and changed back is not the same. */
  readonly count: number;
  readonly ticks: number;
  readonly boot: string | null;
}

export interface KnownApache {
  readonly name: string;
  /** Null for an Apache that banctl cannot see. */
  readonly pidFile: string | null;
  readonly loaded: Loaded | null;
  /** Its PidFile at the mark, null if there was none; and whether Apache was at rest then. */
  readonly made: string | null;
  readonly wasAtRest: boolean;
  /** The paths by which it reads the list, and where they led at its last reload or at the mark. Older versions kept neither. */
  readonly paths?: readonly string[];
  readonly way?: string;
  /** At its last reload: its process, and its youngest child, in ticks. Older children belong to an older generation. */
  readonly process: ProcessId | null;
  readonly generation: number | null;
}

export interface Loaded {
  readonly digest: Digest;
  readonly list: FileVersion | null;
  /** Null for an Apache that banctl cannot see: banctl assumes that it has loaded the list. */
  readonly pidFile: FileVersion | null;
}

/** The limit of remembered names: each new value of an option adds one. */
export const MOST_APACHES = 8;
/** The last time that a Date can have. Milliseconds since the epoch. */
const LAST_TIME = 8.64e15;
const KEY_BYTES = 8;
/** Readable for root only: whoever knows the key can choose addresses that cancel each other out. */
const STATE_MODE = 0o600;

function unknownState(key: DigestKey): ReloadState {
  return {
    key,
    list: null,
    digest: EMPTY,
    plain: null,
    attributed: null,
    mark: { count: 0, ticks: 0, boot: null },
    targets: [],
    apaches: [],
    lastReload: null,
    lastTry: null,
    spacing: 0,
    isLingering: false,
    interval: null,
    owed: [],
    error: null,
    errorAt: null,
    waiter: null,
  };
}

/** node:crypto would cost 4 ms in each first call. */
function newKey(): DigestKey {
  const bytes = Buffer.alloc(KEY_BYTES);
  try {
    const descriptor = openSync('/dev/urandom', 'r');
    try {
      readSync(descriptor, bytes);
    } finally {
      closeSync(descriptor);
    }
  } catch {
    // A chroot may lack the device, and a ban must not fail because of that.
    process.getBuiltinModule('node:crypto').randomFillSync(bytes);
  }
  return bytes.toString('hex');
}

/** A comment, because `Include DIR/*` makes Apache read the state too. */
const COMMENT = '# ';

export function statePath(banlist: string): string {
  return `${banlist}.state`;
}

/**
 * Call it with the lock of the list only. A failure is a warning, and nothing waits for the disk: the list has already
 * changed, and if the call failed now, fail2ban would never lift the ban.
 *
 * @throws LockLost
 */
export function writeState(banlist: string, state: ReloadState, lock: Lock): void {
  try {
    const text = Buffer.from(`${COMMENT}${JSON.stringify(state)}\n`);
    replaceFile(statePath(banlist), [text], { lock, durable: false, mode: STATE_MODE, keepsMode: false });
    isWarned = false;
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    if (!isWarned) warn(`${lineOf(error)}; until then, banctl reloads apache more often than needed`);
    isWarned = true;
  }
}

/** A call writes the state several times, and a resident for as long as it runs: one warning for a lasting failure. */
let isWarned = false;

/** Older versions wrote the state without a comment sign. */
function withoutComment(text: string): string {
  return text.startsWith(COMMENT) ? text.slice(COMMENT.length) : text;
}

/** An unknown state if the file does not exist, or is not banctl's. */
export function parseState(banlist: string): ReloadState {
  const document = readDocument(banlist);
  const key = isRecord(document) && isDigestKey(document.key) ? document.key : newKey();
  const state = { ...unknownState(key), ...(isRecord(document) ? document : {}) };
  return isState(state) ? state : unknownState(newKey());
}

function readDocument(banlist: string): unknown {
  try {
    return JSON.parse(withoutComment(readText(statePath(banlist)).text.toString()));
  } catch {
    return undefined;
  }
}

/** Any program that can write the file may have put anything into it. No call may fail because of it. */
function isState(state: Readonly<Record<keyof ReloadState, unknown>>): state is ReloadState {
  return (
    isDigestKey(state.key) &&
    isDigest(state.digest) &&
    isMark(state.mark) &&
    isListOf(state.targets, (name) => typeof name === 'string') &&
    isListOf(state.apaches, isKnownApache) &&
    isListOf(state.owed, isCommands) &&
    [state.list, state.plain, state.attributed, state.error, state.errorAt, state.waiter].every(
      isTextOrNull,
    ) &&
    [state.lastReload, state.lastTry, state.interval].every((time) => time === null || isNumber(time)) &&
    isNumber(state.spacing) &&
    typeof state.isLingering === 'boolean'
  );
}

function isCommands(commands: unknown): boolean {
  if (!isRecord(commands)) return false;
  const { apachectl, reloadCommand } = commands;
  return (
    isListOf(apachectl, (name) => typeof name === 'string') &&
    (reloadCommand === undefined || typeof reloadCommand === 'string')
  );
}

function isMark(mark: unknown): boolean {
  if (!isRecord(mark)) return false;
  return isNumber(mark.count) && isNumber(mark.ticks) && isTextOrNull(mark.boot);
}

function isKnownApache(apache: unknown): boolean {
  if (!isRecord(apache)) return false;
  const { name, pidFile, loaded, made, wasAtRest, paths = [], way = '', process: id, generation } = apache;
  return (
    [name, way].every((text) => typeof text === 'string') &&
    typeof wasAtRest === 'boolean' &&
    isListOf(paths, (path) => typeof path === 'string') &&
    [pidFile, made, id].every(isTextOrNull) &&
    (generation === null || isNumber(generation)) &&
    (loaded === null || isLoaded(loaded))
  );
}

function isLoaded(loaded: unknown): boolean {
  return (
    isRecord(loaded) && isDigest(loaded.digest) && isTextOrNull(loaded.list) && isTextOrNull(loaded.pidFile)
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isListOf(value: unknown, isOne: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length <= 2 * MOST_APACHES && value.every(isOne);
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === 'string';
}

/** A number that can be a time in milliseconds. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= LAST_TIME;
}
