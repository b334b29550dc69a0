import { linkSync, lstatSync, mkdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { succeeds, systemCode } from '../system/errors.ts';
import { isLocked } from '../system/lock-directory.ts';
import { REMOVED } from '../system/takeover.ts';

const MODE = 0o644;
const UMASK = 0o022;
/** As long as the number in the name of a temporary file can be. */
const NUMBERS = 10 ** 10;

/**
 * Files for bans of addresses that have none, without a lock for each. link(2) makes a file appear with its whole text, and never
 * replaces one. Only a call that held the lock at that moment, and so had not seen the file, can still replace it:
 *
 * - If it holds the lock after the link, the lock is there to be seen.
 * - If it has released the lock by then, it has replaced the file already, and the temporary name is the only link.
 *
 * In both cases, and if the file exists, the change has to be made again under the lock. A call that takes the lock after the
 * link reads the new file. The name of the temporary file is one that the audit removes after a kill.
 */
export class NewFiles {
  readonly #bandir: string;
  readonly #directory: string;
  readonly #temporary: string;
  #isUsable: boolean;

  /** @param bandir must exist */
  constructor(bandir: string) {
    this.#bandir = bandir;
    this.#directory = join(bandir, `new.banctl-${Math.floor(Math.random() * NUMBERS)}`);
    this.#temporary = join(this.#directory, REMOVED);
    this.#isUsable = succeeds(() => mkdirSync(this.#directory));
  }

  /** False if the change has to be made under the lock. */
  create(address: string, text: string): boolean {
    if (!this.#isUsable) return false;
    const path = `${this.#bandir}/${address}`;
    if (!this.#write(text)) return false;
    try {
      linkSync(this.#temporary, path);
      return !isLocked(path) && lstatSync(this.#temporary).nlink === 2;
    } catch (error) {
      // Some file systems have no links.
      this.#isUsable = systemCode(error) === 'EEXIST';
      return false;
    } finally {
      this.#isUsable = succeeds(() => unlinkSync(this.#temporary)) && this.#isUsable;
    }
  }

  #write(text: string): boolean {
    const umask = process.umask(UMASK);
    try {
      writeFileSync(this.#temporary, text, { flag: 'wx', mode: MODE });
      return true;
    } catch {
      // The change under the lock reports why.
      succeeds(() => unlinkSync(this.#temporary));
      this.#isUsable = false;
      return false;
    } finally {
      process.umask(umask);
    }
  }

  close(): void {
    succeeds(() => rmdirSync(this.#directory));
  }
}
