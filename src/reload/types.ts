import type { ApacheCommands } from '../apache/apache.ts';
/** What became of the reload: the words of the JSON results. */
export type ReloadResult = 'done' | 'deferred' | 'not-needed' | 'skipped' | 'failed';

export interface ReloadReport {
  readonly result: ReloadResult;
  /** For the administrator: why it was skipped or failed, or when it will be. */
  readonly message?: string;
  /** Apache's own test refused the configuration. */
  readonly isConfigRefused?: boolean;
}

export interface ReloadOptions extends ApacheCommands {
  readonly banlist: string;
  /** False: somebody else reloads. */
  readonly reloads: boolean;
  /** Seconds. */
  readonly reloadInterval: number;
  /** Seconds. */
  readonly lockTimeout: number;
  /** Where each reload is counted. */
  readonly record?: string | undefined;
  /** The configuration file. */
  readonly config: string;
}
