import { type Address, covers } from './address.ts';
import { type DenyLine, denyLines } from './banlist/text.ts';
import { readText } from './file.ts';
import type { Hold } from './hold.ts';
import { isPending, readState } from './reload-state.ts';

/** A ban as it is told. */
export interface ReportedBan {
  readonly address: string;
  readonly holds: readonly Hold[];
  /** The file that it stands in, and its line. */
  readonly file: string;
  readonly line: number;
  readonly where: 'banlist';
}

/** What is banned, and whether Apache knows. */
export interface Report {
  readonly bans: readonly ReportedBan[];
  readonly isPending: boolean;
  /** Milliseconds since the epoch. */
  readonly lastReload: number | null;
  /** Why the last reload failed; null if nothing is pending, whatever became of it. */
  readonly reloadError: string | null;
}

/** Reads everything without a lock: a replaced file is one whole version or the other. */
export function readReport(banlist: string, selects: (address: Address) => boolean = () => true): Report {
  const list = readText(banlist);
  const state = readState(banlist, list);
  const bans = denyLines(list.text).flatMap((line) => reportLine(line, banlist, selects));
  const pending = isPending(state);
  const reloadError = pending ? state.error : null;
  return { bans, isPending: pending, lastReload: state.lastReload, reloadError };
}

/** Selects the bans that refuse the address: its own, and wider ranges. */
export function concerning(address: Address): (banned: Address) => boolean {
  return (banned) => covers(banned, address);
}

function reportLine(line: DenyLine, file: string, selects: (address: Address) => boolean): ReportedBan[] {
  return line.arguments.flatMap(({ address }) =>
    address !== undefined && selects(address)
      ? [{ address: address.text, holds: line.holds, file, line: line.number, where: 'banlist' as const }]
      : [],
  );
}
