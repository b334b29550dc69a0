import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  openSync,
  readdirSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { statePath } from '../reload/state-file.ts';
import { isBanName } from '../store/ban-files.ts';
import { isOwn } from '../system/links.ts';
import { withLock } from '../system/lock.ts';
import { ABANDONED_MS, isAbandoned, isResting, isTemporaryOf } from '../system/lock-directory.ts';
import { discard } from '../system/takeover.ts';
import type { Finding } from './finding.ts';
import type { AuditOptions } from './types.ts';

const WRITABLE_BY_OTHERS = 0o022;
const SEARCHABLE = 0o055;
const STICKY = 0o1000;

/** Temporary files of killed calls. Only names that no other program uses: `banlist.conf.1` is a backup. */
export function leftovers(banlist: string): string[] {
  const directory = dirname(banlist);
  const isOurs = (name: string) =>
    isTemporaryOf(basename(banlist), name) && !isResting(join(directory, name));
  return abandonedIn(directory, isOurs);
}

function leftoversIn(bandir: string): string[] {
  return abandonedIn(bandir, (name) => !isResting(join(bandir, name)));
}

function abandonedIn(directory: string, isOurs: (name: string) => boolean): string[] {
  const names = entriesOf(directory).filter((name) => isOurs(name) && /\.banctl-\d+$/.test(name));
  return names.map((name) => join(directory, name)).filter(isOld);
}

function isOld(path: string): boolean {
  return Date.now() - (modeOf(path)?.modified ?? Date.now()) > ABANDONED_MS;
}

/**
 * Locks of addresses in the ban directory whose holder was killed, perhaps before it registered itself: only a call about
 * the same address would remove them.
 */
function abandonedLocks(bandir: string): string[] {
  return entriesOf(bandir)
    .filter((name) => name.endsWith('.lock'))
    .map((name) => name.slice(0, -'.lock'.length))
    .filter(isBanName)
    .map((name) => join(bandir, name))
    .filter(isAbandoned);
}

export function fileFindings({ banlist, bandir, config }: AuditOptions): Finding[] {
  const left = [
    ...leftovers(banlist),
    ...(bandir === undefined
      ? []
      : [...leftoversIn(bandir), ...abandonedLocks(bandir).map((path) => `${path}.lock`)]),
  ];
  const places = bandir === undefined ? [banlist, config] : [banlist, config, bandir];
  const paths = [
    banlist,
    statePath(banlist),
    dirname(banlist),
    config,
    ...(bandir === undefined ? [] : [bandir]),
  ];
  const above = new Set(places.flatMap(directoriesAbove).filter((path) => !paths.includes(path)));
  return [
    ...left.map((path): Finding => ({ code: 'leftover', message: `${path} was left by a killed call` })),
    ...paths.flatMap((path) => permissionFindings(path)),
    ...[...above].flatMap((path) => (isSticky(path) ? ownerFindings(path) : permissionFindings(path))),
  ];
}

/** Without the root of all. */
function directoriesAbove(path: string): string[] {
  const parent = dirname(path);
  return parent === dirname(parent) ? [] : [...directoriesAbove(parent), parent];
}

/** As for /tmp, whose sticky bit keeps users from moving each other's files. */
function isSticky(path: string): boolean {
  return ((modeOf(path)?.mode ?? 0) & STICKY) !== 0;
}

/** Lets all users search the ban directory, as banctl creates it. */
export function openDirectory(bandir: string): void {
  changeMode(bandir, (mode) => mode | SEARCHABLE);
}

/** Removes leftovers, and takes write permission on banctl's own files from every user except the owner. */
export function repairFiles({
  banlist,
  bandir,
  lockTimeout,
}: Pick<AuditOptions, 'banlist' | 'bandir' | 'lockTimeout'>): void {
  withLock(banlist, { timeout: lockTimeout }, () => {
    for (const path of leftovers(banlist)) discard(path);
    for (const path of [banlist, statePath(banlist), ...(bandir === undefined ? [] : [bandir])])
      changeMode(path, (mode) => mode & ~WRITABLE_BY_OTHERS);
  });
  if (bandir === undefined || !existsSync(bandir)) return;
  for (const path of abandonedLocks(bandir)) withLock(path, { timeout: lockTimeout }, () => {});
  for (const path of leftoversIn(bandir)) discard(path);
}

/** Changes the file itself, never a link's target. The next audit reports again what could not be changed. */
function changeMode(path: string, change: (mode: number) => number): void {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const mode = fstatSync(descriptor).mode & 0o7777;
    if (change(mode) !== mode) fchmodSync(descriptor, change(mode));
  } catch {
    // The findings report it.
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function permissionFindings(path: string): Finding[] {
  const mode = modeOf(path)?.mode;
  if (mode === undefined || (mode & WRITABLE_BY_OTHERS) === 0) return ownerFindings(path);
  const message = `${path} is writable for other users than its owner; chmod go-w ${path}`;
  return [{ code: 'unsafe-permissions', message }, ...ownerFindings(path)];
}

/** A user who can change what Apache includes, or banctl's options, can make root do anything. */
function ownerFindings(path: string): Finding[] {
  const uid = modeOf(path)?.uid;
  if (uid === undefined || isOwn(uid)) return [];
  const message = `${path} belongs to user ${uid}, who can change it; chown root ${path}`;
  return [{ code: 'unsafe-permissions', message }];
}

function modeOf(path: string): { mode: number; uid: number; modified: number } | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : { mode: stat.mode, uid: stat.uid, modified: stat.mtimeMs };
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
