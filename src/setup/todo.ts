import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { DEBIAN } from '../apache/layout.ts';
import { audit } from '../audit/audit.ts';
import { covers, parseAddress, readAddress } from '../bans/address.ts';
import { jailNames } from '../fail2ban/client.ts';
import { ownSetting } from '../fail2ban/jail-files.ts';
import { whySshdJailFails } from '../fail2ban/sshd-log.ts';
import { protectedRanges } from '../protection/protection.ts';
import { askAll, filesOfAll } from '../reload/ask.ts';
import { followLinks } from '../system/links.ts';
import { type FileReport, lacksLog, type ReasonToKeep } from './install.ts';
import { JAIL, LOG_SNIPPET, loginLog, SNIPPET, SOCKET, TIMER } from './kit.ts';
import {
  accessLogsOf,
  installedProgram,
  isJailEnabled,
  namedSnippets,
  possibleDirectories,
  type Server,
  SOCKET_LINK,
  TIMER_LINK,
} from './server.ts';
import type { SetupOptions } from './types.ts';

/** A remaining step for the administrator, with a code of audit or of setup. */
export interface Todo {
  readonly code: string;
  readonly message: string;
}

/** Networks without Internet visitors: RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'];
/** How much of a log's end to read, in bytes, and the fewest lines that allow a conclusion. */
const LOOKED_AT = 65_536;
const TOO_FEW = 10;
/** The fraction of requests that must come from proxies. */
const MOST = 0.9;

const JAIL_OFF: Todo = {
  code: 'jail-off',
  message:
    'the jail is off; once Apache enforces bans, logs failed logins and, behind a proxy, has mod_remoteip set up: banctl setup --enable-jail, then fail2ban-client reload',
};

/** For a server with bans in its list: it keeps the list until its administrator moves them. */
export function toMigrate(server: Server, listed: number, { config }: Pick<SetupOptions, 'config'>): Todo {
  const entry = `"bandir": "${server.layout.bandir}"`;
  const bans = listed === 1 ? '1 ban stands' : `${listed} bans stand`;
  return {
    code: 'list-in-use',
    message: `${bans} in the list, and each change reloads Apache; to ban without reloads, put ${entry} into ${config}, then banctl migrate --to bandir`,
  };
}

/** The steps beyond the files. Asks programs unless the files belong to another system, or do not exist yet. */
export async function todoAfterInstall(
  server: Server,
  files: readonly FileReport[],
  settings: SetupOptions,
): Promise<Todo[]> {
  const isAsked = settings.root === undefined && !settings.dryRun;
  const parts = [...missingParts(server, settings), ...program(server)];
  const apache = isAsked
    ? await apacheTodo(server, settings)
    : [toInclude(server), ...toLog(server), behindProxy(server)];
  const fail2ban = await fail2banTodo(server, files, settings, isAsked);
  // The audit finds some of it too, but setup knows the right order of steps.
  const known = new Set([...parts, ...fail2ban].map(({ code }) => code));
  return [...parts, ...apache.filter(({ code }) => !known.has(code)), ...fail2ban];
}

function missingParts(server: Server, settings: SetupOptions): Todo[] {
  const { at, directoryFor } = server;
  const hasFail2ban = directoryFor('jail.d') !== undefined;
  const hasTimer = existsSync(at(TIMER_LINK));
  const todo: (Todo | false)[] = [
    !hasFail2ban && {
      code: 'no-fail2ban',
      message:
        'there is no /etc/fail2ban, so action, filter and jail are left out; apt-get install fail2ban, or dnf install fail2ban, then banctl setup again',
    },
    hasFail2ban && withoutLog(server, settings),
    hasFail2ban && !isJailEnabled(server) && !settings.enableJail && JAIL_OFF,
    directoryFor('systemd') !== undefined &&
      !hasTimer && {
        code: 'no-audit',
        message: `systemctl daemon-reload, then systemctl enable --now ${TIMER}`,
      },
    directoryFor('systemd') === undefined &&
      directoryFor('cron.d') === undefined &&
      !hasTimer && {
        code: 'no-audit',
        message:
          'there is neither /etc/cron.d nor /etc/systemd/system; let something run banctl audit --fix every five minutes',
      },
    settings.enableServe && !existsSync(at(SOCKET_LINK)) && notServed(server),
  ];
  return todo.filter((one) => one !== false);
}

