import { type Outcome, run } from './program.ts';

/*
 * fail2ban, asked through its client. Never from inside one of its own actions: its server answers nobody while
 * an action runs, so the question would wait for its own end. Calls with a jail come from actions.
 */

/** A ban as fail2ban holds it. The address is what it was given, which need not be one. */
export interface HeldBan {
  readonly address: string;
  /** Seconds since the epoch. */
  readonly since: number;
  /** null: for ever. */
  readonly until: number | null;
}

/** How a jail uses banctl. */
export interface JailAction {
  readonly jail: string;
  /** The holder under which it bans. */
  readonly holder: string;
  /** Empty: as configured for banctl. */
  readonly banlist: string;
  readonly bandir: string;
  readonly ipv6Prefix: string;
}

/** fail2ban can be hanging, or busy with a slow action of another jail. Seconds. */
const LIMIT = 10;
/** Addresses in one call: half a megabyte, of the two that Linux allows. */
const MOST_IN_A_LINE = 10_000;
/** With `[name=…]` in the jail's action line, fail2ban appends that to the action's own name. */
const ACTION = 'apache-banlist';

export async function isFail2banRunning(client: string): Promise<boolean> {
  return (await ask(client, ['ping'])).exitCode === 0;
}

/** The names of its jails, undefined if it does not answer. */
export async function jailNames(client: string): Promise<string[] | undefined> {
  const { exitCode, stdout } = await ask(client, ['status']);
  if (exitCode !== 0) return undefined;
  return words(/Jail list:(.*)/.exec(stdout)?.[1] ?? '');
}

/** What a jail holds, undefined if there is no such jail or fail2ban does not answer. */
export async function heldBans(client: string, jail: string): Promise<HeldBan[] | undefined> {
  const { exitCode, stdout } = await ask(client, ['get', jail, 'banip', '--with-time']);
  return exitCode === 0 ? stdout.split('\n').flatMap(parseHeldBan) : undefined;
}

/** `203.0.113.9 \t2026-11-22 16:53:40 + 600 = 2026-11-22 17:03:40`, in local time; -1 is for ever. */
function parseHeldBan(line: string): HeldBan[] {
  const [, address, since, duration] = /^(.*?) ?\t(\S+ \S+) \+ (-?\d+) = /.exec(line) ?? [];
  if (address === undefined || since === undefined) return [];
  const seconds = Math.floor(new Date(since.replace(' ', 'T')).getTime() / 1000);
  const lasts = Number(duration);
  return [{ address, since: seconds, until: lasts < 0 ? null : seconds + lasts }];
}

/** The addresses, ranges and names of hosts that a running jail ignores, undefined as for its bans. */
export async function ignoredBy(client: string, jail: string): Promise<string[] | undefined> {
  const { exitCode, stdout } = await ask(client, ['get', jail, 'ignoreip']);
  if (exitCode !== 0) return undefined;
  return [...stdout.matchAll(/^[|`]- (.+)$/gm)].map((match) => match[1] ?? '');
}

/**
 * The same from the configuration files, without the server, for use inside actionstart. Undefined if they cannot
 * be read.
 */
export async function ignoredByConfig(client: string, jail: string): Promise<string[] | undefined> {
  const { exitCode, stdout } = await ask(client, ['-d']);
  if (exitCode !== 0) return undefined;
  const lines = stdout
    .split('\n')
    .filter((line) => line.startsWith(`['set', ${python(jail)}, 'addignoreip',`));
  return lines.flatMap((line) => [...line.matchAll(/'([^']*)'/g)].slice(3).map((match) => match[1] ?? ''));
}

/** Lets a jail forget addresses, so that the next offence bans again. Undefined, or why it did not. */
export async function tellUnbanned(
  client: string,
  jail: string,
  addresses: readonly string[],
): Promise<string | undefined> {
  for (const some of portions(addresses)) {
    const outcome = await ask(client, ['set', jail, 'unbanip', ...some]);
    if (outcome.exitCode !== 0) return whyNot(outcome, client, jail);
  }
  return undefined;
}

function whyNot(outcome: Outcome, client: string, jail: string): string {
  if (!outcome.isFound) return `${client} was not found`;
  if (outcome.isTimedOut) return `fail2ban has not answered within ${LIMIT} s`;
  return /does not exist/.test(outcome.stdout) ? `fail2ban has no jail ${jail}` : 'fail2ban is not running';
}

/** The jails that hold each of the addresses; nothing if fail2ban does not answer. */
export async function jailsHolding(client: string, addresses: readonly string[]): Promise<string[][]> {
  const jails: string[][] = [];
  for (const some of portions(addresses)) {
    const { exitCode, stdout } = await ask(client, ['banned', ...some]);
    if (exitCode !== 0) return [];
    const lists = [
      ...stdout
        .trim()
        .slice(1, -1)
        .matchAll(/\[([^\]]*)\]/g),
    ];
    const jailsIn = (text = '') => [...text.matchAll(/'([^']*)'/g)].map(([, jail = '']) => jail);
    jails.push(...some.map((_, index) => jailsIn(lists[index]?.[1])));
  }
  return jails;
}

/** As many as fit into a command line: the system refuses a longer one. */
function* portions(addresses: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < addresses.length; at += MOST_IN_A_LINE)
    yield addresses.slice(at, at + MOST_IN_A_LINE);
}

/** How a jail uses banctl's action, undefined if it does not. */
export async function jailAction(client: string, jail: string): Promise<JailAction | undefined> {
  const { stdout } = await ask(client, ['get', jail, 'actions']);
  const action = words(stdout.split('\n')[1] ?? '').find((name) => name.startsWith(ACTION));
  if (action === undefined) return undefined;
  const property = async (name: string) => {
    const { exitCode, stdout: value } = await ask(client, ['get', jail, 'action', action, name]);
    return exitCode === 0 ? value.trim() : '';
  };
  const holder = await property('jail');
  // A nested tag is kept as it was written: <name>.
  return {
    jail,
    holder: holder === '<name>' ? await property('name') : holder,
    banlist: await property('banlist'),
    bandir: await property('bandir'),
    ipv6Prefix: await property('ipv6_prefix'),
  };
}

function ask(client: string, args: readonly string[]): Promise<Outcome> {
  return run(client, args, LIMIT);
}

function words(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '');
}

function python(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
