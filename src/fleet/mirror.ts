import type { Beat, LogEntry, Snapshot } from './engine.ts';
import { isLiftKey, readField, readValue, type Value } from './entry.ts';
import { ALL } from './say.ts';

/** What the engine has, as this host last heard: a snapshot, and the log since. */
export class Mirror {
  n = -1;
  id = '0';
  readonly lifts = new Map<string, number>();
  readonly #byAddress = new Map<string, Map<string, Value>>();
  /** Fields that no host of the fleet would write. */
  readonly #odd = new Set<string>();
  #count = 0;

  /** Replaces everything. */
  take({ n, id, holds, lifts }: Snapshot): void {
    this.n = n;
    this.id = id;
    this.#byAddress.clear();
    this.#odd.clear();
    this.lifts.clear();
    this.#count = 0;
    for (const [field, text] of holds) this.#set(field, text);
    for (const [key, time] of lifts) this.lifts.set(key, time);
  }

  /** The addresses that an entry is about, or `*`; undefined if a number is missing, so that everything has to be read anew. */
  apply({ n, id, changes }: LogEntry): Set<string> | undefined {
    if (n !== this.n + 1) return undefined;
    this.n = n;
    this.id = id;
    const touched = new Set<string>();
    for (const change of changes) {
      if (change[0] === 'h') this.#set(String(change[1]), String(change[2]));
      else if (change[0] === 'd') this.#drop(String(change[1]));
      else if (change[0] === 'l' && isLiftKey(String(change[1])))
        this.lifts.set(change[1], Number(change[2]));
      else if (change[0] === 'x') this.#forget(Number(change[1]));
      touched.add(change[0] === 'x' ? '' : addressOf(String(change[1])));
    }
    return touched;
  }

  at(address: string): ReadonlyMap<string, Value> | undefined {
    return this.#byAddress.get(address);
  }

  addresses(): Iterable<string> {
    return this.#byAddress.keys();
  }

  get holds(): number {
    return this.#count;
  }

  get odd(): number {
    return this.#odd.size;
  }

  /** True if the engine has as much as is known here, at the same number. */
  isLike({ n, holds, lifts }: Beat): boolean {
    return n === this.n && holds === this.#count + this.#odd.size && lifts === this.lifts.size;
  }

  #set(field: string, text: string): void {
    const read = readField(field);
    const value = readValue(text);
    if (read === undefined || value === undefined) {
      this.#drop(field);
      this.#odd.add(nameOf(field));
      return;
    }
    this.#odd.delete(nameOf(field));
    const known = this.#byAddress.get(read.address) ?? new Map<string, Value>();
    if (!known.has(read.holder)) this.#count += 1;
    known.set(read.holder, value);
    this.#byAddress.set(read.address, known);
  }

  #drop(field: string): void {
    this.#odd.delete(nameOf(field));
    const address = addressOf(field);
    const known = this.#byAddress.get(address);
    if (known?.delete(field.slice(address.length + 1)) !== true) return;
    this.#count -= 1;
    if (known.size === 0) this.#byAddress.delete(address);
  }

  #forget(before: number): void {
    for (const [key, time] of this.lifts) if (time < before) this.lifts.delete(key);
  }
}

/** `*` of the lift of everything. */
function addressOf(key: string): string {
  const blank = key.indexOf(' ');
  return blank < 0 ? key || ALL : key.slice(0, blank);
}

/** A megabyte of somebody's is not kept. */
function nameOf(field: string): string {
  return field.length > 500 ? `${field.slice(0, 200)} ${field.length}` : field;
}
