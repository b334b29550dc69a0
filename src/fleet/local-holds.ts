import { type FSWatcher, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { type Ban, bansOf, denyLines, formatBan } from '../banlist/ban-lines.ts';
import { type Change, isSet } from '../bans/change.ts';
import type { Hold } from '../bans/hold.ts';
import { sameHolds } from '../bans/hold-changes.ts';
import { addressesIn, banFile, bansInFile, isBanName } from '../store/ban-files.ts';
import type { PlaceOptions } from '../store/types.ts';
import { readText, statFile } from '../system/read.ts';

/*
 * What is held on this host, by the address that was asked for: the list and the directory as they stand. The kernel reports
 * changes; as it may lose some, a rescan each minute compares.
 */

/** Files read before others get their turn. */
const FILES_IN_ONE_GO = 200;

interface Held {
  readonly holds: readonly Hold[];
  /** A line without a holder bans it. */
  readonly isUnknown: boolean;
}

/** The directory was not watched until now, so that nothing is known of it. */
const UNSEEN = -1;

const NOTHING: Held = { holds: [], isUnknown: false };

export class LocalHolds {
  readonly #places: PlaceOptions;
  readonly #onNews: () => void;
  #listed = new Map<string, Held>();
  readonly #filed = new Map<string, Held>();
  #listVersion: string | undefined | null = null;
  #directoryChanged = UNSEEN;
  readonly #named = new Set<string>();
  #isListNews = true;
  readonly #watchers = new Map<string, FSWatcher>();

  /** @param onNews called when something may have changed: then {@link collect} returns what */
  constructor(places: PlaceOptions, onNews: () => void) {
    this.#places = places;
    this.#onNews = onNews;
  }

  close(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  holds(address: string): readonly Hold[] {
    const [listed, filed] = [this.#listed.get(address)?.holds ?? [], this.#filed.get(address)?.holds ?? []];
    if (filed.length === 0 || listed.length === 0) return filed.length === 0 ? listed : filed;
    // A ban that moves stands in both places.
    return [...filed, ...listed.filter((hold) => !filed.some(({ holder }) => holder === hold.holder))];
  }

  isHeldByUnknown(address: string): boolean {
    return this.#listed.get(address)?.isUnknown === true || this.#filed.get(address)?.isUnknown === true;
  }

  /** A file without a holder bans it, and the list does not name it. */
  isFiledByUnknown(address: string): boolean {
    return this.#filed.get(address)?.isUnknown === true && !this.#listed.has(address);
  }

  /** The addresses with such a file. */
  *filedByUnknown(): Iterable<string> {
    for (const address of this.#filed.keys()) if (this.isFiledByUnknown(address)) yield address;
  }

  addresses(): Set<string> {
    return new Set([...this.#listed.keys(), ...this.#filed.keys()]);
  }

  /** How many addresses are held. Called at each beat: it copies nothing. */
  get size(): number {
    let size = this.#filed.size;
    for (const address of this.#listed.keys()) if (!this.#filed.has(address)) size += 1;
    return size;
  }

  /** The addresses with such a hold, perhaps some twice. Called each second: it copies nothing. */
  *addressesWith(isMeant: (hold: Hold) => boolean): Iterable<string> {
    for (const held of [this.#listed, this.#filed])
      for (const [address, { holds }] of held) if (holds.some(isMeant)) yield address;
  }

  /** Reads what the kernel has named, and gives the addresses that are held otherwise than before. */
  async collect(): Promise<Set<string>> {
    this.#watch();
    if (this.#directoryChanged === UNSEEN) return this.rescan();
    const changed = new Set<string>();
    const names = [...this.#named];
    this.#named.clear();
    if (this.#isListNews) this.#readList(changed);
    this.#isListNews = false;
    await this.#readFiles(names, changed);
    return changed;
  }

  /** Reads everything that has changed since, whatever the kernel has named. */
  async rescan(): Promise<Set<string>> {
    this.#watch();
    const changed = new Set<string>();
    this.#readList(changed);
    const { bandir } = this.#places;
    const modified = bandir === undefined ? 0 : (statSync(bandir, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (bandir !== undefined && modified !== this.#directoryChanged) {
      const names = new Set(addressesIn(bandir));
      for (const address of this.#filed.keys()) if (!names.has(address)) this.#put(address, [], changed);
      await this.#readFiles([...names], changed);
    }
    this.#directoryChanged = modified;
    return changed;
  }

  /**
   * Takes over what this process has just changed.
   *
   * @param banned had no file before: what was set is all that they have
   */
  async refresh(changes: ReadonlyMap<string, readonly Change[]>, banned: readonly string[]): Promise<void> {
    this.#readList(new Set());
    const isNew = new Set(banned);
    const others: string[] = [];
    for (const [address, ofAddress] of changes) {
      const holds = isNew.has(address) ? holdsSet(address, ofAddress) : undefined;
      if (holds !== undefined && this.#isFiled(address))
        this.#filed.set(address, { holds, isUnknown: false });
      else if (isBanName(address)) others.push(address);
    }
    await this.#readFiles(others, new Set());
  }

  #isFiled(address: string): boolean {
    return this.#places.bandir !== undefined && !this.#listed.has(address) && isBanName(address);
  }

  #watch(): void {
    const { banlist, bandir } = this.#places;
    const list = basename(banlist);
    this.#watchOne(dirname(banlist), (name) => {
      if (name === list) this.#isListNews = true;
      return name === list;
    });
    if (bandir !== undefined)
      this.#watchOne(bandir, (name) => {
        if (isBanName(name)) this.#named.add(name);
        return isBanName(name);
      });
  }

  #watchOne(directory: string, matters: (name: string) => boolean): void {
    if (this.#watchers.has(directory)) return;
    try {
      const watcher = watch(directory, (_event, name) => {
        // The directory itself was moved or removed.
        if (name === null || name === basename(directory)) this.#unwatch(directory);
        else if (matters(name)) this.#onNews();
      });
      watcher.on('error', () => this.#unwatch(directory));
      this.#watchers.set(directory, watcher);
      this.#directoryChanged = UNSEEN;
    } catch {
      // It does not exist yet: tried again at the next look.
    }
  }

  #unwatch(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
    this.#directoryChanged = UNSEEN;
    for (const address of this.#filed.keys()) this.#named.add(address);
    this.#isListNews = true;
    this.#onNews();
  }

  #readList(changed: Set<string>): void {
    const { banlist } = this.#places;
    if (statFile(banlist)?.version === this.#listVersion) return;
    const { text, version } = readText(banlist);
    const before = this.#listed;
    this.#listed = new Map();
    for (const ban of bansOf(denyLines(text))) this.#list(ban);
    this.#listVersion = version;
    for (const address of new Set([...before.keys(), ...this.#listed.keys()]))
      if (!isSame(before.get(address), this.#listed.get(address))) changed.add(address);
  }

  #list(ban: Ban): void {
    const add = (address: string, held: Held) => {
      const { holds, isUnknown } = this.#listed.get(address) ?? NOTHING;
      this.#listed.set(address, {
        holds: holds.length === 0 ? held.holds : [...holds, ...held.holds],
        isUnknown: isUnknown || held.isUnknown,
      });
    };
    if (ban.holds.length === 0) add(ban.address, { holds: [], isUnknown: true });
    for (const hold of ban.holds) add(hold.address, { holds: [hold], isUnknown: false });
  }

  async #readFiles(addresses: readonly string[], changed: Set<string>): Promise<void> {
    const { bandir } = this.#places;
    if (bandir === undefined) return;
    for (const [index, address] of addresses.entries()) {
      if (!this.#isAsKnown(bandir, address)) this.#put(address, bansInFile(bandir, address), changed);
      if (index % FILES_IN_ONE_GO === FILES_IN_ONE_GO - 1) await new Promise(setImmediate);
    }
  }

  /** True for the text that banctl writes for what is known: to compare it is cheaper than to read it. */
  #isAsKnown(bandir: string, address: string): boolean {
    const { holds, isUnknown } = this.#filed.get(address) ?? NOTHING;
    if (holds.length === 0 || isUnknown) return false;
    try {
      return readText(banFile(bandir, address)).text.equals(Buffer.from(formatBan(address, holds)));
    } catch {
      return false;
    }
  }

  #put(address: string, bans: readonly Ban[], changed: Set<string>): void {
    const held: Held = {
      holds: bans.flatMap((ban) => ban.holds),
      isUnknown: bans.some((ban) => ban.holds.length === 0),
    };
    if (isSame(this.#filed.get(address), held)) return;
    changed.add(address);
    if (bans.length === 0) this.#filed.delete(address);
    else this.#filed.set(address, held);
  }
}

/** Undefined if the changes are others, or ban a wider range. */
function holdsSet(address: string, changes: readonly Change[]): Hold[] | undefined {
  const all = changes.filter(isSet).filter(({ target }) => target === address);
  return all.length === changes.length ? all.map(({ hold }) => hold) : undefined;
}

function isSame(one: Held = NOTHING, other: Held = NOTHING): boolean {
  return one.isUnknown === other.isUnknown && sameHolds(one.holds, other.holds);
}
