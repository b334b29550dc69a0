import { lstat, open, opendir, rmdir, unlink } from 'node:fs/promises';
import type { Lock } from '../system/held-lock.ts';
import { withLockAwaited } from '../system/lock.ts';
import { isOurs } from '../system/lock-directory.ts';
import { DIRECTORY_ITSELF } from '../system/takeover.ts';
import { NewFiles } from './new-files.ts';
import { Turn } from './turn.ts';

/** Without a change for this long, what is kept is removed. */
const QUIET_MS = 2000;

/** What a resident keeps from one change to the next, because it would take longer than the change itself. */
export class Kept {
  readonly #newFiles = new Map<string, NewFiles>();
  readonly #turns = new Map<string, Turn>();
  #quiet: NodeJS.Timeout | undefined;
  #deleting: Promise<void> = Promise.resolve();
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

  /** Changes a list under its lock, which changes that follow at once share. Throws as withLockAwaited does. */
  async withLock<T>(banlist: string, timeout: number, work: (lock: Lock, turn: Turn) => T): Promise<T> {
    const turn = this.#turns.get(banlist) ?? new Turn(banlist);
    this.#turns.set(banlist, turn);
    this.endTurns(turn);
    await turn.giveWay();
    try {
      return await withLockAwaited(banlist, { timeout, moving: turn }, (lock) => work(lock, turn));
    } finally {
      if (this.#isClosed) turn.release();
      else this.#keepForNow();
    }
  }

  /** Before work of this process that takes the lock of a list by itself, or may take long. */
  endTurns(except?: Turn): void {
    for (const turn of this.#turns.values()) if (turn !== except) turn.end();
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

  #keepForNow(): void {
    this.#quiet ??= setTimeout(() => this.#remove(), QUIET_MS).unref();
    this.#quiet.refresh();
  }

  #remove(): void {
    clearTimeout(this.#quiet);
    this.#quiet = undefined;
    for (const files of this.#newFiles.values()) files.close();
    this.#newFiles.clear();
    for (const turn of this.#turns.values()) turn.release();
  }

  /** Resolves when nothing is left, or with `isSucceeded`, only what a successor finds and deletes. */
  async close(isSucceeded: boolean): Promise<void> {
    this.#isClosed = true;
    this.#remove();
    if (isSucceeded) this.#isDeleting = false;
    await this.#deleting;
  }
}
