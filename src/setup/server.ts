import { accessSync, constants, existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DEBIAN, knownLayout, type Layout } from '../apache/layout.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { followLinks, followLinksBelow } from '../system/links.ts';
import { run } from '../system/program.ts';
import { readText } from '../system/read.ts';
import { accessLogs, JAIL, type KitDirectory, SERVICE, SOCKET, TIMER } from './kit.ts';
import type { SetupOptions } from './types.ts';

/*
 * The server for the kit: this host, or the tree below --root. Paths are those that the server's own programs use; `at`
 * translates one to the path for reading and writing from here.
 */

export interface Server {
  readonly layout: Layout;
  /** @throws BanctlError notUnderstood for a loop of links */
  at(path: string): string;
  /** Files that a banctl package has installed; dpkg or rpm replaces and removes them. */
  readonly packaged: ReadonlySet<string>;
  /** The directories for kit files; undefined if this server has no such directory. */
  directoryFor(part: KitDirectory): string | undefined;
  /** The directory for the units of `banctl serve`; undefined without systemd. */
  readonly unitDirectory: string | undefined;
}

/** Where other programs look for banctl: the PATH of the cron job and of systemd. */
const PROGRAMS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const SYSTEMD = '/etc/systemd/system';
const RPM_DATABASES = ['/usr/lib/sysimage/rpm', '/var/lib/rpm'];
/** Limits of the search in Apache's configuration: depth of directories, and bytes of a file. */
const MOST_DEEP = 8;
const LONGEST_CONFIGURATION = 1_000_000;
/** The file by which systemd knows that the timer is enabled. */
export const TIMER_LINK = `${SYSTEMD}/timers.target.wants/${TIMER}`;
/** The same for the socket. */
export const SOCKET_LINK = `${SYSTEMD}/sockets.target.wants/${SOCKET}`;
/** The same for the resident of a server that shares its bans. */
export const SERVICE_LINK = `${SYSTEMD}/multi-user.target.wants/${SERVICE}`;

/**
 * @throws BanctlError usage if the root does not exist; cannotWrite without an Apache, except for a removal: Apache may have
 *   been removed first
 */
export function serverAt({ root, remove }: Pick<SetupOptions, 'root' | 'remove'>): Server {
  if (root !== undefined && !statSync(root, { throwIfNoEntry: false })?.isDirectory())
    throw new BanctlError(EXIT.usage, `--root is not a directory: ${root}`);
  const at = (path: string) => (root === undefined ? followLinks(path) : followLinksBelow(root, path));
  const layout = knownLayout(root) ?? (remove ? DEBIAN : undefined);
  if (layout === undefined) {
    throw new BanctlError(
      EXIT.cannotWrite,
      `there is neither /etc/apache2 nor /etc/httpd${root === undefined ? '' : ` below ${root}`}`,
      'install Apache first (apt-get install apache2, or dnf install httpd), nothing was changed',
    );
  }
  const has = (path: string) => existsSync(at(path));
  const available = `${layout.apache}/conf-available`;
  const hasFail2ban = has('/etc/fail2ban');
  const hasCron = has('/etc/cron.d');
  const hasTimer = has(TIMER_LINK) || (!hasCron && has(SYSTEMD)) || runsSystemd({ at }, root);
  return {
    layout,
    at,
    unitDirectory: has(SYSTEMD) ? SYSTEMD : undefined,
    packaged: pathsIn(readText(at('/var/lib/dpkg/info/banctl.list')).text.toString('utf8')),
    directoryFor(part) {
      switch (part) {
        case 'apache2':
          // Never where Apache reads it by default: the administrator decides for which sites it applies.
          return has(available) ? available : `${layout.apache}/djangoapp`;
        case 'cron.d':
          return hasCron && !hasTimer ? '/etc/cron.d' : undefined;
        case 'systemd':
          return hasTimer ? SYSTEMD : undefined;
        default:
          return hasFail2ban ? `/etc/fail2ban/${part}` : undefined;
      }
    },
  };
}

/** Another system's tree does not run, so the question is whether it has systemd. */
export function runsSystemd({ at }: Pick<Server, 'at'>, root: string | undefined): boolean {
  const signs =
    root === undefined ? ['/run/systemd/system'] : ['/usr/lib/systemd/systemd', '/lib/systemd/systemd'];
  return signs.some((path) => existsSync(at(path)));
}

/** True if the Debian package or the RPM has installed this unit. */
export function isPackagedUnit({ at }: Pick<Server, 'at'>, unit: string): boolean {
  return ['/usr/lib/systemd/system', '/lib/systemd/system'].some((path) => existsSync(at(`${path}/${unit}`)));
}

/** Every path to which an earlier setup may have written a kit file. */
export function possibleDirectories({ layout }: Server, part: KitDirectory): string[] {
  if (part === 'apache2') return [`${layout.apache}/conf-available`, `${layout.apache}/djangoapp`];
  if (part === 'systemd') return [SYSTEMD];
  return [part === 'cron.d' ? '/etc/cron.d' : `/etc/fail2ban/${part}`];
}

/** The access logs that there are. */
export function accessLogsOf({ layout, at }: Server): string[] {
  const { directory, suffix } = accessLogs(layout);
  return namesIn(at(directory))
    .filter((name) => name.endsWith(suffix))
    .map((name) => join(at(directory), name));
}