function notServed({ unitDirectory }: Server): Todo {
  const message =
    unitDirectory === undefined
      ? 'there is no /etc/systemd/system; let something start banctl serve before fail2ban, or each ban runs banctl'
      : `systemctl daemon-reload, then systemctl enable --now ${SOCKET}`;
  return { code: 'not-served', message };
}

/** False unless the jail is to run, and its log cannot be made. */
function withoutLog(server: Server, settings: SetupOptions): Todo | false {
  const isOn = settings.enableJail || isJailEnabled(server);
  if (!isOn || !readsLoginLog(server) || !lacksLog(server, settings)) return false;
  const { path } = loginLog(server.layout);
  return {
    code: 'no-log',
    message: `there is no ${dirname(path)} for the jail's log, so setup skips the jail: fail2ban refuses to start when a jail has no log; install Apache, then banctl setup --enable-jail again`,
  };
}

/** True unless the administrator has the jail read another log. */
function readsLoginLog({ at, layout }: Server): boolean {
  const { path } = loginLog(layout);
  return ownSetting(at, JAIL, 'logpath')?.includes(basename(path)) ?? true;
}

function program(server: Server): Todo[] {
  if (installedProgram(server) !== undefined) return [];
  const message = `fail2ban and cron do not find banctl; install -m 755 ${process.execPath} /usr/local/bin/banctl`;
  return [{ code: 'not-in-path', message }];
}

function snippet({ directoryFor }: Server, name = SNIPPET): string {
  return `${directoryFor('apache2')}/${name}.conf`;
}

/** What has Apache read a snippet for all sites. */
function toEnable(server: Server, name: string): string {
  const path = snippet(server, name);
  return path.includes('/conf-available/')
    ? `a2enconf ${name}`
    : `ln -s ${path} ${server.layout.apache}/conf.d/`;
}

function toReload({ layout }: Server): string {
  return layout.apache === DEBIAN.apache
    ? 'apache2ctl configtest and systemctl reload apache2'
    : 'httpd -t and systemctl reload httpd';
}

function toInclude(server: Server, what = "put the ban into Apache's configuration"): Todo {
  return {
    code: 'not-included',
    message: `${what}: ${toEnable(server, SNIPPET)} for all sites, or "Include ${snippet(server)}" in the <VirtualHost> of one; then ${toReload(server)}`,
  };
}

/** Unless Apache's configuration names the log of failed logins: the jail would wait for ever. */
function toLog(server: Server, files: readonly string[] = []): Todo[] {
  if (server.directoryFor('jail.d') === undefined || !readsLoginLog(server)) return [];
  const path = snippet(server, LOG_SNIPPET);
  const log = new RegExp(`^[^#\n]*${basename(loginLog(server.layout).path)}`, 'm');
  const isLogged =
    namedSnippets(server, [path]).length > 0 || files.some((file) => log.test(readOrEmpty(file)));
  if (isLogged) return [];
  const message = `apache does not log failed logins, which the jail counts: ${toEnable(server, LOG_SNIPPET)}, after setting DJANGOAPP_LOGIN in ${path} if the login is not /admin/login/; then ${toReload(server)}`;
  return [{ code: 'no-login-log', message }];
}

function behindProxy({ directoryFor }: Server, why = ''): Todo {
  const directory = directoryFor('apache2');
  return {
    code: 'no-remoteip',
    message: `${why}behind CloudFront or a load balancer set up mod_remoteip, or the proxy is what gets banned: see ${directory}/remoteip-cloudfront.conf and ${directory}/remoteip-loadbalancer.conf`,
  };
}

