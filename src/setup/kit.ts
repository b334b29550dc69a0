import { getAsset } from 'node:sea';
import { DEBIAN, type Layout, RED_HAT } from '../apache/layout.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { quote } from '../system/printable.ts';

/*
 * The kit: the repository's files for a server, as the executable contains them, adapted to the server's layout. `ban` and
 * `unban` never read it.
 */

/** The directories of the repository whose files are the kit. */
export const KIT_DIRECTORIES = ['action.d', 'filter.d', 'jail.d', 'apache2', 'cron.d', 'systemd'] as const;
/** The executable's asset with them, made by tools/bundle.ts: texts by path. */
export const KIT_ASSET = 'kit.json';

export type KitDirectory = (typeof KIT_DIRECTORIES)[number];

export interface KitFile {
  /** For `--print`. */
  readonly name: string;
  readonly directory: KitDirectory;
  /** Its name in that directory, and on the server. */
  readonly file: string;
  /** As in the repository. */
  readonly text: string;
}

/** The names that the adapted texts use. */
export interface Places {
  readonly banlist: string;
  /** Undefined: the layout's own. */
  readonly bandir: string | undefined;
}

/** The snippet that an administrator includes. */
export const SNIPPET = 'djangoapp-banlist';
/** The snippet that has Apache write the log which the jail reads. */
export const LOG_SNIPPET = 'djangoapp-login-log';
/** The jail that the kit brings, and its file. */
export const JAIL = 'djangoapp-admin-login';
/** Runs the audit on servers without cron. */
export const TIMER = 'banctl-audit.timer';
/** Starts `banctl serve` at the first request. */
export const SOCKET = 'banctl.socket';
export const SERVICE = 'banctl.service';

const NAMES: Readonly<Record<string, string>> = {
  'action.d/apache-banlist.conf': 'action',
  'action.d/apache-banlist.py': 'action-served',
  [`filter.d/${JAIL}.conf`]: 'filter',
  [`jail.d/${JAIL}.local`]: 'jail',
  [`apache2/${SNIPPET}.conf`]: 'apache',
  [`apache2/${SNIPPET}-admin.conf`]: 'apache-admin',
  'cron.d/banctl': 'cron',
  'apache2/banctl-report.conf': 'apache-report',
  'cron.d/banctl-report': 'cron-report',
};

/** Shown, but never installed: some download from the internet, one changes another package's unit. */
const ON_REQUEST: readonly string[] = [
  'apache2/banctl-report.conf',
  'cron.d/banctl-report',
  'systemd/banctl-report.service',
  'systemd/banctl-report.timer',
  'cron.d/banctl-ranges',
  'systemd/fail2ban-banctl.conf',
  'systemd/banctl-ranges.service',
  'systemd/banctl-ranges.timer',
];

const OF_RESIDENT: readonly string[] = [SERVICE, SOCKET];

/** True for the units of `banctl serve`, which every server with systemd gets, switched off. */
export function isOfResident({ directory, file }: KitFile): boolean {
  return directory === 'systemd' && OF_RESIDENT.includes(file);
}

/** True for files that `setup` installs. */
export function isInstalled({ directory, file }: KitFile): boolean {
  return !ON_REQUEST.includes(`${directory}/${file}`);
}

/** The kit of this executable. */
export function readKit(): KitFile[] {
  return kitOf(JSON.parse(getAsset(KIT_ASSET, 'utf8')));
}

/** @param texts the files by their paths in the repository */
export function kitOf(texts: Readonly<Record<string, string>>): KitFile[] {
  return Object.entries(texts).map(([path, text]) => {
    const [directory = '', file = ''] = path.split('/');
    return {
      name: NAMES[path] ?? file.replace(/\.conf$/, ''),
      directory: directory as KitDirectory,
      file,
      text,
    };
  });
}

/** @throws BanctlError usage, with the existing names */
export function kitFile(kit: readonly KitFile[], name: string): KitFile {
  const found = kit.find((one) => one.name === name);
  if (found === undefined) {
    const names = kit.map((one) => one.name).join(', ');
    throw new BanctlError(EXIT.usage, `no such file: ${quote(name)}`, `setup --print knows ${names}`);
  }
  return found;
}

/** The files are written for Debian; these are the names elsewhere. The first match counts. */
const ON_RED_HAT: readonly (readonly [debian: string, redHat: string])[] = [
  [`${DEBIAN.apache}/conf-available`, `${RED_HAT.apache}/conf.d`],
  [DEBIAN.apache, RED_HAT.apache],
  ['/var/log/apache2/*access.log', '/var/log/httpd/*access_log'],
  // httpd on RHEL loads it already.
  [', after "a2enmod remoteip" and "a2enmod headers"', ''],
  [', after "a2enmod remoteip"', ''],
  [`\${APACHE_LOG_DIR}/access.log`, 'logs/access_log'],
  [`\${APACHE_LOG_DIR}/`, 'logs/'],
  ['/var/log/apache2/', '/var/log/httpd/'],
];

