import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  openSync,
  readdirSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { statePath } from '../reload/state-file.ts';
import { systemCode } from '../system/errors.ts';
import type { Lock } from '../system/held-lock.ts';
import { withLock } from '../system/lock.ts';
import { isAbandoned, isLockOrTemporary, isTemporaryOf } from '../system/lock-directory.ts';
import { readText } from '../system/read.ts';
import { cannotWrite, makeDirectory, replaceFile } from '../system/write.ts';
import {
  CHECKSUMS,
  type Checksums,
  isRemembered,
  readChecksums,
  remember,
  writeChecksums,
} from './checksums.ts';
import {
  isOfResident,
  JAIL,
  jailSwitch,
  jailText,
  jailTexts,
  type KitDirectory,
  type KitFile,
  loginLog,
  render,
} from './kit.ts';
import {
  isJailEnabled,
  isJailServed,
  isPackagedUnit,
  namingJail,
  possibleDirectories,
  type Server,
} from './server.ts';
import type { SetupOptions } from './types.ts';

/*
 * Installs the kit's files, and removes them. Setup neither replaces nor removes what an administrator has changed. It reads
 * everything before it writes anything, and the next call completes a call that was killed.
 */

/** The result for a file, also of a dry run. */
export interface FileReport {
  readonly path: string;
  readonly status:
    | 'written'
    | 'replaced'
    | 'unchanged'
    /** The administrator changed it. The new file is beside it, possibly since this call. */
    | 'kept'
    | 'laid-beside'
    /** It belongs to a package of banctl. */
    | 'packaged'
    | 'removed'
    /** It is in use, or has what setup did not write. */
    | 'in-use';
  /** Why it stays, and what to do about it. */
  readonly reason?: string;
}

/** Why a removable file must stay; undefined if nothing uses it. */
export type ReasonToKeep = (path: string) => string | undefined;

/**
 * The end of the name of a new file beside one that was changed. fail2ban reads *.conf and *.local, Apache *.conf;
 * Debian's cron reads no name with a dot, but RHEL's (cronie) all that do not end so (not_a_crontab() of database.c).
 */
export const BESIDE = '.banctl-new~';

/** A jail comes last, because fail2ban cannot start with a jail whose action or filter is missing. */
const ORDER: readonly KitDirectory[] = ['action.d', 'filter.d', 'apache2', 'cron.d', 'systemd', 'jail.d'];

/** A file in its final place. */
interface Target {
  readonly path: string;
  readonly text: string;
  /** Other texts of banctl's: as it stands in the repository, and the jail switched on or off. */
  readonly variants: readonly string[];
}

interface Step extends Target {
  readonly status: FileReport['status'];
  /** The new file beside it must go. */
  readonly tidies: boolean;
}

type Options = Pick<
  SetupOptions,
  'banlist' | 'bandir' | 'config' | 'lockTimeout' | 'dryRun' | 'root' | 'enableJail' | 'enableServe'
>;

/**
 * @param newConfig the configuration's new text, if setup must write it
 *
 * @throws BanctlError notUnderstood for anything but a text file, and nothing has changed then; cannotWrite, lockBusy
 */
export function installFiles(
  kit: readonly KitFile[],
  server: Server,
  options: Options,
  newConfig?: string,
): FileReport[] {
  const { banlist, lockTimeout, dryRun } = options;
  const { at } = server;
  const targets = targetsOf(kit, server, options);
  const log = loginLog(server.layout);
  const isLogMissing = !existsSync(at(log.path)) && existsSync(at(dirname(log.path)));
  const reports = (steps: readonly Step[], isListNew: boolean): FileReport[] => [
    ...steps.map(({ path, status }) => ({ path, status })),
    { path: banlist, status: isListNew ? 'written' : 'unchanged' },
    ...(isLogMissing ? [{ path: log.path, status: 'written' as const }] : []),
  ];
  const isListMissing = () => readText(at(banlist)).version === undefined;
  if (dryRun) return reports(planned(targets, server, readChecksums(at(CHECKSUMS))), isListMissing());
  return withChecksums(server, lockTimeout, (checksums, lock) => {
    const steps = planned(targets, server, checksums);
    const isListNew = isListMissing();
    const offered = steps.filter(({ status }) => status !== 'packaged' && status !== 'removed');
    const known = remember(checksums, offered);
    // First, so that setup recognizes each file as banctl's from its first moment.
    if (known !== checksums) writeChecksums(at(CHECKSUMS), known, lock);
    // A call that was killed may have left the list's lock.
    if (isListNew || isAbandoned(at(banlist))) makeList(at(banlist), lockTimeout);
    // fail2ban does not start with a jail whose log is missing, so the log comes before the jail.
    if (isLogMissing) makeLog(server, log);
    for (const step of steps) carryOut(step, server);
    if (newConfig !== undefined) writeConfig(options.config, newConfig);
    return reports(steps, isListNew);
  });
}

