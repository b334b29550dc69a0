import type { Widening } from '../banlist/networks.ts';
import type { Ban } from '../banlist/text.ts';
import type { Change, Outcome, Outcomes } from '../bans/change.ts';
import type { Plan } from '../reload/plan.ts';
import type { ReloadOptions, ReloadReport } from '../reload/types.ts';
import type { FileVersion } from '../system/read.ts';
import type { StartProgress } from '../terminal/progress.ts';

export interface PlaceOptions {
  readonly banlist: string;
  /** Undefined: every ban stands in the list. */
  readonly bandir: string | undefined;
}

/**
 * Where bans stand: the list, the directory, or both as one. A change returns when it is on the disk; Apache still has
 * to load what the list says, see enforce.ts.
 */
export interface Store {
  /** Reads without a lock: a replaced file is one whole version or the other. */
  read(): readonly Ban[];
  change(changesFor: ChangesFor): Promise<Written>;
}

/** Makes changes of the bans there are, which are read only on demand. Called again if another process was faster. */
export type ChangesFor = (bansNow: () => readonly Ban[]) => readonly Change[];

/** What one caller asks for. Only who must see the bans first passes a function. */
export type Changes = readonly Change[] | ChangesFor;

export interface ChangeOptions extends ReloadOptions {
  readonly dryRun: boolean;
  /** True: the reload does not wait for the end of the interval. */
  readonly isUrgent?: boolean;
  /** Asked under the lock, for a resident whose callers may give up: false leaves the change out. */
  readonly isWanted?: (change: Change) => boolean;
  /** When to ban a network in place of its addresses. Undefined: as the list says of each network. */
  readonly widening?: Widening | undefined;
  /** Shows on a terminal how many of the changes are done. */
  readonly progress?: StartProgress | undefined;
}

/** Changes that are on the disk. */
export interface Written {
  readonly isChanged: boolean;
  readonly outcomes: Outcomes;
  /** What is to be done about the reload. */
  readonly plan: Plan;
  /** What is needed to take the change of the list back; undefined if the list was not written. */
  readonly replaced?: Replaced;
  /** What stays done if the list is taken back. */
  readonly inDirectory?: Pick<Written, 'isChanged' | 'outcomes'>;
  /** What can be done only once Apache enforces the change, if anything. */
  readonly whenEnforced?: () => Promise<void>;
}

export interface Replaced {
  readonly before: Buffer;
  readonly version: FileVersion;
  /** Makes the same change of the list as it is by then. */
  readonly changeAgain: () => Promise<unknown>;
}

export interface ChangeReport {
  readonly isChanged: boolean;
  readonly outcomes: readonly Outcome[];
  readonly reload: ReloadReport;
}
