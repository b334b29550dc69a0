import { BanctlError, lineOf } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';

const QUIET_MS = 60_000;
const MOST_REMEMBERED = 100;

/** Reports a lasting problem once a minute. */
export class Warnings {
  readonly #reportedAt = new Map<string, number>();

  readonly report = (error: unknown): void => {
    const message = error instanceof BanctlError ? lineOf(error) : String(error);
    const last = this.#reportedAt.get(message);
    if (last !== undefined && performance.now() - last < QUIET_MS) return;
    if (this.#reportedAt.size > MOST_REMEMBERED) this.#reportedAt.clear();
    this.#reportedAt.set(message, performance.now());
    warn(`fleet: ${message}`);
  };
}
