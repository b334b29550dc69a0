import { printable } from '../system/printable.ts';
import type { ReportDocument, Tally } from './types.ts';
import { grouped, minute, plural, span } from './words.ts';

/** The essentials of a report for a terminal: numbers and small bars. */

const BAR_WIDTH = 24;
const NAME_WIDTH = 28;
const MOST_LINES = 5;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const LEVELS = '▁▂▃▄▅▆▇█';

export function terminalLines(document: ReportDocument): string[] {
  const { banned, history, record, audit, reloads } = document;
  const sections: (readonly [string, readonly string[]])[] = [
    [
      `banned now: ${plural(banned.addresses, 'address', 'addresses')}, ${plural(banned.ranges, 'range')}`,
      bars(banned.byHolder.map(({ holder, host, count }) => ({ name: holderName(holder, host), count }))),
    ],
    [
      `bans since ${minute(document.since)} UTC: ${grouped(history.bans)}${onlyByHand(history.database)}`,
      [...sparkline(document), ...bars(history.byJail)],
    ],
    ['addresses that came back most', bars(history.addresses)],
    ['networks that came back most', bars(history.networks)],
    [`ended: ${grouped(total(record.ended))}`, bars(record.ended.filter(({ count }) => count > 0))],
    [`refused to ban: ${grouped(record.refused.count)}`, bars(record.refused.byReason)],
    [
      `audit: ${audit.ok ? 'no findings' : plural(audit.findings.length, 'finding')}`,
      findingLines(audit.findings),
    ],
    [reloadText(reloads), []],
  ];
  return sections
    .filter(([title, lines]) => lines.length > 0 || title.includes(':'))
    .flatMap(([title, lines]) => [title, ...lines.map((line) => `  ${line}`)])
    .map(printable);
}

function onlyByHand({ problem }: ReportDocument['history']['database']): string {
  return problem === null ? '' : `, by hand alone, because fail2ban's database cannot be read: ${problem}`;
}

/** The holder of a ban, in words. */
export function holderName(holder: string | null, host: string | null): string {
  const name = holder === null ? 'unknown holder' : holder;
  return host === null ? name : `${name} on ${host}`;
}

function reloadText({ pending, last, done, failed, medianSeconds }: ReportDocument['reloads']): string {
  const state = pending ? 'Apache may not have loaded the latest list' : 'Apache has loaded the list';
  const how = medianSeconds === null ? '' : `, half of them within ${span(medianSeconds)}`;
  const failures = failed === 0 ? '' : `, ${grouped(failed)} failed`;
  return `reloads: ${grouped(done)}${failures}${how}; ${state}${last === null ? '' : `, last reload ${minute(last)} UTC`}`;
}

function findingLines(findings: ReportDocument['audit']['findings']): string[] {
  const lines = findings.map(
    ({ code, address, message }) => `${code}: ${address === undefined ? '' : `${address}: `}${message}`,
  );
  return withRest(lines, lines.length);
}

function bars(tallies: readonly Tally[]): string[] {
  const most = Math.max(...tallies.map(({ count }) => count), 1);
  const digits = grouped(most).length;
  const lines = tallies.map(({ name, count }) => {
    const plain = printable(name);
    const cut = plain.length > NAME_WIDTH ? `${plain.slice(0, NAME_WIDTH - 1)}…` : plain.padEnd(NAME_WIDTH);
    return `${cut}  ${grouped(count).padStart(digits)}  ${bar(count / most)}`.trimEnd();
  });
  return withRest(lines, tallies.length);
}

function withRest(lines: readonly string[], count: number): string[] {
  const rest = count - MOST_LINES;
  return rest > 0 ? [...lines.slice(0, MOST_LINES), `and ${grouped(rest)} more`] : [...lines];
}

function bar(part: number): string {
  const eighths = Math.max(1, Math.round(part * BAR_WIDTH * 8));
  return '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '');
}

/** Bans over time in one line, at most 60 characters wide. */
function sparkline({ history, since, generated }: ReportDocument): string[] {
  if (history.bans === 0) return [];
  const begin = Date.parse(since);
  const width = 60;
  const lengthMs = Math.max(1, Date.parse(generated) - begin);
  const counts: number[] = Array(width).fill(0);
  for (const { from, byJail } of history.buckets) {
    const at = Math.floor(((Date.parse(from) - begin) / lengthMs) * width);
    const index = Math.min(width - 1, Math.max(0, at));
    counts[index] = (counts[index] ?? 0) + total(byJail);
  }
  const most = Math.max(...counts, 1);
  return [
    counts
      .map((count) => (count === 0 ? ' ' : LEVELS[Math.ceil((count / most) * LEVELS.length) - 1]))
      .join(''),
  ];
}

function total(tallies: readonly Tally[]): number {
  return tallies.reduce((all, { count }) => all + count, 0);
}
