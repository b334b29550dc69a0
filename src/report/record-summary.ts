import { formatTime } from '../bans/hold.ts';
import type { PastBan } from '../fail2ban/history.ts';
import { countBy } from './history.ts';
import type { Entry, RecordRead } from './record.ts';
import type { ReportDocument, Tally } from './types.ts';

/** The record's numbers for the time of a report. */
type Recorded = ReportDocument['record'];

type Ended = Extract<Entry, { did: 'unban' }>;

const MOST_NAMED = 12;
const NONE: readonly string[] = [];

/** A ban of an address began or ended. */
interface Event {
  readonly at: number;
  readonly isEnd: boolean;
  readonly address: string;
}

const WAYS: readonly (readonly [name: string, describe: string, is: (entry: Ended) => boolean])[] = [
  ['jail', 'lifted by their jail', ({ how, by }) => how === 'unban' && by !== null],
  ['manual', 'lifted by hand', ({ how, by }) => how !== 'audit' && by === null],
  ['flush', 'flushed with their jail', ({ how, by }) => how === 'flush' && by !== null],
  ['sync', 'gone from fail2ban at a sync', ({ how, by }) => how === 'sync' && by !== null],
  ['audit', 'ended by the audit', ({ how }) => how === 'audit'],
];

/** @param since seconds since the epoch */
export function summarizeRecord(read: RecordRead, bans: readonly PastBan[], since: number): Recorded {
  const entries = read.entries.filter(({ at }) => at >= since);
  const ended = entries.filter((entry) => entry.did === 'unban');
  const refused = entries.filter((entry) => entry.did === 'refuse');
  const lasted = lengths(entries, bans);
  return {
    since: read.since === null ? null : formatTime(read.since),
    isFull: read.isFull,
    ended: WAYS.map(([name, describe, is]) => ({
      name,
      count: sum(ended.filter(is).map(({ lifted }) => lifted)),
      describe,
    })),
    lasted: { bans: lasted.length, medianSeconds: median(lasted) },
    refused: {
      count: sum(refused.map(({ count }) => count)),
      byReason: tally(refused.map(({ why, count }) => ({ name: why, count }))),
      addresses: countBy(
        refused.flatMap(({ addresses = [] }) => addresses),
        (address) => address,
      ).slice(0, MOST_NAMED),
    },
  };
}

export function summarizeReloads(
  entries: readonly Entry[],
  since: number,
): Pick<ReportDocument['reloads'], 'done' | 'failed' | 'medianSeconds' | 'longestSeconds'> {
  const reloads = entries.filter((entry) => entry.did === 'reload' && entry.at >= since);
  const seconds = reloads.flatMap((entry) => (entry.did === 'reload' ? entry.seconds : []));
  const count = (result: string) =>
    reloads.filter((entry) => entry.did === 'reload' && entry.result === result).length;
  return {
    done: count('done'),
    failed: count('failed'),
    medianSeconds: median(seconds),
    longestSeconds: seconds.length === 0 ? null : Math.max(...seconds.slice(-100_000)),
  };
}

/** Bans by hand as past bans of a jail, because fail2ban's database does not have them. */
export function bansByHand(entries: readonly Entry[], since: number): PastBan[] {
  return entries.flatMap((entry) => {
    if (entry.did !== 'ban' || entry.by !== null || entry.at < since) return [];
    const addresses = entry.addresses ?? Array<string>(entry.count).fill('');
    return addresses.map((address) => ({ jail: 'manual', address, since: entry.at, durationSeconds: null }));
  });
}

/** How long ended bans lasted, in seconds: from the last known beginning before the end. */
function lengths(entries: readonly Entry[], bans: readonly PastBan[]): number[] {
  const begins = new Map<string, number>();
  const ended = entries.filter((entry) => entry.did === 'unban');
  const wanted = new Set(ended.flatMap(({ addresses = NONE }) => addresses));
  const events: Event[] = [];
  for (const { address, since } of bans)
    if (wanted.has(address)) events.push({ at: since, isEnd: false, address });
  for (const { at, did, addresses = NONE } of entries.filter((entry) => entry.did !== 'reload'))
    if (did !== 'refuse')
      for (const address of addresses) events.push({ at, isEnd: did === 'unban', address });
  const found: number[] = [];
  for (const { at, isEnd, address } of events.sort((one, other) => one.at - other.at)) {
    const began = begins.get(address);
    if (!isEnd) {
      if (began === undefined) begins.set(address, at);
    } else if (began !== undefined) {
      found.push(at - began);
      begins.delete(address);
    }
  }
  return found;
}

function tally(parts: readonly Tally[]): Tally[] {
  const counts = new Map<string, number>();
  for (const { name, count } of parts) counts.set(name, (counts.get(name) ?? 0) + count);
  return [...counts].map(([name, count]) => ({ name, count })).sort((one, other) => other.count - one.count);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, number) => all + number, 0);
}

function median(numbers: readonly number[]): number | null {
  const sorted = [...numbers].sort((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? null;
}
