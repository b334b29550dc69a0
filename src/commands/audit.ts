import { type AuditResult, audit } from '../audit/audit.ts';
import { isHint, severityOf } from '../audit/finding.ts';
import { servedFindings } from '../audit/served.ts';
import type { Outcome } from '../bans/change.ts';
import { formatTime, now } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { formatMetrics } from '../report/metrics.ts';
import { readRecord } from '../report/record.ts';
import { readReport } from '../store/read.ts';
import { EXIT, type ExitCode } from '../system/errors.ts';
import { followOwnLinks } from '../system/links.ts';
import { printable } from '../system/printable.ts';
import { replaceFile } from '../system/write.ts';
import { print, showJson } from '../terminal/print.ts';
import { recordChange } from './record-change.ts';
import { ASSUMED } from './show-bans.ts';

/** `banctl audit`: prints nothing and returns 0 if all is well; otherwise a line for each finding, and 1 if one is left. */
export async function auditCommand(settings: Settings): Promise<ExitCode> {
  const audited = await audit(settings);
  recordRepairs(audited, settings);
  const { readStatus } = await import('../fleet/status.ts');
  const { fleetFindings, fleetMetrics } = await import('../fleet/findings.ts');
  const status = readStatus(settings.fleetState);
  const shared = fleetFindings(status, settings.fleet !== undefined, Date.now());
  const hints = [
    ...(settings.asksFail2ban ? await hintsOf(settings) : []),
    ...shared.map((finding) => ({ ...finding, fixed: false })),
  ];
  const result = { ...audited, findings: [...audited.findings, ...hints] };
  const isOk = result.findings.every((finding) => finding.fixed || isHint(finding));
  if (settings.json) showJson({ ok: isOk, findings: result.findings.map(findingDocument) });
  else for (const line of linesOf(result, settings)) print(line);
  if (settings.prometheus !== undefined && !settings.dryRun) {
    const { askMetrics } = await import('../serve/ask.ts');
    const served = (await askMetrics(settings.socket)) ?? [];
    const fleet = status === undefined ? [] : fleetMetrics(status, Date.now());
    const own = formatMetrics(result, readRecord(settings.record).totals, now());
    const metrics = Buffer.from([own, ...[...served, ...fleet].map((line) => `${line}\n`)].join(''));
    replaceFile(followOwnLinks(settings.prometheus), [metrics], { lock: undefined });
  }
  return isOk ? EXIT.done : EXIT.findings;
}

/** Holds that had expired, or that a jail no longer had, have ended; missing ones are banned. */
function recordRepairs({ findings }: AuditResult, settings: Settings): void {
  const repaired = findings.flatMap(({ code, address, fixed }): Outcome[] => {
    if (!fixed || address === undefined) return [];
    if (code === 'expired' || code === 'stale')
      return [{ address, status: 'unbanned', heldBy: [], isChanged: true }];
    return code === 'missing' ? [{ address, status: 'banned', heldBy: [], isChanged: true }] : [];
  });
  recordChange('audit', repaired, settings);
}

/** Only on a terminal does a clean audit print a line, because cron mails each line. */
function linesOf(result: AuditResult, settings: Settings): string[] {
  const lines = result.findings.flatMap(findingLine);
  const { lastReload, isAssumed } = readReport(settings);
  const isClean = result.findings.every((finding) => finding.fixed || isHint(finding));
  if (!process.stdout.isTTY || !isClean) return isAssumed && lines.length > 0 ? [...lines, ASSUMED] : lines;
  const { bans, jails } = result;
  const parts = [
    `${bans.length} ${bans.length === 1 ? 'ban' : 'bans'}`,
    jails.length === 0
      ? 'no jail of fail2ban bans here'
      : `${jails.length === 1 ? 'jail' : 'jails'} ${jails.join(', ')}`,
    lastReload === null
      ? 'banctl has not reloaded Apache yet'
      : `Apache ${isAssumed ? 'is assumed to have read' : 'read'} the list ${formatTime(Math.floor(lastReload / 1000))}`,
  ];
  return [...lines, printable(`all is well: ${parts.join('; ')}`), ...(isAssumed ? [ASSUMED] : [])];
}

async function hintsOf({ fail2banClient }: Settings): Promise<Found[]> {
  const { askMetrics } = await import('../serve/ask.ts');
  const isServed = async (socket: string) => (await askMetrics(socket)) !== undefined;
  const findings = await servedFindings(fail2banClient, isServed);
  return findings.map((finding) => ({ ...finding, fixed: false }));
}

type Found = AuditResult['findings'][number];

function findingDocument(finding: Found): object {
  const { code, address, line, message, fixed } = finding;
  return { code, severity: severityOf(finding), address, line, message, fixed };
}

/** Dropping an expired hold is routine, not news. */
function findingLine({ code, address, line, message, fixed }: Found): string[] {
  if (fixed && code === 'expired') return [];
  const where = line === undefined ? '' : ` line ${line}:`;
  return [
    printable(
      `${code}:${where}${address === undefined ? '' : ` ${address}:`} ${message}${fixed ? ' (repaired)' : ''}`,
    ),
  ];
}
