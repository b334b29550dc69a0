import { BanctlError, lineOf } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';

const QUIET_MS = 60_000;
const MOST_REMEMBERED = 100;

/** Reports a lasting problem once a minute. */
export class Complaints {
  readonly #saidAt = new Map<string, number>();

  readonly say = (error: unknown): void => {
    const message = error instanceof BanctlError ? lineOf(error) : String(error);
    const last = this.#saidAt.get(message);
    if (last !== undefined && performance.now() - last < QUIET_MS) return;
    if (this.#saidAt.size > MOST_REMEMBERED) this.#saidAt.clear();
    this.#saidAt.set(message, performance.now());
    warn(`fleet: ${message}`);
  };
}