function targetsOf(kit: readonly KitFile[], server: Server, options: Options): Target[] {
  const { directoryFor, unitDirectory } = server;
  return ORDER.flatMap((part) =>
    kit
      .filter((file) => file.directory === part)
      .flatMap((file) => {
        const directory = isOfResident(file) ? unitDirectory : directoryFor(part);
        return directory === undefined ? [] : targetOf(file, `${directory}/${file.file}`, server, options);
      }),
  );
}

function targetOf(file: KitFile, path: string, server: Server, options: Options): Target[] {
  const { layout, packaged } = server;
  const text = render(file, layout, options);
  if (file.directory === 'systemd' && isPackagedUnit(server, file.file)) return [];
  if (file.directory !== 'jail.d') return [{ path, text, variants: [file.text] }];
  const isPackaged = packaged.has(path.replace(/\.local$/, '.conf'));
  const isOn = file.file === `${JAIL}.local` && (isJailEnabled(server) || options.enableJail);
  const state = { isOn, isServed: isJailServed(server, path) || options.enableServe };
  const wanted = isPackaged ? jailSwitch(file, state) : jailText(file, text, state);
  // Where its log is missing, fail2ban would not start with the jail on.
  if (wanted === undefined || (!isPackaged && isOn && lacksLog(server, options))) return [];
  return [{ path, text: wanted, variants: [file.text, ...jailTexts(file, text)] }];
}

/** True if the jail's log is missing and cannot be made. In another system's tree it may come with that system's Apache. */
export function lacksLog({ layout, at }: Server, { root }: Pick<SetupOptions, 'root'>): boolean {
  const { path } = loginLog(layout);
  return root === undefined && !existsSync(at(path)) && !existsSync(at(dirname(path)));
}

function planned(targets: readonly Target[], server: Server, checksums: Checksums): Step[] {
  const { packaged } = server;
  const steps = targets.map((target): Step => {
    const { path, text, variants } = target;
    const present = readText(server.at(path));
    const beside = readText(server.at(path + BESIDE));
    const isText = (file: Buffer, wanted: string) => file.equals(Buffer.from(wanted));
    const tidies =
      beside.version !== undefined &&
      (isText(beside.text, text) || isRemembered(checksums, path, beside.text));
    const step = (status: Step['status'], isTidied = tidies): Step => ({
      ...target,
      status,
      tidies: isTidied,
    });
    if (present.version === undefined) return step('written');
    if (packaged.has(path)) return step('packaged');
    if (isText(present.text, text)) return step('unchanged');
    const isVariant = variants.some((variant) => isText(present.text, variant));
    if (isVariant || isRemembered(checksums, path, present.text)) return step('replaced');
    return step(isText(beside.text, text) ? 'kept' : 'laid-beside', false);
  });
  return [...steps, ...oldCronJob(server, checksums)];
}

/** The cron job of an earlier setup, if a timer replaces it now. */
function oldCronJob({ at, directoryFor, packaged }: Server, checksums: Checksums): Step[] {
  const path = '/etc/cron.d/banctl';
  if (directoryFor('systemd') === undefined || packaged.has(path)) return [];
  const { version, text } = readText(at(path));
  const isOurs = version !== undefined && isRemembered(checksums, path, text);
  return isOurs ? [{ path, text: '', variants: [], status: 'removed', tidies: false }] : [];
}

function carryOut({ path, text, status, tidies }: Step, { at }: Server): void {
  const target = at(path);
  makeDirectory(dirname(target));
  for (const one of [target, at(path + BESIDE)]) discardTemporaries(one);
  if (status === 'written' || status === 'replaced')
    replaceFile(target, [Buffer.from(text)], { lock: undefined });
  if (status === 'removed') remove(target);
  if (status === 'laid-beside') replaceFile(at(path + BESIDE), [Buffer.from(text)], { lock: undefined });
  if (tidies) remove(at(path + BESIDE));
}

function writeConfig(path: string, text: string): void {
  makeDirectory(dirname(path));
  discardTemporaries(path);
  replaceFile(path, [Buffer.from(text)], { lock: undefined });
}

