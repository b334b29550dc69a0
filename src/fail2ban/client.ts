import { isTime } from '../bans/hold.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { quote } from '../system/printable.ts';
import { type ProgramResult, run } from '../system/program.ts';

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
/** Of one call. */
const MOST_ADDRESSES = 10_000;
/** With `[name=…]` in the jail's action line, fail2ban appends that to the action's own name. */
const ACTION = 'apache-banlist';

/**
 * The names of its jails. `stopped`: there is no fail2ban that runs; `unknown`: it hangs, or answers what cannot be
 * understood.
 */
export async function jailNames(client: string): Promise<string[] | 'stopped' | 'unknown'> {
  const outcome = await ask(client, ['status']);
  const [, names] = /Jail list:(.*)/.exec(outcome.stdout) ?? [];
  if (outcome.exitCode === 0) return names === undefined ? 'unknown' : words(names);
  return outcome.exitCode === undefined && outcome.isFound ? 'unknown' : 'stopped';
}

/**
 * What a jail holds, or in words why that is not known.
 *
 * @throws BanctlError notUnderstood if the answer is none of fail2ban's: no ban may be lifted for it
 */
export async function heldBans(client: string, jail: string): Promise<HeldBan[] | string> {
  const outcome = await ask(client, ['get', jail, 'banip', '--with-time']);
  if (outcome.exitCode !== 0) return whyNot(client, jail, outcome);
  const lines = outcome.stdout.split('\n').filter((line) => line.trim() !== '');
  return lines.map((line) => {
    const ban = parseHeldBan(line);
    if (ban !== undefined) return ban;
    const what = `cannot understand what ${client} says of jail ${jail}: ${quote(line)}`;
    throw new BanctlError(EXIT.notUnderstood, what, 'nothing was changed');
  });
}

/** `203.0.113.9 \t2026-11-22 16:53:40 + 600 = 2026-11-22 17:03:40`, in local time; -1 is for ever. */
function parseHeldBan(line: string): HeldBan | undefined {
  const [, address, since, duration] = /^(.*?) ?\t(\S+ \S+) \+ (-?\d+) = /.exec(line) ?? [];
  if (address === undefined || since === undefined) return undefined;
  const seconds = Math.floor(new Date(since.replace(' ', 'T')).getTime() / 1000);
  if (!isTime(seconds)) return undefined;
  const lasts = Number(duration);
  return { address, since: seconds, until: lasts < 0 ? null : seconds + lasts };
}

function whyNot(
  client: string,
  jail: string,
  { isFound, isTimedOut, exitCode, ...said }: ProgramResult,
): string {
  if (!isFound) return `${client} was not found`;
  if (isTimedOut) return `fail2ban has not answered within ${LIMIT} s`;
  if (exitCode === undefined) return `${client} failed: ${said.stderr}`;
  return /does not exist/.test(said.stdout) ? `fail2ban has no jail ${jail}` : 'fail2ban is not running';
}

/** The addresses, ranges and names of hosts that a running jail ignores, undefined as for its bans. */
export async function ignoredBy(client: string, jail: string): Promise<string[] | undefined> {
  const { exitCode, stdout } = await ask(client, ['get', jail, 'ignoreip']);
  if (exitCode !== 0 || !/ ignored/.test(stdout)) return undefined;
  return [...stdout.matchAll(/^[|`]- (.+)$/gm)].map((match) => match[1] ?? '');
}

/**
 * The same from the configuration files, without the server, for use inside actionstart. Undefined if they cannot
 * be read.
 */
export async function ignoredByConfig(client: string, jail: string): Promise<string[] | undefined> {
  const { exitCode, stdout } = await ask(client, ['-d']);
  const lines = stdout.split('\n');
  if (exitCode !== 0 || !lines.some((line) => line.startsWith(`['add', ${python(jail)},`))) return undefined;
  const ignoring = lines.filter((line) => line.startsWith(`['set', ${python(jail)}, 'addignoreip',`));
  return ignoring.flatMap((line) => [...line.matchAll(/'([^']*)'/g)].slice(3).map((match) => match[1] ?? ''));
}

/** Lets a jail forget addresses, so that the next offence bans again. Undefined, or why it did not. */
export async function tellUnbanned(
  client: string,
  jail: string,
  addresses: readonly string[],
): Promise<string | undefined> {
  for (const some of inLines(addresses)) {
    const outcome = await ask(client, ['set', jail, 'unbanip', ...some]);
    if (outcome.exitCode !== 0) return whyNot(client, jail, outcome);
  }
  return undefined;
}

/** The jails that hold each of the addresses; undefined if fail2ban hangs, nothing if it does not run. */
export async function jailsHolding(
  client: string,
  addresses: readonly string[],
): Promise<string[][] | undefined> {
  const jails: string[][] = [];
  for (const some of inLines(addresses)) {
    const { exitCode, stdout, isTimedOut } = await ask(client, ['banned', ...some]);
    if (isTimedOut) return undefined;
    // Each list ends before the next begins, or a long answer of something else would be searched for ever.
    const lists =
      exitCode === 0
        ? [
            ...stdout
              .trim()
              .slice(1, -1)
              .matchAll(/\[([^[\]]*)\]/g),
          ]
        : [];
    const names = (text: string) => [...text.matchAll(/'([^']*)'/g)].map(([, jail = '']) => jail);
    jails.push(...some.map((_, index) => names(lists[index]?.[1] ?? '')));
  }
  return jails;
}

/** In parts that the system takes for a command line. */
function* inLines(addresses: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < addresses.length; at += MOST_ADDRESSES)
    yield addresses.slice(at, at + MOST_ADDRESSES);
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

function ask(client: string, args: readonly string[]): Promise<ProgramResult> {
  return run(client, args, LIMIT);
}

function words(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '');
}

function python(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
