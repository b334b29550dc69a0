import { closeSync, openSync, readSync } from 'node:fs';
import { isAtRest, type PidFileSeen, runningApache, seePidFile } from '../apache/processes.ts';
import { type Digest, type DigestKey, digestOf, EMPTY, isDigest, isDigestKey } from '../banlist/digest.ts';
import { BanctlError, lineOf } from '../system/errors.ts';
import { wayTo } from '../system/links.ts';
import type { Lock } from '../system/lock.ts';
import { bootId, type ProcessId, startOf, ticksNow } from '../system/process.ts';
import { type FileContent, type FileVersion, readText, statFile } from '../system/read.ts';
import { replaceFile } from '../system/write.ts';
import { warn } from '../terminal/print.ts';
import { type ApacheCommands, namesOf } from './types.ts';

/*
 * What banctl knows about the list and each Apache that reads it. The state is in `LIST.state` and changes under the list's
 * lock only. A lost state costs one reload.
 *
 * banctl knows what Apache has loaded by content, never by times that a program can set:
 *
 * 1. Apache was seen to load this content, and its PidFile is the same: it has read nothing since.
 * 2. Apache was seen to load this very file, and the file is untouched: every later reading was of this file too. The
 *    version of a file includes its inode and its time of change, which only the kernel sets.
 * 3. The list got its current content, and Apache read its configuration after that, whoever asked for it. Either its
 *    process is younger, by the kernel's count of ticks. Or its PidFile is another one, and at a moment when the list
 *    already had this content, Apache was at rest, so it was not in the middle of a reading.
 *
 * Rules 2 and 3 hold only while the paths by which Apache reads the list lead the same way: a link that was switched to
 * another file and back has a new time of change. In any other case, banctl does not know, and the next call that may change
 * something reloads once.
 */

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

interface Loaded {
  readonly digest: Digest;
  readonly list: FileVersion | null;
  /** Null for an Apache that banctl cannot see: banctl assumes that it has loaded the list. */
  readonly pidFile: FileVersion | null;
}

/** The limit of remembered names: each new value of an option adds one. */
const MOST_APACHES = 8;
/** The last time that a Date can have. Milliseconds since the epoch. */
const LAST_TIME = 8.64e15;
const KEY_BYTES = 8;
/** Readable for root only: whoever knows the key can choose addresses that cancel each other out. */
const STATE_MODE = 0o600;

