import { readAddress, widen } from '../bans/address.ts';
import { formatTime } from '../bans/hold.ts';
import type { PastBan } from '../fail2ban/history.ts';
import type { ReportDocument, Tally } from './types.ts';

type Numbers = Omit<ReportDocument['history'], 'database'>;

const HOUR_SECONDS = 3600;
const DAY_SECONDS = 86_400;
/** The size of network that one provider or household has. */
const NETWORK = { ipv4: 24, ipv6: 64 } as const;
const MOST_NAMED = 8;

/** Classes of intended ban times: the upper limit in seconds, and its name. */
const DURATIONS: readonly (readonly [name: string, mostSeconds: number])[] = [
  ['up to 10 minutes', 600],
  ['up to 1 hour', HOUR_SECONDS],
  ['up to 1 day', DAY_SECONDS],
  ['up to 1 week', 7 * DAY_SECONDS],
  ['longer', Number.POSITIVE_INFINITY],
];

/** Counts of past bans. Times are seconds since the epoch. */
export function summarize(bans: readonly PastBan[], since: number, now: number): Numbers {
  const byAddress = countsOf(bans, ({ address }) => address);
  const bucketSeconds = bucketFor(now - since);
  return {
    bans: bans.length,
    byJail: countBy(bans, ({ jail }) => jail),
    bucketSeconds,
    buckets: bucketsOf(bans, bucketSeconds),
    byHour: hoursOf(bans),
    addresses: addressesOf(bans, byAddress),
    networks: networksOf(byAddress),
    durations: durationsOf(bans),
  };
}

/** Hours while a chart can show each, then longer parts of a day, then days. */
export function bucketFor(spanSeconds: number): number {
  const days = spanSeconds / DAY_SECONDS;
  if (days <= 8) return HOUR_SECONDS;
  return days <= 40 ? 6 * HOUR_SECONDS : DAY_SECONDS * Math.max(1, Math.ceil(days / 200));
}

function bucketsOf(bans: readonly PastBan[], bucketSeconds: number): Numbers['buckets'] {
  const buckets = new Map<number, Counter>();
  let [at, counter]: [number, Counter] = [-1, new Map()];
  // Most bans are of the same bucket as the one before.
  for (const { jail, since } of bans) {
    const bucket = Math.floor(since / bucketSeconds);
    if (bucket !== at) [at, counter] = [bucket, counterOf(buckets, bucket)];
    add(counter, jail);
  }
  return [...buckets]
    .sort(([one], [other]) => one - other)
    .map(([at, counter]) => ({ from: formatTime(at * bucketSeconds), byJail: mostFirst(counter) }));
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

/** The addresses that were banned more than once. */
function addressesOf(bans: readonly PastBan[], counts: Counter): Numbers['addresses'] {
  const named = mostFirst(counts, 2, MOST_NAMED);
  const jails = new Map<string, Counter>(named.map(({ name }) => [name, new Map()]));
  for (const { address, jail } of bans) {
    const counter = jails.get(address);
    if (counter !== undefined) add(counter, jail);
  }
  return named.map(({ name, count }) => ({
    name,
    count,
    jails: mostFirst(jails.get(name) ?? new Map()).map((jail) => jail.name),
  }));
}

/** The networks with more than one banned address. */
function networksOf(counts: Counter): Numbers['networks'] {
  const networks = new Map<string, { count: number; addresses: number }>();
  for (const [text, count] of counts) {
    const name = networkOf(text);
    if (name === undefined) continue;
    const network = networks.get(name) ?? { count: 0, addresses: 0 };
    network.count += count;
    network.addresses += 1;
    networks.set(name, network);
  }
  return [...networks]
    .filter(([, { addresses }]) => addresses > 1)
    .map(([name, numbers]) => ({ name, ...numbers }))
    .sort((one, other) => other.count - one.count || other.addresses - one.addresses)
    .slice(0, MOST_NAMED);
}

/** Most are IPv4, whose network is the beginning of the text. */
function networkOf(text: string): string | undefined {
  const address = readAddress(text);
  if (address === undefined) return undefined;
  const isPlain = address.prefix === 32 && address.bytes.length === 4;
  return isPlain ? `${text.slice(0, text.lastIndexOf('.'))}.0/${NETWORK.ipv4}` : widen(address, NETWORK).text;
}

function durationsOf(bans: readonly PastBan[]): Tally[] {
  const counts: Counter = new Map(DURATIONS.map(([name]) => [name, 0]));
  counts.set('for ever', 0);
  for (const { durationSeconds } of bans) add(counts, durationName(durationSeconds));
  return [...counts].map(([name, count]) => ({ name, count }));
}

function durationName(seconds: number | null): string {
  if (seconds === null) return 'for ever';
  for (const [name, most] of DURATIONS) if (seconds <= most) return name;
  return 'longer';
}

/** The most frequent first. */
export function countBy<T>(items: readonly T[], nameOf: (item: T) => string): Tally[] {
  return mostFirst(countsOf(items, nameOf));
}

/** Only numbers are kept: a history has 100,000 bans. */
type Counter = Map<string, number>;

function countsOf<T>(items: readonly T[], nameOf: (item: T) => string): Counter {
  const counter: Counter = new Map();
  for (const item of items) add(counter, nameOf(item));
  return counter;
}

function add(counter: Counter, name: string): void {
  counter.set(name, (counter.get(name) ?? 0) + 1);
}

function counterOf<K>(counters: Map<K, Counter>, key: K): Counter {
  const known = counters.get(key);
  if (known !== undefined) return known;
  const counter: Counter = new Map();
  counters.set(key, counter);
  return counter;
}

function mostFirst(counter: ReadonlyMap<string, number>, least = 1, most = counter.size): Tally[] {
  const enough = leastOf(counter, least, most);
  const tallies: Tally[] = [];
  for (const [name, count] of counter) if (count >= enough) tallies.push({ name, count });
  return tallies
    .sort((one, other) => other.count - one.count || (one.name < other.name ? -1 : 1))
    .slice(0, most);
}

/** The least count of the most frequent: only those need to be sorted. */
function leastOf(counter: ReadonlyMap<string, number>, least: number, most: number): number {
  if (counter.size <= most) return least;
  const counts = Float64Array.from(counter.values()).sort();
  return Math.max(least, counts[counts.length - most] ?? least);
}
