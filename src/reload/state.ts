import { isAtRest, type PidFileSeen, runningApache, seePidFile } from '../apache/processes.ts';
import { type Digest, digestOf, EMPTY } from '../banlist/digest.ts';
import { wayTo } from '../system/links.ts';
import { bootId, startOf, ticksNow } from '../system/process.ts';
import { type FileContent, type FileVersion, readText, statFile } from '../system/read.ts';
import { type KnownApache, type Loaded, MOST_APACHES, parseState, type ReloadState } from './state-file.ts';
import { namesOf } from './types.ts';

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

/** The state, updated with the list that was read. */
export function readState(banlist: string, list: FileContent): ReloadState {
  return upToDate(parseState(banlist), list);
}

/** The same without reading the list first: reads it only if its version differs from the state's. */
export function lookAtState(banlist: string): ReloadState {
  const state = parseState(banlist);
  if (state.list === (statFile(banlist)?.version ?? null)) return state;
  return upToDate(state, readText(banlist));
}

/** True if the list has changed and the state on the disk does not say so. */
export function isStateBehind(banlist: string): boolean {
  return parseState(banlist).list !== (statFile(banlist)?.version ?? null);
}

/** A state, updated with the list that was read. */
export function upToDate(state: ReloadState, list: Pick<FileContent, 'text' | 'version'>): ReloadState {
  const version = list.version ?? null;
  if (state.list === version) return state;
  // The content may have been different in between.
  return { ...marked(state), list: version, digest: digestOf(list.text, state.key) };
}

/** True if what other processes wait for is the same: only the list, or what Apache has read of it, has changed. */
export function isSameButList(one: ReloadState, other: ReloadState): boolean {
  return NOT_OF_LIST.every((name) => one[name] === other[name]);
}

const NOT_OF_LIST = [
  'targets',
  'lastReload',
  'lastTry',
  'spacing',
  'isLingering',
  'interval',
  'owed',
  'error',
  'errorAt',
  'waiter',
] as const;

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
