import { type FSWatcher, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { type Ban, bansOf, denyLines } from '../banlist/ban-lines.ts';
import { type Hold, MANUAL, now } from '../bans/hold.ts';
import { addressesIn, banFile, bansInFile, isBanName } from '../store/ban-files.ts';
import type { StoreOptions } from '../store/store.ts';
import { BanctlError, lineOf } from '../system/errors.ts';
import { readText, statFile } from '../system/read.ts';
import { warn } from '../terminal/print.ts';
import { collectWhenQuiet } from './heap.ts';

/** Changes come in bursts: one check covers all of them. */
const GATHERED_MS = 500;
/** So many come of other servers or of a migration: the check waits for the last, or it would slow them. */
const MANY_CHANGES = 1000;
/** The caller checks each minute; later ends need no timer yet. */
const MINUTE_MS = 60_000;
/** The number of files to read before other requests get their turn. */
const FILES_IN_ONE_GO = 200;

/**
 * When the holds by hand of one list and its directory end. fail2ban ends its own. Unchanged files are not read again: the
 * kernel reports changes. Because the kernel may lose some, a check each minute compares times.
 */
export class Ends {
  readonly options: StoreOptions;
  readonly #onEnded: (addresses: readonly string[]) => Promise<unknown>;
  /** Ends of the bans in files and in the list, by address. Seconds since the epoch. */
  readonly #filed = new Map<string, number>();
  #listed = new Map<string, number>();
  #listVersion: string | undefined;
  #directoryChanged = 0;
  readonly #changed = new Set<string>();
  readonly #watchers = new Map<string, FSWatcher>();
  #gathering: NodeJS.Timeout | undefined;
  #next: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: StoreOptions, onEnded: (addresses: readonly string[]) => Promise<unknown>) {
    this.options = options;
    this.#onEnded = onEnded;
  }

  /** At the start, and each minute: cheap if nothing has changed. */
  look(): Promise<void> {
    return this.#afterOthers(async () => {
      this.#watch();
      this.#readList();
      await this.#readDirectory();
      await this.#end();
    });
  }

  /** One that fails is no reason to leave out the next. */
  #afterOthers(check: () => Promise<void>): Promise<void> {
    this.#looking = this.#looking.then(() => (this.#isClosed ? undefined : check())).catch(complain);
    return this.#looking;
  }

  /** Resolves when a check that has begun is over. */
  close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#gathering);
    clearTimeout(this.#next);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    return this.#looking;
  }

  #watch(): void {
    const { banlist, bandir } = this.options;
    const places = bandir === undefined ? [banlist] : [banlist, bandir];
    for (const [parent, inParent] of Map.groupBy(places, dirname)) {
      const names = inParent.map((place) => basename(place));
      this.#watchOne(parent, (name) => names.includes(name));
    }
    if (bandir !== undefined) this.#watchOne(bandir, isBanName);
  }

  /** It did not exist until now, or was replaced. */
  get #isDirectoryNew(): boolean {
    const { bandir } = this.options;
    return bandir !== undefined && !this.#watchers.has(bandir);
  }

  /** The next check tries again if a directory does not exist yet or was replaced. */
  #watchOne(directory: string, matters: (name: string) => boolean): void {
    if (this.#watchers.has(directory)) return;
    try {
      const watcher = watch(directory, (_event, name) => {
        // The directory itself was moved or removed.
        if (name === null || name === basename(directory)) this.#unwatch(directory);
        else if (matters(name)) this.#gather(name);
      });
      watcher.on('error', () => this.#unwatch(directory));
      this.#watchers.set(directory, watcher);
    } catch {
      // The check each minute works without it.
    }
  }

  #unwatch(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
  }

  #gather(name: string): void {
    this.#changed.add(name);
    if (this.#changed.size > MANY_CHANGES) this.#gathering?.refresh();
    this.#gathering ??= setTimeout(() => {
      this.#gathering = undefined;
      void this.#afterOthers(() => this.#lookAtChanged());
    }, GATHERED_MS);
  }

  async #lookAtChanged(): Promise<void> {
    const names = [...this.#changed];
    this.#changed.clear();
    const isDirectoryNew = this.#isDirectoryNew;
    if (isDirectoryNew) this.#watch();
    this.#readList();
    if (isDirectoryNew) await this.#readDirectory();
    else await this.#readFiles(names.filter(isBanName));
    await this.#end();
  }

  #readList(): void {
    const { banlist } = this.options;
    const version = statFile(banlist)?.version;
    if (version === this.#listVersion) return;
    const { text, version: read } = readText(banlist);
    const bans = text.includes(MANUAL) ? bansOf(denyLines(text)) : [];
    this.#listed = new Map();
    for (const ban of bans) setEnd(this.#listed, ban.address, [ban]);
    this.#listVersion = read;
    collectWhenQuiet();
  }

  /** Reads the whole directory again if a file was added, replaced or removed since the last time. */
  async #readDirectory(): Promise<void> {
    const { bandir } = this.options;
    const changed = bandir === undefined ? 0 : (statSync(bandir, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (bandir === undefined || changed === this.#directoryChanged) return;
    // Reads them all, and so ends the wait for a burst that goes on.
    this.#changed.clear();
    const names = addressesIn(bandir);
    const known = new Set(names);
    for (const address of this.#filed.keys()) if (!known.has(address)) this.#filed.delete(address);
    await this.#readFiles(names);
    this.#directoryChanged = changed;
  }

  async #readFiles(addresses: readonly string[]): Promise<void> {
    const { bandir } = this.options;
    if (bandir === undefined) return;
    for (const [index, address] of addresses.entries()) {
      setEnd(this.#filed, address, this.#mayEnd(bandir, address) ? bansInFile(bandir, address) : []);
      if (index % FILES_IN_ONE_GO === FILES_IN_ONE_GO - 1) await new Promise(setImmediate);
    }
    if (addresses.length > 0) collectWhenQuiet();
  }

  /** Most files belong to jails and need no parsing. */
  #mayEnd(bandir: string, address: string): boolean {
    try {
      return readText(banFile(bandir, address)).text.includes(MANUAL);
    } catch {
      return false;
    }
  }

  async #end(): Promise<void> {
    const ends = [...this.#filed, ...this.#listed];
    const over = ends.filter(([, end]) => end <= now()).map(([address]) => address);
    if (over.length > 0) await this.#onEnded([...new Set(over)]);
    if (this.#isClosed) return;
    clearTimeout(this.#next);
    const next = Math.min(...ends.map(([, end]) => end).filter((end) => end > now())) * 1000 - Date.now();
    if (next < MINUTE_MS) this.#next = setTimeout(() => void this.look(), Math.max(next, 0));
  }
}

/** The earliest end of a hold by hand. */
function setEnd(ends: Map<string, number>, address: string, bans: readonly Ban[]): void {
  const holds: readonly Hold[] = bans.flatMap((ban) => ban.holds);
  const until = holds.flatMap((hold) => (hold.holder === MANUAL && hold.until !== null ? [hold.until] : []));
  const earlier = ends.get(address);
  if (until.length > 0) ends.set(address, Math.min(...until));
  else if (earlier !== undefined) ends.delete(address);
}

function complain(error: unknown): void {
  warn(error instanceof BanctlError ? lineOf(error) : String(error));
}
