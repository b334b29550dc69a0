import { closeSync, existsSync, futimesSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

/*
 * When "audit --fix" ran last: the time of a file beside the record. Only such an audit, or banctl serve, ends a hold by
 * hand on time. Where the directory does not exist, nothing is known.
 */

export interface AuditPlaces {
  /** Undefined: nothing is recorded. */
  readonly record?: string | undefined;
  /** Where banctl serve answers. */
  readonly socket: string;
}

/** Three of the job's runs. */
const LATE_SECONDS = 15 * 60;

function auditedPath(record: string): string {
  return join(dirname(record), 'audited');
}

/** Sets the time to now. A directory that does not exist, or may not be written, is none of the audit's business. */
export function noteAudit(record: string | undefined): void {
  if (record === undefined) return;
  try {
    const descriptor = openSync(auditedPath(record), 'a', 0o644);
    futimesSync(descriptor, new Date(), new Date());
    closeSync(descriptor);
  } catch {
    // Then a late audit is not reported either, or reported although it ran.
  }
}

/** True if no audit has run for so long that nothing can be expected to end a hold. */
export function isAuditLate({ record, socket }: AuditPlaces, nowMs: number): boolean {
  if (record === undefined) return false;
  const directory = statSync(dirname(record), { throwIfNoEntry: false });
  if (directory === undefined || existsSync(socket)) return false;
  // Until the first audit, the time since banctl was installed counts.
  const ran = statSync(auditedPath(record), { throwIfNoEntry: false })?.mtimeMs ?? directory.ctimeMs;
  return nowMs - ran > LATE_SECONDS * 1000;
}

export const NO_AUDIT =
  'no audit has run for 15 minutes, so nothing lifts it at its end; start banctl-audit.timer or install cron.d/banctl';
