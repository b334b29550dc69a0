import type { Hold } from './hold.ts';
import type { HoldRequest, Status } from './holds.ts';

/** A change to the bans. */
export type Change =
  | {
      readonly verb: 'add';
      /** What Apache is to refuse: the address of the hold, or a range around it. */
      readonly target: string;
      readonly hold: HoldRequest;
    }
  | {
      /** The holder's hold on its address becomes exactly this one, also where that says less than the earlier. */
      readonly verb: 'set';
      readonly target: string;
      readonly hold: Hold;
    }
  | {
      readonly verb: 'release';
      readonly address: string;
      /** null: every holder's, known or not. */
      readonly holder: string | null;
      /** Where given, only these holds go: what came later stays. */
      readonly seen?: readonly Hold[];
    }
  | {
      /** Takes a ban over from another place, as it is; without holds it is one with an unknown holder. */
      readonly verb: 'adopt';
      readonly address: string;
      readonly holds: readonly Hold[];
    }
  | {
      /** Gives a ban up that another place has taken over: what came later stays, and so do foreign lines. */
      readonly verb: 'cede';
      readonly address: string;
      readonly holds: readonly Hold[];
    }
  | {
      /** Counts, for `--widen-after`, what is held in this network at another place. */
      readonly verb: 'count';
      readonly address: string;
      readonly holds: readonly Hold[];
    }
  | {
      /** Leaves one line of several that ban the same address, and drops manual holds that are over. */
      readonly verb: 'tidy';
      readonly address: string;
    };

/** What became of one change that adds, sets or releases. */
export interface Outcome {
  readonly address: string;
  readonly status: Status;
  /** What still refuses the address: holders, or wider ranges. */
  readonly heldBy: readonly string[];
  /** The bans or their holds are other ones than before. */
  readonly isChanged: boolean;
}

/** The outcomes by the change itself: two callers can ask the same of one address at once. */
export type Outcomes = ReadonlyMap<Change, Outcome>;
