import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isLiftKey } from './entry.ts';
import { readSaid, type Saying, saidDirectory } from './say.ts';
import type { Host } from './types.ts';

/** The releases that calls on this host spoke: from the file of each to the lift in the engine. */
export class Spoken {
  readonly #host: Host;
  readonly #fields = new Set<string>();
  /** By the file's name, with full keys. */
  readonly #waiting = new Map<string, Saying>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** How many sayings the engine or the disk does not have yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** True for a hold that a call released: its own fail2ban knows. */
  hasField(field: string): boolean {
    return this.#fields.has(field);
  }

  hear(): void {
    for (const [name, saying] of readSaid(this.#host.options.state))
      if (!this.#waiting.has(name)) this.#take(name, saying);
  }

  #take(name: string, { keys, time }: Saying): void {
    const saying: Saying = {
      keys: keys.flatMap((key) => this.#fullKey(key) ?? []),
      time: Math.min(time, this.#host.mirror.engineNow()),
    };
    this.#waiting.set(name, saying);
    for (const key of saying.keys) {
      if (key.includes(' ')) this.#fields.add(key);
      this.#host.remember(key, saying.time);
    }
  }

  /** What a call says of a hold of this host, which does not know its name. */
  #fullKey(key: string): string | undefined {
    const full = key.includes(' ') && !key.includes('@') ? `${key}@${this.#host.memory.name}` : key;
    return isLiftKey(full) ? full : undefined;
  }

  /** Forgets what the engine has heard. The disk must have the lifts. */
  forget(): void {
    const { isKnown, lifts } = this.#host.mirror;
    if (!isKnown) return;
    for (const [name, { keys, time }] of this.#waiting)
      if (keys.every((key) => (lifts.get(key) ?? -1) >= time)) this.#remove(name);
  }

  #remove(name: string): void {
    try {
      unlinkSync(join(saidDirectory(this.#host.options.state), name));
    } catch {
      // Saying it again changes nothing.
    }
    this.#waiting.delete(name);
  }
}
