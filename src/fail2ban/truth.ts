import { readAddress } from '../bans/address.ts';
import { parseDuration } from '../bans/duration.ts';
import { cleanId, type Hold, holdId, nameOfHold } from '../bans/hold.ts';
import { findProtected } from '../protection/protection.ts';
import type { BanTimes, HeldBan } from './answers.ts';
import { type Asked, banTimesOf, databasePath, heldBans, ignoredBy, secondsOf } from './client.ts';
import type { BanRows } from './database.ts';
import { type BanSeconds, restoredBans } from './restore.ts';

/*
 * What fail2ban holds, and what it may soon hold. A starting jail restores its bans one by one, which takes many seconds for
 * thousands. Until its turn comes, a ban is only in fail2ban's database. So a repair must not lift any ban that the jail
 * would restore from the database.
 */

/** A running jail. */
export interface JailTruth {
  readonly jail: string;
  readonly held: readonly HeldBan[];
  readonly ignored: readonly string[];
}

/** All jails that ban under one name. */
export interface HolderTruth {
  readonly holder: string;
  readonly jails: readonly JailTruth[];
  /** True also for a ban that a jail may be about to restore, and for every ban if that cannot be known. */
  readonly mayHold: (hold: Asking) => boolean;
  /** False: fail2ban's database cannot be read here, so only a second answer shows that no jail is restoring. */
  readonly isByDatabase: boolean;
}

/** How fail2ban identifies a hold: the address, and the id that the jail counts by. */
export type Asking = Pick<Hold, 'address' | 'id'>;

/** Asks the jails of a holder. Reads fail2ban's database only if their bans differ from `listed`, the holder's known holds. */
export async function truthOf(
  client: string,
  holder: string,
  jails: readonly string[],
  listed: readonly Hold[],
  now: number,
): Promise<Asked<HolderTruth>> {
  const truths: JailTruth[] = [];
  for (const jail of jails) {
    const truth = await askJail(client, jail);
    if (!truth.ok) return truth;
    truths.push(truth.value);
  }
  const counted = new Set(truths.flatMap(({ held }) => held.map(({ id }) => canonical(id))));
  const isSame =
    counted.size === new Set(listed.map(nameOf)).size && listed.every((hold) => counted.has(countedBy(hold)));
  const jailsAsListed = truths.map((truth) => ({ ...truth, held: resolveByList(truth.held, listed) }));
  if (isSame) {
    const mayHold = (hold: Asking) => counted.has(countedBy(hold));
    return { ok: true, value: { holder, jails: jailsAsListed, mayHold, isByDatabase: true } };
  }
  const rows = await rowsOf(client, jails, now);
  if (rows === undefined) {
    const mayHold = withoutRows(jailsAsListed, listed);
    return { ok: true, value: { holder, jails: jailsAsListed, mayHold, isByDatabase: false } };
  }
  return withRows(client, holder, jailsAsListed, rows, listed, now);
}

/** By what the jail counts a hold. */
function countedBy({ address, id }: Asking): string {
  return id === undefined ? address : canonical(id);
}

async function askJail(client: string, jail: string): Promise<Asked<JailTruth>> {
  const held = await heldBans(client, jail);
  if (!held.ok) return held;
  const ignored = await ignoredBy(client, jail);
  return ignored.ok ? { ok: true, value: { jail, held: held.value, ignored: ignored.value } } : ignored;
}

/** An address has many spellings, and a hold shortens a long id. */
function canonical(text: string): string {
  return readAddress(text)?.text ?? cleanId(text);
}

function askingOf({ id, address }: HeldBan): Asking {
  const text = canonical(address);
  return { address: text, id: holdId(id, text) };
}

/** Takes the address of an id from the list; the database may know a newer one. */
function resolveByList(held: readonly HeldBan[], listed: readonly Hold[]): HeldBan[] {
  const addresses = new Map(listed.flatMap(({ id, address }) => (id === undefined ? [] : [[id, address]])));
  if (addresses.size === 0) return [...held];
  return held.map((ban) => ({ ...ban, address: addresses.get(cleanId(ban.id)) ?? ban.address }));
}

/**
 * True for a hold of one of `bans`. A hold without an id, as older versions wrote it, may stand for any ban of its address
 * whose id the list lacks.
 */
export function among(bans: readonly Asking[], listed: readonly Asking[]): (hold: Asking) => boolean {
  const names = new Set(bans.map(nameOf));
  const known = new Set(listed.map(nameOf));
  const unlisted = new Set(bans.filter((ban) => !known.has(nameOf(ban))).map(({ address }) => address));
  return (hold) => names.has(nameOf(hold)) || (hold.id === undefined && unlisted.has(hold.address));
}

