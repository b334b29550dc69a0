import type { Change, Outcome } from '../bans/change.ts';
import type { HoldName } from '../bans/hold.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { StoreOptions } from '../store/store.ts';
import type { ChangeOptions, Changes } from '../store/types.ts';
import type { Hello, Request } from './protocol.ts';

/** A request's changes, as the command of the same name makes them. */
export interface Work {
  readonly options: StoreOptions;
  readonly changes: Changes;
  /** The hold that a restored ban needs: if it exists, nothing needs to change. */
  readonly needs: HoldName | undefined;
  /** Called after the changes, for the record. */
  readonly onDone: (outcomes: readonly Outcome[]) => void;
  /** Skipped addresses, reported with the outcomes. */
  readonly skipped: readonly Outcome[];
  /** Closed once the changes are made, or have failed. */
  readonly lifts?: Disposable;
}

/** The text about changes, and the exit code of a call that made them. */
export interface Reply {
  readonly exit: number;
  readonly said: string;
}

/** The resident's interface to the commands, which alone know the settings. */
export interface Commands {
  /** @throws BanctlError as the call would */
  prepare(request: Request, hello: Hello): Promise<Work | Reply>;
  describe(outcomes: readonly Outcome[], reload: ReloadReport): Reply;
  /** Records the bans by hand that have ended, as an audit does. */
  recordEnded(addresses: readonly string[]): void;
}

export type ServeOptions = StoreOptions & {
  readonly socket: string;
};

/** Bans that are shared with other servers, if any are. */
export interface Sharing {
  /** Asked anew at each start; an agent changes bans by what it is given. */
  readonly start: (change: ChangeShared) => Promise<SharingAgent>;
  readonly options: StoreOptions;
}

/** Changes bans of this host, perhaps in pieces with one sync. */
export type ChangeShared = (
  changes: readonly Change[],
  sync: ChangeOptions['sync'],
) => Promise<{ readonly outcomes: readonly Outcome[] }>;

export interface SharingAgent {
  close(): Promise<void>;
}
