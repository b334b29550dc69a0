import type { Outcomes } from '../bans/change.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { StoreOptions } from '../store/store.ts';
import type { Written } from '../store/types.ts';
import { isBanctlError, lineOf } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';

/** So long may an answer wait for a reload where each change is to wait for its own: the client waits 5 s in all. */
const LONGEST_WAIT_MS = 3500;

/**
 * Reloads of Apache, which nobody waits for: an answer comes when its change is on the disk. Those that are put off need
 * no process of their own.
 */
export class Reloads {
  /** What is put off or under way, by list. */
  readonly #pending = new Map<string, { readonly options: StoreOptions; readonly done: Promise<void> }>();

  optionsFor(options: StoreOptions): StoreOptions & { readonly onDeferred: () => void } {
    return { ...options, isResident: true, onDeferred: () => this.later(options) };
  }

  /** What becomes of the reload that a change needs. */
  async enforce(
    options: StoreOptions,
    written: Written,
  ): Promise<{ outcomes: Outcomes; reload: ReloadReport }> {
    const { plan, outcomes, whenEnforced } = written;
    if (plan !== 'reload' && whenEnforced === undefined) return { outcomes, reload: plan };
    if (options.reloadInterval === 0) return this.#awaited(options, written);
    this.#inBackground(options.banlist, options, () => this.#reload(options, written));
    return { outcomes, reload: { result: 'deferred', message: 'apache reloads now' } };
  }

  /** Waits until a reload that was put off is due, and does it. */
  later(options: StoreOptions): void {
    this.#inBackground(`${options.banlist} later`, options, async () => {
      const { reloadWhenDue } = await import('../reload/run.ts');
      report(await reloadWhenDue(this.optionsFor(options)));
    });
  }

  /** Does at once what is put off: this process ends. */
  async finish(): Promise<void> {
    const lists = new Map([...this.#pending.values()].map(({ options }) => [options.banlist, options]));
    const { reload } = await import('../reload/run.ts');
    for (const options of lists.values())
      await reload(this.optionsFor(options), { isForced: false, isUrgent: true }).then(report, complain);
    await Promise.all([...this.#pending.values()].map(({ done }) => done));
  }

  async #awaited(
    options: StoreOptions,
    written: Written,
  ): Promise<{ outcomes: Outcomes; reload: ReloadReport }> {
    const { enforce } = await import('../store/enforce.ts');
    const enforcing = enforce(this.optionsFor(options), written);
    this.#inBackground(`${options.banlist} now`, options, async () => void (await enforcing));
    const late = {
      outcomes: written.outcomes,
      reload: { result: 'deferred', message: 'apache reloads now' },
    } as const;
    let timer: NodeJS.Timeout | undefined;
    const isLate = new Promise<typeof late>((resolve) => {
      timer = setTimeout(() => resolve(late), LONGEST_WAIT_MS);
    });
    return Promise.race([enforcing, isLate]).finally(() => clearTimeout(timer));
  }

  /** A change that was answered is not taken back, whatever Apache says of the list: fail2ban believes in it. */
  async #reload(options: StoreOptions, { plan, whenEnforced }: Written): Promise<void> {
    const { reload } = await import('../reload/run.ts');
    const isUrgent = options.isUrgent === true;
    const result =
      plan === 'reload' ? await reload(this.optionsFor(options), { isForced: false, isUrgent }) : plan;
    report(result);
    if (result.result === 'done' || result.result === 'not-needed') await whenEnforced?.();
  }

  #inBackground(key: string, options: StoreOptions, work: () => Promise<void>): void {
    const before = this.#pending.get(key);
    // A reload that has begun may have read the list before this change: another one follows it.
    const begun = (before?.done ?? Promise.resolve()).then(work).catch(complain);
    const done = begun.finally(() => {
      if (this.#pending.get(key)?.done === done) this.#pending.delete(key);
    });
    this.#pending.set(key, { options, done });
  }
}

function report({ result, message }: ReloadReport): void {
  if (result === 'failed') warn(`apache was not reloaded: ${message}`);
}

function complain(error: unknown): void {
  warn(
    isBanctlError(error) ? lineOf(error) : `${String(error)}; this is a mistake in banctl, please report it`,
  );
}
