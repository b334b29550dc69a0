import { styleText } from 'node:util';
import { formatTime, type Hold, isByHand, isOver, jailOf } from '../bans/hold.ts';
import type { Report, ReportedBan } from '../store/read.ts';
import { printable, quote } from '../system/printable.ts';
import { print, printLines } from '../terminal/print.ts';
import { tableLines } from '../terminal/table.ts';

/** How bans look on a terminal and in JSON. */

const UNKNOWN_HOLDER = '?';
const HEADINGS = ['ADDRESS', 'HELD BY', 'SINCE (UTC)', 'LEFT', 'REASON'];
export const ASSUMED =
  'banctl assumes that apache has loaded the list: the reload command succeeded, and banctl cannot see this apache';
/** For a pipe, or a terminal that does not report its size, such as a serial console with 0 columns and 0 lines. */
const WIDTH_WITHOUT_SIZE = Number.POSITIVE_INFINITY;

export function banDocument({ address, holds, where, widenedAfter }: ReportedBan): object {
  const known = holds.map((hold) => ({
    holder: jailOf(hold.holder),
    byHand: isByHand(hold.holder),
    address: hold.address,
    id: hold.id,
    since: formatTime(hold.since),
    until: hold.until === null ? null : formatTime(hold.until),
    reason: hold.reason,
  }));
  const unknown = [{ holder: null, byHand: false, address, since: null, until: null, reason: null }];
  return { address, holds: holds.length === 0 ? unknown : known, where, widenedAfter };
}

/** A line for each hold, in a pager if the terminal has fewer lines; wide reasons are cut to the terminal. */
export async function showTable(bans: readonly ReportedBan[]): Promise<void> {
  if (bans.length === 0) {
    print('nothing is banned');
    return;
  }
  const now = Date.now() / 1000;
  const { isTTY, columns, rows: height } = process.stdout;
  const isSized = isTTY && columns > 0;
  const rows = bans.flatMap((ban) => rowsOf(ban, now));
  const [heading = '', ...lines] = await tableLines(
    [HEADINGS, ...rows],
    isSized ? columns : WIDTH_WITHOUT_SIZE,
  );
  const why = bans.flatMap((ban) =>
    whyWidened(ban).map((text) => `${ban.address} is banned because ${text}`),
  );
  const shown = [isTTY ? styleText('bold', heading) : heading, ...lines, ...why];
  const isLong = isTTY && height > 0 && shown.length >= height;
  if (isLong && (await import('../system/pager.ts')).showInPager(`${shown.join('\n')}\n`)) return;
  printLines(shown);
}

/** The message about a reload that is due or has failed. */
export function reloadLine({ isPending, isAssumed, reloadError }: Report): string[] {
  if (isAssumed) return [ASSUMED];
  if (!isPending) return [];
  const why = reloadError === null ? '' : `; the last reload failed: ${reloadError}`;
  return [`apache may not have loaded the latest list${why}`];
}

/** Why a network is banned instead of addresses. */
export function whyWidened({ holds, widenedAfter }: ReportedBan): string[] {
  if (widenedAfter === undefined) return [];
  const count = new Set(holds.map(({ address }) => address)).size;
  return [`${count} of its addresses are held at once (--widen-after ${widenedAfter})`];
}

export function describeHold(hold: Hold): string {
  const now = Date.now() / 1000;
  const until =
    hold.until === null
      ? 'for ever'
      : `until ${formatTime(hold.until)} (${isOver(hold, now) ? 'over' : `${left(hold, now)} left`})`;
  return `by ${hold.holder}${forId(hold)} since ${formatTime(hold.since)} ${until}${hold.reason === null ? '' : `: ${hold.reason}`}`;
}

/** What distinguishes several holds of a jail on one address. */
function forId({ id }: Hold): string {
  return id === undefined ? '' : ` for ${quote(id)}`;
}

function rowsOf({ address, holds }: ReportedBan, now: number): string[][] {
  if (holds.length === 0) return [[address, UNKNOWN_HOLDER, '', '', '']];
  return holds.map((hold, index) =>
    [
      index === 0 ? address : '',
      `${hold.holder}${hold.address === address ? '' : ` (${hold.address})`}${forId(hold)}`,
      formatTime(hold.since).slice(0, 16).replace('T', ' '),
      left(hold, now),
      hold.reason ?? '',
    ].map(printable),
  );
}

/** The remaining time, in its two largest units: `1h 5m`. */
function left({ until }: Hold, now: number): string {
  if (until === null) return 'for ever';
  const seconds = Math.ceil(until - now);
  if (seconds <= 0) return 'over';
  const units = [
    ['d', Math.floor(seconds / 86_400)],
    ['h', Math.floor(seconds / 3600) % 24],
    ['m', Math.floor(seconds / 60) % 60],
    ['s', seconds % 60],
  ] as const;
  const first = units.findIndex(([, count]) => count > 0);
  const shown = units.slice(first, first + 2).filter(([, count]) => count > 0);
  return shown.map(([unit, count]) => `${count}${unit}`).join(' ');
}
