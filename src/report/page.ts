import { createHash } from 'node:crypto';
import { Eta } from 'eta/core';
import { formatTime } from '../bans/hold.ts';
import type { ReportedBan } from '../store/read.ts';
import { printable } from '../system/printable.ts';
import { SCRIPT, STYLE, TEMPLATE } from './assets.ts';
import { hourChart, seriesOf, timeChart } from './charts.ts';
import { holderName } from './terminal.ts';
import type { Report, ReportDocument, Tally } from './types.ts';
import { grouped, minute, plural, span } from './words.ts';

/*
 * The page: one file that makes no request. The template escapes every text. Only the style sheet, the script and the
 * charts are inserted unescaped, and the policy allows no other style or script.
 */

/** Widths of the charts: on a screen, and on a phone. */
const WIDE = 1008;
const NARROW = 344;
/** On a phone, one bar combines so many. */
const NARROW_BUCKETS = 6;
const MOST_FINDINGS = 12;

/** A list with a bar for each number. */
interface BarList {
  readonly id: string;
  readonly title: string;
  readonly rows: readonly {
    readonly name: string;
    readonly value: string;
    readonly part: number;
    readonly note: string;
  }[];
  /** The text of an empty list. */
  readonly none: string;
  readonly after?: string;
}

const POLICY = [
  "default-src 'none'",
  'img-src data:',
  `style-src '${hashOf(STYLE)}'`,
  `script-src '${hashOf(SCRIPT)}'`,
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/** The report as HTML. */
export function formatPage({ document, bans }: Report): string {
  const eta = new Eta({ autoEscape: true, autoTrim: [false, 'nl'] });
  return eta.renderString(TEMPLATE, {
    ...fixed(document),
    ...pictures(document),
    rows: rowsOf(bans),
    ...listsOf(document),
  });
}

function fixed(document: ReportDocument): object {
  const { audit, history, record } = document;
  const errors = audit.findings.filter(({ severity }) => severity === 'error').length;
  const rest = audit.findings.length - MOST_FINDINGS;
  return {
    policy: POLICY,
    style: STYLE,
    script: SCRIPT,
    host: printable(document.host),
    version: document.version,
    generated: minute(document.generated),
    period: `${minute(document.since)} to ${minute(document.generated)} UTC (${spanOf(document)})`,
    verdict: audit.ok
      ? 'The audit finds nothing wrong'
      : `The audit has ${plural(audit.findings.length, 'finding')}`,
    isBad: errors > 0,
    findings: audit.findings.slice(0, MOST_FINDINGS).map((finding) => ({
      ...finding,
      address: finding.address === undefined ? undefined : printable(finding.address),
      message: printable(finding.message),
    })),
    moreFindings: rest > 0 ? `and ${grouped(rest)} more: banctl audit prints them all` : undefined,
    figures: figuresOf(document),
    source: sourceOf(history),
    recordNote: recordNote(record),
    rowCount: grouped(document.banned.total),
  };
}

function spanOf({ since, generated }: ReportDocument): string {
  return span((Date.parse(generated) - Date.parse(since)) / 1000);
}

function figuresOf({ banned, history, record, reloads }: ReportDocument): object[] {
  const ended = record.ended.reduce((all, { count }) => all + count, 0);
  const byHand = record.ended.find(({ name }) => name === 'manual')?.count ?? 0;
  const loaded = reloads.pending ? 'Apache has not loaded all' : 'Apache has loaded all';
  return [
    {
      name: 'Banned now',
      value: grouped(banned.total),
      note: banned.ranges === 0 ? 'single addresses' : `of them ${plural(banned.ranges, 'range')}`,
    },
    { name: 'Bans in this time', value: grouped(history.bans), note: plural(history.byJail.length, 'jail') },
    { name: 'Ended', value: grouped(ended), note: `${grouped(byHand)} lifted by hand` },
    {
      name: 'Refused to ban',
      value: grouped(record.refused.count),
      note: 'protected or too broad',
    },
    {
      name: 'Reloads',
      value: grouped(reloads.done),
      note: reloads.failed === 0 ? loaded : `${grouped(reloads.failed)} failed`,
    },
  ];
}

/** The source of the history, and its gaps. */
function sourceOf({ database }: ReportDocument['history']): string {
  const file = printable(database.file);
  if (database.problem !== null)
    return `fail2ban's database ${file} cannot be read (${printable(database.problem)}), so only bans by hand are counted.`;
  const kept =
    database.purgeAgeSeconds === null
      ? 'as long as its dbpurgeage says, one day by default'
      : `for ${span(database.purgeAgeSeconds)} (dbpurgeage)`;
  const oldest =
    database.oldest === null
      ? ''
      : ` The oldest ban that it still has in this time is of ${minute(database.oldest)} UTC.`;
  return `Bans by jails come from fail2ban's database, which keeps them ${kept}; bans by hand come from banctl's record.${oldest}`;
}

function recordNote({ since, isFull }: ReportDocument['record']): string {
  if (since === null) return 'banctl has recorded nothing yet: it does so as soon as /var/lib/banctl exists.';
  const full = isFull ? ' It is full: banctl audit shortens it.' : '';
  return `Ends, refusals and reloads are known since ${minute(since)} UTC.${full}`;
}

function pictures(document: ReportDocument): object {
  const { history } = document;
  if (history.bans === 0) return { series: [], days: [] };
  return {
    series: seriesOf(history).map((one) => ({
      ...one,
      name: printable(one.name),
      count: grouped(one.count),
    })),
    timeWide: timeChart(document, WIDE, history.bucketSeconds),
    wideCaption: bucketName(history.bucketSeconds),
    timeNarrow: timeChart(document, NARROW, history.bucketSeconds * NARROW_BUCKETS),
    narrowCaption: bucketName(history.bucketSeconds * NARROW_BUCKETS),
    count: plural(history.bans, 'ban'),
    hourWide: hourChart(document, WIDE),
    hourNarrow: hourChart(document, NARROW),
    days: daysOf(history),
  };
}

function bucketName(seconds: number): string {
  if (seconds === 3600) return 'a bar for each hour';
  return `a bar for each ${seconds === 86_400 ? 'day' : span(seconds)}`;
}

function daysOf({ buckets }: ReportDocument['history']): object[] {
  const days = new Map<string, Map<string, number>>();
  for (const { from, byJail } of buckets) {
    const day = days.get(from.slice(0, 10)) ?? new Map<string, number>();
    for (const { name, count } of byJail) day.set(name, (day.get(name) ?? 0) + count);
    days.set(from.slice(0, 10), day);
  }
  return [...days].map(([day, jails]) => ({
    day,
    count: grouped([...jails.values()].reduce((all, count) => all + count, 0)),
    jails: [...jails].map(([name, count]) => `${printable(name)} ${grouped(count)}`).join(', '),
  }));
}

function listsOf(document: ReportDocument): { lists: BarList[] } {
  const { banned, history, record, reloads, fleet } = document;
  const jails = banned.byHolder.map(({ holder, host, count }) => ({ name: holderName(holder, host), count }));
  const lists: BarList[] = [
    barList('holders', 'Who holds the bans', jails.slice(0, 12), 'Nothing is banned.'),
    {
      ...barList(
        'networks',
        'Networks that come back',
        history.networks,
        'No network with more than one banned address.',
      ),
      rows: barRows(history.networks, ({ addresses }) => plural(addresses, 'address', 'addresses')),
    },
    {
      ...barList('addresses', 'Addresses that come back', history.addresses, 'No address was banned twice.'),
      rows: barRows(history.addresses, ({ jails }) =>
        jails.length < 3 ? jails.join(', ') : plural(jails.length, 'jail'),
      ),
    },
    {
      ...barList('lengths', 'Intended ban times', history.durations, ''),
      ...(history.bans === 0 ? { rows: [], none: 'No bans in this time.' } : {}),
    },
    {
      id: 'ends',
      title: 'How bans ended',
      rows: barRows(
        record.ended.map(({ count, describe }) => ({ name: describe, count })),
        () => '',
      ),
      none: '',
      after: lastedText(record.lasted),
    },
    barList('refusals', 'Refused to ban', record.refused.addresses, 'banctl has refused no address.'),
    {
      ...barList('reloads', 'Reloads of Apache', reloadTallies(reloads), 'None in this time.'),
      after: reloadText(reloads),
    },
  ];
  return { lists: fleet === null ? lists : [...lists, fleetList(fleet)] };
}

function reloadTallies({ done, failed }: ReportDocument['reloads']): Tally[] {
  return done + failed === 0
    ? []
    : [
        { name: 'done', count: done },
        { name: 'failed', count: failed },
      ];
}

function fleetList({ connected, hosts }: NonNullable<ReportDocument['fleet']>): BarList {
  const tallies = hosts.map((host) => ({ ...host, count: host.holds ?? 0 }));
  return {
    id: 'fleet',
    title: 'Hosts of the fleet',
    rows: barRows(tallies, ({ seen, version }) =>
      [seen === null ? '' : `seen ${minute(seen)}`, version === null ? '' : `banctl ${version}`]
        .filter(Boolean)
        .join(', '),
    ),
    none: 'No other host.',
    after: connected ? 'This host is connected.' : 'This host is cut off from the others.',
  };
}

function lastedText({ bans, medianSeconds }: ReportDocument['record']['lasted']): string {
  if (medianSeconds === null) return 'No ban has a known beginning and end yet.';
  return `Half of ${plural(bans, 'ban')} with a known beginning and end lasted ${span(medianSeconds)} or less.`;
}

function reloadText({
  pending,
  last,
  error,
  medianSeconds,
  longestSeconds,
}: ReportDocument['reloads']): string {
  const state = pending
    ? `Apache may not have loaded the latest list${error === null ? '' : `: ${printable(error)}`}.`
    : 'Apache has loaded the latest list.';
  const lengths =
    medianSeconds === null || longestSeconds === null
      ? ''
      : ` Half of the reloads took ${span(medianSeconds)} or less, the longest ${span(longestSeconds)}.`;
  return `${state}${lengths}${last === null ? '' : ` The last one ended at ${minute(last)} UTC.`}`;
}

function barList(id: string, title: string, tallies: readonly Tally[], none: string): BarList {
  return { id, title, rows: barRows(tallies, () => ''), none };
}

function barRows<T extends Tally>(tallies: readonly T[], noteOf: (tally: T) => string): BarList['rows'] {
  const most = Math.max(1, ...tallies.map(({ count }) => count));
  return tallies.map((tally) => ({
    name: printable(tally.name),
    value: grouped(tally.count),
    part: Math.round((tally.count / most) * 1000) / 10,
    note: printable(noteOf(tally)),
  }));
}

/** A row for each hold, the newest first. */
function rowsOf(bans: readonly ReportedBan[]): object[] {
  const rows = bans.flatMap(({ address, holds }) =>
    holds.length === 0
      ? [{ address, holder: 'unknown holder', since: '', until: '', reason: '' }]
      : holds.map((hold) => ({
          address,
          holder: printable(hold.address === address ? hold.holder : `${hold.holder} (${hold.address})`),
          since: minute(formatTime(hold.since)),
          until: hold.until === null ? 'for ever' : minute(formatTime(hold.until)),
          reason: printable(hold.reason ?? ''),
        })),
  );
  return rows.sort((one, other) => (one.since > other.since ? -1 : one.since < other.since ? 1 : 0));
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
