import { writeSync } from 'node:fs';
import type { Outcome } from './banlist/change.ts';
import { BanctlError, EXIT, type ExitCode, reasonOf, systemCode } from './errors.ts';
import type { ChangeReport } from './list-change.ts';
import { printable, printableJson } from './printable.ts';
import { pause } from './process.ts';
import type { ReloadReport } from './reload-plan.ts';

/*
 * How banctl speaks. Answers go to standard output, one line an address, in sentences that can be grepped; errors
 * and warnings to standard error, `banctl: …`, one line, lower case, with what to do. With --json, standard
 * output is one document and nothing else.
 */

const STANDARD_OUTPUT = 1;
const STANDARD_ERROR = 2;

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
    return EXIT.reloadRefused;
  }
  if (report.message !== undefined && !json) print(report.message);
  return EXIT.done;
}

export function showJson(document: unknown): void {
  printLines([printableJson(document)]);
}

/** A line on standard output; what came with it from a list or a program cannot steer the terminal. */
export function print(line: string): void {
  write(STANDARD_OUTPUT, `${printable(line)}\n`);
}

/** Many lines, or such as are styled: each part of them that is not banctl's own has been made printable. */
export function printLines(lines: readonly string[]): void {
  write(STANDARD_OUTPUT, `${lines.join('\n')}\n`);
}

/** A line on standard error. */
export function warn(message: string): void {
  write(STANDARD_ERROR, `banctl: ${printable(message).trim()}\n`);
}

/** Node's own streams would take a tenth of a ban's time to load. */
function write(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(descriptor, bytes, written);
    } catch (error) {
      // Nobody reads on: `banctl list | head`.
      if (systemCode(error) === 'EPIPE') return;
      // Whoever reads is slow, and somebody has made the pipe non-blocking: Node does, once it has looked at stdout.
      if (systemCode(error) !== 'EAGAIN') {
        // There is nowhere left to say it.
        if (descriptor === STANDARD_ERROR) return;
        const reason = reasonOf(error, { EIO: 'input/output error' });
        throw new BanctlError(EXIT.cannotWrite, `cannot write to standard output: ${reason}`);
      }
      pause(10);
    }
  }
}

function describeOutcome({ address, status, heldBy, isHeldAnew }: Outcome, dryRun: boolean): string {
  const isChange = status === 'banned' || status === 'unbanned';
  const holders = heldBy.length === 0 ? '' : ` by ${heldBy.join(', ')}`;
  const holds = isHeldAnew === true ? `; its holds ${dryRun ? 'would change' : 'have changed'}` : '';
  return `${address} ${isChange && dryRun ? 'would be ' : ''}${WORDS[status]}${holders}${holds}`;
}