/** The banctl that fail2ban and cron would find; undefined if they would find none. */
export function installedProgram({ at }: Server): string | undefined {
  return PROGRAMS.map((directory) => `${directory}/banctl`).find((path) => {
    try {
      accessSync(at(path), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The same server, with the RPM's files: dpkg's list is a file, but rpm must be asked. */
export async function withRpmFiles(server: Server, root: string | undefined): Promise<Server> {
  if (!RPM_DATABASES.some((path) => existsSync(server.at(path)))) return server;
  const inRoot = root === undefined ? [] : ['--root', root];
  const { exitCode, stdout } = await run('rpm', [...inRoot, '-ql', 'banctl'], 10);
  return exitCode === 0 ? { ...server, packaged: new Set([...server.packaged, ...pathsIn(stdout)]) } : server;
}

function pathsIn(list: string): ReadonlySet<string> {
  return new Set(list.split('\n').filter((line) => line.startsWith('/')));
}

/** True if the administrator, or an earlier setup, has switched the kit's jail on. */
export function isJailEnabled({ at, packaged }: Server): boolean {
  const { text, version } = readText(at(`/etc/fail2ban/jail.d/${JAIL}.local`));
  const isPackaged = packaged.has(`/etc/fail2ban/jail.d/${JAIL}.conf`);
  const isOff = /^\s*enabled\s*[=:]\s*(?:false|no|off|0)\s*$/im.test(text.toString('latin1'));
  const isOn = /^\s*enabled\s*[=:]\s*(?:true|yes|on|1)\s*$/im.test(text.toString('latin1'));
  return version !== undefined && !isOff && (isOn || !isPackaged);
}

/** True if the administrator, or an earlier setup, has this jail use the Python action. */
export function isJailServed({ at }: Server, path: string): boolean {
  return /^\s*action\s*[=:]\s*apache-banlist\.py\b/im.test(readText(at(path)).text.toString('latin1'));
}

/**
 * Why an action or filter must stay: a jail names it, and fail2ban would not start without it.
 *
 * @param removed files that no longer count
 */
export function namingJail({ at }: Server, path: string, removed: ReadonlySet<string>): string | undefined {
  const [, name] = /^\/etc\/fail2ban\/(?:action|filter)\.d\/([^/]+?)(?:\.conf)?$/.exec(path) ?? [];
  if (name === undefined) return undefined;
  const more = namesIn(at('/etc/fail2ban/jail.d')).map((file) => `/etc/fail2ban/jail.d/${file}`);
  const jails = ['/etc/fail2ban/jail.conf', '/etc/fail2ban/jail.local', ...more];
  const naming = jails
    .filter((jail) => /\.(?:conf|local)$/.test(jail) && !removed.has(jail))
    .find((jail) => linesOf(at(jail)).some((line) => !/^\s*[#;]/.test(line) && line.includes(name)));
  return naming === undefined ? undefined : `${naming} names it`;
}

/**
 * The given snippets that Apache's configuration uses, through a link or an Include in files that Apache reads by default.
 * For a server whose Apache cannot be asked.
 */
export function namedSnippets(server: Server, snippets: readonly string[]): string[] {
  const { layout, at } = server;
  const files = configurationFiles(server, layout.apache);
  const lines = files
    .flatMap((path) => linesOf(at(path)))
    .filter((line) => /^\s*Include(?:Optional)?\s/i.test(line));
  return snippets.filter((snippet) => {
    const place = at(snippet);
    const [, directory = '', name = ''] = /([^/]+)\/([^/]+)$/.exec(snippet) ?? [];
    return (
      files.some((path) => at(path) === place) ||
      lines.some((line) => line.includes(`/${name}`) || line.includes(`${directory}/*`))
    );
  });
}

/** The texts of the files that Apache may read and that include this one. */
export function includingFiles(server: Server, path: string): string[] {
  const includes = (line: string) =>
    /^\s*Include(?:Optional)?\s/i.test(line) && (line.includes(path) || line.includes(`${dirname(path)}/*`));
  return configurationFiles(server, server.layout.apache)
    .map((file) => linesOf(server.at(file)))
    .filter((lines) => lines.some(includes))
    .map((lines) => lines.join('\n'));
}

/** What Apache may read by default: omits directories of available files, which take effect only through a link. */
function configurationFiles(server: Server, directory: string): string[] {
  const { layout, at } = server;
  const isForChoice = /-available$/.test(directory) || directory === dirname(layout.banlist);
  if (isForChoice || directory.split('/').length > MOST_DEEP) return [];
  return namesIn(at(directory)).flatMap((name) => {
    const path = `${directory}/${name}`;
    if (lstatSync(join(at(directory), name), { throwIfNoEntry: false })?.isDirectory())
      return configurationFiles(server, path);
    return statSync(at(path), { throwIfNoEntry: false })?.isFile() ? [path] : [];
  });
}

/** None if it cannot be read, or is too long for a configuration. */
function linesOf(path: string): string[] {
  try {
    return statSync(path).size > LONGEST_CONFIGURATION ? [] : readFileSync(path, 'latin1').split('\n');
  } catch {
    return [];
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
