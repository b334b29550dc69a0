import { ALL } from './lift-notes.ts';

/** The addresses for which something has changed, and the pass that waits for them. */
export class DueAddresses {
  readonly #addresses = new Set<string>();
  #isAll = true;
  #isRoused = false;
  #wake: () => void = () => {};

  add(address: string): void {
    this.#addresses.add(address);
  }

  addAll(): void {
    this.#isAll = true;
  }

  /** All addresses that a lift of this key can concern. */
  addLifted(key: string): void {
    if (key === ALL) this.addAll();
    else this.add(key.split(' ')[0] ?? key);
  }

  get isIdle(): boolean {
    return this.#addresses.size === 0 && !this.#isAll;
  }

  get hasNamed(): boolean {
    return this.#addresses.size > 0;
  }

  /** @param known lists all addresses; called only if all are due */
  take(known: () => Iterable<string>): string[] {
    const addresses = new Set([...this.#addresses, ...(this.#isAll ? known() : [])]);
    this.#isAll = false;
    this.#addresses.clear();
    return [...addresses];
  }

  rouse(): void {
    this.#isRoused = true;
    this.#wake();
  }

  calm(): void {
    this.#isRoused = false;
  }

  /** Returns once `rouse` was called after the last `calm`, or when the time is over. */
  async roused(longestMs: number): Promise<void> {
    if (this.#isRoused) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, longestMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
