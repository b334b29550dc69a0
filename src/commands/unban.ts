import type { Address } from '../bans/address.ts';
import type { Change, Outcome } from '../bans/change.ts';
import { type Hold, holderOf, holdId } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { changeBans } from '../store/store.ts';
import type { ChangeOptions, ChangeReport } from '../store/types.ts';
import type { ExitCode } from '../system/errors.ts';
import { isOnTerminal, warn } from '../terminal/print.ts';
import { progressOf, readAddresses } from './operands.ts';
import { recordChange } from './record-change.ts';
import { showChange } from './show-change.ts';

/** `banctl unban ADDRESS...`: releases the jail's hold, or without a jail every hold. */
export async function unban(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const addresses = readAddresses(operands);
  const { jail, id } = settings;
  const watched = { ...settings, progress: await progressOf(operands) };
  if (jail === undefined) return releaseByHand(watched, addresses);
  const released = settings.fleet === undefined ? undefined : await noteRelease(settings, jail, addresses);
  const written = await changeBans(watched, planRelease(jail, addresses, id));
  // The agent can be faster than this call.
  const report = released === undefined ? written : withCallbacks(written, released, () => false);
  recordChange('unban', report.outcomes, settings);
  // fail2ban's action has no terminal, and must not ask fail2ban.
  if (settings.asksFail2ban && !settings.dryRun && (await isOnTerminal())) {
    const { stillHeldNotes } = await import('../fail2ban/unban.ts');
    for (const note of await stillHeldNotes(settings.fail2banClient, jail, addresses)) warn(note);
  }
  return showChange(report, settings);
}

/**
 * Says to the other hosts that the jail's holds end before their time.
 *
 * @returns true for what the jail held
 * @throws BanctlError cannotWrite: then nothing has changed
 */
export async function noteRelease(
  settings: Pick<Settings, 'banlist' | 'bandir' | 'dryRun' | 'fleetState' | 'id'>,
  jail: string,
  addresses: readonly Address[],
): Promise<(address: string) => boolean> {
  const [{ findAsked }, { endedEarly, noteLift }] = await Promise.all([
    import('../store/read.ts'),
    import('../fleet/lift-notes.ts'),
  ]);
  const holder = holderOf(jail);
  const seen = findAsked(settings, addresses);
  const ended = endedEarly(holder, seen).filter((hold) => !isHeldForAnother(hold, seen, settings.id));
  const keys = ended.map(({ address }) => `${address} ${holder}`);
  if (!settings.dryRun) await noteLift(settings.fleetState, [...new Set(keys)], ended, true);
  const held = new Set(seen.filter((hold) => hold.holder === holder).map(({ address }) => address));
  return (address) => held.has(address);
}

/** The jail still holds the address for another id: other hosts know of one hold for both. */
function isHeldForAnother({ holder, address }: Hold, seen: readonly Hold[], id: string | undefined): boolean {
  if (id === undefined) return false;
  const released = holdId(id, address);
  return seen.some((hold) => hold.holder === holder && hold.address === address && hold.id !== released);
}

/** With an id, the hold of that id; else every hold of the jail on the address. */
export function planRelease(jail: string, addresses: readonly Address[], id: string | undefined): Change[] {
  const holder = holderOf(jail);
  return addresses.map(({ text }) => ({
    verb: 'release',
    address: text,
    holder,
    id: id === undefined ? undefined : (holdId(id, text) ?? null),
  }));
}

/**
 * Releases every hold. Lifts the ban in fail2ban first: fail2ban would otherwise ignore new offences as "already banned".
 * fail2ban calls back to release its own holds, so this function holds no lock. A ban that is made in between stays.
 */
export async function releaseByHand(
  settings: Settings & Pick<ChangeOptions, 'isUrgent' | 'progress'>,
  addresses: readonly Address[],
): Promise<ExitCode> {
  // Most unbans come from a jail and do not read the list.
  const { findHolds } = await import('../store/read.ts');
  const seen = findHolds(settings, addresses);
  const inList =
    settings.bandir === undefined ? seen : findHolds({ ...settings, bandir: undefined }, addresses);
  if (settings.fleet !== undefined && !settings.dryRun) {
    const { ALL, noteLift } = await import('../fleet/lift-notes.ts');
    const holds = seen.flatMap((known) => known ?? []);
    const names = [...addresses.map(({ text }) => text), ...holds.map(({ address }) => address)];
    await noteLift(settings.fleetState, settings.all ? [ALL] : [...new Set(names)], holds);
  }
  if (settings.asksFail2ban && !settings.dryRun) {
    const { releaseInFail2ban } = await import('../fail2ban/unban.ts');
    const holds = seen.map((bans) => bans ?? []);
    for (const note of await releaseInFail2ban(settings.fail2banClient, addresses, holds)) warn(note);
  }
  const seenOf = new Map(addresses.map(({ text }, index) => [text, seen[index]]));
  const listed = new Set(addresses.flatMap(({ text }, index) => (inList[index] === undefined ? [] : [text])));
  const report = await changeBans(
    settings,
    addresses.map(({ text }) => ({
      verb: 'release',
      address: text,
      holder: null,
      seen: seenOf.get(text) ?? [],
    })),
  );
  const wasBanned = (address: string) => seenOf.get(address) !== undefined;
  const shown = withCallbacks(report, wasBanned, (address) => listed.has(address));
  recordChange(settings.all ? 'flush' : 'unban', report.outcomes, settings, shown.outcomes);
  return showChange(shown, settings);
}

/** fail2ban's callbacks are part of this call's result; in the list, they caused a reload too. */
function withCallbacks(
  report: ChangeReport,
  wasBanned: (address: string) => boolean,
  wasListed: (address: string) => boolean,
): ChangeReport {
  const isCallback = ({ address, status }: Outcome) => status === 'not-banned' && wasBanned(address);
  const byCallback = report.outcomes.filter(isCallback);
  if (byCallback.length === 0) return report;
  const isReloaded = byCallback.some(({ address }) => wasListed(address));
  return {
    isChanged: true,
    outcomes: report.outcomes.map((outcome) =>
      isCallback(outcome) ? { ...outcome, status: 'unbanned', isChanged: true } : outcome,
    ),
    reload: isReloaded && report.reload.result === 'not-needed' ? { result: 'done' } : report.reload,
  };
}
