// What a test asks of a process of test/lab/interrupted.ts.
import type { Change } from '../../src/bans/change.ts';

export interface Order {
  readonly directory: string;
  readonly changes: readonly Change[];
  /** Undefined: every ban stands in the list. */
  readonly bandir?: string | undefined;
  readonly signal?: NodeJS.Signals;
  /** In place of these calls there is this error of the system. */
  readonly error?: string;
  /** Numbers of the calls, from 1. */
  readonly before?: readonly number[];
  /** Calls that change nothing do not count: it is the same to be killed before such a one or the next. */
  readonly skipsReads?: boolean;
  /** Files whose lock it takes first, from a holder that is stopped or killed. */
  readonly takesOver?: readonly string[];
  /** A failure is told instead of ending the process. */
  readonly mayFail?: boolean;
  /** It repairs as `audit --fix` does. */
  readonly fixes?: boolean;
  /** Instead of changing bans it installs or removes this kit, texts by path, in the tree that `directory` is. */
  readonly setup?: { readonly verb: 'install' | 'remove'; readonly kit: Readonly<Record<string, string>> };
}
