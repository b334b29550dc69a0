import { opendir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Lock, MovingLock, withLockAwaited } from '../system/lock.ts';
import { temporaryOf } from '../system/lock-directory.ts';
import { NewFiles } from './new-files.ts';

/** Without a change for this long, what is kept is removed. */
const QUIET_MS = 2000;

/** What a resident keeps from one change to the next, because it would take longer than the change itself. */
export class Kept {
  readonly #newFiles = new Map<string, NewFiles>();
  readonly #locks = new Map<string, MovingLock>();
  #quiet: NodeJS.Timeout | undefined;
  #deleting: Promise<void> = Promise.resolve();
  #isDeleting = true;

  /** For new bans in a directory that exists. Those of one call that are synced together have a temporary directory of their own. */
  newFiles(bandir: string, durable: boolean): NewFiles {
    if (!durable) return new NewFiles(bandir, { durable });
    this.#keepForNow();
    const known = this.#newFiles.get(bandir);
    if (known?.isWorthKeeping === true) return known;
    known?.close();
    const files = new NewFiles(bandir, { durable });
    this.#newFiles.set(bandir, files);
    return files;
  }

  /** Changes a list under its lock, which other processes can take between two changes. Throws as withLockAwaited does. */
  async withLock<T>(banlist: string, timeout: number, work: (lock: Lock) => T): Promise<T> {
    const moving = this.#locks.get(banlist) ?? new MovingLock(temporaryOf(banlist));
    this.#locks.set(banlist, moving);
    try {
      return await withLockAwaited(banlist, { timeout, moving }, work);
    } finally {
      this.#keepForNow();
    }
  }

  /** Deletes a directory of removed files, which ban nobody any more, after those before it. */
  readonly deleteLater = (directory: string): void => {
    this.#deleting = this.#deleting.then(() => this.#deleteAll(directory));
  };

  /** What cannot be deleted, the audit reports. */
  async #deleteAll(directory: string): Promise<void> {
    try {
      for await (const { name } of await opendir(directory)) {
        if (!this.#isDeleting) return;
        await unlink(join(directory, name));
      }
      await rmdir(directory);
    } catch {}
  }

  #keepForNow(): void {
    this.#quiet ??= setTimeout(() => this.#remove(), QUIET_MS).unref();
    this.#quiet.refresh();
  }

  #remove(): void {
    clearTimeout(this.#quiet);
    this.#quiet = undefined;
    for (const files of this.#newFiles.values()) files.close();
    this.#newFiles.clear();
    for (const lock of this.#locks.values()) lock.release();
  }

  /** Resolves when nothing is left, or with `isSucceeded`, only what a successor finds and deletes. */
  async close(isSucceeded: boolean): Promise<void> {
    this.#remove();
    if (isSucceeded) this.#isDeleting = false;
    await this.#deleting;
  }
}