async function apacheTodo(server: Server, settings: SetupOptions): Promise<Todo[]> {
  const asked = await askAll(settings);
  const audited = await audit({ ...settings, fix: false, asked });
  // With --list-only the administrator has chosen.
  const findings = audited.findings.filter(({ code }) => code !== 'list-in-use' || !settings.listOnly);
  const files = filesOfAll(asked);
  const isNamed = namedSnippets(server, [snippet(server)]).length > 0;
  const isIncluded =
    files !== undefined && !isNamed ? findings.every(({ code }) => code !== 'not-included') : isNamed;
  const others = findings.flatMap(({ code, message, address }): Todo[] => {
    // Apache reads its new files at the next reload.
    if (code === 'not-included') return isNamed ? [{ code: 'reload-pending', message }] : [];
    // The reload after the include is the one that matters.
    if (code === 'reload-pending') return isIncluded ? [{ code, message: `${message}; banctl reload` }] : [];
    return [{ code, message: address === undefined ? message : `${address}: ${message}` }];
  });
  const what = findings.find(({ code }) => code === 'not-included')?.message.replace(/;.*/, '');
  const include = isIncluded ? [] : [toInclude(server, what)];
  // A container's files are not to be seen here.
  const isElsewhere = asked.some(
    ({ configuration }) => configuration?.result === 'passed' && configuration.isElsewhere,
  );
  const log = isElsewhere ? [] : toLog(server, files);
  return [...include, ...log, ...others, ...proxyTodo(server, settings, files ?? [])];
}

/** The requests in the logs come from proxies, and Apache's configuration names no proxy. */
function proxyTodo(server: Server, settings: SetupOptions, files: readonly string[]): Todo[] {
  const proxy = commonProxy(server, settings);
  if (proxy === undefined) return [];
  const isToldOfProxies = files.some((file) =>
    /^\s*(?:RemoteIPHeader\s|RemoteIPProxyProtocol\s+on)/im.test(readOrEmpty(file)),
  );
  return isToldOfProxies ? [] : [behindProxy(server, `the logs name ${proxy} for nearly every visitor; `)];
}

/** The address of most requests, if nearly all came from private or protected addresses. */
function commonProxy(server: Server, { protect, record }: SetupOptions): string | undefined {
  const own = protectedRanges({ protect: [] });
  const proxies = [...PRIVATE.map(parseAddress), ...protectedRanges({ protect, record })];
  const clients = accessLogsOf(server)
    .flatMap((log) => endOf(log).split('\n'))
    .flatMap((line) => clientOf(line) ?? [])
    .filter((client) => !own.some((range) => covers(range, client)));
  const behind = clients.filter((client) => proxies.some((range) => covers(range, client)));
  if (clients.length < TOO_FEW || behind.length < MOST * clients.length) return undefined;
  const counts = new Map<string, number>();
  for (const { text } of behind) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts].sort(([, one], [, other]) => other - one)[0]?.[0];
}

/** The first field, or the second of vhost_combined. */
function clientOf(line: string) {
  const [first = '', second = ''] = line.split(' ', 2);
  return readAddress(first) ?? readAddress(second);
}

async function fail2banTodo(
  server: Server,
  files: readonly FileReport[],
  { fail2banClient, asksFail2ban, enableServe }: SetupOptions,
  isAsked: boolean,
): Promise<Todo[]> {
  if (server.directoryFor('jail.d') === undefined || !asksFail2ban) return [];
  const restart = 'systemctl restart fail2ban';
  if (!isAsked) return [{ code: 'fail2ban-reload', message: `restart fail2ban: ${restart}` }];
  const jails = await jailNames(fail2banClient);
  if (!jails.ok) {
    const message = whySshdJailFails(server.at) ?? `fail2ban does not answer; ${restart}`;
    return [{ code: 'fail2ban-down', message }];
  }
  const isNew = files.some(
    ({ path, status }) => path.startsWith('/etc/fail2ban/') && /^(?:written|replaced)$/.test(status),
  );
  const isWanted = isJailEnabled(server);
  if (isNew && isWanted) return [toReread(enableServe)];
  if (!isWanted || jails.value.includes(JAIL)) return [];
  return [
    { code: 'fail2ban-reload', message: `fail2ban does not run the jail ${JAIL}; fail2ban-client reload` },
  ];
}

