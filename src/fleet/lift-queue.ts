import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isLiftKey } from './entry.ts';
import { type LiftNote, liftNotesDirectory, readLiftNotes } from './lift-notes.ts';
import type { Host } from './types.ts';

/** The releases that calls on this host noted: from the file of each to the lift in the engine. */
export class LiftQueue {
  readonly #host: Host;
  readonly #fields = new Set<string>();
  /** By the file's name, with full keys. */
  readonly #waiting = new Map<string, LiftNote>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** How many notes the engine or the disk does not have yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** True for a hold that a call released: its own fail2ban knows. */
  hasField(field: string): boolean {
    return this.#fields.has(field);
  }

  readNotes(): void {
    for (const [name, note] of readLiftNotes(this.#host.options.state))
      if (!this.#waiting.has(name)) this.#take(name, note);
  }

  #take(name: string, { keys, time }: LiftNote): void {
    const note: LiftNote = {
      keys: keys.flatMap((key) => this.#fullKey(key) ?? []),
      time: Math.min(time, this.#host.mirror.engineNow()),
    };
    this.#waiting.set(name, note);
    for (const key of note.keys) {
      if (key.includes(' ')) this.#fields.add(key);
      this.#host.remember(key, note.time);
    }
  }

  /** What a call says of a hold of this host, which does not know its name. */
  #fullKey(key: string): string | undefined {
    const full = key.includes(' ') && !key.includes('@') ? `${key}@${this.#host.hostState.name}` : key;
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
      unlinkSync(join(liftNotesDirectory(this.#host.options.state), name));
    } catch {
      // Noting it again changes nothing.
    }
    this.#waiting.delete(name);
  }
}
