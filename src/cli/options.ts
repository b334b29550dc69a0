/** One definition of every command and option: command line, environment, configuration file and help. */

/**
 * What a shell offers for a word: one of these, or what it finds out. Without it, the placeholder tells: files for FILE,
 * directories for DIR, programs for CMD.
 */
export type Offered = readonly string[] | 'banned addresses' | 'jails';

interface Command {
  readonly operands: string;
  readonly describe: string;
  readonly offers?: Offered;
}

/** Shells for which `completion` has a script. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** Where bans of single addresses stand. */
export const PLACES = ['bandir', 'banlist'] as const;

export const COMMANDS = {
  ban: { operands: 'ADDRESS...', describe: 'ban addresses; - reads them from standard input, one a line' },
  unban: {
    operands: 'ADDRESS...',
    describe: 'lift bans, and tell fail2ban; with --jail only the hold of that jail',
    offers: 'banned addresses',
  },
  flush: { operands: '', describe: 'release everything that a jail holds; --all lifts every ban' },
  sync: { operands: '', describe: "make a jail's holds equal to what fail2ban holds" },
  list: { operands: '', describe: 'show every ban: held by whom, since when, for how long, and why' },
  explain: {
    operands: 'ADDRESS',
    describe: 'say whether and why an address is refused',
    offers: 'banned addresses',
  },
  audit: { operands: '', describe: 'check the list, fail2ban and Apache against each other; --fix repairs' },
  reload: { operands: '', describe: 'make Apache load the list, if it has not; with --force in any case' },
  ranges: {
    operands: 'FILE',
    describe: "keep the trusted proxies' file as AWS's ip-ranges.json says; - reads that from standard input",
  },
  migrate: { operands: '', describe: 'move the bans of single addresses into the ban directory, or back' },
  setup: {
    operands: '',
    describe: 'install action, filter, jail, list, Apache snippets and cron job; --remove takes them away',
  },
  completion: {
    operands: 'SHELL',
    describe: 'print what makes bash, zsh or fish complete commands, options and banned addresses',
    offers: SHELLS,
  },
} as const satisfies Record<string, Command>;

export type CommandName = keyof typeof COMMANDS;

interface Option {
  /** A flag is given or not, `value` counts once (the last), `values` as often as it is given. */
  readonly kind: 'flag' | 'value' | 'values';
  readonly placeholder?: string;
  /** As shown in the help. */
  readonly default?: string;
  readonly describe: string;
  readonly commands: readonly CommandName[];
  /** Not for people: banctl gives it to itself. */
  readonly isHidden?: boolean;
  readonly offers?: Offered;
}

export const COMMAND_NAMES = Object.keys(COMMANDS) as CommandName[];

const ALL = COMMAND_NAMES.filter((name) => name !== 'completion');
const CHANGING: readonly CommandName[] = ['ban', 'unban', 'flush', 'sync'];
const RELOADING: readonly CommandName[] = [...CHANGING, 'audit', 'reload', 'migrate', 'ranges'];

