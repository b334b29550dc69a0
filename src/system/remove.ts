import { mkdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { succeeds, systemCode } from './errors.ts';
import { type Lock, LockLost } from './held-lock.ts';
import { REMOVED, sharedTemporary, temporaryOf } from './lock-directory.ts';
import { discard } from './takeover.ts';
import { cannotWrite, refuseChanged, type SeenFile, syncDirectoryOf } from './write.ts';

/** A takeover deletes the files of one directory, and its caller waits for that. */
const MOST_IN_ONE = 1000;

/** Deletes a directory with the files in it, later. */
export type DeleteLater = (directory: string) => void;

/**
 * A temporary directory for files that are removed one after another: one for each would take longer than all else. The audit,
 * and the next resident, remove what a killed call leaves.
 */
export class Removals {
  readonly #name: () => string;
  readonly #deleteLater: DeleteLater | undefined;
  #directory: string | undefined;
  /** In the directory. */
  #files = 0;

  private constructor(name: () => string, deleteLater?: DeleteLater) {
    this.#name = name;
    this.#deleteLater = deleteLater;
  }

  /** For many files of a directory. With `deleteLater`, they are gone from there at once, and deleted afterwards. */
  static from(directory: string, deleteLater?: DeleteLater): Removals {
    return new Removals(() => join(directory, sharedTemporary('old')), deleteLater);
  }

  static ofOne(path: string): Removals {
    return new Removals(() => temporaryOf(path));
  }

  /** Moves a file into the directory, which the lock then names. */
  take(path: string, lock: Lock, isReady: () => void): void {
    if (this.#files > 0 && (this.#deleteLater === undefined || this.#files === MOST_IN_ONE)) this.#empty();
    const directory = this.#made();
    lock.registerTemporary(directory);
    isReady();
    renameSync(path, this.#place(directory));
    this.#files += 1;
  }

  end(): void {
    const directory = this.#directory;
    if (directory === undefined) return;
    this.#empty();
    if (this.#directory !== undefined && !succeeds(() => rmdirSync(directory))) discard(directory);
    this.#directory = undefined;
  }

  #made(): string {
    if (this.#directory !== undefined) return this.#directory;
    const directory = this.#name();
    mkdirSync(directory);
    this.#directory = directory;
    return directory;
  }

  /** Only one that is deleted later has many files. */
  #place(directory: string): string {
    return join(directory, this.#deleteLater === undefined ? REMOVED : String(this.#files));
  }

  #empty(): void {
    const directory = this.#directory;
    if (directory === undefined || this.#files === 0) return;
    this.#files = 0;
    if (this.#deleteLater === undefined) {
      succeeds(() => unlinkSync(this.#place(directory)));
      return;
    }
    this.#directory = undefined;
    this.#deleteLater(directory);
  }
}

/**
 * Removes a file. A call that was stopped and lost the lock must not remove what others have written since. So the file is
 * first moved into a temporary directory, and whoever takes the lock over removes that directory.
 *
 * @throws Overtaken if the lock was taken over or the file changed; BanctlError cannotWrite
 */
export function removeFile(
  path: string,
  {
    lock,
    seen,
    durable = true,
    removals,
  }: { lock: Lock; seen: SeenFile; durable?: boolean; removals?: Removals | undefined },
): void {
  const one = removals ?? Removals.ofOne(path);
  try {
    one.take(path, lock, () => refuseChanged(path, seen));
  } catch (error) {
    one.end();
    if (systemCode(error) === 'ENOENT') throw new LockLost();
    throw cannotWrite(path, error);
  }
  if (removals === undefined) one.end();
  if (durable) syncDirectoryOf(path);
}
