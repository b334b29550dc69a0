import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { isTime } from '../bans/hold.ts';
import type { Answer } from '../system/answer.ts';
import { systemCode } from '../system/errors.ts';

/** A ban in the database. */
export interface BanRow {
  readonly id: string;
  /** The action's `<ip>`. */
  readonly address: string;
  /** Seconds since the epoch. */
  readonly since: number;
  /** Seconds; -1 is for ever, -2 the jail's own ban time. */
  readonly lasts: number;
}

/** The bans of some jails that have not ended by their own ban times. */
export interface BanRows {
  readonly rows: readonly BanRow[];
  /** The addresses in rows with unreadable times: fail2ban may or may not hold them. */
  readonly odd: readonly string[];
}

/** Where fail2ban keeps it unless its configuration names another place. */
export const DATABASE_FILE = '/var/lib/fail2ban/fail2ban.sqlite3';
/** How long to wait until fail2ban finishes a write. */
const BUSY_MILLISECONDS = 5000;

/**
 * The jails' rows in fail2ban's database. They equal the jail's bans only when the jail starts: rows of shortened bans, and
 * of a stopped jail, remain. No value if the database has none of the jails, or does not exist: fail2ban can run without
 * one (dbfile = None).
 */
export function bansInDatabase(
  path: string,
  jails: readonly string[],
  now: number,
): Answer<BanRows | undefined> {
  try {
    // Opening a named pipe, SQLite would wait for ever for a writer.
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return { ok: true, value: undefined };
    if (!stat.isFile()) return notUnderstood(path, 'it is not a regular file');
    const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MILLISECONDS });
    try {
      return { ok: true, value: readRows(database, jails, now) };
    } finally {
      database.close();
    }
  } catch (error) {
    if (systemCode(error) === 'ENOTDIR') return { ok: true, value: undefined };
    return notUnderstood(path, systemCode(error) ?? (error instanceof Error ? error.message : String(error)));
  }
}

function readRows(database: DatabaseSync, jails: readonly string[], now: number): BanRows | undefined {
  const known = database.prepare('SELECT 1 FROM jails WHERE name = ?');
  const present = jails.filter((jail) => known.get(jail) !== undefined);
  if (present.length === 0) return undefined;
  const query = database.prepare(
    'SELECT ip, timeofban, bantime, data FROM bips WHERE jail = ? AND (bantime <= -1 OR timeofban + bantime > ?)',
  );
  // A number of more than 53 bits would make all rows fail.
  query.setReadBigInts(true);
  const rows: BanRow[] = [];
  const odd: string[] = [];
  for (const { ip, timeofban, bantime, data } of present.flatMap((jail) => query.all(jail, now))) {
    const id = String(ip);
    const address = addressIn(data) ?? id;
    const since = Math.floor(Number(timeofban));
    const lasts = Math.ceil(Number(bantime));
    if (isTime(since) && !Number.isNaN(lasts)) rows.push({ id, address, since, lasts });
    else odd.push(address);
  }
  return { rows, odd };
}

/** If a jail counts by `<F-ID>`, its row has the address too (since fail2ban 1.0). */
function addressIn(data: unknown): string | undefined {
  if (data === null || data === undefined) return undefined;
  try {
    const text = data instanceof Uint8Array ? Buffer.from(data).toString() : String(data);
    const { ip } = JSON.parse(text);
    return typeof ip === 'string' ? ip : undefined;
  } catch {
    return undefined;
  }
}

function notUnderstood(path: string, why: string): Answer<never> {
  return { ok: false, why: `cannot read fail2ban's database ${path}: ${why}` };
}
