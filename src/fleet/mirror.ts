import { now } from '../bans/hold.ts';
import type { Beat, LogEntry, Snapshot } from './engine.ts';
import { FUTURE_SECONDS, isLiftKey, readField, readValue, type Value } from './entry.ts';
import { ALL } from './lift-notes.ts';

/** No fleet has more text. Bytes. */
const MOST_TEXT = 64 * 2 ** 20;
/** Memory of a hold without its texts. */
const PLACE_BYTES = 200;

interface Single {
  readonly holder: string;
  readonly value: Value;
}

/** What the engine has, as this host last heard: a snapshot, and the log since. */
export class Mirror {
  n = -1;
  id = '0';
  /** False before the first snapshot, without a connection, and after a gap in the log: a snapshot is due. */
  isKnown = false;
  /** How far this host's clock is ahead of the engine's. */
  clockAheadMs = 0;
  readonly lifts = new Map<string, number>();
  /** Most addresses have one holder: a map for it would take more memory than all else. */
  readonly #byAddress = new Map<string, Single | Map<string, Value>>();
  /** Digests of fields that no host of the fleet would write, and of those beyond the limit. */
  readonly #odd = new Set<number>();
  #count = 0;
  #bytes = 0;

  /** Replaces everything. */
  take({ n, id, holds, lifts }: Snapshot): void {
    this.isKnown = true;
    this.n = n;
    this.id = id;
    this.#byAddress.clear();
    this.#odd.clear();
    this.lifts.clear();
    this.#count = 0;
    this.#bytes = 0;
    for (const [field, text] of holds) this.#set(field, text);
    for (const [key, time] of lifts) this.#lift(key, time);
  }

  /** The addresses that an entry is about, or `*`; undefined if a number is missing. */
  apply({ n, id, changes }: LogEntry): Set<string> | undefined {
    this.isKnown &&= n === this.n + 1;
    if (!this.isKnown) return undefined;
    this.n = n;
    this.id = id;
    const touched = new Set<string>();
    for (const change of changes) {
      if (change[0] === 'h') this.#set(String(change[1]), String(change[2]));
      else if (change[0] === 'd') this.#drop(String(change[1]));
      else if (change[0] === 'l') this.#lift(String(change[1]), Number(change[2]));
      else if (change[0] === 'x') this.#forget(Number(change[1]));
      touched.add(change[0] === 'x' ? '' : addressOf(String(change[1])));
    }
    return touched;
  }

  /** What the engine's clock shows. Seconds. */
  engineNow(): number {
    return Math.floor((Date.now() - this.clockAheadMs) / 1000);
  }

  /** No time is later, although this host's clock, or the engine's, may be wrong. Seconds. */
  latest(): number {
    return Math.max(now(), this.engineNow()) + FUTURE_SECONDS;
  }

  at(address: string): ReadonlyMap<string, Value> | undefined {
    return mapOf(this.#byAddress.get(address));
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
    this.#drop(field);
    const isReadable = read !== undefined && value !== undefined && value.since <= this.latest();
    if (!isReadable || this.#bytes > MOST_TEXT) {
      this.#odd.add(digest(field));
      return;
    }
    const { address, holder } = read;
    const known = mapOf(this.#byAddress.get(address));
    this.#byAddress.set(address, known?.set(holder, value) ?? { holder, value });
    this.#count += 1;
    this.#bytes += bytesOf(field, value);
  }

  #drop(field: string): void {
    if (this.#odd.size > 0) this.#odd.delete(digest(field));
    const address = addressOf(field);
    const holder = field.slice(address.length + 1);
    const known = mapOf(this.#byAddress.get(address));
    const value = known?.get(holder);
    if (known === undefined || value === undefined) return;
    known.delete(holder);
    this.#count -= 1;
    this.#bytes -= bytesOf(field, value);
    if (known.size === 0) this.#byAddress.delete(address);
  }

  #lift(key: string, time: number): void {
    if (isLiftKey(key) && Number.isSafeInteger(time) && time <= this.latest()) this.lifts.set(key, time);
  }

  #forget(before: number): void {
    for (const [key, time] of this.lifts) if (time < before) this.lifts.delete(key);
  }
}

function mapOf(known: Single | Map<string, Value> | undefined): Map<string, Value> | undefined {
  return known === undefined || known instanceof Map ? known : new Map([[known.holder, known.value]]);
}

/** `*` of the lift of everything. */
function addressOf(key: string): string {
  const blank = key.indexOf(' ');
  return blank < 0 ? key || ALL : key.slice(0, blank);
}

function bytesOf(field: string, { reason }: Value): number {
  return PLACE_BYTES + field.length + (reason?.length ?? 0);
}

/** Of the length and the first characters, 53 bits: a million of another program's fields take a few megabytes. */
function digest(field: string): number {
  let [low, high] = [FNV_START ^ field.length, FNV_START];
  const length = Math.min(field.length, 500);
  for (let index = 0; index < length; index += 1) {
    const code = field.charCodeAt(index);
    low = Math.imul(low ^ code, FNV_PRIME);
    high = Math.imul(high + code, FNV_PRIME) ^ (high >>> 15);
  }
  return (high >>> 11) * 2 ** 32 + (low >>> 0);
}

/** Of FNV-1a. */
const FNV_START = 2_166_136_261;
const FNV_PRIME = 16_777_619;
