import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { LAST_SECOND } from '../bans/hold.ts';
import { run } from '../system/program.ts';

/** A ban that fail2ban made. What it banned need not be an address. */
export interface PastBan {
  readonly jail: string;
  readonly address: string;
  /** Seconds since the epoch. */
  readonly since: number;
  /** null: for ever. */
  readonly durationSeconds: number | null;
}

export type History =
  | { readonly ok: true; readonly bans: readonly PastBan[] }
  | { readonly ok: false; readonly why: string };

const BUSY_MS = 5000;
const LIMIT_SECONDS = 10;

/** The bans in fail2ban's database since then: each once, however often fail2ban restored it. */
export function bansSince(path: string, since: number): History {
  try {
    // Opening a named pipe, SQLite would wait for ever for a writer.
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.isFile() !== true)
      return { ok: false, why: stat === undefined ? 'it does not exist' : 'it is not a regular file' };
    const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS });
    try {
      const query = database.prepare(
        'SELECT jail, ip, timeofban, bantime FROM bans WHERE timeofban >= ? ORDER BY timeofban',
      );
      // Of 100,000 rows, objects would take twice as long as arrays.
      query.setReturnArrays(true);
      const bans: PastBan[] = [];
      for (const row of query.iterate(since) as Iterable<unknown>) {
        const ban = toPastBan(row as readonly unknown[]);
        if (ban !== undefined) bans.push(ban);
      }
      return { ok: true, bans };
    } finally {
      database.close();
    }
  } catch (error) {
    return { ok: false, why: error instanceof Error ? error.message : String(error) };
  }
}

function toPastBan([jail, address, began, lasting]: readonly unknown[]): PastBan | undefined {
  const since = Math.floor(Number(began));
  const lasts = Number(lasting);
  if (!(since >= 0 && since <= LAST_SECOND) || Number.isNaN(lasts)) return undefined;
  const durationSeconds = lasts < 0 ? null : Math.ceil(lasts);
  return { jail: String(jail), address: String(address), since, durationSeconds };
}

/** How long the running fail2ban keeps its history, in seconds; undefined if it does not say. */
export async function purgeAge(client: string): Promise<number | undefined> {
  const { exitCode, stdout } = await run(client, ['get', 'dbpurgeage'], LIMIT_SECONDS);
  const [, seconds] = /(\d+)\s*seconds/.exec(stdout) ?? [];
  return exitCode === 0 && seconds !== undefined ? Number(seconds) : undefined;
}