/**
 * A file for a server of this layout. Comments name the default places, the rest the configured ones.
 *
 * @throws BanctlError usage for a place that the syntax of Apache or the shell cannot express
 */
export function render(
  { text }: KitFile,
  layout: Layout,
  { banlist, bandir = layout.bandir }: Places,
): string {
  refuseOddPath('banlist', banlist);
  refuseOddPath('bandir', bandir);
  const words = layout.apache === DEBIAN.apache ? [] : ON_RED_HAT;
  const ofLayout = words.reduce((rendered, [from, to]) => rendered.replaceAll(from, () => to), text);
  const lines = ofLayout
    .split('\n')
    .map((line) =>
      line.startsWith('#')
        ? line
        : line.replaceAll(layout.banlist, () => banlist).replaceAll(layout.bandir, () => bandir),
    );
  return lines.join('\n');
}

/** The files quote paths for Apache's expressions and for the shell, which have no common escape. */
function refuseOddPath(option: string, path: string): void {
  if (/^[^\s"'%\\$`<>{}*?[\]]+$/.test(path)) return;
  throw new BanctlError(
    EXIT.usage,
    `not a path for --${option}: ${quote(path)}`,
    `Apache and fail2ban accept no path with blanks, quotes, brackets, wildcards, %, $, or a backslash in it`,
  );
}

/** What setup can switch in a jail. */
export interface JailState {
  readonly isOn: boolean;
  /** It uses the Python action. */
  readonly isServed: boolean;
}

const ACTION_LINE = /^action = apache-banlist\[/m;
const SERVED_ACTION_LINE = 'action = apache-banlist.py[';

/** Switches a jail if a package owns its file; undefined if all is as in that file, which is off. */
export function jailSwitch(file: KitFile, { isOn, isServed }: JailState): string | undefined {
  const lines = [isOn && 'enabled = true', isServed && `${SERVED_ACTION_LINE}jail=%(__name__)s]`];
  const switched = lines.filter((line) => line !== false);
  if (switched.length === 0) return undefined;
  return `[${file.file.replace(/\.local$/, '')}]\n${switched.join('\n')}\n`;
}

/** All that setup may write into the jail's file, or into the one that switches a package's. */
export function jailTexts(file: KitFile, text: string): string[] {
  // The administrator alone switches the kit's other jails.
  const states = (file.file === `${JAIL}.local` ? [true, false] : [false]).flatMap((isOn) =>
    [true, false].map((isServed) => ({ isOn, isServed })),
  );
  return states.flatMap((state) => [jailText(file, text, state), jailSwitch(file, state) ?? []].flat());
}

/** The jail's file in this state. The kit's other jails are off in the repository, too. */
export function jailText(file: KitFile, text: string, { isOn, isServed }: JailState): string {
  return withAction(file.file === `${JAIL}.local` ? withJail(text, isOn) : text, isServed);
}

function withAction(text: string, isServed: boolean): string {
  if (!isServed) return text;
  return text
    .replace(
      'action.d/apache-banlist.conf, which calls banctl',
      'action.d/apache-banlist.py, which asks banctl serve',
    )
    .replace(ACTION_LINE, SERVED_ACTION_LINE);
}

/** The jail's file, switched on or off. It is on in the repository, for people who copy it from there. */
export function withJail(text: string, isEnabled: boolean): string {
  if (isEnabled) return text;
  return text
    .replace(/^enabled = true$/m, 'enabled = false')
    .replace(
      /^# Notes: {3}whether fail2ban runs this jail\.$/m,
      '$& "banctl setup --enable-jail" switches it on.',
    );
}

/** The log of failed logins, which the jail reads, with the owner and mode of the distribution's Apache logs. */
export function loginLog(layout: Layout): { path: string; group: string; mode: number } {
  const name = 'djangoapp-login.log';
  return layout.apache === DEBIAN.apache
    ? { path: `/var/log/apache2/${name}`, group: 'adm', mode: 0o640 }
    : { path: `/var/log/httpd/${name}`, group: 'root', mode: 0o644 };
}

/** The access logs: a directory, and the end of their names. */
export function accessLogs(layout: Layout): { directory: string; suffix: string } {
  return layout.apache === DEBIAN.apache
    ? { directory: '/var/log/apache2', suffix: 'access.log' }
    : { directory: '/var/log/httpd', suffix: 'access_log' };
}
