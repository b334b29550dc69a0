import { statSync } from 'node:fs';
import { BanctlError, EXIT } from '../system/errors.ts';
import { quote } from '../system/printable.ts';
import { cannotReadInput, readInput } from '../system/read.ts';
import type { Given } from './arguments.ts';
import { isOptionName, OPTION_NAMES, OPTIONS, type OptionName, optionOf } from './options.ts';
import { configFileIn, placeIn } from './values.ts';

/** `fail2banClient` for `fail2ban-client`. */
type CamelCase<Name extends string> = Name extends `${infer First}-${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
  : Name;

type Entry<Name extends OptionName> = (typeof OPTIONS)[Name];

type SettingName<Name extends OptionName> =
  Entry<Name> extends { setting: infer Setting extends string } ? Setting : CamelCase<Name>;

type SettingValue<Entry> = Entry extends {
  kind: infer Kind;
  parse: (...input: never[]) => infer Value;
}
  ? Kind extends 'values'
    ? readonly Value[]
    : Entry extends { default: unknown }
      ? Value
      : Value | undefined
  : boolean;

type OfTable = { readonly [Name in OptionName as SettingName<Name>]: SettingValue<Entry<Name>> };

/** The options in the units that the program uses: one setting for each entry of the table. */
export interface Settings extends OfTable {
  /** Both prefix options. */
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
}

/** Limit of a configuration file. Bytes. */
const LONGEST_CONFIG = 2 ** 20;
/** Node's replacement for bytes that are not UTF-8. No system call can carry it back: another file would be used. */
const LOST = /[\0\ufffd\ud800-\udfff]/u;

/** Of the environment's variables that banctl reads. */
const PREFIX = 'BANCTL_';

const YES = /^(?:1|true|yes|on)$/i;
const NO = /^(?:|0|false|no|off)$/i;

/**
 * The options from the command line, else from the environment, else from the configuration file. An empty value means
 * "not given" in all three.
 *
 * @throws BanctlError usage for a value of the line or the environment, notUnderstood for the file
 */
export function resolveSettings(given: Given, env: NodeJS.ProcessEnv): Settings {
  const place = configPath(given, env);
  const { path } = place;
  const byFile = readConfig(place);
  const byCall = { ...readEnvironment(env), ...withoutEmpty(given) };
  try {
    return toSettings({ ...byFile, ...byCall }, path);
  } catch (error) {
    if (!(error instanceof BanctlError && error.exitCode === EXIT.usage)) throw error;
    // If the command line is right by itself, the error is in the environment or the file.
    toSettings(byCall, path);
    throw new BanctlError(EXIT.notUnderstood, `configuration ${path}: ${error.message}`, error.hint);
  }
}

function toSettings(options: Given, config: string): Settings {
  const root = rootOf(options);
  const entries = OPTION_NAMES.map((name) => [settingName(name), readOption(name, options[name], root)]);
  const read = Object.fromEntries(entries) as OfTable;
  return { ...read, config, prefixes: { ipv4: read.ipv4Prefix, ipv6: read.ipv6Prefix } };
}

/** The same settings, overridden by these options of a line. @throws BanctlError usage */
export function withGiven(settings: Settings, given: Given): Settings {
  const entries = Object.keys(withoutEmpty(given))
    .filter(isOptionName)
    .map((name) => [settingName(name), readOption(name, given[name], undefined)]);
  return { ...settings, ...Object.fromEntries(entries) };
}

function settingName(name: OptionName): string {
  const { setting } = optionOf(name);
  if (setting !== undefined || !name.includes('-')) return setting ?? name;
  return name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function readOption(name: OptionName, given: Given[OptionName], root: string | undefined): unknown {
  const option = optionOf(name);
  if (option.kind === 'flag') return (given === true) !== (option.isNegated === true);
  const context = { name, root };
  const values = Array.isArray(given) ? given.map((text) => refuseLost(name, text)) : [];
  if (option.kind === 'values') return values.map((text) => option.parse(text, context));
  const text = values.at(-1);
  if (text !== undefined) return option.parse(text, context);
  return typeof option.default === 'function' ? option.default(context) : option.default;
}

/** First, because other options depend on it. */
function rootOf({ root }: Given): string | undefined {
  const text = Array.isArray(root) ? root.at(-1) : undefined;
  return text === undefined || text === '' ? undefined : OPTIONS.root.parse(text);
}

/** A reason and an id may lose a character; a path, a program or a jail that loses one is a different one. */
function refuseLost(name: OptionName, text: string): string {
  if (name !== 'reason' && name !== 'id' && LOST.test(text))
    throw new BanctlError(
      EXIT.usage,
      `not a value for --${name}: ${quote(text)}`,
      'it must be UTF-8 without NUL',
    );
  return text;
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
  for (const variable of Object.keys(env)) {
    const name = optionIn(variable);
    const text = name === undefined ? undefined : env[variable];
    if (name === undefined || text === undefined || text === '') continue;
    const { kind } = optionOf(name);
    if (kind === 'values') given[name] = text.split(',').map((part) => part.trim());
    else if (kind === 'value') given[name] = [text];
    else if (YES.test(text) || NO.test(text)) given[name] = YES.test(text);
    else throw new BanctlError(EXIT.usage, `not a value for ${variable}: ${quote(text)}`, 'give 1 or 0');
  }
  return withoutEmpty(given);
}

function optionIn(variable: string): OptionName | undefined {
  if (!variable.startsWith(PREFIX)) return undefined;
  const name = variable.slice(PREFIX.length).toLowerCase().replaceAll('_', '-');
  const isOurs = isOptionName(name) && variable === `${PREFIX}${name.toUpperCase().replaceAll('-', '_')}`;
  return isOurs ? name : undefined;
}

interface ConfigPlace {
  readonly path: string;
  readonly isNamed: boolean;
}

function configPath(given: Given, env: NodeJS.ProcessEnv): ConfigPlace {
  const [named] = Array.isArray(given.config) ? given.config.slice(-1) : [];
  const path = named || env.BANCTL_CONFIG;
  const context = { name: 'config', root: rootOf({ root: [env.BANCTL_ROOT ?? ''], ...withoutEmpty(given) }) };
  return path
    ? { path: placeIn(context, path), isNamed: true }
    : { path: configFileIn(context), isNamed: false };
}

function readConfig({ path, isNamed }: ConfigPlace): Given {
  try {
    // Most hosts have no file, and an exception costs more than this check.
    if (!isNamed && statSync(path, { throwIfNoEntry: false }) === undefined) return {};
    return withoutEmpty(parseConfig(readInput(path, LONGEST_CONFIG), path));
  } catch (error) {
    if (error instanceof BanctlError) throw error;
    throw cannotReadInput(`the configuration ${path}`, error, EXIT.notUnderstood);
  }
}

/** `{"banlist": "/…", "no-reload": true, "protect": ["…"]}`: names and values as on the command line. */
function parseConfig(text: string, path: string): Given {
  const wrong = (what: string, hint?: string) =>
    new BanctlError(EXIT.notUnderstood, `configuration ${path}: ${what}`, hint);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw wrong('not JSON', 'correct it, or move it away');
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