/** At a reload, fail2ban keeps a running jail's action of the same name, though it is of the other kind now. */
function toReread(isServed: boolean): Todo {
  const how = isServed
    ? "systemctl restart fail2ban, because a reload keeps a jail's old action"
    : 'fail2ban-client reload';
  return { code: 'fail2ban-reload', message: `fail2ban has not read the new files; ${how}` };
}

/** The remaining steps after a removal. */
export async function todoAfterRemoval(server: Server, settings: SetupOptions): Promise<Todo[]> {
  const { banlist, bandir, root, dryRun, asksFail2ban, fail2banClient } = settings;
  const isAsked = root === undefined && !dryRun;
  const jails = isAsked && asksFail2ban ? await jailNames(fail2banClient) : undefined;
  const runs =
    jails?.ok === true &&
    jails.value.includes(JAIL) &&
    !existsSync(server.at(`/etc/fail2ban/jail.d/${JAIL}.local`));
  const places = [banlist, ...(bandir === undefined ? [] : [bandir])].filter((path) =>
    existsSync(server.at(path)),
  );
  const path = installedProgram(server);
  const isPackaged = path !== undefined && server.packaged.has(path);
  const todo: (Todo | false)[] = [
    runs === true && {
      code: 'fail2ban-reload',
      message: `fail2ban still runs the jail ${JAIL}; fail2ban-client reload, which lifts its bans`,
    },
    places.length > 0 && {
      code: 'list-stays',
      message: `what is banned stays in ${places.join(' and ')}, and counts as long as Apache's configuration reads it`,
    },
    path !== undefined && {
      code: 'program-stays',
      message: `at the end: ${isPackaged ? `${server.layout.apache === DEBIAN.apache ? 'apt-get' : 'dnf'} remove banctl` : `rm ${path}`}`,
    },
  ];
  return todo.filter((one) => one !== false);
}

/** Why a file is in use: Apache's configuration names the snippet, or the timer is enabled. */
export async function reasonsToKeep(server: Server, settings: SetupOptions): Promise<ReasonToKeep> {
  const { layout, at } = server;
  const directories = possibleDirectories(server, 'apache2');
  const read = settings.root === undefined ? filesOfAll(await askAll(settings)) : undefined;
  const isRead = (path: string) =>
    read?.some((file) => followLinks(file) === at(path)) ?? namedSnippets(server, [path]).length > 0;
  const hasTimer = existsSync(at(TIMER_LINK));
  return (path) => {
    if (hasTimer && path.startsWith('/etc/systemd/')) return `systemctl disable --now ${TIMER}`;
    const [directory = '', name = ''] = [dirname(path), basename(path, '.conf')];
    if (!directories.includes(directory) || !isRead(path)) return undefined;
    const disable = directory.endsWith('-available')
      ? `a2disconf ${name}`
      : `rm ${layout.apache}/conf.d/${name}.conf`;
    return `apache's configuration reads it; ${disable}, or take out its Include`;
  };
}

function endOf(path: string): string {
  const descriptor = openSync(path, 'r');
  try {
    const { size } = statSync(path);
    const end = Buffer.alloc(Math.min(size, LOOKED_AT));
    const length = readSync(descriptor, end, 0, end.length, Math.max(0, size - LOOKED_AT));
    // The first line is incomplete.
    return end.toString('latin1', 0, length).replace(size > LOOKED_AT ? /^.*\n/ : '', '');
  } finally {
    closeSync(descriptor);
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
