// How the scenarios of test/machine are written.
import assert from 'node:assert/strict';
import type { BootOptions, Machine } from './machine.ts';

/** What a scenario gets: a machine on which the package is installed and one jail is on, unless it says otherwise. */
export interface Scene {
  readonly machine: Machine;
  /** Runs a script in the machine and compares what it prints, without spaces around it. */
  readonly expect: (what: string, script: string, expected: string | RegExp) => Promise<string>;
  /** Ends the machine and starts it from the same installation with these options. */
  readonly bootAnew: (options: BootOptions) => Promise<void>;
  /** The packages' names: of this version, of 9.9.9, which has the same contents, and of 0.1.0. */
  readonly packages: { readonly present: string; readonly next: string; readonly old: string };
  /** Shows where the scenario is. */
  readonly say: (what: string) => void;
}

/** A file of test/machine. */
export interface Scenario {
  /** What is expected, in one line for the table. */
  readonly expects: string;
  /** False where this computer does, and no machine boots. */
  readonly needsMachine?: boolean;
  readonly run: (scene: Scene) => Promise<void>;
}

export function compare(what: string, output: string, expected: string | RegExp): void {
  const printed = output.trim();
  if (typeof expected === 'string')
    assert.equal(printed, expected, `${what}: printed\n${printed}\nexpected\n${expected}`);
  else assert.match(printed, expected, `${what}: printed\n${printed}\nexpected ${expected}`);
}
