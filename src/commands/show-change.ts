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

/** Prints the outcome of a change, and returns the exit code. */
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

/** Prints the outcome of a reload, and returns the exit code. */
export function showReload(report: ReloadReport, json: boolean): ExitCode {
  if (report.result === 'failed') warn(reloadFailure(report));
  else if (report.message !== undefined && !json) print(report.message);
  return exitCodeOf(report);
}

/** What a call prints and its exit code, for a caller without a terminal. */
export function describeChange(
  outcomes: readonly Outcome[],
  reload: ReloadReport,
): { said: string; exitCode: ExitCode } {
  const last = reload.result === 'failed' ? `banctl: ${reloadFailure(reload)}` : reload.message;
  const lines = outcomes.map((outcome) => describeOutcome(outcome, false));
  const said = [...lines, ...(last === undefined ? [] : [last])].map(printable).join('\n');
  return { said, exitCode: exitCodeOf(reload) };
}

function reloadFailure({ message }: ReloadReport): string {
  return `apache was not reloaded: ${message}`;
}

function exitCodeOf({ result, isTakenBack }: ReloadReport): ExitCode {
  if (result !== 'failed') return EXIT.done;
  return isTakenBack === true ? EXIT.takenBack : EXIT.reloadRefused;
}

function describeOutcome({ address, status, heldBy, isChanged }: Outcome, dryRun: boolean): string {
  const isChange = status === 'banned' || status === 'unbanned';
  const holders = heldBy.length === 0 ? '' : ` by ${heldBy.join(', ')}`;
  const holds =
    status === 'already-banned' && isChanged ? `; its holds ${dryRun ? 'would change' : 'have changed'}` : '';
  return `${address} ${isChange && dryRun ? 'would be ' : ''}${WORDS[status]}${holders}${holds}`;
}
