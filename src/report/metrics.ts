import type { AuditResult } from '../audit/audit.ts';
import { type FindingCode, severityOf } from '../audit/finding.ts';
import { type Counts, RELOAD_SECONDS, type Totals } from './totals.ts';

/** A line of a metric: what is appended to its name, its labels, its value. */
type Sample = readonly [labels: Readonly<Record<string, string>>, value: number, suffix?: string];

interface Metric {
  readonly name: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** The ways in which a ban can end. All are written, so that a rate is known from the start. docs/metrics.md lists them. */
const WAYS = ['unban', 'flush', 'sync', 'audit'] as const;
const REASONS = ['protected', 'too-broad', 'unusable'] as const;
const RESULTS = ['done', 'failed'] as const;

/**
 * The result of an audit and the counters, in Prometheus' text format, for node_exporter's textfile collector.
 *
 * @param now seconds since the epoch
 */
export function formatMetrics(result: AuditResult, totals: Totals, now: number): string {
  return [...gauges(result, now), ...counters(totals)].map(formatMetric).join('');
}

function gauges({ findings, bans }: AuditResult, now: number): Metric[] {
  const left = findings.filter((finding) => !finding.fixed);
  const holders = bans.flatMap((ban) => ban.holds.map((hold) => hold.holder));
  const gauge = (name: string, help: string, samples: readonly Sample[]): Metric => ({
    name,
    type: 'gauge',
    help,
    samples,
  });
  return [
    gauge('banctl_bans', 'Addresses and ranges that the list refuses.', [[{}, bans.length]]),
    gauge('banctl_holds', 'Holds by holder.', labelled('holder', countEach(holders))),
    gauge('banctl_findings', 'What the last audit found and did not repair.', findingSamples(left)),
    gauge('banctl_ok', '1 if the last audit left nothing.', [[{}, left.length === 0 ? 1 : 0]]),
    gauge('banctl_audit_timestamp_seconds', 'When the last audit ended.', [[{}, now]]),
  ];
}

function findingSamples(left: AuditResult['findings']): Sample[] {
  const severities = new Map<FindingCode, string>(left.map((finding) => [finding.code, severityOf(finding)]));
  const counts = countEach(left.map(({ code }) => code));
  return [...severities].map(([code, severity]) => [{ code, severity }, counts[code] ?? 0]);
}

function counters({ bans, unbans, refusals, reloads, reloadBuckets, reloadSeconds }: Totals): Metric[] {
  const counter = (name: string, help: string, samples: readonly Sample[]): Metric => ({
    name,
    type: 'counter',
    help,
    samples,
  });
  return [
    counter('banctl_bans_total', 'Addresses banned, by holder.', labelled('holder', { manual: 0, ...bans })),
    counter(
      'banctl_unbans_total',
      'Bans lifted, by the command that did.',
      labelled('how', withZeros(WAYS, unbans)),
    ),
    counter(
      'banctl_refusals_total',
      'Addresses that banctl refused to ban, by reason.',
      labelled('why', withZeros(REASONS, refusals)),
    ),
    counter(
      'banctl_reloads_total',
      'Reloads of Apache, by result.',
      labelled('result', withZeros(RESULTS, reloads)),
    ),
    {
      name: 'banctl_reload_seconds',
      type: 'histogram',
      help: 'How long reloads of Apache took, its test included.',
      samples: histogram(reloadBuckets, reloadSeconds),
    },
  ];
}

function histogram(buckets: readonly number[], sum: number): Sample[] {
  const upTo = (index: number) => buckets.slice(0, index + 1).reduce((all, count) => all + count, 0);
  const all = upTo(buckets.length);
  return [
    ...RELOAD_SECONDS.map((le, index): Sample => [{ le: String(le) }, upTo(index), '_bucket']),
    [{ le: '+Inf' }, all, '_bucket'],
    [{}, Math.round(sum * 1000) / 1000, '_sum'],
    [{}, all, '_count'],
  ];
}

function withZeros(names: readonly string[], counts: Counts): Counts {
  return { ...Object.fromEntries(names.map((name) => [name, 0])), ...counts };
}

function labelled(label: string, counts: Counts): Sample[] {
  return Object.entries(counts).map(([value, count]) => [{ [label]: value }, count]);
}

function countEach(names: readonly string[]): Counts {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries(counts);
}

function formatMetric({ name, type, help, samples }: Metric): string {
  const lines = samples.map(([labels, value, suffix = '']) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
    return `${name}${suffix}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`;
  });
  return `${[`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines].join('\n')}\n`;
}

function escapeLabel(text: string): string {
  return text.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n');
}
