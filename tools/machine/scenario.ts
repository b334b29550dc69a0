// How the scenarios of test/machine are written.
import type { Machine } from './machine.ts';

/** What a scenario gets: a machine on which the package is installed and one jail is on, unless it says otherwise. */
export interface Scene {
  readonly machine: Machine;
  /** Runs a script in the machine and compares what it prints, without spaces around it. Goes on where it differs. */
  readonly expect: (what: string, script: string, expected: string | RegExp) => Promise<string>;
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
  /** True where {@link Machine.kill} is a loss of power. */
  readonly losesPower?: boolean;
  /** True where the scenario takes minutes: it begins before the others, so that none runs alone at the end. */
  readonly isLong?: boolean;
  readonly run: (scene: Scene) => Promise<void>;
}
