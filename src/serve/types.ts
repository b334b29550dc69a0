import type { Outcome } from '../bans/change.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { StoreOptions } from '../store/store.ts';
import type { Changes } from '../store/types.ts';
import type { Hello, Request } from './protocol.ts';

/** What a request comes to, as the command of the same name does it. */
export interface Work {
  readonly options: StoreOptions;
  readonly changes: Changes;
  /** The hold that a restored ban needs: with it in place there is nothing to do. */
  readonly needs: { readonly holder: string; readonly address: string } | undefined;
  /** Told once the changes are made: the record of what was done. */
  readonly onDone: (outcomes: readonly Outcome[]) => void;
  /** Addresses that are left out, said with the outcomes. */
  readonly skipped: readonly Outcome[];
}

/** What is said of changes, and the exit code of a call that made them. */
export interface Said {
  readonly exit: number;
  readonly said: string;
}

/** The resident's view of the commands, which alone know the settings. */
export interface Commands {
  /** @throws BanctlError as a call would end */
  prepare(request: Request, hello: Hello): Promise<Work | Said>;
  describe(outcomes: readonly Outcome[], reload: ReloadReport): Said;
}

export type ServeOptions = StoreOptions & {
  readonly socket: string;
};
