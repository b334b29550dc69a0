import type { Outcome } from '../bans/change.ts';
import type { Settings } from '../cli/settings.ts';
import { fewAddresses, type RefusalReason, record } from '../system/record.ts';

/*
 * Writes a command's result to the record: counts, and the addresses if the call has few of them.
 */

type Recorded = Pick<Settings, 'record' | 'jail' | 'dryRun'>;

/** Records what a change did. `lifted` has the outcomes as the user sees them, with what fail2ban released by calling back. */
export function recordChange(
  how: string,
  outcomes: readonly Outcome[],
  { record: path, jail, dryRun }: Recorded,
  lifted: readonly Outcome[] = outcomes,
): void {
  if (dryRun) return;
  const by = jail ?? null;
  const banned = addressesWith('banned', outcomes);
  if (banned.length > 0) record(path, { did: 'ban', by, count: banned.length, ...fewAddresses(banned) });
  const ended = addressesWith('unbanned', lifted);
  if (ended.length === 0) return;
  const { length: count } = addressesWith('unbanned', outcomes);
  record(path, { did: 'unban', by, how, count, lifted: ended.length, ...fewAddresses(ended) });
}

export function recordRefusal(
  why: RefusalReason,
  addresses: readonly string[],
  { record: path, jail, dryRun }: Recorded,
): void {
  if (dryRun || addresses.length === 0) return;
  record(path, { did: 'refuse', by: jail ?? null, why, count: addresses.length, ...fewAddresses(addresses) });
}

function addressesWith(status: Outcome['status'], outcomes: readonly Outcome[]): string[] {
  return outcomes.filter((outcome) => outcome.status === status).map(({ address }) => address);
}
