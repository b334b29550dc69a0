import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSamePlace } from '../system/links.ts';
import { childrenOf, nameOf, outlives, startOf, ticksNow } from '../system/process.ts';
import { type ProgramResult, run } from '../system/program.ts';
import { type FileVersion, putThere, readText, statFile } from '../system/read.ts';

/** What Apache's own test says of its configuration. */
export type ConfigTest =
  | { readonly result: 'passed'; readonly pidFile: string; readonly user: ApacheUser | undefined }
  | {
      readonly result: 'failed';
      readonly message: string;
      /** False if the test itself did not come to an end: that says nothing of the configuration. */
      readonly isRefused: boolean;
    }
  | { readonly result: 'no-apache'; readonly message: string };

/** Whom Apache's children run as. */
export interface ApacheUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** An Apache that runs. */
export interface RunningApache {
  readonly pid: number;
  readonly pidFile: string;
  /** Apache rewrites its PidFile each time it has read its configuration (ap_log_pid, server/log.c). */
  readonly version: FileVersion;
}

/** How Apache is called, where that is given. */
export interface ApacheCommands {
  readonly apachectl: string | undefined;
  readonly reloadCommand: string | undefined;
}

/** How long a test may take, and how long a reload together with Apache's reading, in seconds. */
const TEST_LIMIT = 25;
const RELOAD_LIMIT = 25;
const START_LIMIT = 10;
/** How long children are waited for that go on listening: one that hangs may never stop, and answers nobody. */
const CLOSING_LIMIT = 2;
const POLL_MILLISECONDS = 10;
/** The state of a listening socket in /proc/net/tcp. */
const LISTEN = '0A';
/** Characters of a message of somebody else's: it is told, and kept in the state. */
const MOST_SAID = 500;

/** Debian has apache2ctl, RHEL httpd; RHEL's apachectl passes no arguments on, so it comes last. */
const CONTROLS = ['apache2ctl', 'httpd', 'apachectl'];

/** Tests the configuration and learns from the same run where the PidFile is, within `limit` seconds. */
export async function testConfig(
  apachectl: string | undefined,
  limit: number = TEST_LIMIT,
): Promise<ConfigTest> {
  const seconds = Math.min(limit, TEST_LIMIT);
  const { control, outcome } = await callControl(apachectl, ['-t', '-D', 'DUMP_RUN_CFG'], seconds);
  if (!outcome.isFound) {
    return {
      result: 'no-apache',
      message: `${control} not found; give --apachectl, --reload-command or --no-reload`,
    };
  }
  if (outcome.exitCode !== 0) {
    const message = describe(`${control} -t`, outcome, seconds);
    return { result: 'failed', message, isRefused: outcome.exitCode !== undefined };
  }
  const pidFile = /^PidFile: "(.*)"$/m.exec(outcome.stdout)?.[1];
  if (pidFile === undefined)
    return { result: 'no-apache', message: `${control} -t -D DUMP_RUN_CFG names no PidFile` };
  return { result: 'passed', pidFile, user: readUser(outcome.stdout) };
}

/** `User: name="www-data" id=33`; an Apache that was not started by root has none. */
function readUser(configuration: string): ApacheUser | undefined {
  const [, name, uid] = /^User: name="(.*)" id=(\d+)/m.exec(configuration) ?? [];
  const [, gid] = /^Group: name=".*" id=(\d+)/m.exec(configuration) ?? [];
  if (name === undefined || gid === undefined) return undefined;
  return { name, uid: Number(uid), gid: Number(gid) };
}

/** The Apache that wrote this PidFile, undefined if it does not run. */
export function runningApache(pidFile: string): RunningApache | undefined {
  const version = statFile(pidFile)?.version;
  const pid = version === undefined ? Number.NaN : Number.parseInt(readFileOrEmpty(pidFile), 10);
  return version !== undefined && isApache(pid) ? { pid, pidFile, version } : undefined;
}

/** After a crash a pid may belong to any other program. */
function isApache(pid: number): boolean {
  return /^(?:apache|httpd)/.test(nameOf(pid) ?? '');
}

/** Whatever stands there: a named pipe would be waited for. */
function readFileOrEmpty(path: string): string {
  try {
    return readText(path).text.toString('latin1');
  } catch {
    return '';
  }
}

/** Of the kernel, whose files have no size. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/**
 * Asks Apache to reload gracefully, and waits until it has read its configuration: all in all `limit` seconds.
 * Undefined, or why not.
 */
export async function reloadGracefully(
  apache: RunningApache,
  commands: ApacheCommands,
  limit: number = RELOAD_LIMIT,
): Promise<string | undefined> {
  const seconds = Math.min(limit, RELOAD_LIMIT);
  const deadline = performance.now() + seconds * 1000;
  const asked = ticksNow();
  let hasRead: number | undefined;
  const left = () => (deadline - performance.now()) / 1000;
  const failure = (await whenStarted(apache, left())) ?? (await requestReload(apache, commands, left()));
  if (failure !== undefined) return failure;
  while (performance.now() < deadline) {
    const now = runningApache(apache.pidFile);
    if (now === undefined && !existsSync(`/proc/${apache.pid}`))
      return 'apache ended while it was reloading; see its error log';
    if (now !== undefined && now.version !== apache.version) {
      hasRead ??= performance.now();
      const isLate = performance.now() - hasRead > CLOSING_LIMIT * 1000;
      if (isLate || !olderChildListens(now, asked)) return undefined;
    }
    await sleep(POLL_MILLISECONDS);
  }
  return `apache has not read its configuration again within ${Math.round(seconds)} s; see its error log`;
}

