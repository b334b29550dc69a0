import type { EXIT } from '../system/errors.ts';
import type { CommandName } from './options.ts';

/*
 * What the help, the manual page and docs/commands.md print in addition to the table of options. Tests run the examples.
 */

export interface Example {
  /** A shell line, for root on a server with the Debian package. */
  readonly line: string;
  readonly describe: string;
}

/** In the order in which a test runs them: each needs the ones before it. */
export const EXAMPLES: Readonly<Record<CommandName, Example>> = {
  ban: {
    line: 'banctl ban 203.0.113.55 --for 1h --reason "tries passwords"',
    describe: 'ban an address for an hour',
  },
  list: { line: 'banctl list --json', describe: 'print the bans for another program' },
  explain: { line: 'banctl explain 203.0.113.55', describe: 'find out why a visitor gets 403' },
  unban: { line: 'banctl unban 203.0.113.55', describe: 'lift a ban, in fail2ban too' },
  sync: {
    line: 'banctl sync --jail djangoapp-admin-login',
    describe: "restore a jail's bans after the list was lost",
  },
  flush: {
    line: 'banctl flush --jail djangoapp-admin-login',
    describe: 'release everything that this jail holds',
  },
  audit: { line: 'banctl audit --fix', describe: 'run what the audit job runs every five minutes' },
  report: {
    line: 'banctl report --html /var/www/banctl.html --since 7d',
    describe: 'write a page with what happened in a week',
  },
  reload: { line: 'banctl reload', describe: 'load the list after an edit by hand' },
  migrate: {
    line: 'banctl migrate --to bandir --bandir /etc/apache2/djangoapp/bans',
    describe: 'move the bans to where they need no reload; then name the directory in /etc/banctl.json',
  },
  ranges: {
    line: 'banctl ranges ip-ranges.json',
    describe: "trust CloudFront's addresses in Apache, and never ban them",
  },
  setup: { line: 'banctl setup --dry-run', describe: 'print what setup would write on this server' },
  serve: {
    line: 'banctl serve & sleep 1; kill $!',
    describe: 'try the server for a second; systemd runs it as banctl.service',
  },
  fleet: {
    line: 'banctl fleet status || echo "banctl: cut off"',
    describe: 'see which servers share their bans, and act where this one does not',
  },
  completion: {
    line: '. <(banctl completion bash)',
    describe: 'switch completion on in this bash',
  },
};

/** What each exit code means. */
export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'done, or nothing had to be done',
  findings: '`audit` has findings left, `explain` finds no ban, or `fleet status` is not connected',
  usage: 'bad option or address',
  takenBack: 'Apache refuses the list with this change, so banctl took it back',
  reloadRefused: 'Apache was not reloaded; the change is kept',
  internal: 'a bug in banctl',
  cannotWrite: 'banctl cannot write a file, or `setup` finds no Apache',
  lockBusy: 'another process held the lock for too long; nothing changed',
  notPermitted: 'protected or too broad; nothing changed',
  notUnderstood:
    "banctl cannot understand the list, the configuration or fail2ban's database, or Apache does not read where `migrate` moves to; nothing changed",
};

/** Variables that banctl reads. */
export const ENVIRONMENT: readonly { name: string; describe: string }[] = [
  {
    name: 'BANCTL_BANLIST, BANCTL_NO_RELOAD, ...',
    describe:
      'Each option can be set by the variable of its name. Set a flag with 1 or 0. Separate the values of a repeatable option with commas. The command line wins over the environment, and the environment over the configuration file.',
  },
];

/** The default files of a server with banctl. */
export const FILES: readonly { name: string; describe: string }[] = [
  { name: '/etc/banctl.json', describe: 'Options by name, as one JSON object.' },
  {
    name: '/etc/apache2/djangoapp/banlist.conf',
    describe: 'The list: one line for each ban, below a comment with its holds.',
  },
  {
    name: '/etc/apache2/djangoapp/banlist.conf.state',
    describe: 'What Apache has loaded. You can delete it at any time.',
  },
  {
    name: '/etc/apache2/djangoapp/.banlist.conf.lifts',
    describe: 'Exists while `sync` or `audit --fix` runs: what other calls release in the meantime.',
  },
  {
    name: '/etc/apache2/djangoapp/bans',
    describe: 'The ban directory: one file for each banned address.',
  },
  {
    name: '/etc/apache2/conf-available/djangoapp-banlist.conf',
    describe: 'Makes Apache refuse banned addresses. a2enconf switches it on.',
  },
  { name: '/etc/fail2ban/action.d/apache-banlist.conf', describe: 'The fail2ban action that calls banctl.' },
  {
    name: '/etc/fail2ban/jail.d/djangoapp-admin-login.conf',
    describe:
      'The jail of the Debian package. It stays off until /etc/fail2ban/jail.d/djangoapp-admin-login.local sets enabled = true.',
  },
  { name: '/etc/cron.d/banctl', describe: 'Runs banctl audit --fix every five minutes.' },
];
