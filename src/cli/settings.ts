import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { layoutOf } from '../apache/layout.ts';
import { parseAddress } from '../bans/address.ts';
import { cleanReason, isHolder, parseDuration, parseTime } from '../bans/hold.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { followLinksBelow, followOwnLinks } from '../system/links.ts';
import { printable, quote } from '../system/printable.ts';
import { readInput, reasonOfInput } from '../system/read.ts';
import type { Given } from './arguments.ts';
import { isOptionName, OPTION_NAMES, OPTIONS, type OptionName, optionOf, PLACES } from './options.ts';

/** Where bans of single addresses stand. */
export type Place = (typeof PLACES)[number];

/** What the options say, in the units the program uses. */
export interface Settings {
  /** The list itself, symbolic links followed, but not with `root`. */
  readonly banlist: string;
  /** The ban directory. Undefined: every ban stands in the list. */
  readonly bandir: string | undefined;
  readonly to: Place | undefined;
  /** Undefined if the call is by hand. */
  readonly jail: string | undefined;
  readonly all: boolean;
  /** Seconds since the epoch. */
  readonly since: number | undefined;
  /** Seconds, null for ever. */
  readonly duration: number | null;
  readonly reason: string | null;
  readonly protect: readonly string[];
  readonly force: boolean;
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
  /** The file of ranges. */
  readonly output: string;
  /** Of AWS. */
  readonly service: string;
  readonly apachectl: string | undefined;
  readonly reloadCommand: string | undefined;
  readonly reloads: boolean;
  /** Seconds. */
  readonly reloadInterval: number;
  /** This process is the one that waits for the end of the interval. */
  readonly whenDue: boolean;
  /** Seconds. */
  readonly lockTimeout: number;
  readonly fromDatabase: boolean;
  readonly fail2banDatabase: string;
  readonly fail2banClient: string;
  readonly asksFail2ban: boolean;
  readonly fix: boolean;
  readonly prometheus: string | undefined;
  /** A tree in which all paths are meant; undefined is the host's own. */
  readonly root: string | undefined;
  readonly print: string | undefined;
  readonly remove: boolean;
  /** The configuration file, which need not exist. */
  readonly config: string;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** A configuration file. Bytes. */
const LONGEST_CONFIG = 2 ** 20;
/** What Node makes of bytes that are not UTF-8, and what cannot be told to the system: another file would be meant. */
const LOST = /[\0\ufffd\ud800-\udfff]/u;

const YES = /^(?:1|true|yes|on)$/i;
const NO = /^(?:|0|false|no|off)$/i;

/**
 * The options of the command line, else of the environment, else of the configuration file. An empty value means
 * not given, everywhere.
 *
 * @throws BanctlError usage for a value of the line or the environment, notUnderstood for the file
 */
export function resolveSettings(given: Given, env: NodeJS.ProcessEnv): Settings {
  const { path } = configPath(given, env);
  const byFile = readConfig(given, env);
  const byCall = { ...readEnvironment(env), ...withoutEmpty(given) };
  try {
    return toSettings({ ...byFile, ...byCall }, path);
  } catch (error) {
    if (!(error instanceof BanctlError && error.exitCode === EXIT.usage)) throw error;
    // What the call says is right by itself, or else it is what is wrong.
    toSettings(byCall, path);
    throw new BanctlError(EXIT.notUnderstood, `configuration ${path}: ${error.message}`);
  }
}

function toSettings(options: Given, config: string): Settings {
  const values = (name: OptionName): readonly string[] => {
    const option = options[name];
    return Array.isArray(option) ? option.map((text) => refuseLost(name, text)) : [];
  };
  const value = (name: OptionName) => values(name).at(-1);
  const flag = (name: OptionName) => options[name] === true;
  const duration = value('for');
  const since = value('since');
  const root = readRoot(value('root'));
  const follow = root === undefined ? followOwnLinks : (path: string) => resolve(path);
  return {
    banlist: follow(value('banlist') ?? layoutOf(root).banlist),
    bandir: readBandir(value('bandir'), follow),
    to: readPlace(value('to')),
    jail: readJail(value('jail')),
    all: flag('all'),
    since: since === undefined ? undefined : parseTime(since),
    duration: duration === undefined ? null : parseDuration(duration),
    reason: cleanReason(value('reason') ?? ''),
    protect: values('protect').map(readProtected),
    force: flag('force'),
    prefixes: {
      ipv4: number('ipv4-prefix', value('ipv4-prefix') ?? '32', { least: 1, most: 32, whole: true }),
      ipv6: number('ipv6-prefix', value('ipv6-prefix') ?? '128', { least: 1, most: 128, whole: true }),
    },
    output: resolve(value('output') ?? OPTIONS.output.default),
    service: value('service') ?? OPTIONS.service.default,
    apachectl: value('apachectl'),
    reloadCommand: value('reload-command'),
    reloads: !flag('no-reload'),
    reloadInterval: number('reload-interval', value('reload-interval') ?? OPTIONS['reload-interval'].default),
    whenDue: flag('when-due'),
    lockTimeout: number('lock-timeout', value('lock-timeout') ?? OPTIONS['lock-timeout'].default),
    fromDatabase: flag('from-database'),
    fail2banDatabase: value('fail2ban-db') ?? OPTIONS['fail2ban-db'].default,
    fail2banClient: value('fail2ban-client') ?? OPTIONS['fail2ban-client'].default,
    asksFail2ban: !flag('no-fail2ban'),
    fix: flag('fix'),
    prometheus: value('prometheus'),
    root,
    print: value('print'),
    remove: flag('remove'),
    config,
    dryRun: flag('dry-run'),
    json: flag('json'),
  };
}

/** A reason may be spoilt, but no other file, program or jail may be taken than the one that was named. */
function refuseLost(name: OptionName, text: string): string {
  if (name !== 'reason' && LOST.test(text))
    throw new BanctlError(
      EXIT.usage,
      `not a value for --${name}: ${quote(text)}; it must be UTF-8 without NUL`,
    );
  return text;
}

function readProtected(entry: string): string {
  if (!entry.startsWith('@')) parseAddress(entry);
  return entry;
}

function number(
  name: OptionName,
  text: string,
  { least = 0, most = 86_400, whole = false }: { least?: number; most?: number; whole?: boolean } = {},
): number {
  const isNumber = (whole ? /^\d+$/ : /^\d+(?:\.\d+)?$/).test(text);
  if (!isNumber || Number(text) < least || Number(text) > most) {
    throw new BanctlError(
      EXIT.usage,
      `not a value for --${name}: ${quote(text)}; give a ${whole ? 'whole ' : ''}number from ${least} to ${most}`,
    );
  }
  return Number(text);
}

/** The path stands within quotes in an expression of Apache's, which has no way to escape them. */
function readBandir(path: string | undefined, follow: (path: string) => string): string | undefined {
  if (path === undefined) return undefined;
  const place = resolve(path);
  if (!/^[^\s"'%\\$`]+$/.test(place) || printable(place) !== place) {
    throw new BanctlError(
      EXIT.usage,
      `not a path for --bandir: ${quote(place)}; Apache cannot look it up with blanks, quotes, %, $, or a backslash in it`,
    );
  }
  return follow(place);
}

/** The root of the host itself is none. */
function readRoot(path: string | undefined): string | undefined {
  const root = path === undefined ? '/' : resolve(path);
  return root === '/' ? undefined : root;
}

function readPlace(place: string | undefined): Place | undefined {
  const known = PLACES.find((one) => one === place);
  if (place !== undefined && known === undefined)
    throw new BanctlError(EXIT.usage, `no such place: ${quote(place)}; give ${PLACES.join(' or ')}`);
  return known;
}

function readJail(name: string | undefined): string | undefined {
  if (name !== undefined && !isHolder(name)) {
    throw new BanctlError(
      EXIT.usage,
      `not a name for a jail: ${quote(name)}; it must be one word without | and %`,
    );
  }
  return name;
}

function withoutEmpty(given: Given): Given {
  const entries = Object.entries(given).map(([name, value]) =>
    Array.isArray(value) ? [name, value.filter((text) => text !== '')] : [name, value],
  );
  return Object.fromEntries(entries.filter(([, value]) => !Array.isArray(value) || value.length > 0));
}

/** `BANCTL_BANLIST` for `--banlist`; commas separate the values of a repeatable option. */
function readEnvironment(env: NodeJS.ProcessEnv): Given {
  const given: Partial<Record<OptionName, boolean | readonly string[]>> = {};
  for (const name of OPTION_NAMES) {
    const variable = `BANCTL_${name.toUpperCase().replaceAll('-', '_')}`;
    const text = env[variable];
    if (text === undefined || text === '') continue;
    const { kind } = optionOf(name);
    if (kind === 'values') given[name] = text.split(',').map((part) => part.trim());
    else if (kind === 'value') given[name] = [text];
    else if (YES.test(text) || NO.test(text)) given[name] = YES.test(text);
    else throw new BanctlError(EXIT.usage, `not a value for ${variable}: ${quote(text)}; give 1 or 0`);
  }
  return withoutEmpty(given);
}

function configPath(given: Given, env: NodeJS.ProcessEnv): { path: string; isNamed: boolean } {
  const [named] = Array.isArray(given.config) ? given.config.slice(-1) : [];
  const path = named || env.BANCTL_CONFIG;
  if (path) return { path: resolve(path), isNamed: true };
  const root = readRoot((Array.isArray(given.root) && given.root.at(-1)) || env.BANCTL_ROOT || undefined);
  const { default: usual } = OPTIONS.config;
  return { path: root === undefined ? usual : followLinksBelow(root, usual), isNamed: false };
}

function readConfig(given: Given, env: NodeJS.ProcessEnv): Given {
  const { path, isNamed } = configPath(given, env);
  try {
    // Most hosts have none, and an exception costs more than the question.
    if (!isNamed && statSync(path, { throwIfNoEntry: false }) === undefined) return {};
    return withoutEmpty(parseConfig(readInput(path, LONGEST_CONFIG), path));
  } catch (error) {
    if (error instanceof BanctlError) throw error;
    throw new BanctlError(
      EXIT.notUnderstood,
      `cannot read the configuration ${path}: ${reasonOfInput(error)}`,
    );
  }
}

/** `{"banlist": "/…", "no-reload": true, "protect": ["…"]}`: names and values as on the command line. */
function parseConfig(text: string, path: string): Given {
  const wrong = (what: string) => new BanctlError(EXIT.notUnderstood, `configuration ${path}: ${what}`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw wrong('not JSON; correct it, or move it away');
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw wrong('not a JSON object');
  const given: Partial<Record<OptionName, boolean | readonly string[]>> = {};
  for (const [name, value] of Object.entries(document)) {
    if (!isOptionName(name)) throw wrong(`no such option: ${quote(name)}`);
    const { kind } = optionOf(name);
    if (kind === 'flag') {
      if (typeof value !== 'boolean') throw wrong(`${name} must be true or false`);
      given[name] = value;
    } else {
      const values: unknown[] = kind === 'values' && Array.isArray(value) ? value : [value];
      if (!values.every((one) => typeof one === 'string' || typeof one === 'number')) {
        throw wrong(`${name} must be ${kind === 'values' ? 'a list of texts' : 'a text or a number'}`);
      }
      given[name] = values.map(String);
    }
  }
  return given;
}
