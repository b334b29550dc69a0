import { holderOf, MANUAL } from '../bans/hold.ts';
import type { Happening } from '../system/record.ts';

/** The counts since the record began; they never go back. Keys are holders, ways, reasons and results. */
export interface Totals {
  readonly bans: Counts;
  readonly unbans: Counts;
  readonly refusals: Counts;
  readonly reloads: Counts;
  /** Reloads by duration: one number for each of {@link RELOAD_SECONDS}, and one for longer reloads. */
  readonly reloadBuckets: readonly number[];
  readonly reloadSeconds: number;
}

export type Counts = Readonly<Record<string, number>>;

/** Upper bounds of the histogram of reloads, in seconds. Changing them restarts its counters. */
export const RELOAD_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

export const NO_TOTALS: Totals = {
  bans: {},
  unbans: {},
  refusals: {},
  reloads: {},
  reloadBuckets: Array(RELOAD_SECONDS.length + 1).fill(0),
  reloadSeconds: 0,
};

/** The sum of the events and of the counts of earlier files. One pass: a record has 100,000 lines. */
export function sumTotals(parts: readonly (Happening | Totals)[]): Totals {
  const sums = {
    bans: new Map<string, number>(),
    unbans: new Map<string, number>(),
    refusals: new Map<string, number>(),
    reloads: new Map<string, number>(),
  };
  const reloadBuckets = [...NO_TOTALS.reloadBuckets];
  let reloadSeconds = 0;
  for (const part of parts) {
    if (!('did' in part)) {
      for (const name of Object.keys(sums) as (keyof typeof sums)[])
        for (const [key, count] of Object.entries(part[name])) add(sums[name], key, count);
      part.reloadBuckets.forEach((count, at) => {
        reloadBuckets[at] = (reloadBuckets[at] ?? 0) + count;
      });
      reloadSeconds += part.reloadSeconds;
    } else if (part.did === 'ban') add(sums.bans, part.by === null ? MANUAL : holderOf(part.by), part.count);
    else if (part.did === 'unban') add(sums.unbans, part.how, part.count);
    else if (part.did === 'refuse') add(sums.refusals, part.why, part.count);
    else {
      add(sums.reloads, part.result, 1);
      const at = bucketOf(part.seconds);
      reloadBuckets[at] = (reloadBuckets[at] ?? 0) + 1;
      reloadSeconds += part.seconds;
    }
  }
  const counts = (sum: ReadonlyMap<string, number>): Counts => Object.fromEntries(sum);
  return {
    bans: counts(sums.bans),
    unbans: counts(sums.unbans),
    refusals: counts(sums.refusals),
    reloads: counts(sums.reloads),
    reloadBuckets,
    reloadSeconds,
  };
}

function add(sum: Map<string, number>, key: string, count: number): void {
  sum.set(key, (sum.get(key) ?? 0) + count);
}

function bucketOf(seconds: number): number {
  const found = RELOAD_SECONDS.findIndex((most) => seconds <= most);
  return found === -1 ? RELOAD_SECONDS.length : found;
}

/** Totals from JSON; undefined if the JSON is something else. */
export function readTotals(value: unknown): Totals | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { bans, unbans, refusals, reloads, reloadBuckets, reloadSeconds } = value as Record<string, unknown>;
  if (![bans, unbans, refusals, reloads].every(isCounts) || !isAmount(reloadSeconds)) return undefined;
  if (!Array.isArray(reloadBuckets) || reloadBuckets.length !== RELOAD_SECONDS.length + 1) return undefined;
  return reloadBuckets.every(isCount) ? (value as Totals) : undefined;
}

function isCounts(value: unknown): value is Counts {
  return typeof value === 'object' && value !== null && Object.values(value).every(isCount);
}

export function isCount(value: unknown): value is number {
  return isAmount(value) && Number.isInteger(value);
}

export function isAmount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Number.MAX_SAFE_INTEGER;
}
