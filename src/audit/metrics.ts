import type { AuditResult } from './audit.ts';
import { type FindingCode, severityOf } from './finding.ts';

/** The result in Prometheus' text format, for node_exporter's textfile collector. */
export function formatMetrics({ findings, bans }: AuditResult, now: number): string {
  const left = findings.filter((finding) => !finding.fixed);
  const byCode = new Map<FindingCode, { severity: string; count: number }>();
  for (const finding of left) {
    const count = (byCode.get(finding.code)?.count ?? 0) + 1;
    byCode.set(finding.code, { severity: severityOf(finding), count });
  }
  const holds = new Map<string, number>();
  for (const { holder } of bans.flatMap((ban) => ban.holds)) holds.set(holder, (holds.get(holder) ?? 0) + 1);
  return [
    '# HELP banctl_bans Addresses and ranges that the list refuses.',
    '# TYPE banctl_bans gauge',
    `banctl_bans ${bans.length}`,
    '# HELP banctl_holds Holds by holder.',
    '# TYPE banctl_holds gauge',
    ...[...holds].map(([holder, count]) => `banctl_holds{holder="${escapeLabel(holder)}"} ${count}`),
    '# HELP banctl_findings What the last audit found and did not repair.',
    '# TYPE banctl_findings gauge',
    ...[...byCode].map(
      ([code, { severity, count }]) => `banctl_findings{code="${code}",severity="${severity}"} ${count}`,
    ),
    '# HELP banctl_ok 1 if the last audit left nothing.',
    '# TYPE banctl_ok gauge',
    `banctl_ok ${left.length === 0 ? 1 : 0}`,
    '# HELP banctl_audit_timestamp_seconds When the last audit ended.',
    '# TYPE banctl_audit_timestamp_seconds gauge',
    `banctl_audit_timestamp_seconds ${now}`,
    '',
  ].join('\n');
}

function escapeLabel(text: string): string {
  return text.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n');
}
