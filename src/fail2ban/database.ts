import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { LAST_SECOND } from '../bans/hold.ts';
import { BanctlError, EXIT, systemCode } from '../system/errors.ts';
import { quote } from '../system/printable.ts';
import type { HeldBan } from './client.ts';

/** How long to wait for fail2ban to finish what it writes. Milliseconds. */
const BUSY = 5000;

/**
 * The bans of a jail that have not ended, from fail2ban's database. Only at the start of a jail are these what it
 * holds: rows of bans that were cut short, and those of a stopped jail, remain. Undefined if there is no such
 * jail, or no database at all.
 *
 * @throws BanctlError notUnderstood if it is no database of fail2ban
 */
export function bansInDatabase(path: string, jail: string, now: number): HeldBan[] | undefined {
  // fail2ban can do without (dbfile = None).
  if (!isThere(path)) return undefined;
  try {
    const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY });
    try {
      if (database.prepare('SELECT 1 FROM jails WHERE name = ?').get(jail) === undefined) return undefined;
      const query = database.prepare(
        'SELECT ip, timeofban, bantime FROM bips WHERE jail = ? AND (bantime <= -1 OR timeofban + bantime > ?)',
      );
      return query.all(jail, now).map((row) => {
        const since = Math.floor(Number(row.timeofban));
        const lasts = Number(row.bantime);
        if (!(since >= 0 && since <= LAST_SECOND) || Number.isNaN(lasts))
          throw new Error(`the ban of ${quote(String(row.ip))} has no time that can be read`);
        return { address: String(row.ip), since, until: lasts < 0 ? null : since + Math.ceil(lasts) };
      });
    } finally {
      database.close();
    }
  } catch (error) {
    throw notUnderstood(path, error instanceof Error ? error.message : String(error));
  }
}

/** SQLite would wait for ever for the writer of a named pipe. */
function isThere(path: string): boolean {
  try {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || stat.isFile()) return stat !== undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOTDIR') return false;
    throw notUnderstood(path, systemCode(error) ?? String(error));
  }
  throw notUnderstood(path, 'it is not a regular file');
}

function notUnderstood(path: string, why: string): BanctlError {
  return new BanctlError(
    EXIT.notUnderstood,
    `cannot read fail2ban's database ${path}: ${why}`,
    'nothing was changed',
  );
}
