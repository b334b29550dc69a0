import { type ReloadState, writeState } from '../reload/state-file.ts';
import { type HeldLock, Overtaken } from '../system/held-lock.ts';
import { type LockOptions, MovingLock, type ReusedLock, type Waiting } from '../system/lock.ts';
import { temporaryOf } from '../system/lock-directory.ts';

/** How long the next change may be in coming. fail2ban asks for it half a millisecond after an answer. */
const LINGER_MS = 2;
/** Other calls look for the lock only now and then: after a long turn, or many with little in between, it stays free for this long. */
const MOST_BUSY_MS = 20;
const LEAST_FREE_MS = 1;
const WAY_MS = 2;

/**
 * A resident's changes of one list that follow at once. They keep its lock, and only the last of them writes the state: what
 * a killed resident has not written costs one reload.
 */
export class Turn implements ReusedLock {
  readonly #banlist: string;
  readonly #lock: MovingLock;
  #held: HeldLock | undefined;
  #unwritten: ReloadState | undefined;
  #end: NodeJS.Timeout | undefined;
  #endedAtMs = 0;
  #busySinceMs = 0;

  constructor(banlist: string) {
    this.#banlist = banlist;
    this.#lock = new MovingLock(temporaryOf(banlist));
  }

  /** What the last change of this turn knew, if it has not written that. */
  get unwritten(): ReloadState | undefined {
    return this.#unwritten;
  }

  leave(state: ReloadState | undefined): void {
    this.#unwritten = state;
  }

  /** Resolves when this resident may begin the next change: at once, unless it has been in others' way for long. */
  async giveWay(): Promise<void> {
    const nowMs = performance.now();
    if (this.#held === undefined && nowMs - this.#endedAtMs >= LEAST_FREE_MS) this.#busySinceMs = nowMs;
    if (nowMs - this.#busySinceMs < MOST_BUSY_MS) return;
    this.end();
    await new Promise((resolve) => setTimeout(resolve, WAY_MS));
    this.#busySinceMs = performance.now();
  }

  *take(path: string, options: LockOptions): Waiting<HeldLock> {
    clearTimeout(this.#end);
    const lock = yield* this.#lock.take(path, options);
    // During a wait, another process may have written the state.
    if (lock !== this.#held) this.#unwritten = undefined;
    this.#held = lock;
    return lock;
  }

  /** After a change. */
  rest(): void {
    clearTimeout(this.#end);
    this.#end = setTimeout(() => this.end(), LINGER_MS);
  }

  /** Writes what is unwritten, and lets others have the lock. */
  end(): void {
    if (this.#held === undefined) return;
    try {
      this.#finish();
    } finally {
      this.#lock.rest();
    }
  }

  release(): void {
    this.#finish();
    this.#lock.release();
  }

  #finish(): void {
    clearTimeout(this.#end);
    const [held, state] = [this.#held, this.#unwritten];
    this.#held = undefined;
    this.#unwritten = undefined;
    this.#endedAtMs = performance.now();
    if (held === undefined || state === undefined) return;
    try {
      writeState(this.#banlist, state, held);
    } catch (error) {
      // Another process has taken over the lock, and has seen the list as it is.
      if (!(error instanceof Overtaken)) throw error;
    }
  }
}