/**
 * Waits until Apache is ready for the signal of a graceful reload (AP_SIG_GRACEFUL): it writes its PidFile some
 * milliseconds before (event_run, server/mpm/event/event.c), and would be ended by it. Undefined, or why not.
 */
async function whenStarted({ pid }: RunningApache, limit: number): Promise<string | undefined> {
  const seconds = Math.min(limit, START_LIMIT);
  const deadline = performance.now() + seconds * 1000;
  while (!outlives(pid, constants.signals.SIGUSR1)) {
    if (!isApache(pid)) return 'apache ended while it was starting; see its error log';
    if (performance.now() >= deadline)
      return `apache has not started within ${Math.round(seconds)} s; see its error log`;
    await sleep(POLL_MILLISECONDS);
  }
  return undefined;
}

/** Runs a reload command where no Apache can be seen from here. Undefined, or why it failed. */
export async function runReloadCommand(
  command: string,
  limit: number = RELOAD_LIMIT,
): Promise<string | undefined> {
  const seconds = Math.min(limit, RELOAD_LIMIT);
  const outcome = await run(command, [], seconds);
  return outcome.exitCode === 0 ? undefined : describe(command, outcome, seconds);
}

async function requestReload(
  apache: RunningApache,
  commands: ApacheCommands,
  limit: number,
): Promise<string | undefined> {
  const isSystemd = commands.apachectl === undefined && existsSync('/run/systemd/system');
  const unit = isSystemd ? systemdUnit(readOrEmpty(`/proc/${apache.pid}/cgroup`)) : undefined;
  const command = commands.reloadCommand ?? (unit === undefined ? undefined : `systemctl reload ${unit}`);
  if (command !== undefined) return runReloadCommand(command, limit);
  const { control, outcome } = await callControl(commands.apachectl, ['-k', 'graceful'], limit);
  return outcome.exitCode === 0 ? undefined : describe(`${control} -k graceful`, outcome, limit);
}

/** The system's unit that a process of Apache runs in, from its /proc/PID/cgroup (cgroups(7)). */
export function systemdUnit(cgroup: string): string | undefined {
  const [, unit] =
    /^\d+:(?:name=systemd)?:(?!\/user\.slice\/).*\/([^/]*(?:apache|httpd)[^/]*\.service)$/m.exec(cgroup) ??
    [];
  return unit;
}

/**
 * True while a child that was started before `ticks` (see startOf) may still accept a visitor: Apache tells its children
 * to stop listening before it reads its configuration, and on a busy machine they may come to it later. False where the
 * system does not let this be seen.
 */
function olderChildListens({ pid }: RunningApache, ticks: number): boolean {
  const older = olderChildren(pid, ticks);
  if (older.length === 0) return false;
  const listening = new Set(['tcp', 'tcp6'].flatMap((family) => listeningSockets(pid, family)));
  return older.some((child) => linksIn(`/proc/${child}/fd`).some((link) => listening.has(link)));
}

/** The names of the listening sockets in the network of a process, as its descriptors have them (proc_pid_net(5)). */
function listeningSockets(pid: number, family: string): string[] {
  const lines = readOrEmpty(`/proc/${pid}/net/${family}`).split('\n').slice(1);
  const columns = lines.map((line) => line.trim().split(/\s+/));
  return columns.filter(([, , , state]) => state === LISTEN).map((column) => `socket:[${column[9]}]`);
}

/** What the links in a directory lead to, none if it cannot be read. */
function linksIn(directory: string): string[] {
  try {
    return readdirSync(directory).map((name) => {
      try {
        return readlinkSync(`${directory}/${name}`);
      } catch {
        return '';
      }
    });
  } catch {
    return [];
  }
}

function olderChildren(pid: number, ticks: number): number[] {
  return childrenOf(pid).filter((child) => isApache(child) && (startOf(child) ?? ticks) < ticks);
}

/** Children of Apache that serve on although it was reloaded since: those started before `ticks` (see startOf). */
export function countOlderChildren(apache: RunningApache, ticks: number): number {
  return olderChildren(apache.pid, ticks).length;
}

async function callControl(
  apachectl: string | undefined,
  args: readonly string[],
  limit: number,
): Promise<{ control: string; outcome: ProgramResult }> {
  const [first = '', ...others] = apachectl === undefined ? CONTROLS : [apachectl];
  let control = first;
  let outcome = await run(control, args, limit);
  for (const other of others) {
    if (outcome.isFound) break;
    outcome = await run(other, args, limit);
    if (outcome.isFound) control = other;
  }
  return { control, outcome };
}

