import type { EXIT } from '../system/errors.ts';
import type { CommandName } from './options.ts';

/*
 * What the help and the manual page tell beside the table of options.ts. The README's exit codes are checked against
 * this, and the examples are run by the tests.
 */

export interface Example {
  /** A line for the shell, as root on a server that has the Debian package. */
  readonly line: string;
  readonly describe: string;
}

/** In this order they tell a story: each works after those before it. */
export const EXAMPLES: Readonly<Record<CommandName, Example>> = {
  ban: {
    line: 'banctl ban 203.0.113.55 --for 1h --reason "tries passwords"',
    describe: 'ban an address for an hour',
  },
  list: { line: 'banctl list --json', describe: 'show the bans to a program' },
  explain: { line: 'banctl explain 203.0.113.55', describe: 'why somebody gets 403' },
  unban: { line: 'banctl unban 203.0.113.55', describe: 'let them in again, and tell fail2ban' },
  sync: {
    line: 'banctl sync --jail djangoapp-admin-login',
    describe: 'after a list was lost: what fail2ban holds',
  },
  flush: {
    line: 'banctl flush --jail djangoapp-admin-login',
    describe: 'release everything that this jail holds',
  },
  audit: { line: 'banctl audit --fix', describe: 'what cron does every five minutes' },
  reload: { line: 'banctl reload', describe: 'after the list was edited by hand' },
  migrate: {
    line: 'banctl migrate --to bandir --bandir /etc/apache2/djangoapp/bans',
    describe: 'bans without reloads, once /etc/banctl.json names the directory too',
  },
  ranges: {
    line: 'banctl ranges ip-ranges.json',
    describe: "trust and protect CloudFront's addresses, as AWS lists them in this file",
  },
  setup: { line: 'banctl setup --dry-run', describe: 'what setup would write on this server' },
  completion: {
    line: '. <(banctl completion bash)',
    describe: 'let this bash complete what is typed',
  },
};

/** What each exit code tells. */
export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'done, also where it was so already',
  findings: '`audit` has findings left, or `explain` finds no ban',
  usage: 'bad option or address',
  reloadRefused: 'Apache refused the reload',
  internal: 'a mistake in banctl itself',
  cannotWrite: 'something cannot be written',
  lockBusy: 'the list was locked for too long',
  notPermitted: 'protected or too broad',
  notUnderstood: "the list, the configuration or fail2ban's database cannot be understood",
};

/** Variables that banctl reads. */
export const ENVIRONMENT: readonly { name: string; describe: string }[] = [
  {
    name: 'BANCTL_BANLIST, BANCTL_NO_RELOAD, ...',
    describe:
      'Each option can be set by the variable of its name; flags by 1 or 0, options that can be given more than once with commas between the values. The command line wins over the environment, the environment over the configuration file.',
  },
];

/** Files of a server with banctl, where no option names others. */
export const FILES: readonly { name: string; describe: string }[] = [
  { name: '/etc/banctl.json', describe: 'Options by their names, as a JSON object.' },
  {
    name: '/etc/apache2/djangoapp/banlist.conf',
    describe: 'The list: one line for each ban, and above it one comment that says who holds it.',
  },
  {
    name: '/etc/apache2/djangoapp/banlist.conf.state',
    describe: 'What Apache has loaded. It may be deleted at any time.',
  },
  {
    name: '/etc/apache2/djangoapp/bans',
    describe: 'A place for the ban directory, where Apache looks by the snippets that come with banctl.',
  },
  {
    name: '/etc/apache2/conf-available/djangoapp-banlist.conf',
    describe: 'Makes Apache refuse what is banned; a2enconf puts it to use.',
  },
  { name: '/etc/fail2ban/action.d/apache-banlist.conf', describe: 'How fail2ban calls banctl.' },
  {
    name: '/etc/fail2ban/jail.d/djangoapp-admin-login.conf',
    describe:
      'The jail of the Debian package. It is off until /etc/fail2ban/jail.d/djangoapp-admin-login.local says enabled = true.',
  },
  { name: '/etc/cron.d/banctl', describe: 'Calls banctl audit --fix every five minutes.' },
];
