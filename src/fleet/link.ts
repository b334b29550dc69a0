import { setTimeout as sleep } from 'node:timers/promises';
import { now } from '../bans/hold.ts';
import { Engine, EngineError, MOST_PUSHES } from './engine.ts';
import { explain } from './engine-errors.ts';
import type { Listener } from './listener.ts';
import type { Push } from './rules.ts';
import type { Host } from './types.ts';

const BEAT_MS = 5000;
const HOUR_MS = 3_600_000;
/** Else the end of its own connection would look like the engine's doing. */
const STOPPED = 'banctl serve was stopped; systemctl start banctl.service';
const RETRY_MS = { least: 300, most: 5000 };

/** The connection to the engine: reads and beats until it breaks, then connects again. */
export class Link {
  readonly #host: Host;
  readonly #listener: Listener;
  readonly #onChange: () => void;
  #engine: Engine | undefined;
  #failures = 0;
  #isClosed = false;
  /** Why there is no connection. */
  error: string | null = null;
  /** Seconds; null: connected. */
  cutSince: number | null = now();

  /** @param onChange called when the connection is there or lost, and after each beat */
  constructor(host: Host, listener: Listener, onChange: () => void) {
    this.#host = host;
    this.#listener = listener;
    this.#onChange = onChange;
  }

  close(): void {
    this.#isClosed = true;
    this.#engine?.close();
  }

  /** Until it is closed. */
  async run(): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#hold();
      } catch (error) {
        this.#cut(error instanceof EngineError ? error.message : this.#explain(error));
      }
      if (this.#isClosed) this.#cut(STOPPED);
      this.#onChange();
      if (!this.#isClosed) await this.#rest();
    }
  }

  /** Longer after each failure, and not at the same moment as all other hosts. */
  async #rest(): Promise<void> {
    this.#failures += 1;
    const longest = Math.min(RETRY_MS.least * 2 ** this.#failures, RETRY_MS.most);
    await sleep(RETRY_MS.least + Math.random() * longest, undefined, { ref: false });
  }

  /** One connection, from its start to its end. */
  async #hold(): Promise<void> {
    const engine = await Engine.connect(this.#host.options.engine, () => this.#cut(undefined));
    if (this.#isClosed) return engine.close();
    this.#engine = engine;
    let timer: NodeJS.Timeout | undefined;
    try {
      await this.#begin(engine);
      timer = this.#beatOn(engine);
      await this.#follow(engine);
    } catch (error) {
      throw engine.reason(error);
    } finally {
      clearInterval(timer);
      this.#end(engine);
    }
  }

  async #begin(engine: Engine): Promise<void> {
    await this.#beat(engine);
    await this.#listener.read(engine);
    this.#failures = 0;
    this.error = null;
    this.cutSince = null;
    this.#onChange();
  }

  #beatOn(engine: Engine): NodeJS.Timeout {
    let isBeating = false;
    return setInterval(async () => {
      if (isBeating || this.#engine !== engine) return;
      isBeating = true;
      await this.#beat(engine).catch((error) => this.#cut(this.#explain(engine.reason(error))));
      isBeating = false;
    }, BEAT_MS);
  }

  async #beat(engine: Engine): Promise<void> {
    await this.#listener.beat(engine);
    this.#onChange();
  }

  /** Waits for the log. Reads everything again where something is missing, and once an hour. */
  async #follow(engine: Engine): Promise<void> {
    let readAt = performance.now();
    while (this.#engine === engine && !this.#isClosed) {
      if (!this.#host.mirror.isKnown || performance.now() - readAt > HOUR_MS) {
        await this.#listener.read(engine);
        readAt = performance.now();
      }
      for (const entry of await engine.read(this.#host.mirror.id)) this.#listener.take(entry);
    }
  }

  #end(engine: Engine): void {
    if (this.#engine === engine) this.#engine = undefined;
    this.#host.mirror.isKnown = false;
    engine.close();
  }

  #cut(why: string | undefined): void {
    this.#host.mirror.isKnown = false;
    this.cutSince ??= now();
    this.error = why ?? this.error ?? 'the connection was lost';
    this.#engine?.close();
    this.#engine = undefined;
  }

  #explain(error: unknown): string {
    return explain(error, this.#host.options.engine);
  }

  /** Sends these changes to the engine. Without a connection, the rules make them again once there is one. */
  async push(pushes: readonly Push[]): Promise<void> {
    const engine = this.#engine;
    if (engine === undefined || !this.#host.mirror.isKnown) return;
    const unique = withoutDoubles(pushes);
    try {
      for (let at = 0; at < unique.length; at += MOST_PUSHES)
        await engine.change(this.#listener.by, unique.slice(at, at + MOST_PUSHES));
    } catch (error) {
      this.#host.dueAddresses.addAll();
      this.#cut(this.#explain(engine.reason(error)));
    }
  }
}

/** Each field that a lift of everything makes void comes with that lift. */
function withoutDoubles(pushes: readonly Push[]): Push[] {
  const lifts = new Map<string, Extract<Push, { push: 'lift' }>>();
  for (const push of pushes)
    if (push.push === 'lift' && (lifts.get(push.key)?.time ?? -1) < push.time) lifts.set(push.key, push);
  return [...lifts.values(), ...pushes.filter(({ push }) => push !== 'lift')];
}
