import type { Ban } from '../banlist/ban-lines.ts';
import { tidyOver } from '../banlist/change.ts';
import { readAddress } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { type Hold, holderOf, now } from '../bans/hold.ts';
import type { ChangesFor } from '../store/types.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import type { ConfiguredJail } from './answers.ts';
import { configuration, configuredActions, isPrivate, jailNames, type Unanswered } from './client.ts';
import { type BanRows, bansInDatabase, DATABASE_FILE } from './database.ts';
import { actionsOf, isSameList, truthsOf } from './holders.ts';
import {
  type Addition,
  type AskAgain,
  type Difference,
  type RepairOptions,
  readBans,
  wantedOf,
} from './repair.ts';
import { restoredBans } from './restore.ts';
import { type Asking, among, banSecondsOf } from './truth.ts';
import { type RefusedBan, selectWanted, type WantedBan } from './wanted.ts';

export interface SyncOptions extends RepairOptions {
  readonly fail2banClient: string;
  /** Undefined: where fail2ban's configuration has it. */
  readonly fail2banDatabase: string | undefined;
}

/** The changes that make a jail's holds equal to fail2ban's bans. */
export interface SyncPlan {
  readonly difference: Difference;
  readonly others: ChangesFor;
  /** The bans of fail2ban that banctl does not make. */
  readonly refused: readonly RefusedBan[];
  readonly askAgain: AskAgain;
}

/** By the running fail2ban. A text says why there are no changes. */
export async function planByServer(options: SyncOptions, jail: string): Promise<SyncPlan | string> {
  const { fail2banClient: client } = options;
  const holder = holderOf(jail);
  const seen = await holdsOf(options, holder);
  const names = await jailNames(client);
  if (!names.ok) return unchanged(names);
  const actions = await actionsOf(client, names.value);
  const sharing = actions.filter((action) => action.holder === jail && isSameList(action, options));
  const own = names.value.filter((name) => name === jail);
  const jails = [...new Set([...own, ...sharing.map((action) => action.jail)])];
  if (jails.length === 0) return `fail2ban has no jail ${jail}; nothing was changed`;
  const truths = await truthsOf(client, [{ holder, jails }], seen, now());
  if (!truths.ok) return unchanged(truths);
  const [truth] = truths.value;
  if (truth === undefined) throw new Error('no answer for the holder');
  const wanted = wantedOf(truth, options);
  const refused = truth.jails.flatMap(({ held, ignored }) => selectWanted(held, ignored, options).refused);
  const isUnwanted = unwantedBy(wanted, refused);
  const difference = {
    added: additions(holder, wanted),
    released: seen.filter((hold) => !truth.mayHold(hold) || isUnwanted(hold.address)),
  };
  return {
    difference,
    others: tidy,
    refused,
    askAgain: async () => {
      const again = await truthsOf(client, [{ holder, jails }], seen, now());
      return again.ok ? again.value : [];
    },
  };
}

function additions(holder: string, wanted: readonly WantedBan[]): Addition[] {
  return wanted.map((ban) => ({ holder, ban }));
}

/** True for a ban of a jail that banctl must not make, such as one that the jail now ignores, unless another jail wants it. */
function unwantedBy(
  wanted: readonly WantedBan[],
  refused: readonly RefusedBan[],
): (address: string) => boolean {
  const kept = new Set(wanted.map(({ address }) => address.text));
  const unwanted = new Set(refused.map(({ address }) => readAddress(address)?.text ?? address));
  return (address) => unwanted.has(address) && !kept.has(address);
}

/**
 * By fail2ban's database, which has what a jail restores at its start: the server does not answer while an action runs. The
 * configuration files say how long the jail bans now, what it ignores, and which other jails ban under this name.
 */
