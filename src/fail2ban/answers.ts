import { isTime, untilOf } from '../bans/hold.ts';
import { type PythonValue, parsePython } from './python.ts';

/* The output of fail2ban's client as values: pure. Undefined means that the output is not a known answer. */

/** A ban as fail2ban holds it. */
export interface HeldBan {
  /** What the jail counts by: the address, or the text that the filter matched as `<F-ID>`. */
  readonly id: string;
  /** The action's `<ip>`. It need not be an address: fail2ban accepts any text. */
  readonly address: string;
  /** Seconds since the epoch. */
  readonly since: number;
  /** null: for ever. */
  readonly until: number | null;
}

/** What decides how long a jail holds the bans that it restores at its start. */
export interface BanTimes {
  /** In seconds, or as fail2ban's configuration writes durations; -1 is for ever. */
  readonly usual: string;
  /** bantime.increment: bans grow, so the longest possible time counts, not the usual one. */
  readonly isGrowing: boolean;
  /** bantime.maxtime; undefined: none. */
  readonly longest: string | undefined;
}

/** A jail in the configuration files (`fail2ban-client -d`). */
export interface ConfiguredJail {
  readonly name: string;
  readonly banTimes: BanTimes;
  readonly ignored: readonly string[];
  /** Each with its parameters, by name. */
  readonly actions: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** What the configuration files say. */
export interface Configuration {
  readonly jails: readonly ConfiguredJail[];
  /** The path of the database; null: none on the disk. Undefined: the files do not name it. */
  readonly database: string | null | undefined;
}

/** `status`: names are joined by `, `, which a name can contain; then the number of jails differs from that of parts. */
export function parseStatus(answer: string): string[] | undefined {
  const [, count] = /Number of jail:\s*(\d+)/.exec(answer) ?? [];
  const [, list] = /Jail list:\t?(.*)$/s.exec(answer) ?? [];
  if (count === undefined || list === undefined) return undefined;
  const names = list.replace(/\n+$/, '').split(', ');
  if (Number(count) === 0) return [];
  return names.length === Number(count) ? names : undefined;
}

/** `banned`: `[{'jail': ['203.0.113.9']}, …]`; its names cannot be mistaken. */
export function parseBanned(answer: string): string[] | undefined {
  const jails = parsePython(answer);
  if (!Array.isArray(jails)) return undefined;
  const names = jails.flatMap((jail) => (jail instanceof Map ? [...jail.keys()] : []));
  return names.length === jails.length ? names : undefined;
}

/** `banned ADDRESS..`: for each address the jails that hold it. */
export function parseHolders(answer: string, count: number): string[][] | undefined {
  const lists = parsePython(answer);
  if (!Array.isArray(lists) || lists.length !== count) return undefined;
  return lists.map((names) => (Array.isArray(names) ? names.filter((name) => typeof name === 'string') : []));
}

/** One line of `get JAIL banip --with-time`: `203.0.113.9 \t2026-11-22 16:53:40 + 600 = …`, in local time; -1 is for ever. */
export function parseHeldBan(line: string): HeldBan | undefined {
  const [, id, since, duration] = /^(.*?) ?\t(\S+ \S+) \+ (-?\d+) = /s.exec(line) ?? [];
  if (id === undefined || since === undefined) return undefined;
  const seconds = Math.floor(new Date(since.replace(' ', 'T')).getTime() / 1000);
  if (!isTime(seconds)) return undefined;
  const lasts = Number(duration);
  return { id, address: id, since: seconds, until: untilOf(seconds, lasts < 0 ? null : lasts) };
}

/** `get JAIL ignoreip`: addresses, ranges and names of hosts. */
export function parseIgnored(answer: string): string[] | undefined {
  if (!/ ignored/.test(answer)) return undefined;
  return [...answer.matchAll(/^[|`]- (.+)$/gm)].map((match) => match[1] ?? '');
}

/** `get JAIL actions` and `get JAIL actionproperties ACTION`: the second line has the names. */
export function parseNames(answer: string): string[] {
  const [, names = ''] = /\n(.*)/s.exec(answer) ?? [];
  return names.split(', ').map((name) => name.trim());
}

/** `get dbfile`; null: fail2ban runs without a database. */
export function parseDatabasePath(answer: string): string | null | undefined {
  if (/database currently disabled/i.test(answer)) return null;
  return /^`- (.+)$/m.exec(answer)?.[1];
}

/** `-d`: what the configuration files make fail2ban do, a list in each line. */
export function parseConfiguration(answer: string): Configuration {
  let database: Configuration['database'];
  const lists = answer.split('\n').filter((line) => /^\['(?:add|set|multi-set)', /.test(line));
  const jails = new Map<string, PythonValue[][]>();
  for (const line of lists) {
    const command = parsePython(line);
    if (!Array.isArray(command)) continue;
    const [verb, name, ...rest] = command;
    if (typeof name !== 'string') continue;
    if (verb === 'add') jails.set(name, []);
    else if (verb === 'set' && name === 'dbfile' && !jails.has(name)) database = toDatabase(rest[0]);
    else jails.get(name)?.push(rest);
  }
  return { jails: [...jails].map(([name, commands]) => toJail(name, commands)), database };
}

function toDatabase(value: PythonValue | undefined): string | null | undefined {
  if (typeof value !== 'string') return undefined;
  return /^(?:none|:memory:)$/i.test(value) ? null : value;
}

function toJail(name: string, commands: readonly (readonly PythonValue[])[]): ConfiguredJail {
  const last = (option: string) => commands.findLast(([key]) => key === option)?.[1];
  const longest = last('bantime.maxtime');
  const actions = new Map<string, Map<string, string>>();
  for (const [key, action, parameters] of commands) {
    if (typeof action !== 'string') continue;
    if (key === 'addaction') actions.set(action, actions.get(action) ?? new Map());
    if (key === 'action') actions.set(action, toParameters(parameters));
  }
  return {
    name,
    banTimes: {
      usual: String(last('bantime') ?? '600'),
      isGrowing: isYes(last('bantime.increment')),
      longest: longest === undefined || longest === null ? undefined : String(longest),
    },
    ignored: commands
      .filter(([key]) => key === 'addignoreip')
      .flatMap(([, ...entries]) => entries.filter((entry) => typeof entry === 'string')),
    actions,
  };
}

function toParameters(pairs: PythonValue | undefined): Map<string, string> {
  const entries = Array.isArray(pairs) ? pairs : [];
  return new Map(
    entries.flatMap((pair): [string, string][] =>
      Array.isArray(pair) && typeof pair[0] === 'string' ? [[pair[0], String(pair[1] ?? '')]] : [],
    ),
  );
}

function isYes(value: PythonValue | undefined): boolean {
  return value === true || /^(?:1|on|true|yes)$/i.test(String(value ?? ''));
}

/** The answers of a running jail to `get JAIL bantime.increment` and `bantime.maxtime`. */
export function toBanTimes(usual: string, increment: string, longest: string): BanTimes {
  const known = longest.trim();
  return {
    usual: usual.trim(),
    isGrowing: isYes(increment.trim()),
    longest: known === '' || known === 'None' ? undefined : known,
  };
}
