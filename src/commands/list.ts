import { formatTime } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { type Report, readReport } from '../store/read.ts';
import { EXIT, type ExitCode } from '../system/errors.ts';
import { print, showJson } from '../terminal/print.ts';
import { banDocument, reloadLine, showTable } from './show-bans.ts';

/** `banctl list`: every ban with its holds. */
export async function list(settings: Settings): Promise<ExitCode> {
  const report = readReport(settings);
  if (settings.json) showJson(listDocument(report));
  else {
    showTable(report.bans);
    for (const line of reloadLine(report)) print(line);
  }
  return EXIT.done;
}

function listDocument({ bans, isPending, lastReload, reloadError }: Report): unknown {
  const last = lastReload === null ? null : formatTime(lastReload / 1000);
  return { bans: bans.map(banDocument), reload: { pending: isPending, last, error: reloadError } };
}
