import type { Change, Outcome } from '../bans/change.ts';
import type { ChangeOptions, PlaceOptions } from '../store/types.ts';
import type { BulkNote } from './bulk-note.ts';
import type { DueAddresses } from './due-addresses.ts';
import type { EngineOptions } from './engine.ts';
import type { HostState } from './host-state.ts';
import type { LocalHolds } from './local-holds.ts';
import type { Mirror } from './mirror.ts';

export interface FleetOptions extends PlaceOptions {
  readonly engine: EngineOptions;
  /** The name that this host is to have. */
  readonly host: string;
  /** The directory of what it knows. */
  readonly state: string;
  readonly version: string;
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
  readonly protect: readonly string[];
  readonly record?: string | undefined;
  /** Undefined: the agent leaves fail2ban alone. */
  readonly fail2banClient: string | undefined;
}

/** Changes the bans of this host; see {@link ChangeOptions.sync}. */
export type ChangeBans = (
  changes: readonly Change[],
  sync: ChangeOptions['sync'],
) => Promise<{ readonly outcomes: readonly Outcome[] }>;

/** What the parts of an agent share. */
export interface Host {
  readonly options: FleetOptions;
  /** Of this start of the agent; a later one sorts after an earlier one. */
  readonly session: string;
  readonly hostState: HostState;
  readonly local: LocalHolds;
  readonly mirror: Mirror;
  readonly dueAddresses: DueAddresses;
  readonly bulkNote: BulkNote;
  readonly complain: (error: unknown) => void;
  /** Remembers a lift, and sees to what it is about. */
  readonly remember: (key: string, time: number) => void;
}
