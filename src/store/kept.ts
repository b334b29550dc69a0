import { lstat, open, opendir, rmdir, unlink } from 'node:fs/promises';
import type { Lock } from '../system/held-lock.ts';
import { MovingLock, withLockAwaited } from '../system/lock.ts';
import { isOurs, temporaryOf } from '../system/lock-directory.ts';
import { DIRECTORY_ITSELF } from '../system/takeover.ts';
import { NewFiles } from './new-files.ts';

/** Without a change for this long, what is kept is removed. */
const QUIET_MS = 2000;

/** fail2ban asks for the next ban about this long after an answer. */
const LEAST_FREE_MS = 0.2;
const MOST_BUSY_MS = 20;
const WAY_MS = 2;

/** What a resident keeps from one change to the next, because it would take longer than the change itself. */
export class Kept {
  readonly #newFiles = new Map<string, NewFiles>();
  readonly #locks = new Map<string, MovingLock>();
  #quiet: NodeJS.Timeout | undefined;
  #deleting: Promise<void> = Promise.resolve();
  /** When the lock was last given up, and since when it was hardly free. */
  #restedAtMs = 0;
  #busySinceMs = 0;
  #isDeleting = true;
  #isClosed = false;

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
    await this.#giveWay();
    try {
      return await withLockAwaited(banlist, { timeout, moving }, work);
    } finally {
      this.#restedAtMs = performance.now();
      if (this.#isClosed) moving.release();
      else this.#keepForNow();
    }
  }

  /** Deletes a directory of removed files, whose bans have ended, after the directories before it. */
  readonly deleteLater = (directory: string): void => {
    this.#deleting = this.#deleting.then(() => this.#deleteAll(directory));
  };

  /** What cannot be deleted, the audit reports. */
  async #deleteAll(directory: string): Promise<void> {
    try {
      // As in discard(): another user may have put a file or a link there, and may put one there at any moment.
      if (!(await lstat(directory)).isDirectory()) return await unlink(directory);
      await using opened = await open(directory, DIRECTORY_ITSELF);
      const place = `/proc/self/fd/${opened.fd}`;
      for await (const { name } of await opendir(place)) {
        if (!this.#isDeleting) return;
        if (isOurs(name)) await unlink(`${place}/${name}`);
      }
      await rmdir(directory);
    } catch {}
  }

  /** Between two changes that follow at once, the lock is free for microseconds, and other calls look for it only now and then. */
  async #giveWay(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#restedAtMs >= LEAST_FREE_MS) this.#busySinceMs = nowMs;
    if (nowMs - this.#busySinceMs < MOST_BUSY_MS) return;
    await new Promise((resolve) => setTimeout(resolve, WAY_MS));
    this.#busySinceMs = performance.now();
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
    this.#isClosed = true;
    this.#remove();
    if (isSucceeded) this.#isDeleting = false;
    await this.#deleting;
  }
}
