import type { Refusal } from '../apache/configuration.ts';

/** The result of the reload: the words of the JSON results. */
export type ReloadResult = 'done' | 'deferred' | 'not-needed' | 'skipped' | 'failed';

export interface ReloadReport {
  readonly result: ReloadResult;
  /** For the administrator: why it was skipped or failed, or when it will run. */
  readonly message?: string;
  /** Apache's own test refused the configuration. */
  readonly refusal?: Refusal;
  /** Apache refused the list because of this call's change, and banctl took the change back. */
  readonly isTakenBack?: boolean;
}

/** How to reach the Apaches that read the list. */
export interface ApacheCommands {
  /** A control program for each Apache; empty: banctl finds the one of this host. */
  readonly apachectl: readonly string[];
  readonly reloadCommand: string | undefined;
}

export interface ReloadOptions extends ApacheCommands {
  readonly banlist: string;
  /** False: the options forbid a reload. */
  readonly reloads: boolean;
  /** Seconds. */
  readonly reloadInterval: number;
  /** Seconds. */
  readonly lockTimeout: number;
  /** Where banctl counts each reload. */
  readonly record?: string | undefined;
  /** The configuration file. */
  readonly config: string;
  /** Of a resident, which answers other requests while it waits for a lock: ends its own turns at lists, see store/turn.ts. */
  readonly endTurns?: (() => void) | undefined;
  /**
   * Called under the list's lock when a reload is deferred, for a process that stays and calls {@link reloadWhenDue} itself.
   * Without it, banctl starts a process that waits.
   */
  readonly onDeferred?: (() => void) | undefined;
}

/** One Apache that reads the list. */
export interface Target {
  /** The name under which the state remembers it. */
  readonly name: string;
  readonly apachectl: string | undefined;
  readonly reloadCommand: string | undefined;
}

const COMMAND_ALONE = 'reload-command ';

/** The Apaches that a call concerns. A reload command alone is for an Apache that only the command knows. */
export function targetsOf({ apachectl, reloadCommand }: ApacheCommands): Target[] {
  if (apachectl.length > 0)
    return apachectl.map((control) => ({ name: control, apachectl: control, reloadCommand }));
  const name = reloadCommand === undefined ? '' : `${COMMAND_ALONE}${reloadCommand}`;
  return [{ name, apachectl: undefined, reloadCommand }];
}

export function namesOf(commands: ApacheCommands): string[] {
  return targetsOf(commands).map(({ name }) => name);
}
