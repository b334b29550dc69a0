import { resolve } from 'node:path';
import { readAddress } from '../bans/address.ts';
import { parseDuration } from '../bans/duration.ts';
import { isJailName, now, parseTime } from '../bans/hold.ts';
import { isHostName } from '../bans/host-name.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { followLinksBelow, followOwnLinks } from '../system/links.ts';
import { printable, quote } from '../system/printable.ts';

/*
 * How the table of options reads texts from the command line, the environment and the configuration file. Each function
 * throws BanctlError usage for a wrong text.
 */

/** What else the meaning of a value may depend on. */
export interface ValueContext {
  /** The option, for messages. */
  readonly name: string;
  /** The root of the tree for paths; undefined is the host's own. */
  readonly root: string | undefined;
}

export const CONFIG_FILE = '/etc/banctl.json';

/** The target of one of banctl's own paths; follows links in the host's own tree only. */
export function followIn({ root }: ValueContext): (path: string) => string {
  return root === undefined ? followOwnLinks : (path) => resolve(path);
}

/** The default path of the configuration, inside another system's tree if one is given. */
export function configFileIn({ root }: ValueContext): string {
  return root === undefined ? CONFIG_FILE : followLinksBelow(root, CONFIG_FILE);
}

/** The place of a path in the tree; it may be given with the tree's root or without. */
export function placeIn({ root }: ValueContext, path: string): string {
  const place = resolve(path);
  if (root === undefined) return place;
  return followLinksBelow(root, place.startsWith(`${root}/`) ? place.slice(root.length) : place);
}

/** An entry of `--protect`: an address, a range, a host name, or `@FILE`, which are looked up later. */
export function parseProtected(entry: string): string {
  if (entry.startsWith('@') || readAddress(entry) !== undefined || isHostName(entry)) return entry;
  const hint = 'give one address or CIDR range, a host name, or @FILE';
  throw new BanctlError(EXIT.usage, `not an address: ${quote(entry)}`, hint);
}

export function parseNumber(
  name: string,
  text: string,
  { least = 0, most = 86_400, whole = false }: { least?: number; most?: number; whole?: boolean } = {},
): number {
  const isNumber = (whole ? /^\d+$/ : /^\d+(?:\.\d+)?$/).test(text);
  if (!isNumber || Number(text) < least || Number(text) > most) {
    throw new BanctlError(
      EXIT.usage,
      `not a value for --${name}: ${quote(text)}`,
      `give a ${whole ? 'whole ' : ''}number from ${least} to ${most}`,
    );
  }
  return Number(text);
}

/** The Redis or Valkey that the servers share. Passwords are read from a file: a command line can be seen by others. */
export function parseFleet(text: string): string {
  const wrong = (hint: string) =>
    new BanctlError(EXIT.usage, `not a value for --fleet: ${quote(text)}`, hint);
  const examples = 'give redis://HOST:6379, rediss://HOST:6379, or unix:/PATH';
  if (!URL.canParse(text)) throw wrong(examples);
  const { protocol, hostname, username, password, pathname, search } = new URL(text);
  const isSocket = protocol === 'unix:';
  if (!isSocket && ((protocol !== 'redis:' && protocol !== 'rediss:') || hostname === ''))
    throw wrong(examples);
  if (username !== '' || password !== '')
    throw wrong('give the user as --fleet-user, and the password in --fleet-password-file');
  if (
    isSocket
      ? !pathname.startsWith('/') || pathname === '/'
      : !['', '/', '/0'].includes(pathname) || search !== ''
  )
    throw wrong(isSocket ? examples : 'the fleet keeps its keys in database 0');
  return text;
}

/** A name of hosts and fleets: it stands in holders and in keys. */
export function parseFleetName(text: string, { name }: ValueContext): string {
  if (!/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/.test(text))
    throw new BanctlError(
      EXIT.usage,
      `not a value for --${name}: ${quote(text)}`,
      'give up to 64 letters, digits, dots, dashes and underscores',
    );
  return text;
}

/** The path is quoted in an expression of Apache, which has no escape for these characters. */
export function parseBandir(path: string, context: ValueContext): string {
  const place = resolve(path);
  if (!/^[^\s"'%\\$`]+$/.test(place) || printable(place) !== place) {
    throw new BanctlError(
      EXIT.usage,
      `not a path for --bandir: ${quote(place)}`,
      'Apache cannot look it up with blanks, quotes, %, $, or a backslash in it',
    );
  }
  return followIn(context)(place);
}

/** `/` is the host's own tree, the same as no root. */
export function parseRoot(path: string): string | undefined {
  const root = resolve(path);
  return root === '/' ? undefined : root;
}

export function parseOneOf<T extends string>(what: string, known: readonly T[], text: string): T {
  const found = known.find((one) => one === text);
  if (found === undefined)
    throw new BanctlError(EXIT.usage, `no such ${what}: ${quote(text)}`, `give ${known.join(' or ')}`);
  return found;
}

export function parseJail(name: string): string {
  if (!isJailName(name))
    throw new BanctlError(
      EXIT.usage,
      `not a name for a jail: ${quote(name)}`,
      'it must have no control characters',
    );
  return name;
}

/** A time, or a time span before now. */
export type Since = number | { readonly text: string; readonly secondsAgo: number };

/** A plain number is a time in seconds since the epoch, so a time span needs a unit. */
export function parseSince(text: string): Since {
  if (!/^\d+(?:\.\d+)?\s*[a-z]/i.test(text)) return parseTime(text);
  const secondsAgo = parseDuration(text);
  return secondsAgo === null || secondsAgo > now() ? parseTime(text) : { text, secondsAgo };
}
