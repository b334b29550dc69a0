import type { Ban } from '../banlist/text.ts';
import type { Change, Outcome } from '../bans/change.ts';
import type { ReloadOptions, ReloadReport } from '../reload/types.ts';
import type { StartProgress } from '../terminal/progress.ts';
export interface PlaceOptions {
  readonly banlist: string;
  /** Undefined: every ban stands in the list. */
  readonly bandir: string | undefined;
}

/** What changes are made of the bans there are, which are read only if they are asked for. */
export type Changes = (bansNow: () => readonly Ban[]) => readonly Change[];

/* The story of a change of the list: under its lock it is read, changed and replaced; then Apache is made to read it. */

export interface ChangeOptions extends ReloadOptions {
  readonly dryRun: boolean;
  /** True: the reload does not wait for the end of the interval. */
  readonly isUrgent?: boolean;
  /** Tells whoever watches how many of the changes are done. */
  readonly progress?: StartProgress | undefined;
}

export interface ChangeReport {
  readonly isChanged: boolean;
  readonly outcomes: readonly Outcome[];
  readonly reload: ReloadReport;
}
