import { quote } from '../system/printable.ts';
import { monotonicMs } from '../system/process.ts';
import { type ProgramResult, run } from '../system/program.ts';
import {
  type BanTimes,
  type Configuration,
  type ConfiguredJail,
  type HeldBan,
  parseBanned,
  parseConfiguration,
  parseDatabasePath,
  parseHeldBan,
  parseHolders,
  parseIgnored,
  parseNames,
  parseStatus,
  toBanTimes,
} from './answers.ts';

/*
 * fail2ban, through its client. Never use it inside one of fail2ban's own actions: the server answers no request while an
 * action runs, so the question would wait for its own end. Calls with --jail come from actions.
 */

/** An answer of fail2ban, or why there is none. */
export type Asked<T> = { readonly ok: true; readonly value: T } | Unanswered;

export interface Unanswered {
  readonly ok: false;
  readonly why: string;
  /**
   * `absent`: fail2ban is not installed; `stopped`: no server runs. In the other cases it may hold anything: `silent` did not
   * answer, `odd` gave an unknown answer.
   */
  readonly state: 'absent' | 'stopped' | 'no-jail' | 'silent' | 'odd';
}

/** How a jail uses banctl. */
export interface JailAction {
  readonly jail: string;
  /** The name under which it bans: its action's --jail. */
  readonly holder: string;
  /** Empty: banctl's own configuration decides. */
  readonly banlist: string;
  readonly bandir: string;
  readonly ipv6Prefix: string;
}

/** fail2ban may hang, or be busy with a slow action of another jail. */
const LIMIT_SECONDS = 10;
/** Limit for one call. */
const MOST_ADDRESSES = 10_000;
/** With `[name=…]` in the jail's action line, fail2ban appends that to the action's own name. */
const ACTION = 'apache-banlist';

/** The names of the running jails. */
export async function jailNames(client: string): Promise<Asked<string[]>> {
  const status = await ask(client, ['status'], (answer) => ({ names: parseStatus(answer), answer }));
  if (!status.ok) return status;
  const { names, answer } = status.value;
  if (names !== undefined) return { ok: true, value: names };
  return /Jail list:/.test(answer) ? ask(client, ['banned'], parseBanned) : notUnderstood(client, answer);
}

/** The bans of a jail, each under its id. */
export function heldBans(client: string, jail: string): Promise<Asked<HeldBan[]>> {
  return ask(client, ['get', jail, 'banip', '--with-time'], (answer) => {
    const lines = answer.split('\n').filter((line) => line.trim() !== '');
    const bans = lines.map(parseHeldBan);
    const odd = bans.indexOf(undefined);
    return odd < 0 ? bans.filter((ban) => ban !== undefined) : notUnderstood(client, lines[odd] ?? '', jail);
  });
}

/** The addresses, ranges and host names that a running jail ignores. */
export function ignoredBy(client: string, jail: string): Promise<Asked<string[]>> {
  return ask(client, ['get', jail, 'ignoreip'], parseIgnored);
}

/** What decides how long a running jail would hold restored bans. */
export async function banTimesOf(client: string, jail: string): Promise<Asked<BanTimes>> {
  const answers: string[] = [];
  for (const option of ['bantime', 'bantime.increment', 'bantime.maxtime']) {
    const answer = await ask(client, ['get', jail, option], (text) => text);
    if (!answer.ok) return answer;
    answers.push(answer.value);
  }
  const [usual = '', increment = '', longest = ''] = answers;
  return { ok: true, value: toBanTimes(usual, increment, longest) };
}

/** Seconds of a duration, by fail2ban's own rules. */
export function secondsOf(client: string, duration: string): Promise<Asked<number>> {
  return ask(client, ['--str2sec', duration], (answer) => {
    const seconds = Number(answer);
    return answer.trim() === '' || Number.isNaN(seconds) ? undefined : seconds;
  });
}

/** The path of the database; null if fail2ban runs without one. */
export function databasePath(client: string): Promise<Asked<string | null>> {
  return ask(client, ['get', 'dbfile'], parseDatabasePath);
}

/** The configuration files, without asking the server. */
export function configuration(client: string): Promise<Asked<Configuration>> {
  return ask(client, ['-d'], parseConfiguration);
}

/** The database of the running fail2ban, else of its configuration files; undefined if neither names one. */
export async function databaseOf(client: string): Promise<string | null | undefined> {
  const running = await databasePath(client);
  if (running.ok) return running.value;
  const configured = await configuration(client);
  return configured.ok ? configured.value.database : undefined;
}

/** True for the client of a fail2ban that is not the system's own. */
export function isPrivate(client: string): boolean {
  return /\s-(?:c|-conf)\b/.test(client);
}

/** Makes a jail forget addresses, so that the next offence bans again. Undefined, or the error. */
export async function unbanIn(
  client: string,
  jail: string,
  addresses: readonly string[],
): Promise<string | undefined> {
  for (const some of inLines(addresses)) {
    const answer = await ask(client, ['set', jail, 'unbanip', ...some], (text) => text);
    if (!answer.ok) return answer.why;
  }
  return undefined;
}

/** The jails that hold each of the addresses; empty if fail2ban does not run. */
export async function jailsHolding(client: string, addresses: readonly string[]): Promise<Asked<string[][]>> {
  const jails: string[][] = [];
  for (const some of inLines(addresses)) {
    const answer = await ask(client, ['banned', ...some], (text) => parseHolders(text, some.length));
    if (!answer.ok && (answer.state === 'silent' || answer.state === 'odd')) return answer;
    jails.push(...(answer.ok ? answer.value : some.map(() => [])));
  }
  return { ok: true, value: jails };
}

