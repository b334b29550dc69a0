import { formatTime } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { type Report, readReport } from '../store/read.ts';
import { EXIT, type ExitCode } from '../system/errors.ts';
import { print, showJson } from '../terminal/print.ts';
import { selectBans } from './select-bans.ts';
import { banDocument, reloadLine, showTable } from './show-bans.ts';

/** `banctl list`: every ban with its holds, or a selection. */
export async function list(settings: Settings): Promise<ExitCode> {
  const report = readReport(settings);
  const selected = { ...report, bans: selectBans(report.bans, settings) };
  if (settings.json) showJson(listDocument(selected));
  else {
    if (report.bans.length > 0 && selected.bans.length === 0) print('no ban matches');
    else await showTable(selected.bans);
    for (const line of reloadLine(report)) print(line);
  }
  return EXIT.done;
}

function listDocument({ bans, isPending, lastReload, reloadError }: Report): unknown {
  const last = lastReload === null ? null : formatTime(lastReload / 1000);
  return { bans: bans.map(banDocument), reload: { pending: isPending, last, error: reloadError } };
}
