import {
  closeSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { succeeds, systemCode } from '../system/errors.ts';
import { isLocked, REMOVED, sharedTemporary } from '../system/lock-directory.ts';

const MODE = 0o644;
/** What link(2) says where the file system cannot do it. */
const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/**
 * Files for bans of addresses that have none, without a lock for each. link(2) makes a file appear with its whole text, and never
 * replaces one. Only a call that held the lock at that moment, and so had not seen the file, can still replace it:
 *
 * - If it holds the lock after the link, the lock is there to be seen.
 * - If it has released the lock by then, it has replaced the file already, and the temporary name is the only link.
 *
 * In both cases, and if the file exists, the change has to be made again under the lock. A call that takes the lock after the
 * link reads the new file. The names of the temporary directory and file are ones that the audit, and the next resident, remove
 * after a kill.
 */
export class NewFiles {
  readonly #bandir: string;
  readonly #directory: string;
  readonly #temporary: string;
  /** The umask takes some of the mode away. */
  readonly #isNarrowed = (currentUmask() & MODE) !== 0;
  #isUsable: boolean;
  #hasNoLinks = false;

  /** Whether the text is on the disk before the file has its name. The name is once the directory is synced. */
  readonly durable: boolean;

  /** @param bandir must exist */
  constructor(bandir: string, { durable }: { durable: boolean }) {
    this.#bandir = bandir;
    this.durable = durable;
    this.#directory = join(bandir, sharedTemporary('new'));
    this.#temporary = join(this.#directory, REMOVED);
    this.#isUsable = succeeds(() => mkdirSync(this.#directory));
  }

  /** False after something has gone wrong that may go right with another temporary directory. */
  get isWorthKeeping(): boolean {
    return this.#isUsable || this.#hasNoLinks;
  }

  /**
   * Makes the file if `isWanted` still says so. `unsure`: it was made, but another call may have replaced it, or be about to.
   * Unless it was made for sure, the change has to be made under the lock.
   */
  create(address: string, text: string, isWanted: () => boolean): 'made' | 'unsure' | 'not-made' {
    const path = `${this.#bandir}/${address}`;
    const descriptor = isLocked(path) ? undefined : this.#open();
    if (descriptor === undefined) return 'not-made';
    try {
      if (this.#isNarrowed) fchmodSync(descriptor, MODE);
      writeFileSync(descriptor, text);
      // After a power cut, a file without text would be a ban of an unknown holder.
      if (this.durable) fsyncSync(descriptor);
      // The disk may have taken so long that the caller has given up, and the ban was made and lifted without this process.
      if (!isWanted()) return 'not-made';
      linkSync(this.#temporary, path);
      return isLocked(path) || fstatSync(descriptor).nlink !== 2 ? 'unsure' : 'made';
    } catch (error) {
      // Some file systems have no links. The change under the lock reports why nothing can be written.
      this.#isUsable = systemCode(error) === 'EEXIST';
      this.#hasNoLinks = NO_LINKS.has(systemCode(error) ?? '');
      return 'not-made';
    } finally {
      succeeds(() => closeSync(descriptor));
      this.#isUsable = succeeds(() => unlinkSync(this.#temporary)) && this.#isUsable;
    }
  }

  #open(): number | undefined {
    if (!this.#isUsable) return undefined;
    try {
      return openSync(this.#temporary, 'wx', MODE);
    } catch {
      this.#isUsable = false;
      return undefined;
    }
  }

  close(): void {
    succeeds(() => rmdirSync(this.#directory));
  }
}

function currentUmask(): number {
  const umask = process.umask(0o077);
  process.umask(umask);
  return umask;
}
