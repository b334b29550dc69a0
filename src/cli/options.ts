/** The one definition of every command and option, for command line, environment, configuration file and help. */
import { resolve } from 'node:path';
import { layoutOf } from '../apache/layout.ts';
import { parseAddress } from '../bans/address.ts';
import { parseDuration } from '../bans/duration.ts';
import { cleanReason } from '../bans/hold.ts';
import {
  CONFIG_FILE,
  configFileIn,
  followIn,
  parseBandir,
  parseFleet,
  parseFleetName,
  parseJail,
  parseNumber,
  parseOneOf,
  parseProtected,
  parseRoot,
  parseSince,
  type ValueContext,
} from './values.ts';

/**
 * What a shell completes for a word: one of these, or banned addresses or jails. Without it, the placeholder decides: files
 * for FILE, directories for DIR, programs for CMD.
 */
export type Offered = readonly string[] | 'banned addresses' | 'jails';

interface Command {
  readonly operands: string;
  readonly describe: string;
  readonly offers?: Offered;
}

/** Shells for which `completion` has a script. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** What `fleet` can be asked. */
export const FLEET_ACTIONS = ['status'] as const;

/** The places for bans of single addresses. */
export const PLACES = ['bandir', 'banlist'] as const;

/** The orders of `list`. */
export const ORDERS = ['address', 'holder', 'since', 'until'] as const;

/** Where banctl counts events. */
export const RECORD_FILE = '/var/lib/banctl/record';

export const COMMANDS = {
  ban: {
    operands: 'ADDRESS...',
    describe: 'ban addresses; - reads them, or a public block list, from standard input',
  },
  unban: {
    operands: 'ADDRESS...',
    describe: 'lift bans, in fail2ban too; with --jail, release the hold of that jail only',
    offers: 'banned addresses',
  },
  flush: { operands: '', describe: 'release everything that a jail holds; --all lifts every ban' },
  sync: { operands: '', describe: 'copy what fail2ban holds for a jail into the list' },
  list: { operands: '', describe: 'print every ban: who holds it, since when, until when, and why' },
  explain: {
    operands: 'ADDRESS',
    describe: 'print whether Apache refuses an address, and why',
    offers: 'banned addresses',
  },
  audit: { operands: '', describe: 'compare the list, fail2ban and Apache; --fix repairs differences' },
  report: {
    operands: '',
    describe: 'summarise current and past bans, repeat offenders and audit findings; --html writes a page',
  },
  reload: { operands: '', describe: 'reload Apache if the list has changed; --force reloads in any case' },
  ranges: {
    operands: 'FILE',
    describe: "update the file of trusted proxies from AWS's ip-ranges.json; - reads it from standard input",
  },
  migrate: {
    operands: '',
    describe: 'move single-address bans into the ban directory, or back into the list',
  },
  setup: {
    operands: '',
    describe:
      'install the fail2ban action, filter and jail, the Apache snippets and the audit job; --remove uninstalls them',
  },
  serve: {
    operands: '',
    describe:
      'answer the Python action of fail2ban on a socket, end bans by hand on time, and share bans with --fleet',
  },
  fleet: {
    operands: 'status',
    describe: 'print the other servers, and how far the sharing is',
    offers: FLEET_ACTIONS,
  },
  completion: {
    operands: 'SHELL',
    describe: 'print the completion script for bash, zsh or fish',
    offers: SHELLS,
  },
} as const satisfies Record<string, Command>;

export type CommandName = keyof typeof COMMANDS;

interface Common {
  readonly describe: string;
  readonly commands: readonly CommandName[];
  /** Its name in Settings, if that is not the option's own name in camel case. */
  readonly setting?: string;
  /** Only banctl itself passes it; help and completion omit it. */
  readonly isHidden?: boolean;
}

/** An option without a value. `isNegated`: the setting is false when the flag is given. */
interface Flag extends Common {
  readonly kind: 'flag';
  readonly isNegated?: boolean;
  readonly placeholder?: undefined;
  readonly offers?: undefined;
}

/** A `value` counts once (the last one given), `values` each time. `parse` throws BanctlError usage. */
interface Valued extends Common {
  readonly kind: 'value' | 'values';
  readonly placeholder: string;
  readonly parse: (text: string, context: ValueContext) => unknown;
  /** The setting if the option is not given; without it, the setting is undefined. A function gives it for a root. */
  readonly default?: string | number | null | ((context: ValueContext) => unknown);
  /** The default in the help, if it is not that of `default`. */
  readonly shownDefault?: string;
  readonly offers?: Offered;
}

