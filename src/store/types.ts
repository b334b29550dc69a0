import type { Ban } from '../banlist/ban-lines.ts';
import type { Widening } from '../banlist/networks.ts';
import type { Change, Outcome, Outcomes } from '../bans/change.ts';
import type { Plan } from '../reload/plan.ts';
import type { ReloadOptions, ReloadReport } from '../reload/types.ts';
import type { FileVersion } from '../system/read.ts';
import type { OnLoss } from '../system/write.ts';
import type { StartProgress } from '../terminal/progress.ts';
import type { Kept } from './kept.ts';

export interface PlaceOptions {
  readonly banlist: string;
  /** Undefined: all bans are in the list. */
  readonly bandir: string | undefined;
}

/**
 * Where bans are: the list, the directory, or both as one. A change returns when it is on the disk. Apache must still load
 * the list, see enforce.ts.
 */
export interface Store {
  /** Reads without a lock: a reader sees one complete version of a replaced file. */
  read(): readonly Ban[];
  change(changesFor: ChangesFor): Promise<Written>;
}

/** Derives changes from the existing bans, which are read only on demand. Called again if another process was faster. */
export type ChangesFor = (bansNow: () => readonly Ban[]) => readonly Change[];

/** What one caller asks for. A function is only for callers that must see the bans first. */
export type Changes = readonly Change[] | ChangesFor;

export interface ChangeOptions extends ReloadOptions {
  readonly dryRun: boolean;
  /** True: the reload does not wait for the end of the interval. */
  readonly isUrgent?: boolean;
  /** Asked under the lock, for a repair, and a resident whose callers may have given up: false omits the change. */
  readonly isWanted?: (change: Change) => boolean;
  /** True: a repair, whose releases are not announced to other repairs, see lifts.ts. */
  readonly isRepair?: boolean;
  /**
   * For changes in pieces, whose files one sync puts on the disk. `later`: another piece follows; `all`: the last one, perhaps
   * empty. Undefined: the change is on the disk when it is done.
   */
  readonly sync?: 'later' | 'all' | undefined;
  /** When to ban a network instead of its addresses. Undefined: as the list says of each network. */
  readonly widening?: Widening | undefined;
  /** Of a resident, which answers others while it waits. */
  readonly kept?: Kept;
  /** Shows progress on a terminal. */
  readonly progress?: StartProgress | undefined;
}

/** Changes that are on the disk. */
export interface Written {
  readonly isChanged: boolean;
  readonly outcomes: Outcomes;
  /** What to do about the reload. */
  readonly plan: Plan;
  /** The data to take the change of the list back; undefined if the list was not written. */
  readonly replaced?: Replaced;
  /** What remains done if the list is taken back. */
  readonly inDirectory?: Pick<Written, 'isChanged' | 'outcomes'>;
  /** What must wait until Apache enforces the change. */
  readonly whenEnforced?: () => Promise<void>;
}

export interface Replaced {
  readonly before: Buffer;
  readonly version: FileVersion;
  readonly keepsAttributes: OnLoss | undefined;
  /** Makes the same change again, to the current list. */
  readonly changeAgain: () => Promise<unknown>;
}

export interface ChangeReport {
  readonly isChanged: boolean;
  readonly outcomes: readonly Outcome[];
  readonly reload: ReloadReport;
}
