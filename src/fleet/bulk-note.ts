import { lstatSync, unlinkSync } from 'node:fs';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { now } from '../bans/hold.ts';
import { banFile } from '../store/ban-files.ts';
import { MOST_SYNCED_ALONE } from '../store/directory.ts';
import { succeeds } from '../system/errors.ts';
import { bootId } from '../system/process.ts';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';

/*
 * Many bans of other hosts at once are put on the disk together, after the last. A power cut before that can leave files
 * without text: they ban, and no host would ever lift them. A note on the disk from before the first ban to that moment shows the
 * next start when such files were made. What the administrator makes by touch, at any other time, stays.
 */

interface Note {
  readonly boot: string;
  /** Seconds. */
  readonly since: number;
}

export class BulkNote {
  readonly #path: string;
  readonly #bandir: string | undefined;
  readonly #boot = bootId() ?? '';
  #note: Note | undefined;

  constructor({ state, bandir }: { readonly state: string; readonly bandir: string | undefined }) {
    this.#path = join(state, 'filling.json');
    this.#bandir = bandir;
    this.#note = readNote(this.#path);
  }

  /** A power cut may have left files without text. */
  get isCut(): boolean {
    return this.#note !== undefined && this.#note.boot !== this.#boot;
  }

  /** The process before this one did not get to the end. */
  get isLeft(): boolean {
    return this.#note !== undefined && !this.isCut;
  }

  /**
   * To be called before so many addresses change.
   *
   * @returns true if {@link end} has to follow once the disk has them all
   * @throws BanctlError cannotWrite
   */
  begin(count: number): boolean {
    if (this.#bandir === undefined || count <= MOST_SYNCED_ALONE || this.#note !== undefined) return false;
    const note = { boot: this.#boot, since: now() - 1 };
    makeDirectory(join(this.#path, '..'));
    replaceFile(this.#path, [Buffer.from(`${JSON.stringify(note)}\n`)], { lock: undefined });
    this.#note = note;
    return true;
  }

  /** The disk has everything. */
  end(): void {
    succeeds(() => unlinkSync(this.#path));
    this.#note = undefined;
  }

  /** True for a file that a power cut left without its text. */
  isBlank(address: string): boolean {
    if (this.#note === undefined || this.#bandir === undefined || !this.isCut) return false;
    const path = banFile(this.#bandir, address);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile() || !hasNoText(path)) return false;
    return stat.mtimeMs >= this.#note.since * 1000 && stat.mtimeMs <= Date.now() - uptime() * 1000;
  }
}

function hasNoText(path: string): boolean {
  try {
    return readText(path, true).text.length === 0;
  } catch {
    return false;
  }
}

/** An unreadable note counts as none: then empty files stay. */
function readNote(path: string): Note | undefined {
  try {
    const { boot, since } = JSON.parse(readText(path).text.toString('utf8'));
    return typeof boot === 'string' && Number.isSafeInteger(since) ? { boot, since } : undefined;
  } catch {
    return undefined;
  }
}