export const OPTIONS = {
  banlist: {
    kind: 'value',
    placeholder: 'FILE',
    default: '/etc/apache2/djangoapp/banlist.conf',
    describe: 'the list that Apache includes; below /etc/httpd where there is no /etc/apache2',
    commands: ALL,
  },
  bandir: {
    kind: 'value',
    placeholder: 'DIR',
    describe: 'ban single addresses here, without a reload; ranges stay in the list',
    commands: ALL,
  },
  to: {
    kind: 'value',
    placeholder: 'PLACE',
    describe: 'where the bans are to be: bandir or banlist',
    commands: ['migrate'],
    offers: PLACES,
  },
  jail: {
    kind: 'value',
    placeholder: 'NAME',
    default: 'manual',
    describe: 'the holder of the ban',
    commands: CHANGING,
    offers: 'jails',
  },
  all: { kind: 'flag', describe: 'every ban, whoever holds it', commands: ['flush'] },
  since: {
    kind: 'value',
    placeholder: 'TIME',
    default: 'now',
    describe: 'when the ban began: epoch seconds or ISO 8601',
    commands: ['ban'],
  },
  for: {
    kind: 'value',
    placeholder: 'DURATION',
    default: 'for ever',
    describe: 'how long it lasts: seconds, or 10m, 1h, 7d; -1 is for ever',
    commands: ['ban'],
  },
  reason: { kind: 'value', placeholder: 'TEXT', describe: 'why, kept with the ban', commands: ['ban'] },
  protect: {
    kind: 'values',
    placeholder: 'CIDR',
    describe: 'never ban these; @FILE reads a list of them, or the ip-ranges.json of AWS',
    commands: ['ban', 'sync', 'audit', 'setup'],
  },
  force: {
    kind: 'flag',
    describe: 'ban although protected or too broad; reload although nothing has changed; lose most ranges',
    commands: ['ban', 'reload', 'ranges'],
  },
  'ipv4-prefix': {
    kind: 'value',
    placeholder: 'N',
    default: '32',
    describe: 'widen each banned IPv4 address to this prefix',
    commands: ['ban', 'sync', 'audit'],
  },
  'ipv6-prefix': {
    kind: 'value',
    placeholder: 'N',
    default: '128',
    describe: 'widen each banned IPv6 address to this prefix',
    commands: ['ban', 'sync', 'audit'],
  },
  output: {
    kind: 'value',
    placeholder: 'FILE',
    default: '/etc/apache2/djangoapp/cloudfront-proxies',
    describe: 'where the ranges are kept: for RemoteIPTrustedProxyList, and for --protect @FILE',
    commands: ['ranges'],
  },
  service: {
    kind: 'value',
    placeholder: 'NAME',
    default: 'CLOUDFRONT_ORIGIN_FACING',
    describe: 'whose ranges of the ip-ranges.json',
    commands: ['ranges'],
  },
  apachectl: {
    kind: 'value',
    placeholder: 'CMD',
    default: 'apache2ctl, httpd or apachectl',
    describe: 'how Apache is tested, asked and reloaded',
    commands: [...RELOADING, 'setup'],
  },
  'reload-command': {
    kind: 'value',
    placeholder: 'CMD',
    describe: 'reloads Apache in place of systemd or --apachectl; run without a shell',
    commands: RELOADING,
  },
  'no-reload': { kind: 'flag', describe: 'leave the reload to somebody else', commands: RELOADING },
  'reload-interval': {
    kind: 'value',
    placeholder: 'SECONDS',
    default: '2',
    describe: 'least time between reloads; 0: each change waits for its reload',
    commands: RELOADING,
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
    default: '20',
    describe: 'longest wait for the lock',
    commands: ALL,
  },
  'from-database': {
    kind: 'flag',
    describe: "take fail2ban's bans from its database, as at its start; its server is not asked",
    commands: ['sync'],
  },
  'fail2ban-db': {
    kind: 'value',
    placeholder: 'FILE',
    default: '/var/lib/fail2ban/fail2ban.sqlite3',
    describe: "fail2ban's database",
    commands: ['sync'],
  },
  'fail2ban-client': {
    kind: 'value',
    placeholder: 'CMD',
    default: 'fail2ban-client',
    describe: 'how fail2ban is asked and told',
    commands: ['unban', 'flush', 'sync', 'audit', 'setup'],
  },
  'no-fail2ban': {
    kind: 'flag',
    describe: 'neither ask nor tell fail2ban',
    commands: ['unban', 'flush', 'audit', 'setup'],
  },
  fix: { kind: 'flag', describe: 'repair what cannot hurt', commands: ['audit'] },
  prometheus: {
    kind: 'value',
    placeholder: 'FILE',
    describe: "write the result as metrics too, for node_exporter's textfile collector",
    commands: ['audit'],
  },
  root: {
    kind: 'value',
    placeholder: 'DIR',
    describe: 'install below this directory, the root of another system',
    commands: ['setup'],
  },
  print: {
    kind: 'value',
    placeholder: 'NAME',
    describe: 'show one of the files that setup installs, such as jail or apache',
    commands: ['setup'],
  },
  remove: { kind: 'flag', describe: 'take away what setup has installed, but the list', commands: ['setup'] },
  'dry-run': {
    kind: 'flag',
    describe: 'say what would change, change nothing',
    commands: [...RELOADING, 'setup'],
  },
  json: { kind: 'flag', describe: 'one JSON document on standard output', commands: ALL },
  config: {
    kind: 'value',
    placeholder: 'FILE',
    default: '/etc/banctl.json',
    describe: 'options as JSON; the environment (BANCTL_BANLIST) and the command line win over it',
    commands: ALL,
  },
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof OPTIONS;

export const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[];

/** The options that a command has, for people. */
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

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(COMMANDS, name);
}
