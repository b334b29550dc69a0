import { type Address, parseAddress, readAddress, widen } from '../bans/address.ts';
import { formatTime } from '../bans/hold.ts';
import type { PastBan } from '../fail2ban/history.ts';
import type { ReportDocument, Tally } from './types.ts';

type Numbers = Omit<ReportDocument['history'], 'database'>;

const HOUR_SECONDS = 3600;
const DAY_SECONDS = 86_400;
/** A network, as one provider or household has it. */
const NETWORK = { ipv4: 24, ipv6: 64 } as const;
const MOST_NAMED = 8;

/** Bans are sorted by how long they were meant to last: up to as many seconds, under this name. */
const DURATIONS: readonly (readonly [name: string, mostSeconds: number])[] = [
  ['up to 10 minutes', 600],
  ['up to 1 hour', HOUR_SECONDS],
  ['up to 1 day', DAY_SECONDS],
  ['up to 1 week', 7 * DAY_SECONDS],
  ['longer', Number.POSITIVE_INFINITY],
];

/** The numbers of past bans. Times are seconds since the epoch. */
export function summarize(bans: readonly PastBan[], since: number, now: number): Numbers {
  const bucketSeconds = bucketFor(now - since);
  return {
    bans: bans.length,
    byJail: countBy(bans, ({ jail }) => jail),
    bucketSeconds,
    buckets: bucketsOf(bans, bucketSeconds),
    byHour: hoursOf(bans),
    addresses: addressesOf(bans),
    networks: networksOf(bans),
    durations: durationsOf(bans),
  };
}

/** Hours as long as a picture can show each, then longer parts of a day, then days. */
export function bucketFor(spanSeconds: number): number {
  const days = spanSeconds / DAY_SECONDS;
  if (days <= 8) return HOUR_SECONDS;
  return days <= 40 ? 6 * HOUR_SECONDS : DAY_SECONDS * Math.max(1, Math.ceil(days / 200));
}

function bucketsOf(bans: readonly PastBan[], bucketSeconds: number): Numbers['buckets'] {
  const buckets = groupBy(bans, ({ since }) => Math.floor(since / bucketSeconds));
  return [...buckets]
    .sort(([one], [other]) => one - other)
    .map(([at, some]) => ({
      from: formatTime(at * bucketSeconds),
      byJail: countBy(some, ({ jail }) => jail),
    }));
}

function hoursOf(bans: readonly PastBan[]): Numbers['byHour'] {
  const jails = new Map<string, number[]>();
  for (const { jail, since } of bans) {
    const counts = jails.get(jail) ?? Array(24).fill(0);
    const hour = Math.floor((since % DAY_SECONDS) / HOUR_SECONDS);
    counts[hour] += 1;
    jails.set(jail, counts);
  }
  const sum = (counts: readonly number[]) => counts.reduce((all, count) => all + count, 0);
  return [...jails]
    .map(([jail, counts]) => ({ jail, counts }))
    .sort((one, other) => sum(other.counts) - sum(one.counts));
}

/** Those that were banned more than once. */
function addressesOf(bans: readonly PastBan[]): Numbers['addresses'] {
  const groups = groupBy(bans, ({ address }) => address);
  return [...groups]
    .filter(([, some]) => some.length > 1)
    .sort(([, one], [, other]) => other.length - one.length)
    .slice(0, MOST_NAMED)
    .map(([name, some]) => ({
      name,
      count: some.length,
      jails: countBy(some, ({ jail }) => jail).map((jail) => jail.name),
    }));
}

/** Those from which more than one address was banned. */
function networksOf(bans: readonly PastBan[]): Numbers['networks'] {
  const networks = new Map<string, { count: number; addresses: number }>();
  for (const [text, some] of groupBy(bans, ({ address }) => address)) {
    const network = networkOf(text);
    if (network === undefined) continue;
    const { count, addresses } = networks.get(network) ?? { count: 0, addresses: 0 };
    networks.set(network, { count: count + some.length, addresses: addresses + 1 });
  }
  return [...networks]
    .map(([name, numbers]) => ({ name, ...numbers }))
    .filter(({ addresses }) => addresses > 1)
    .sort((one, other) => other.count - one.count || other.addresses - one.addresses)
    .slice(0, MOST_NAMED);
}

function networkOf(text: string): string | undefined {
  const address: Address | undefined = readAddress(text);
  return address === undefined ? undefined : widen(parseAddress(text), NETWORK).text;
}

function durationsOf(bans: readonly PastBan[]): Tally[] {
  const counts = new Map<string, number>(DURATIONS.map(([name]) => [name, 0]));
  counts.set('for ever', 0);
  for (const { durationSeconds } of bans) {
    const name = durationName(durationSeconds);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => ({ name, count }));
}

function durationName(seconds: number | null): string {
  if (seconds === null) return 'for ever';
  return DURATIONS.find(([, most]) => seconds <= most)?.[0] ?? 'longer';
}

/** The most frequent first. */
export function countBy<T>(items: readonly T[], nameOf: (item: T) => string): Tally[] {
  return [...groupBy(items, nameOf)]
    .map(([name, some]) => ({ name, count: some.length }))
    .sort((one, other) => other.count - one.count || (one.name < other.name ? -1 : 1));
}

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
