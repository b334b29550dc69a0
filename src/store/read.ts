import { type DenyLine, denyLines, heldBy } from '../banlist/ban-lines.ts';
import { findBans } from '../banlist/find.ts';
import { type Overruling, overruling } from '../banlist/overruling.ts';
import { type Address, covers, isSingle, parseAddress } from '../bans/address.ts';
import type { Hold } from '../bans/hold.ts';
import { currentError, isAssumed, isPending, readState } from '../reload/state.ts';
import { type FileContent, readText, statFile } from '../system/read.ts';
import { addressesIn, banFile, bansInDirectory, bansInFile, isInDirectory } from './ban-files.ts';
import type { PlaceOptions } from './types.ts';

/** A ban as list and explain show it. */
export interface ReportedBan {
  readonly address: string;
  readonly holds: readonly Hold[];
  /** The number of held addresses that led to the ban of their network; undefined for any other ban. */
  readonly widenedAfter?: number | undefined;
  readonly where: 'banlist' | 'bandir';
  /** The file that contains it, and its line in the list. */
  readonly file: string;
  readonly line?: number;
}

/** The bans, and whether Apache has loaded them. */
export interface Report {
  readonly bans: readonly ReportedBan[];
  /** Apache is not known to have loaded the list. Bans in the directory take effect at once. */
  readonly isPending: boolean;
  /** banctl cannot see some Apache, and assumes that it has loaded the list. */
  readonly isAssumed: boolean;
  /** Milliseconds since the epoch. */
  readonly lastReload: number | null;
  /** Why the last reload failed; null if no reload is pending, whatever its result. */
  readonly reloadError: string | null;
  /** For a ban of one address: what in the list makes Apache admit it all the same. */
  readonly overruling?: Overruling | undefined;
}

/** If the list changes again and again, its last reading counts. */
const MOST_READINGS = 5;

/**
 * Reads both places without a lock, and again if the list has changed since: a ban that `migrate` is moving must be seen
 * in one of them.
 */
export function readPlaces<T>({ banlist, bandir }: PlaceOptions, read: (list: FileContent) => T): T {
  for (let readings = 1; ; readings += 1) {
    const list = readText(banlist);
    const result = read(list);
    if (bandir === undefined || readings === MOST_READINGS || statFile(banlist)?.version === list.version)
      return result;
  }
}

/** Reads everything without a lock: a reader sees one complete version of a replaced file. */
export function readReport(places: PlaceOptions, address?: Address): Report {
  return readPlaces(places, (list) => reportOf(places, list, address));
}

function reportOf({ banlist, bandir }: PlaceOptions, list: FileContent, address?: Address): Report {
  const state = readState(banlist, list);
  const selects = (banned: Address) => address === undefined || covers(banned, address);
  const inList = denyLines(list.text).flatMap((line) => reportLine(line, banlist, selects));
  const inDirectory = bandir === undefined ? [] : reportDirectory(bandir, address);
  const pending = isPending(state);
  const reloadError = pending ? currentError(state) : null;
  const bans = [...inList, ...inDirectory];
  return {
    bans,
    isPending: pending,
    isAssumed: !pending && isAssumed(state),
    lastReload: state.lastReload,
    reloadError,
    overruling: address === undefined || bans.length === 0 ? undefined : overruling(list.text),
  };
}

/** The holds of each address, in one pass; undefined for an address that is not banned. */
export function findHolds(places: PlaceOptions, addresses: readonly Address[]): (Hold[] | undefined)[] {
  return readPlaces(places, (list) => holdsIn(places, list, addresses));
}

function holdsIn(
  { bandir }: PlaceOptions,
  list: FileContent,
  addresses: readonly Address[],
): (Hold[] | undefined)[] {
  const wanted = new Set(addresses.map(({ text }) => text));
  const found = new Map<string, Hold[]>();
  const add = (name: string, holds: readonly Hold[]) => {
    if (!wanted.has(name)) return;
    const known = found.get(name);
    if (known === undefined) found.set(name, [...holds]);
    else for (const hold of holds) known.push(hold);
  };
  for (const line of denyLines(list.text)) {
    const banned = new Map(line.arguments.map((argument) => [argument.address?.text ?? '', argument]));
    for (const [name, argument] of banned) add(name, heldBy(line, argument));
    for (const hold of line.holds) if (!banned.has(hold.address)) add(hold.address, [hold]);
  }
  return addresses.map((address) => {
    const inList = found.get(address.text);
    const inDirectory = bandir === undefined ? [] : reportDirectory(bandir, address);
    if (inList === undefined && inDirectory.length === 0) return undefined;
    return [...(inList ?? []), ...inDirectory.flatMap((ban) => ban.holds)];
  });
}

/** The holds that were asked for as one of these. For a few, this only searches the list, where {@link findHolds} parses it. */
export function findAsked(places: PlaceOptions, addresses: readonly Address[]): Hold[] {
  return readPlaces(places, ({ text: list }) => {
    const finder = findBans(list, addresses.length);
    return addresses.flatMap((address) => {
      const inDirectory = places.bandir === undefined ? [] : reportDirectory(places.bandir, address);
      const holds = [...finder.naming(address.text), ...inDirectory].flatMap((ban) => ban.holds);
      return holds.filter((hold) => hold.address === address.text);
    });
  });
}

/** All bans, for a flush. */
export function bannedAnywhere(places: PlaceOptions): Address[] {
  return readPlaces(places, (list) => {
    const inList = denyLines(list.text).flatMap((line) =>
      line.arguments.flatMap(({ address }) => address?.text ?? []),
    );
    const inDirectory = places.bandir === undefined ? [] : addressesIn(places.bandir);
    return [...new Set([...inList, ...inDirectory])].map(parseAddress);
  });
}

function reportLine(line: DenyLine, file: string, selects: (address: Address) => boolean): ReportedBan[] {
  return line.arguments.flatMap((argument) => {
    const { address } = argument;
    return address !== undefined && selects(address)
      ? [
          {
            address: address.text,
            holds: heldBy(line, argument),
            widenedAfter: line.widenedAfter,
            where: 'banlist' as const,
            file,
            line: line.number,
          },
        ]
      : [];
  });
}

/** The directory's bans: all, or the ban of one address, which needs one file only. */
function reportDirectory(bandir: string, address: Address | undefined): ReportedBan[] {
  const bans =
    address === undefined
      ? bansInDirectory(bandir)
      : isSingle(address) && isInDirectory(bandir, address.text)
        ? bansInFile(bandir, address.text)
        : [];
  return bans.map(({ address, holds }) => ({
    address,
    holds,
    where: 'bandir' as const,
    file: banFile(bandir, address),
  }));
}