export type Option = Flag | Valued;

export const COMMAND_NAMES = Object.keys(COMMANDS) as CommandName[];

const ALL = COMMAND_NAMES.filter((name) => name !== 'completion');
const CHANGING: readonly CommandName[] = ['ban', 'unban', 'flush', 'sync'];
const RELOADING: readonly CommandName[] = [...CHANGING, 'audit', 'reload', 'migrate', 'ranges'];
/** A resident reloads too, but makes no changes of its own. */
const RELOADING_OR_RESIDENT: readonly CommandName[] = [...RELOADING, 'serve'];

/** A text without a further meaning. */
const asGiven = (text: string) => text;

export const OPTIONS = {
  banlist: {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text, context) => followIn(context)(text),
    default: (context: ValueContext) => followIn(context)(layoutOf(context.root).banlist),
    shownDefault: '/etc/apache2/djangoapp/banlist.conf',
    describe:
      'the list that Apache includes; on RHEL, Fedora and Amazon Linux, the default is below /etc/httpd',
    commands: ALL,
  },
  bandir: {
    kind: 'value',
    placeholder: 'DIR',
    parse: parseBandir,
    describe: 'ban single addresses in this directory, without a reload; ranges stay in the list',
    commands: ALL,
  },
  to: {
    kind: 'value',
    placeholder: 'PLACE',
    parse: (text) => parseOneOf('place', PLACES, text),
    describe: 'where to move the bans: bandir or banlist',
    commands: ['migrate'],
    offers: PLACES,
  },
  jail: {
    kind: 'value',
    placeholder: 'NAME',
    parse: parseJail,
    describe:
      'the jail that holds the ban; without it, the ban is by hand. For list, print only what the jail holds',
    commands: [...CHANGING, 'list'],
    offers: 'jails',
  },
  id: {
    kind: 'value',
    placeholder: 'TEXT',
    parse: asGiven,
    describe: "what the jail counts by (fail2ban's <F-ID>): it holds an address once for each",
    commands: ['ban', 'unban'],
  },
  all: { kind: 'flag', describe: 'lift every ban, whoever holds it', commands: ['flush'] },
  since: {
    kind: 'value',
    placeholder: 'TIME',
    parse: parseSince,
    describe:
      'when the ban began, now by default: epoch seconds or ISO 8601; for report, also a time span such as 7d, its default',
    commands: ['ban', 'report'],
  },
  for: {
    kind: 'value',
    setting: 'duration',
    placeholder: 'DURATION',
    parse: parseDuration,
    default: null,
    shownDefault: 'for ever',
    describe:
      'how long the ban lasts: seconds, or 10m, 1h30m, "1d 12h", 1y; -1 is for ever; the audit\'s job or serve ends it',
    commands: ['ban'],
  },
  reason: {
    kind: 'value',
    placeholder: 'TEXT',
    parse: cleanReason,
    default: null,
    shownDefault: 'none',
    describe: 'why; banctl keeps it with the ban',
    commands: ['ban'],
  },
  protect: {
    kind: 'values',
    placeholder: 'CIDR',
    parse: parseProtected,
    describe:
      "never ban these; a host name is resolved by the audit's job; @FILE reads a list, or AWS's ip-ranges.json",
    commands: ['ban', 'sync', 'audit', 'report', 'setup', 'serve'],
  },
  force: {
    kind: 'flag',
    describe: 'ban a protected or too broad address; reload without a change; accept the loss of most ranges',
    commands: ['ban', 'reload', 'ranges'],
  },
  'ipv4-prefix': {
    kind: 'value',
    placeholder: 'N',
    parse: (text, { name }) => parseNumber(name, text, { least: 1, most: 32, whole: true }),
    default: 32,
    describe: 'widen each banned IPv4 address to this prefix',
    commands: ['ban', 'sync', 'audit', 'report', 'serve'],
  },
  'ipv6-prefix': {
    kind: 'value',
    placeholder: 'N',
    parse: (text, { name }) => parseNumber(name, text, { least: 1, most: 128, whole: true }),
    default: 128,
    describe: 'widen each banned IPv6 address to this prefix',
    commands: ['ban', 'sync', 'audit', 'report', 'serve'],
  },
  'widen-after': {
    kind: 'value',
    placeholder: 'N',
    parse: (text, { name }) => parseNumber(name, text, { least: 2, most: 65_536, whole: true }),
    describe: 'ban the /24 (IPv4) or /64 (IPv6) while N of its addresses are held at once',
    commands: ['ban', 'sync', 'audit'],
  },
  output: {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text) => resolve(text),
    default: '/etc/apache2/djangoapp/cloudfront-proxies',
    describe: 'the file of ranges, for RemoteIPTrustedProxyList and for --protect @FILE',
    commands: ['ranges'],
  },
  service: {
    kind: 'value',
    placeholder: 'NAME',
    parse: asGiven,
    default: 'CLOUDFRONT_ORIGIN_FACING',
    describe: 'take the ranges of this service from ip-ranges.json',
    commands: ['ranges'],
  },
  apachectl: {
    kind: 'values',
    placeholder: 'CMD',
    parse: asGiven,
    shownDefault: 'apache2ctl, httpd or apachectl',
    describe:
      'the control program that tests, queries and reloads Apache; one for each Apache that reads the list',
    commands: [...RELOADING_OR_RESIDENT, 'explain', 'report', 'setup'],
  },
  'reload-command': {
    kind: 'value',
    placeholder: 'CMD',
    parse: asGiven,
    describe: 'the command that reloads Apache, run without a shell; alone, for an Apache that only it knows',
    commands: [...RELOADING_OR_RESIDENT, 'explain'],
  },
  'no-reload': {
    kind: 'flag',
    setting: 'reloads',
    isNegated: true,
    describe: 'do not reload Apache',
    commands: RELOADING_OR_RESIDENT.filter((name) => name !== 'migrate'),
  },
  'reload-interval': {
    kind: 'value',
    placeholder: 'SECONDS',
    parse: (text, { name }) => parseNumber(name, text),
    default: 2,
    describe: 'least time between reloads; with 0, each change waits for its reload',
    commands: RELOADING_OR_RESIDENT,
  },
  'when-due': {
    kind: 'flag',
    describe: 'wait for the end of the interval first',
    commands: ['reload'],
    isHidden: true,
  },
  'lock-timeout': {
    kind: 'value',
    placeholder: 'SECONDS',
    parse: (text, { name }) => parseNumber(name, text),
    default: 20,
    describe: 'longest wait for the lock',
    commands: [...RELOADING, 'setup'],
  },
  'from-database': {
    kind: 'flag',
    describe: "read fail2ban's bans from its database, as fail2ban does when it starts",
    commands: ['sync'],
  },
  'fail2ban-db': {
    kind: 'value',
    setting: 'fail2banDatabase',
    placeholder: 'FILE',
    parse: asGiven,
    shownDefault: '/var/lib/fail2ban/fail2ban.sqlite3',
    describe: "fail2ban's database; sync and report find another one in fail2ban's configuration",
    commands: ['sync', 'report'],
  },
  'fail2ban-client': {
    kind: 'value',
    placeholder: 'CMD',
    parse: asGiven,
    default: 'fail2ban-client',
    describe: 'the program that talks to fail2ban',
    commands: ['unban', 'flush', 'sync', 'audit', 'report', 'setup', 'serve'],
  },
  'no-fail2ban': {
    kind: 'flag',
    setting: 'asksFail2ban',
    isNegated: true,
    describe: 'do not talk to fail2ban',
    commands: ['unban', 'flush', 'audit', 'report', 'setup', 'serve'],
  },
  record: {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text) => resolve(text),
    default: RECORD_FILE,
    describe: 'where banctl counts bans, unbans, refusals and reloads, if the directory exists',
    commands: [...RELOADING, 'report'],
  },
  html: {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text, context) => followIn(context)(text),
    describe: 'write one self-contained page',
    commands: ['report'],
  },
  network: {
    kind: 'value',
    placeholder: 'CIDR',
    parse: parseAddress,
    describe: 'print only bans in this network, and bans that cover it',
    commands: ['list'],
  },
  sort: {
    kind: 'value',
    placeholder: 'KEY',
    parse: (text) => parseOneOf('order', ORDERS, text),
    describe: 'sort by address, holder, since or until; the default is the order of the list',
    commands: ['list'],
    offers: ORDERS,
  },
  fix: { kind: 'flag', describe: 'repair what can be repaired safely', commands: ['audit'] },
  socket: {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text) => resolve(text),
    default: '/run/banctl/socket',
    describe: 'where serve answers; the Python action has a parameter of the same name',
    commands: ['serve', 'audit'],
  },
  fleet: {
    kind: 'value',
    placeholder: 'URL',
    parse: parseFleet,
    describe: 'share bans with the other servers at this Redis or Valkey: redis://, rediss://, or unix:/PATH',
    commands: ['ban', 'unban', 'flush', 'audit', 'serve', 'fleet'],
  },
  'fleet-user': {
    kind: 'value',
    placeholder: 'NAME',
    parse: asGiven,
    describe: "the engine's user, where it has an ACL",
    commands: ['serve'],
  },
  'fleet-password-file': {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text) => resolve(text),
    describe: 'the file with the password for the engine',
    commands: ['serve'],
  },
  'fleet-ca': {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text) => resolve(text),
    describe: 'the certificate authority of a rediss:// engine, as PEM; without it, those of the system',
    commands: ['serve'],
  },
  'fleet-name': {
    kind: 'value',
    placeholder: 'NAME',
    parse: parseFleetName,
    default: 'banctl',
    describe: 'the name of the fleet: servers with another one share nothing with this one',
    commands: ['serve'],
  },
  'fleet-host': {
    kind: 'value',
    placeholder: 'NAME',
    parse: parseFleetName,
    shownDefault: "the host's name",
    describe: 'the name of this server in the fleet',
    commands: ['serve'],
  },
  'fleet-state': {
    kind: 'value',
    placeholder: 'DIR',
    parse: (text) => resolve(text),
    default: '/var/lib/banctl/fleet',
    describe: 'where this server keeps what it knows of the fleet',
    commands: ['unban', 'flush', 'audit', 'report', 'serve', 'fleet'],
  },
  prometheus: {
    kind: 'value',
    placeholder: 'FILE',
    parse: asGiven,
    describe: "also write the result as metrics, for node_exporter's textfile collector",
    commands: ['audit'],
  },
  root: {
    kind: 'value',
    placeholder: 'DIR',
    parse: parseRoot,
    describe: 'install below this directory, the root of another system',
    commands: ['setup'],
  },
  print: {
    kind: 'value',
    placeholder: 'NAME',
    parse: asGiven,
    describe: 'print one of the files that setup installs, such as jail or apache',
    commands: ['setup'],
  },
  'enable-jail': {
    kind: 'flag',
    describe: 'switch the jail on; setup leaves it off until then',
    commands: ['setup'],
  },
  'enable-serve': {
    kind: 'flag',
    describe: "start banctl serve by systemd, and have the kit's jails use its Python action",
    commands: ['setup'],
  },
  'list-only': {
    kind: 'flag',
    describe: 'keep bans in the list; do not configure the ban directory on a server without bans',
    commands: ['setup'],
  },
  remove: { kind: 'flag', describe: 'remove what setup has installed, except the list', commands: ['setup'] },
  'dry-run': {
    kind: 'flag',
    describe: 'print what would change; change nothing',
    commands: [...RELOADING, 'setup'],
  },
  json: {
    kind: 'flag',
    describe: 'print one JSON document on standard output',
    commands: ALL.filter((name) => name !== 'serve'),
  },
  config: {
    kind: 'value',
    placeholder: 'FILE',
    parse: (text) => resolve(text),
    default: configFileIn,
    shownDefault: CONFIG_FILE,
    describe: 'options as JSON; the environment (BANCTL_BANLIST) and the command line win over it',
    commands: ALL,
  },
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof OPTIONS;

export const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[];

/** A command's options, without hidden ones. */
export function optionsOf(command: CommandName): OptionName[] {
  return OPTION_NAMES.filter((name) => {
    const { commands, isHidden } = optionOf(name);
    return isHidden !== true && commands.includes(command);
  });
}

export function commandOf(name: CommandName): Command {
  return COMMANDS[name];
}

export function optionOf(name: OptionName): Option {
  return OPTIONS[name];
}

/** The default for readers; undefined if there is none. */
export function defaultOf(name: OptionName): string | undefined {
  const option = optionOf(name);
  if (option.kind === 'flag') return undefined;
  const { default: usual, shownDefault } = option;
  return shownDefault ?? (typeof usual === 'string' || typeof usual === 'number' ? String(usual) : undefined);
}

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(COMMANDS, name);
}