/** In parts that fit into a command line of the system. */
function* inLines(addresses: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < addresses.length; at += MOST_ADDRESSES)
    yield addresses.slice(at, at + MOST_ADDRESSES);
}

/** How a running jail uses banctl's action: one value for each list. */
export async function jailActions(client: string, jail: string): Promise<JailAction[]> {
  const names = await ask(client, ['get', jail, 'actions'], parseNames);
  const own = names.ok ? names.value.filter(isOwnAction) : [];
  return Promise.all(own.map((name) => jailAction(client, jail, name)));
}

async function jailAction(client: string, jail: string, action: string): Promise<JailAction> {
  const property = async (name: string) => {
    const answer = await ask(client, ['get', jail, 'action', action, name], (text) => text.trim());
    return answer.ok ? answer.value : '';
  };
  const holder = await property('jail');
  return {
    jail,
    holder: holder === NESTED ? await property('name') : holder,
    banlist: await property('banlist'),
    bandir: await property('bandir'),
    ipv6Prefix: await property('ipv6_prefix'),
  };
}

/** A nested tag is kept as it was written. */
const NESTED = '<name>';

/** The same from the configuration files. */
export function configuredActions({ name: jail, actions }: ConfiguredJail): JailAction[] {
  return [...actions]
    .filter(([name]) => isOwnAction(name))
    .map(([, parameters]) => {
      const property = (name: string) => parameters.get(name) ?? '';
      const holder = property('jail') || NESTED;
      return {
        jail,
        holder: holder === NESTED ? property('name') : holder,
        banlist: property('banlist'),
        bandir: property('bandir'),
        ipv6Prefix: property('ipv6_prefix'),
      };
    });
}

/** The socket of a jail's Python action; undefined if the jail has another action, or does not say. */
export async function jailSocket(client: string, jail: string): Promise<string | undefined> {
  const names = await ask(client, ['get', jail, 'actions'], parseNames);
  const action = names.ok ? names.value.find(isOwnAction) : undefined;
  if (action === undefined) return undefined;
  // fail2ban logs an error for a property that an action lacks, so banctl looks for it first.
  const properties = await ask(client, ['get', jail, 'actionproperties', action], parseNames);
  if (!properties.ok || !properties.value.includes('socket')) return undefined;
  const socket = await ask(client, ['get', jail, 'action', action, 'socket'], (answer) => answer.trim());
  return socket.ok && socket.value.startsWith('/') ? socket.value : undefined;
}

function isOwnAction(name: string): boolean {
  return name.startsWith(ACTION);
}

/**
 * When each client last ran into the time limit, by `monotonicMs()`. An audit has a dozen questions: a server that
 * hangs costs it the limit once, not at each of them.
 */
const hungAtMs = new Map<string, number>();

/** Asks once. An answer that `parse` does not understand may mean anything; `parse` can give the reason. */
async function ask<T>(
  client: string,
  args: readonly string[],
  parse: (answer: string) => T | Unanswered | undefined,
): Promise<Asked<T>> {
  if (monotonicMs() - (hungAtMs.get(client) ?? Number.NEGATIVE_INFINITY) < LIMIT_SECONDS * 1000)
    return hung();
  const outcome = await run(client, args, LIMIT_SECONDS);
  if (outcome.isTimedOut) hungAtMs.set(client, monotonicMs());
  if (outcome.exitCode !== 0) return unanswered(client, args, outcome);
  const value = parse(outcome.stdout);
  if (value === undefined) return notUnderstood(client, outcome.stdout);
  return isUnanswered(value) ? value : { ok: true, value };
}

function isUnanswered(value: unknown): value is Unanswered {
  return typeof value === 'object' && value !== null && 'ok' in value && value.ok === false;
}

function unanswered(
  client: string,
  [verb, jail = '']: readonly string[],
  { isFound, isTimedOut, exitCode, ...said }: ProgramResult,
): Unanswered {
  const none = (state: Unanswered['state'], why: string): Unanswered => ({ ok: false, why, state });
  if (!isFound) return none('absent', `${client} was not found`);
  if (isTimedOut) return hung();
  if (exitCode === undefined) return none('silent', `${client} failed: ${said.stderr}`);
  if (/does not exist/.test(said.stdout)) return none('no-jail', `fail2ban has no jail ${jail}`);
  if (/permission denied/i.test(said.stderr))
    return none('silent', `fail2ban answers only root: ${firstLine(said.stderr)}`);
  if (verb === '-d')
    return none('silent', `fail2ban cannot read its configuration: ${firstLine(said.stderr)}`);
  return none('stopped', 'fail2ban is not running');
}

function hung(): Unanswered {
  return { ok: false, why: `fail2ban has not answered within ${LIMIT_SECONDS} s`, state: 'silent' };
}

function firstLine(text: string): string {
  return text.trim().split('\n', 1)[0] ?? '';
}

function notUnderstood(client: string, answer: string, jail?: string): Unanswered {
  const of = jail === undefined ? '' : ` of jail ${jail}`;
  const why = `cannot understand what ${client} says${of}: ${quote(answer)}`;
  return { ok: false, why, state: 'odd' };
}
