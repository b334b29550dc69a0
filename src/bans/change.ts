import type { Hold } from './hold.ts';
import type { HoldRequest, Status } from './hold-changes.ts';

/** A change to the bans. */
export type Change =
  | {
      readonly verb: 'add';
      /** The address that Apache must refuse: the hold's own, or a range around it. */
      readonly target: string;
      readonly hold: HoldRequest;
    }
  | {
      /** Makes the holder's hold on its address exactly this one, even if it is shorter than the earlier. */
      readonly verb: 'set';
      readonly target: string;
      readonly hold: Hold;
    }
  | {
      readonly verb: 'release';
      readonly address: string;
      /** null: every holder's, even unknown ones. */
      readonly holder: string | null;
      /** Releases only the holder's hold with this id; null: the one without an id. */
      readonly id?: string | null | undefined;
      /** If given, releases only these holds; later ones stay. */
      readonly seen?: readonly Hold[];
    }
  | {
      /** Copies a ban from another place unchanged; without holds, its holder is unknown. */
      readonly verb: 'adopt';
      readonly address: string;
      readonly holds: readonly Hold[];
    }
  | {
      /** Removes a ban that another place now has: later holds stay, and so do foreign lines. */
      readonly verb: 'cede';
      readonly address: string;
      readonly holds: readonly Hold[];
    }
  | {
      /** Counts, for `--widen-after`, the holds in this network at another place. */
      readonly verb: 'count';
      readonly address: string;
      readonly holds: readonly Hold[];
      /** An address in it has become protected: the network may not stay banned, however many are held. */
      readonly isProtected?: boolean;
    }
  | {
      /** Keeps one line of several for the same address, and drops expired holds by hand. */
      readonly verb: 'tidy';
      readonly address: string;
    };

/** The result of one change that adds, sets or releases. */
export interface Outcome {
  readonly address: string;
  readonly status: Status;
  /** The holders or wider ranges because of which Apache still refuses the address. */
  readonly heldBy: readonly string[];
  /** The bans or their holds have changed. */
  readonly isChanged: boolean;
}

/** The outcomes by the change itself, because two callers can ask the same about one address at once. */
export type Outcomes = ReadonlyMap<Change, Outcome>;

type SetChange = Extract<Change, { verb: 'set' }>;

export function isSet(change: Change): change is SetChange {
  return change.verb === 'set';
}

/** A change that bans. */
export type Placing = Extract<Change, { verb: 'add' | 'set' }>;

export function isPlacing(change: Change): change is Placing {
  return change.verb === 'add' || change.verb === 'set';
}
