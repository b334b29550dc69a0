import type { FindingCode, Severity } from '../audit/finding.ts';
import type { AuditOptions } from '../audit/types.ts';
import type { ReportedBan } from '../store/read.ts';

/** What a report needs to know. */
export interface ReportOptions extends AuditOptions {
  readonly record?: string | undefined;
  readonly fail2banDatabase: string | undefined;
  readonly fleetState: string;
}

/** A named number. */
export interface Tally {
  readonly name: string;
  readonly count: number;
}

/** The content of a report: for `report --json`, the page and the terminal. Times are ISO 8601 in UTC. */
export interface ReportDocument {
  readonly generated: string;
  /** The beginning of the report's time. */
  readonly since: string;
  readonly host: string;
  readonly version: string;
  readonly banned: {
    readonly total: number;
    readonly addresses: number;
    readonly ranges: number;
    /** `holder` null: unknown; `host` null: this host. */
    readonly byHolder: readonly {
      readonly holder: string | null;
      readonly byHand: boolean;
      readonly host: string | null;
      readonly count: number;
    }[];
  };
  readonly history: {
    readonly database: {
      readonly file: string;
      /** Why the history could not be read. */
      readonly problem: string | null;
      /** The first ban since the beginning of the report's time. */
      readonly oldest: string | null;
      readonly purgeAgeSeconds: number | null;
    };
    readonly bans: number;
    readonly byJail: readonly Tally[];
    readonly bucketSeconds: number;
    /** The jails with bans, in order. */
    readonly buckets: readonly { readonly from: string; readonly byJail: readonly Tally[] }[];
    /** By the hour of the day, UTC: 24 numbers for each jail. */
    readonly byHour: readonly { readonly jail: string; readonly counts: readonly number[] }[];
    readonly addresses: readonly (Tally & { readonly jails: readonly string[] })[];
    readonly networks: readonly (Tally & { readonly addresses: number })[];
    /** Counts by the intended length of a ban. */
    readonly durations: readonly Tally[];
  };
  readonly record: {
    /** The time of the oldest entry; null if there is none. */
    readonly since: string | null;
    readonly isFull: boolean;
    readonly ended: readonly (Tally & { readonly describe: string })[];
    /** Of bans with a known beginning and end. */
    readonly lasted: { readonly bans: number; readonly medianSeconds: number | null };
    readonly refused: {
      readonly count: number;
      readonly byReason: readonly Tally[];
      readonly addresses: readonly Tally[];
    };
  };
  readonly audit: {
    readonly ok: boolean;
    readonly findings: readonly {
      readonly code: FindingCode;
      readonly severity: Severity;
      readonly address?: string | undefined;
      readonly message: string;
    }[];
  };
  readonly reloads: {
    readonly pending: boolean;
    readonly last: string | null;
    readonly error: string | null;
    readonly done: number;
    readonly failed: number;
    readonly medianSeconds: number | null;
    readonly longestSeconds: number | null;
  };
  /** null without a fleet. */
  readonly fleet: {
    readonly connected: boolean;
    readonly hosts: readonly {
      readonly name: string;
      readonly seen: string | null;
      readonly holds: number | null;
      readonly version: string | null;
    }[];
  } | null;
}

/** A report with the bans that its page lists. */
export interface Report {
  readonly document: ReportDocument;
  readonly bans: readonly ReportedBan[];
}
