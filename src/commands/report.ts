import { now } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { makeReport } from '../report/report.ts';
import { terminalLines } from '../report/terminal.ts';
import { EXIT, type ExitCode } from '../system/errors.ts';
import { replaceFile } from '../system/write.ts';
import { printLines, showJson } from '../terminal/print.ts';

const WEEK_SECONDS = 7 * 86_400;

/** `banctl report`: a summary as a page, as JSON, or in a few lines. */
export async function reportCommand(settings: Settings): Promise<ExitCode> {
  const at = now();
  const report = await makeReport(settings, { since: beginOf(settings.since, at), now: at });
  const { html, json } = settings;
  if (html !== undefined) {
    const { formatPage } = await import('../report/page.ts');
    replaceFile(html, [Buffer.from(formatPage(report))], { lock: undefined });
  }
  if (json) showJson(report.document);
  else if (html === undefined) printLines(terminalLines(report.document));
  return EXIT.done;
}

function beginOf(since: Settings['since'], at: number): number {
  if (since === undefined) return at - WEEK_SECONDS;
  return typeof since === 'number' ? since : at - since.secondsAgo;
}