function unknownState(): ReloadState {
  return {
    key: newKey(),
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

/** The state, updated with the list that was read. */
export function readState(banlist: string, list: FileContent): ReloadState {
  return upToDate(parseState(banlist), list.version, () => list.text);
}

/** The same without reading the list first: reads it only if its version differs from the state's. */
export function lookAtState(banlist: string): ReloadState {
  const state = parseState(banlist);
  if (state.list === (statFile(banlist)?.version ?? null)) return state;
  const list = readText(banlist);
  return upToDate(state, list.version, () => list.text);
}

/** True if the list has changed and the state on the disk does not say so. */
export function isStateBehind(banlist: string): boolean {
  return parseState(banlist).list !== (statFile(banlist)?.version ?? null);
}

function upToDate(state: ReloadState, version: FileVersion | undefined, text: () => Buffer): ReloadState {
  if (state.list === (version ?? null)) return state;
  // The content may have been different in between.
  return { ...marked(state), list: version ?? null, digest: digestOf(text(), state.key) };
}

/** The state after banctl has changed the list; `before` knows the list's earlier content. */
export function afterChange(before: ReloadState, digest: Digest, version: FileVersion): ReloadState {
  if (digest !== before.digest) return { ...marked(before), list: version, digest };
  const follow = (loaded: Loaded | null) =>
    loaded !== null && loaded.list === before.list ? { ...loaded, list: version } : loaded;
  const apaches = before.apaches.map((apache) => ({ ...apache, loaded: follow(apache.loaded) }));
  return { ...before, list: version, apaches };
}

/** Call it when the list already has the content that it is marked for. */
function marked(state: ReloadState): ReloadState {
  const mark = { count: state.mark.count + 1, ticks: ticksNow(), boot: bootId() ?? null };
  return {
    ...state,
    mark,
    apaches: state.apaches.map((apache) => ({
      ...apache,
      ...markOf(apache.pidFile),
      way: wayOf(apache.paths),
    })),
  };
}

/** Where these paths lead now. */
export function wayOf(paths: readonly string[] = []): string {
  return paths.map(wayTo).join(' ');
}

export function markOf(pidFile: string | null): Pick<KnownApache, 'made' | 'wasAtRest'> {
  // The PidFile first: if a reading ends in between, Apache is not at rest before its PidFile exists.
  const made = pidFile === null ? null : (seePidFile(pidFile)?.made ?? null);
  const apache = pidFile === null ? undefined : runningApache(pidFile);
  return { made, wasAtRest: apache !== undefined && apache.seen.made === made && isAtRest(apache.pid) };
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

/** Keeps the key in memory: a call writes the state several times, and a resident for as long as it runs. */
let isWarned = false;

/** True if one of these Apaches is not known to have loaded the list's current directives. */
export function isPending(state: ReloadState, names: readonly string[] = knownNames(state)): boolean {
  if (state.list === null && state.apaches.every(({ loaded }) => loaded === null)) return false;
  if (names.length === 0) return true;
  return names.some((name) => !isLoadedBy(state, knownApache(state, name)));
}

function knownNames({ targets, owed }: ReloadState): string[] {
  return [...targets, ...owed.flatMap(namesOf)];
}

/** True if nothing is known about any Apache, and the list has no directives. */
export function isFresh({ apaches, digest }: ReloadState): boolean {
  return digest === EMPTY && apaches.every(({ loaded }) => loaded === null);
}

export function knownApache({ apaches }: ReloadState, name: string): KnownApache | undefined {
  return apaches.find((apache) => apache.name === name);
}

/** The rules at the top of this file. */
export function isLoadedBy(state: ReloadState, apache: KnownApache | undefined): boolean {
  if (apache === undefined) return false;
  const { loaded, pidFile } = apache;
  const seen = pidFile === null ? undefined : seePidFile(pidFile);
  if (loaded !== null && loaded.digest === state.digest) {
    if (loaded.pidFile === (seen?.version ?? null)) return true;
    if (loaded.list !== null && loaded.list === state.list && isSameWay(apache)) return true;
  }
  if (pidFile === null || seen === undefined) return false;
  return hasReadSince(state, apache, pidFile, seen) && isSameWay(apache);
}

function isSameWay({ paths, way = '' }: KnownApache): boolean {
  return wayOf(paths) === way;
}

function hasReadSince(
  { mark }: ReloadState,
  { made, wasAtRest }: KnownApache,
  pidFile: string,
  seen: PidFileSeen,
): boolean {
  const apache = runningApache(pidFile);
  if (apache === undefined) return false;
  if (wasAtRest && made !== null && seen.made !== made) return true;
  const boot = bootId();
  // Every running process started after the system.
  if (mark.boot !== null && boot !== undefined && boot !== mark.boot) return true;
  return (startOf(apache.pid) ?? 0) > mark.ticks;
}

/** Records what is certain, so that later changes can be compared with it, and ends an error. */
export function settled(state: ReloadState): ReloadState {
  const isSettled = state.error === null && state.apaches.every((apache) => isRemembered(state, apache));
  if (isSettled) return state;
  const apaches = state.apaches.map((apache) =>
    isLoadedBy(state, apache) ? { ...apache, loaded: loadedNow(state, apache.pidFile) } : apache,
  );
  return { ...state, apaches, error: null, errorAt: null };
}

function isRemembered(state: ReloadState, apache: KnownApache): boolean {
  const { loaded, pidFile } = apache;
  if (!isLoadedBy(state, apache)) return true;
  const version = pidFile === null ? null : (seePidFile(pidFile)?.version ?? null);
  return loaded?.digest === state.digest && loaded.list === state.list && loaded.pidFile === version;
}

/** The record of an Apache that has loaded the current list. */
export function loadedNow({ digest, list }: ReloadState, pidFile: string | null): Loaded {
  return { digest, list, pidFile: pidFile === null ? null : (seePidFile(pidFile)?.version ?? null) };
}

/** The state with new observations of an Apache; they apply to each name of that Apache. */
export function withApache(state: ReloadState, seen: KnownApache): ReloadState {
  const others = state.apaches.filter(({ name }) => name !== seen.name);
  const updated = others.map((apache) =>
    seen.pidFile !== null && apache.pidFile === seen.pidFile ? { ...seen, name: apache.name } : apache,
  );
  return { ...state, apaches: [seen, ...updated].slice(0, MOST_APACHES) };
}

export function withError(state: ReloadState, error: string | null): ReloadState {
  return { ...state, error, errorAt: error === null ? null : pidFilesOf(state) };
}

/** The error of the last attempt; null once Apache has read its configuration since. */
export function currentError(state: ReloadState): string | null {
  return state.error !== null && state.errorAt === pidFilesOf(state) ? state.error : null;
}

function pidFilesOf(state: ReloadState): string {
  const known = state.targets.map((name) => knownApache(state, name)?.pidFile ?? null);
  return known.map((pidFile) => (pidFile === null ? '' : (seePidFile(pidFile)?.made ?? ''))).join(' ');
}

/** True if banctl cannot see some Apache of the last call, and assumes what it has loaded. */
export function isAssumed(state: ReloadState): boolean {
  return state.targets.some((name) => {
    const apache = knownApache(state, name);
    return apache !== undefined && apache.pidFile === null && apache.loaded !== null;
  });
}

/** Older versions wrote the state without a comment sign. */
function withoutComment(text: string): string {
  return text.startsWith(COMMENT) ? text.slice(COMMENT.length) : text;
}

function parseState(banlist: string): ReloadState {
  const unknown = unknownState();
  try {
    const state = { ...unknown, ...JSON.parse(withoutComment(readText(statePath(banlist)).text.toString())) };
    return isState(state) ? state : unknown;
  } catch {
    return unknown;
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
