import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Change } from '../bans/change.ts';
import { succeeds, systemCode } from '../system/errors.ts';
import { hiddenName } from '../system/hidden-name.ts';
import { isRunning, processId } from '../system/process.ts';
import type { ChangeOptions } from './types.ts';

/*
 * A repair asks fail2ban what it holds, and then waits for the lock. A ban that ends in between must not come back by the
 * old answer, and the list alone does not show that it ended: fail2ban may have made it after the question too. So each
 * running repair has a file in a directory beside the list, `.LIST.lifts/PID-START.NUMBER`, and every other call writes
 * there what it is about to release, before it does. The repair reads its file under the lock of the ban that it adds:
 * either the line is there, or the release comes later and finds the ban.
 */

const OWN_FILE = 0o600;
const OWN_DIRECTORY = 0o700;
/** Another repair that ends may remove the directory between the two calls that make it and a file in it. */
const MOST_TRIES = 20;

type Lift = Pick<Extract<Change, { verb: 'release' }>, 'address' | 'holder' | 'id'>;

function directoryOf(banlist: string): string {
  return hiddenName(`${banlist}.lifts`);
}

/**
 * Says to the running repairs what these changes release, and removes what a killed one has left. Usually none runs, and that
 * costs one system call.
 */
export function announceLifts(banlist: string, changes: readonly Change[]): void {
  const lifts = changes.filter((change) => change.verb === 'release');
  if (lifts.length === 0) return;
  const directory = directoryOf(banlist);
  const names = namesIn(directory);
  if (names === undefined) return;
  removeLeft(directory, names);
  const lines = lifts.map(({ address, holder, id }) => lineOf({ address, holder, id }));
  // If the repair has ended or the disk is full, the release goes on: the repair asks fail2ban once more.
  for (const name of names) succeeds(() => append(join(directory, name), lines.join('')));
}

function removeLeft(directory: string, names: readonly string[]): void {
  const left = names.filter(isLeft);
  for (const name of left) succeeds(() => unlinkSync(join(directory, name)));
  if (left.length === names.length) succeeds(() => rmdirSync(directory));
}

/** A full disk can have cut the line before. */
function lineOf(lift: Lift): string {
  return `\n${JSON.stringify(lift)}\n`;
}

function append(path: string, text: string): void {
  const { O_WRONLY, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = constants;
  const descriptor = openSync(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
  try {
    if (fstatSync(descriptor).isFile()) writeSync(descriptor, text);
  } finally {
    closeSync(descriptor);
  }
}

/** What other calls have lifted since a repair last asked fail2ban. */
export class Lifts implements Disposable {
  readonly #directory: string;
  readonly #path: string;
  /** Undefined in a dry run, and if the file cannot be made: a repair that cannot write beside the list will say so. */
  readonly #descriptor: number | undefined;
  #position = 0;
  #rest = '';
  readonly #lifted = new Map<string, Lift[]>();
  static #opened = 0;

  /** Call it before the first question. */
  constructor({ banlist, dryRun }: Pick<ChangeOptions, 'banlist' | 'dryRun'>) {
    this.#directory = directoryOf(banlist);
    Lifts.#opened += 1;
    this.#path = join(this.#directory, `${processId()}.${Lifts.#opened}`);
    if (dryRun) return;
    removeLeft(this.#directory, namesIn(this.#directory) ?? []);
    this.#descriptor = open(this.#directory, this.#path);
  }

  /** Call it right before each further question: what was lifted by then is no part of its answer. */
  forget(): void {
    this.#read();
    this.#lifted.clear();
  }

  /** The options of the repair's changes. */
  get options(): Pick<ChangeOptions, 'isRepair' | 'isWanted'> {
    return { isRepair: true, isWanted: this.#isWanted };
  }

  /** False for a ban that was lifted since the question. */
  readonly #isWanted = (change: Change): boolean => {
    if (change.verb !== 'add') return true;
    this.#read();
    const { address, holder, id } = change.hold;
    const liftsHold = (lift: Lift) =>
      (lift.holder === null || lift.holder === holder) && (lift.id === undefined || lift.id === (id ?? null));
    // By hand, whatever a banned range holds is released by the range's name.
    const liftsAll = (lift: Lift) => lift.holder === null;
    return !this.#lifted.get(address)?.some(liftsHold) && !this.#lifted.get(change.target)?.some(liftsAll);
  };

  #read(): void {
    if (this.#descriptor === undefined) return;
    const { size } = fstatSync(this.#descriptor);
    if (size <= this.#position) return;
    const bytes = Buffer.alloc(size - this.#position);
    const read = readSync(this.#descriptor, bytes, 0, bytes.length, this.#position);
    this.#position += read;
    const lines = (this.#rest + bytes.toString('latin1', 0, read)).split('\n');
    // A line is complete before its release begins.
    this.#rest = lines.pop() ?? '';
    for (const lift of lines.flatMap(liftOf))
      this.#lifted.set(lift.address, [...(this.#lifted.get(lift.address) ?? []), lift]);
  }

  [Symbol.dispose](): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    succeeds(() => unlinkSync(this.#path));
    succeeds(() => rmdirSync(this.#directory));
  }
}

function liftOf(line: string): Lift[] {
  try {
    const lift = JSON.parse(Buffer.from(line, 'latin1').toString());
    return typeof lift?.address === 'string' ? [lift] : [];
  } catch {
    return [];
  }
}

function open(directory: string, path: string): number | undefined {
  for (let tries = 1; ; tries += 1) {
    succeeds(() => mkdirSync(directory, { mode: OWN_DIRECTORY }));
    try {
      return openSync(path, 'wx+', OWN_FILE);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || tries === MOST_TRIES) return undefined;
    }
  }
}

/** As a lock of another PID namespace, a repair there counts as dead; it asks fail2ban once more. */
function isLeft(name: string): boolean {
  return !isRunning(name.replace(/\..*/s, ''));
}

/** The files of repairs. Undefined if there is no such directory. */
function namesIn(directory: string): string[] | undefined {
  try {
    return readdirSync(directory).filter((name) => /^\d+-\d+\.\d+$/.test(name));
  } catch {
    return undefined;
  }
}
