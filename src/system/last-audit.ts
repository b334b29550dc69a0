import { closeSync, existsSync, futimesSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

/*
 * When "audit --fix" last ran: the time of a file beside the record. Only such an audit, or banctl serve, ends a hold by
 * hand on time. If the directory does not exist, nothing is known.
 */

export interface AuditPlaces {
  /** Undefined: banctl records nothing. */
  readonly record?: string | undefined;
  /** Where banctl serve answers. */
  readonly socket: string;
}

/** Three intervals of the audit job. */
const LATE_SECONDS = 15 * 60;

function auditedPath(record: string): string {
  return join(dirname(record), 'audited');
}

/** Sets the time to now. A missing or unwritable directory must not make the audit fail. */
export function noteAudit(record: string | undefined): void {
  if (record === undefined) return;
  try {
    const descriptor = openSync(auditedPath(record), 'a', 0o644);
    futimesSync(descriptor, new Date(), new Date());
    closeSync(descriptor);
  } catch {
    // Then banctl does not report a late audit either, or reports one that ran.
  }
}

/** True if no audit has run for so long that probably no job ends the hold. */
export function isAuditLate({ record, socket }: AuditPlaces, nowMs: number): boolean {
  if (record === undefined) return false;
  const directory = statSync(dirname(record), { throwIfNoEntry: false });
  if (directory === undefined || existsSync(socket)) return false;
  // Before the first audit, the time of banctl's installation counts.
  const ran = statSync(auditedPath(record), { throwIfNoEntry: false })?.mtimeMs ?? directory.ctimeMs;
  return nowMs - ran > LATE_SECONDS * 1000;
}

export const NO_AUDIT =
  'no audit has run for 15 minutes, so nothing lifts it at its end; start banctl-audit.timer or install cron.d/banctl';
