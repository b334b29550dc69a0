import { fieldOf } from './entry.ts';
import type { Push, Step } from './rules.ts';
import type { Host } from './types.ts';

/** The owner goes first; the other hosts wait for a random time. */
const WAIT_MS = { least: 1000, most: 10_000 };

/** When to give back to the engine what it lost of other hosts. */
export class RefillDelay {
  readonly #host: Host;
  /** By field. Milliseconds of the process's clock. */
  readonly #due = new Map<string, number>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** True if this can be pushed now; else it is decided again later. */
  isDue(push: Push): boolean {
    if (!isGivenBack(push)) return true;
    const due = this.#due.get(push.field) ?? performance.now() + waitMs();
    this.#due.set(push.field, due);
    return performance.now() >= due;
  }

  /** Forgets the fields of an address that the engine has again. */
  forgetMet(address: string, steps: readonly Step[]): void {
    if (this.#due.size === 0) return;
    const { local, hostState } = this.#host;
    const lost = new Set(steps.flatMap((step) => (isGivenBack(step) ? step.field : [])));
    for (const { holder } of local.holds(address)) {
      const field = fieldOf({ address, holder }, hostState.name);
      if (!lost.has(field)) this.#due.delete(field);
    }
  }

  /** The addresses to decide on now. */
  dueAddresses(): string[] {
    const due: string[] = [];
    for (const [field, time] of this.#due) {
      const address = field.slice(0, field.indexOf(' '));
      if (this.#host.local.holds(address).length === 0) this.#due.delete(field);
      else if (performance.now() >= time) due.push(address);
    }
    return due;
  }
}

function isGivenBack(step: Step): step is Extract<Push, { push: 'hold' }> {
  return 'push' in step && step.push === 'hold' && step.over !== undefined;
}

function waitMs(): number {
  return WAIT_MS.least + Math.random() * (WAIT_MS.most - WAIT_MS.least);
}