export async function planByDatabase(options: SyncOptions, jail: string): Promise<SyncPlan | string> {
  const { fail2banClient: client, fail2banDatabase: given } = options;
  const holder = holderOf(jail);
  const seen = await holdsOf(options, holder);
  // The system's database says nothing about the jails of another fail2ban, whatever they are called.
  const isElsewhere = given === undefined && isPrivate(client);
  const known = isElsewhere ? undefined : readRows(given ?? DATABASE_FILE, [jail]);
  const isIdle = seen.length === 0 && known?.rows.length === 0 && known.odd.length === 0;
  const configured = isIdle ? undefined : await configuration(client);
  if (isElsewhere && configured?.ok === false) return unchanged(configured);
  const jails = configured?.ok ? configured.value.jails.filter((one) => bansAs(one, jail, options)) : [];
  const named = configured?.ok ? configured.value.database : undefined;
  const path = given ?? (named === undefined ? DATABASE_FILE : named);
  if (path === null) return 'fail2ban runs without a database; nothing was changed';
  const names = new Set([jail, ...jails.map(({ name }) => name)]);
  if (readRows(path, [...names]) === undefined)
    return `fail2ban's database (${path}) has no jail ${jail}; nothing was changed`;
  const kept: Asking[] = [];
  const odd = new Set<string>();
  const wanted: WantedBan[] = [];
  const refused: RefusedBan[] = [];
  for (const name of names) {
    const rows = readRows(path, [name]);
    if (rows === undefined) continue;
    const restored = await restoredBy(
      client,
      jails.find((one) => one.name === name),
      rows,
      options,
    );
    kept.push(...restored.kept);
    for (const address of rows.odd) odd.add(readAddress(address)?.text ?? address);
    wanted.push(...restored.wanted);
    refused.push(...restored.refused);
  }
  const added = wanted.map(({ address, id }) => ({ address: address.text, id }));
  const isKept = among(kept, [...seen, ...added]);
  const difference = {
    added: additions(holder, wanted),
    released: seen.filter((hold) => !isKept(hold) && !odd.has(hold.address)),
  };
  return { difference, others: tidy, refused, askAgain: askNoJail };
}

/** Inside an action, fail2ban cannot be asked again. */
async function askNoJail(): Promise<[]> {
  return [];
}

function tidy(bansNow: () => readonly Ban[]): Change[] {
  return tidyOver(bansNow(), now());
}

interface Restored {
  /** The permitted bans. */
  readonly kept: readonly Asking[];
  readonly wanted: readonly WantedBan[];
  readonly refused: readonly RefusedBan[];
}

/** Adds nothing without the jail's configuration: the jail may ignore any of them. */
async function restoredBy(
  client: string,
  jail: ConfiguredJail | undefined,
  { rows, odd }: BanRows,
  options: SyncOptions,
): Promise<Restored> {
  const times =
    jail === undefined
      ? undefined
      : await banSecondsOf(client, async () => ({ ok: true, value: jail.banTimes }));
  const isKnown = jail !== undefined && times?.ok === true;
  const forever = { usual: null, isGrowing: true, longest: null };
  const bans = restoredBans(rows, isKnown ? times.value : forever, now());
  const { wanted, refused } = selectWanted(bans, jail?.ignored ?? [], options);
  const unreadable = odd.map((address) => ({ address, protectedBy: undefined }));
  return {
    kept: wanted.map(({ address, id }) => ({ address: address.text, id })),
    wanted: isKnown ? wanted : [],
    refused: [...refused, ...unreadable],
  };
}

function bansAs(configured: ConfiguredJail, jail: string, options: SyncOptions): boolean {
  const isSharing = configuredActions(configured).some(
    (action) => action.holder === jail && isSameList(action, options),
  );
  return isSharing || configured.name === jail;
}

/** @throws BanctlError notUnderstood if it is not a database of fail2ban */
function readRows(path: string, jails: readonly string[]): BanRows | undefined {
  const read = bansInDatabase(path, jails, now());
  if (read.ok) return read.value;
  throw new BanctlError(EXIT.notUnderstood, read.why, 'nothing was changed');
}

/** @throws BanctlError notUnderstood for an unknown answer, which must not lift any ban */
function unchanged({ why, state }: Unanswered): string {
  if (state === 'odd') throw new BanctlError(EXIT.notUnderstood, why, 'nothing was changed');
  return `${why}; nothing was changed`;
}

async function holdsOf(options: SyncOptions, holder: string): Promise<Hold[]> {
  return (await readBans(options)).flatMap((ban) => ban.holds).filter((hold) => hold.holder === holder);
}
