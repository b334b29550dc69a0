// What a test asks of a process of test/lab/interrupted.ts.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { Change } from '../../src/bans/change.ts';

export interface Order {
  readonly directory: string;
  /** Such as one line of arguments asks for: all by one holder, all of one kind. */
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
  /** A failure is reported instead of ending the process. */
  readonly mayFail?: boolean;
  /** It repairs with `audit --fix`. */
  readonly fixes?: boolean;
  /** Instead of changing bans it serves at this socket, until SIGTERM. */
  readonly serves?: string;
  /** Instead of changing bans it installs or removes this kit, texts by path, in the tree that `directory` is. */
  readonly setup?: { readonly verb: 'install' | 'remove'; readonly kit: Readonly<Record<string, string>> };
}

/** What banctl gets to do it. */
export function lineOf({ directory, changes, bandir, serves, setup }: Order): string[] {
  if (setup !== undefined)
    return ['setup', `--root=${directory}`, ...(setup.verb === 'remove' ? ['--remove'] : [])];
  const places = [
    `--banlist=${join(directory, 'banlist.conf')}`,
    ...(bandir === undefined ? [] : [`--bandir=${bandir}`]),
    '--no-reload',
  ];
  if (serves !== undefined) return ['serve', `--socket=${serves}`, ...places];
  const asked = changes.map((change) => {
    if (change.verb === 'add') return { verb: 'ban', jail: change.hold.holder, address: change.hold.address };
    assert.equal(change.verb, 'release');
    return { verb: 'unban', jail: change.holder, address: change.address };
  });
  const [first] = asked;
  assert.ok(first && asked.every(({ verb, jail }) => verb === first.verb && jail === first.jail), 'one line');
  return [first.verb, ...asked.map(({ address }) => address), `--jail=${first.jail}`, ...places];
}