/** Empty, never over an existing file, and never readable for more users than the distribution's own logs. */
function makeLog({ at }: Server, { path, group, mode }: ReturnType<typeof loginLog>): void {
  const target = at(path);
  try {
    const descriptor = openSync(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode);
    try {
      const id = groupId(readText(at('/etc/group')).text.toString('utf8'), group);
      if (process.geteuid?.() === 0 && id !== undefined) fchownSync(descriptor, 0, id);
      fchmodSync(descriptor, mode);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw cannotWrite(target, error);
  }
}

function groupId(groups: string, name: string): number | undefined {
  const line = groups.split('\n').find((one) => one.startsWith(`${name}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}

/** Empty, and never over a file of another process. */
function makeList(banlist: string, lockTimeout: number): void {
  makeDirectory(dirname(banlist));
  withLock(banlist, { timeout: lockTimeout }, (lock) => {
    if (readText(banlist).version === undefined) replaceFile(banlist, [], { lock });
  });
}

/** Removes all unchanged files of setup, except the list and what is in use. Throws like {@link installFiles}. */
export function removeFiles(
  kit: readonly KitFile[],
  server: Server,
  reasonToKeep: ReasonToKeep,
  options: Options,
): FileReport[] {
  const { banlist, lockTimeout, dryRun } = options;
  const { at } = server;
  const planRemoval = (checksums: Checksums): FileReport[] => {
    const { packaged } = server;
    const removed = new Set<string>();
    return removable(kit, server, checksums, options).flatMap(({ path, texts }): FileReport[] => {
      const { version, text } = readText(at(path));
      if (version === undefined) return [];
      if (packaged.has(path)) return [{ path, status: 'packaged' }];
      const isOurs =
        texts.some((one) => text.equals(Buffer.from(one))) ||
        isRemembered(checksums, path.replace(BESIDE, ''), text);
      if (!isOurs) return [{ path, status: 'kept' }];
      const reason = reasonToKeep(path) ?? namingJail(server, path, removed);
      if (reason !== undefined) return [{ path, status: 'in-use', reason }];
      removed.add(path);
      return [{ path, status: 'removed' }];
    });
  };
  if (dryRun) return planRemoval(readChecksums(at(CHECKSUMS)));
  if (!existsSync(at(dirname(CHECKSUMS))) && planRemoval({}).length === 0) return [];
  const reports = withChecksums(server, lockTimeout, (checksums, lock) => {
    const planned = planRemoval(checksums);
    for (const { path } of removable(kit, server, checksums, options)) discardTemporaries(at(path));
    for (const { path, status } of planned) if (status === 'removed') remove(at(path));
    const left = planned.filter(({ status }) => status === 'in-use').map(({ path }) => path);
    const known = Object.fromEntries(Object.entries(checksums).filter(([path]) => left.includes(path)));
    if (left.length > 0) writeChecksums(at(CHECKSUMS), known, lock);
    else remove(at(CHECKSUMS));
    return planned;
  });
  removeState(at(banlist), lockTimeout);
  for (const directory of [dirname(banlist), dirname(CHECKSUMS)]) removeIfEmpty(at(directory));
  return reports;
}

/** The log stays: whoever removes the kit may still want to know who tried to log in. */
export function logLeft({ layout, at }: Server): FileReport[] {
  const { path } = loginLog(layout);
  return existsSync(at(path))
    ? [
        {
          path,
          status: 'in-use',
          reason: 'it has the failed logins so far; delete it once you no longer need them',
        },
      ]
    : [];
}

/** The possible places of kit files, of this or an earlier version, with this version's texts. The jail comes first. */
function removable(kit: readonly KitFile[], server: Server, checksums: Checksums, options: Options) {
  const { layout } = server;
  const texts = new Map<string, string[]>();
  for (const part of [...ORDER].reverse())
    for (const file of kit.filter((one) => one.directory === part))
      for (const directory of possibleDirectories(server, part))
        texts.set(`${directory}/${file.file}`, knownTexts(file, render(file, layout, options)));
  for (const path of Object.keys(checksums)) if (!texts.has(path)) texts.set(path, []);
  return [...texts].flatMap(([path, known]) => [
    { path, texts: known },
    { path: path + BESIDE, texts: known },
  ]);
}

function knownTexts(file: KitFile, text: string): string[] {
  return [text, file.text, ...(file.directory === 'jail.d' ? jailTexts(file, text) : [])];
}

/** The state of reloads, which the next ban creates again. */
function removeState(banlist: string, lockTimeout: number): void {
  if (readText(statePath(banlist)).version === undefined) return;
  withLock(banlist, { timeout: lockTimeout }, () => remove(statePath(banlist)));
}

function withChecksums<T>(
  { at }: Server,
  lockTimeout: number,
  work: (checksums: Checksums, lock: Lock) => T,
): T {
  const path = at(CHECKSUMS);
  makeDirectory(dirname(path));
  return withLock(path, { timeout: lockTimeout }, (lock) => work(readChecksums(path), lock));
}

/**
 * The leftovers of a killed call for a file. Call it only with the lock of the checksums, which every writer of the kit holds.
 * `banctl.1` and the like are an administrator's backups.
 */
function discardTemporaries(target: string): void {
  const directory = dirname(target);
  const isOurs = (name: string) => isLockOrTemporary(name) && isTemporaryOf(basename(target), name);
  for (const name of existsSync(directory) ? readdirSync(directory).filter(isOurs) : [])
    remove(join(directory, name));
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw cannotWrite(path, error);
  }
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // It contains another program's files.
  }
}
