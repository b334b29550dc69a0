import { hostname } from 'node:os';
import { audit } from '../audit/audit.ts';
import { severityOf } from '../audit/finding.ts';
import { isSingle, readAddress } from '../bans/address.ts';
import { formatTime, isByHand, jailOf } from '../bans/hold.ts';
import { VERSION } from '../cli/version.ts';
import { databaseOf } from '../fail2ban/client.ts';
import { DATABASE_FILE } from '../fail2ban/database.ts';
import { bansSince, purgeAge } from '../fail2ban/history.ts';
import { type Report as Read, type ReportedBan, readReport } from '../store/read.ts';
import { readFleet } from './fleet.ts';
import { summarize } from './history.ts';
import { readRecord } from './record.ts';
import { bansByHand, summarizeRecord, summarizeReloads } from './record-summary.ts';
import type { Report, ReportDocument, ReportOptions } from './types.ts';

/**
 * Reads everything that a report shows. It changes only the record, which it may shorten.
 *
 * @param times seconds since the epoch
 */
export async function makeReport(
  options: ReportOptions,
  { since, now }: { since: number; now: number },
): Promise<Report> {
  const [found, purgeAgeSeconds] = await Promise.all([
    audit({ ...options, fix: false }),
    options.asksFail2ban ? purgeAge(options.fail2banClient) : undefined,
  ]);
  const read = readReport(options);
  const file = await databaseFor(options);
  const history = file === null ? WITHOUT_DATABASE : bansSince(file, since);
  const recorded = readRecord(options.record);
  const fromDatabase = history.ok ? history.bans : [];
  const past = [...fromDatabase, ...bansByHand(recorded.entries, since)];
  const [oldest] = fromDatabase;
  const document: ReportDocument = {
    generated: formatTime(now),
    since: formatTime(since),
    host: hostname(),
    version: VERSION,
    banned: bannedNow(read.bans),
    history: {
      database: {
        file: file ?? 'None',
        problem: history.ok ? null : history.why,
        oldest: oldest === undefined ? null : formatTime(oldest.since),
        purgeAgeSeconds: purgeAgeSeconds ?? null,
      },
      ...summarize(past, since, now),
    },
    record: summarizeRecord(recorded, fromDatabase, since),
    audit: {
      ok: found.findings.length === 0,
      findings: found.findings.map((finding) => ({
        code: finding.code,
        severity: severityOf(finding),
        address: finding.address,
        message: finding.message,
      })),
    },
    reloads: { ...reloadsNow(read), ...summarizeReloads(recorded.entries, since) },
    fleet: readFleet(options.fleetState),
  };
  return { document, bans: read.bans };
}

/** As fail2ban writes it: dbfile = None. */
const WITHOUT_DATABASE = { ok: false, why: 'fail2ban runs without one' } as const;

/** The database of the fail2ban that is asked; null if it has none. */
async function databaseFor(options: ReportOptions): Promise<string | null> {
  const { fail2banDatabase, asksFail2ban, fail2banClient } = options;
  if (fail2banDatabase !== undefined) return fail2banDatabase;
  const named = asksFail2ban ? await databaseOf(fail2banClient) : undefined;
  return named === undefined ? DATABASE_FILE : named;
}

function reloadsNow({ isPending, lastReload, reloadError }: Read) {
  const last = lastReload === null ? null : formatTime(Math.floor(lastReload / 1000));
  return { pending: isPending, last, error: reloadError };
}

type Holder = ReportDocument['banned']['byHolder'][number];

function bannedNow(bans: readonly ReportedBan[]): ReportDocument['banned'] {
  const addresses = bans.filter(({ address }) => isSingleText(address)).length;
  const holders = new Map<string, Holder>();
  for (const { holds } of bans) {
    for (const holder of holds.length === 0 ? [null] : new Set(holds.map((hold) => hold.holder))) {
      const key = JSON.stringify(holder);
      const count = (holders.get(key)?.count ?? 0) + 1;
      holders.set(key, { ...splitHolder(holder), count });
    }
  }
  const byHolder = [...holders.values()].sort((one, other) => other.count - one.count);
  return { total: bans.length, addresses, ranges: bans.length - addresses, byHolder };
}

/** `web@host2` is the jail web of another server of the fleet; each part is written as a holder's name is. */
function splitHolder(holder: string | null): Omit<Holder, 'count'> {
  if (holder === null) return { holder: null, byHand: false, host: null };
  const [local = '', host] = holder.split('@');
  return { holder: jailOf(local), byHand: isByHand(holder), host: host === undefined ? null : jailOf(host) };
}

function isSingleText(text: string): boolean {
  const address = readAddress(text);
  return address !== undefined && isSingle(address);
}