/** One line of what went wrong; of Apache's messages the first, which names file and line. */
function describe(command: string, outcome: ProgramResult, limit: number): string {
  if (!outcome.isFound) return outcome.stderr;
  if (outcome.isTimedOut) return `${command} has not ended within ${Math.round(limit)} s`;
  const lines = (outcome.stderr.trim() || outcome.stdout.trim()).split('\n', 2).join(' ');
  const said = lines.length > MOST_SAID ? `${lines.slice(0, MOST_SAID)}…` : lines;
  return `${command} failed${outcome.exitCode === undefined ? '' : ` with exit code ${outcome.exitCode}`}: ${said || 'it says nothing'}`;
}

/** The files that the configuration reads (`-t -D DUMP_INCLUDES`), undefined if it cannot be asked. */
export async function includedFiles(
  apachectl: string | undefined,
  limit?: number,
): Promise<string[] | undefined> {
  return (await inclusions(apachectl, limit))?.map((files) => files.at(-1) ?? '');
}

/** Whether the configuration reads a file, by whatever name; undefined if it cannot be asked. */
export async function readsFile(
  apachectl: string | undefined,
  path: string,
  limit?: number,
): Promise<boolean | undefined> {
  return (await includedFiles(apachectl, limit))?.some((file) => isSamePlace(file, path));
}

/** What Apache does where bans in the list refuse nobody; undefined if they do, or if it cannot be asked. */
export async function whyNotRead(
  apachectl: string | undefined,
  banlist: string,
  limit?: number,
): Promise<string | undefined> {
  const isRead = await readsFile(apachectl, banlist, limit);
  return isRead === false ? `does not read ${banlist}; include it in the site's configuration` : undefined;
}

/**
 * Of each file that is read, those that include it, outermost first, and itself: the dump is indented. Undefined where
 * it does not even name the main configuration.
 */
async function inclusions(
  apachectl: string | undefined,
  limit: number = TEST_LIMIT,
): Promise<string[][] | undefined> {
  const { outcome } = await callControl(
    apachectl,
    ['-t', '-D', 'DUMP_INCLUDES'],
    Math.min(limit, TEST_LIMIT),
  );
  if (outcome.exitCode !== 0) return undefined;
  const included = readInclusions(outcome.stdout);
  return included.length === 0 ? undefined : included;
}

function readInclusions(dump: string): string[][] {
  const open: { depth: number; file: string }[] = [];
  return [...dump.matchAll(/^( *)\((?:\*|\d+)\) (.+)$/gm)].map(([, indent = '', file = '']) => {
    while ((open.at(-1)?.depth ?? -1) >= indent.length) open.pop();
    open.push({ depth: indent.length, file });
    return open.map((one) => one.file);
  });
}

/** Whether Apache looks addresses up in the directory, */
export interface DirectoryRule {
  readonly state: 'loaded' | 'not-loaded' | 'absent' | 'unknown';
  /** and by which paths: links on the way may be closed to it. */
  readonly paths: readonly string[];
}

/**
 * Looks for the directory's rule in the files that the configuration reads, and whether Apache has read them, and
 * those that include them, since they were changed or put there. A rule whose path is put together with `Define` is
 * not found.
 */
export async function directoryRule(
  apachectl: string | undefined,
  bandir: string,
  pidFile: string,
): Promise<DirectoryRule> {
  const included = await inclusions(apachectl);
  if (included === undefined) return { state: 'unknown', paths: [] };
  const ruled = included.flatMap((files) => {
    const paths = ruledDirectories(readFileOrEmpty(files.at(-1) ?? '')).filter((path) =>
      isSamePlace(path, bandir),
    );
    return paths.length === 0 ? [] : [{ files, paths }];
  });
  const loaded = statFile(pidFile)?.modified ?? Number.POSITIVE_INFINITY;
  const isLoaded = ruled.some(({ files }) => files.every((file) => putThere(file) < loaded));
  return {
    state: isLoaded ? 'loaded' : ruled.length > 0 ? 'not-loaded' : 'absent',
    paths: ruled.flatMap(({ paths }) => paths),
  };
}

/** The directories in which `Require expr "! -e 'DIR/%{REMOTE_ADDR}'"` looks the visitor up (mod_authz_core, ap_expr). */
export function ruledDirectories(configuration: string): string[] {
  const lines = configuration.replace(/\\\r?\n/g, '').split('\n');
  return lines.flatMap((line) => {
    const rule = /^\s*Require\s+expr\s.*!\s*-e\s*'([^']*)\/+%\{REMOTE_ADDR\}'/i.exec(line);
    return rule?.[1] === undefined ? [] : [rule[1]];
  });
}

/**
 * Asks the system whether Apache's user may search a directory, as that user: mode bits tell neither groups nor access
 * lists nor the directories above. Undefined if it cannot be asked.
 */
export async function canSearch(directory: string, user: ApacheUser): Promise<boolean | undefined> {
  const { exitCode } = await run(
    'setpriv',
    [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', 'test', '-x', directory],
    TEST_LIMIT,
  );
  return exitCode === 0 ? true : exitCode === 1 ? false : undefined;
}