function nameOf({ address, id }: Asking): string {
  return nameOfHold({ holder: '', address, id });
}

/** A ban under an id that neither is nor has a known address may concern any address. */
function withoutRows(truths: readonly JailTruth[], listed: readonly Hold[]): HolderTruth['mayHold'] {
  const bans = truths.flatMap(({ held }) => held);
  const isHeld = among(bans.map(askingOf), listed);
  const isUncertain = bans.some(({ address }) => readAddress(address) === undefined);
  return (hold) => isUncertain || isHeld(hold);
}

/** The rows of each jail; undefined if they cannot be read, none without a database. */
async function rowsOf(
  client: string,
  jails: readonly string[],
  now: number,
): Promise<Map<string, BanRows> | undefined> {
  const path = await databasePath(client);
  if (!path.ok) return undefined;
  const rows = new Map<string, BanRows>();
  if (path.value === null) return rows;
  const { bansInDatabase } = await import('./database.ts');
  for (const jail of jails) {
    const read = bansInDatabase(path.value, [jail], now);
    if (!read.ok) return undefined;
    if (read.value !== undefined) rows.set(jail, read.value);
  }
  // fail2ban writes each jail into its database when it starts the jail.
  return rows.size > 0 ? rows : undefined;
}

async function withRows(
  client: string,
  holder: string,
  truths: readonly JailTruth[],
  rows: ReadonlyMap<string, BanRows>,
  listed: readonly Hold[],
  now: number,
): Promise<Asked<HolderTruth>> {
  const resolved = truths.map((truth) => ({ ...truth, held: resolveIds(truth.held, rows.get(truth.jail)) }));
  const listedAddresses = new Set(listed.map(({ address }) => address));
  const coming: Asking[] = [];
  const odd = new Set<string>();
  for (const { jail, held, ignored } of resolved) {
    const known = rows.get(jail);
    if (known === undefined) continue;
    for (const address of known.odd) odd.add(readAddress(address)?.text ?? address);
    const ids = new Set(held.map(({ id }) => id));
    const open = known.rows.filter(
      ({ id, address }) =>
        !ids.has(id) && listedAddresses.has(canonical(address)) && !isIgnored(address, ignored),
    );
    if (open.length === 0) continue;
    const times = await banSecondsOf(client, () => banTimesOf(client, jail));
    if (!times.ok) return times;
    coming.push(...restoredBans(open, times.value, now).map(askingOf));
  }
  const isUncertain = resolved.some(({ held, jail }) =>
    held.some(({ id, address }) => readAddress(address) === undefined && !hasRow(rows.get(jail), id)),
  );
  const isHeld = among([...resolved.flatMap(({ held }) => held.map(askingOf)), ...coming], listed);
  const mayHold = (hold: Asking) => isUncertain || odd.has(hold.address) || isHeld(hold);
  return { ok: true, value: { holder, jails: resolved, mayHold, isByDatabase: true } };
}

function resolveIds(held: readonly HeldBan[], rows: BanRows | undefined): HeldBan[] {
  const addresses = new Map(rows?.rows.map(({ id, address }) => [id, address]));
  return held.map((ban) => ({ ...ban, address: addresses.get(ban.id) ?? ban.address }));
}

/** fail2ban does not restore addresses in `ignoreip`. */
function isIgnored(address: string, ignored: readonly string[]): boolean {
  const read = readAddress(address);
  const ranges = ignored.flatMap((entry) => readAddress(entry) ?? []);
  return read !== undefined && findProtected(read, ranges) !== undefined;
}

function hasRow(rows: BanRows | undefined, id: string): boolean {
  return rows?.rows.some((row) => row.id === id) === true;
}

/** Ban times in seconds; fail2ban's own code reads the forms that banctl does not. */
export async function banSecondsOf(
  client: string,
  find: () => Promise<Asked<BanTimes>>,
): Promise<Asked<BanSeconds>> {
  const times = await find();
  if (!times.ok) return times;
  const { usual, isGrowing, longest } = times.value;
  const usualSeconds = await inSeconds(client, usual);
  if (!usualSeconds.ok) return usualSeconds;
  const longestSeconds =
    longest === undefined ? ({ ok: true, value: null } as const) : await inSeconds(client, longest);
  if (!longestSeconds.ok) return longestSeconds;
  return {
    ok: true,
    value: { usual: usualSeconds.value, isGrowing, longest: longestSeconds.value },
  };
}

/** null: for ever. */
async function inSeconds(client: string, duration: string): Promise<Asked<number | null>> {
  try {
    return { ok: true, value: parseDuration(duration) };
  } catch {
    const seconds = await secondsOf(client, duration);
    return seconds.ok ? { ok: true, value: seconds.value < 0 ? null : seconds.value } : seconds;
  }
}
