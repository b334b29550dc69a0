import type { Outcome } from '../bans/change.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { ChangeReport } from '../store/types.ts';
import { EXIT, type ExitCode } from '../system/errors.ts';
import { printable } from '../system/printable.ts';
import { print, printLines, showJson, warn } from '../terminal/print.ts';

const WORDS = {
  banned: 'banned',
  'already-banned': 'already banned',
  unbanned: 'unbanned',
  'not-banned': 'not banned',
  'still-held': 'still held',
  skipped: 'skipped',
} as const;

/** Tells what became of a change, and returns the exit code. */
export function showChange(
  report: ChangeReport,
  { json, dryRun }: { json: boolean; dryRun: boolean },
): ExitCode {
  if (json) {
    showJson({
      changed: report.isChanged,
      results: report.outcomes.map(({ address, status }) => ({ address, status })),
      reload: report.reload.result,
    });
  } else {
    const lines = report.outcomes.map((outcome) => printable(describeOutcome(outcome, dryRun)));
    if (lines.length > 0) printLines(lines);
  }
  return showReload(report.reload, json);
}

/** Tells what became of a reload, and returns the exit code. */
export function showReload(report: ReloadReport, json: boolean): ExitCode {
  if (report.result === 'failed') {
    warn(`apache was not reloaded: ${report.message}`);
    return report.isTakenBack === true ? EXIT.takenBack : EXIT.reloadRefused;
  }
  if (report.message !== undefined && !json) print(report.message);
  return EXIT.done;
}

function describeOutcome({ address, status, heldBy, isChanged }: Outcome, dryRun: boolean): string {
  const isChange = status === 'banned' || status === 'unbanned';
  const holders = heldBy.length === 0 ? '' : ` by ${heldBy.join(', ')}`;
  const holds =
    status === 'already-banned' && isChanged ? `; its holds ${dryRun ? 'would change' : 'have changed'}` : '';
  return `${address} ${isChange && dryRun ? 'would be ' : ''}${WORDS[status]}${holders}${holds}`;
}
