import type { Outcomes } from '../bans/change.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { Kept } from '../store/kept.ts';
import type { StoreOptions } from '../store/store.ts';
import type { Written } from '../store/types.ts';
import { isBanctlError, lineOf } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';

/** How long an answer may wait for a reload with interval 0: the client waits 5 s in all. */
const LONGEST_WAIT_MS = 3500;

/**
 * Reloads of Apache, for which no client waits: an answer comes when its change is on the disk. Deferred reloads need no
 * process of their own.
 */
export class Reloads {
  /** The running reload of each list. */
  readonly #underWay = new Map<string, Promise<void>>();
  /** The deferred reload of each list. */
  readonly #putOff = new Map<string, { readonly options: StoreOptions; readonly done: Promise<void> }>();

  readonly #kept: Kept;

  constructor(kept: Kept) {
    this.#kept = kept;
  }

  optionsFor(options: StoreOptions): StoreOptions & { readonly onDeferred: () => void } {
    const endTurns = () => this.#kept.endTurns();
    return { ...options, endTurns, kept: this.#kept, onDeferred: () => this.later(options) };
  }

  /** The result of the reload that a change needs. */
  async enforce(
    options: StoreOptions,
    written: Written,
  ): Promise<{ outcomes: Outcomes; reload: ReloadReport }> {
    const { plan, outcomes, whenEnforced } = written;
    if (plan !== 'reload' && whenEnforced === undefined) return { outcomes, reload: plan };
    if (options.reloadInterval === 0) return this.#awaited(options, written);
    this.#inBackground(options.banlist, () => this.#reload(options, written));
    return { outcomes, reload: { result: 'deferred', message: 'apache reloads now' } };
  }

  /** Waits until a deferred reload is due, and runs it. */
  later(options: StoreOptions): void {
    const { banlist } = options;
    if (this.#putOff.has(banlist)) return;
    const waiting = async () => {
      const { reloadWhenDue } = await import('../reload/deferred.ts');
      report(await reloadWhenDue(this.optionsFor(options)));
    };
    const done = waiting()
      .catch(complain)
      .finally(() => this.#putOff.delete(banlist));
    this.#putOff.set(banlist, { options, done });
  }

  /** Runs deferred reloads at once, because this process ends. */
  async finish(): Promise<void> {
    await Promise.all(this.#underWay.values());
    for (const { options, done } of [...this.#putOff.values()]) {
      const { reload } = await import('../reload/run.ts');
      await reload(this.optionsFor(options), { isForced: false, isUrgent: true }).then(report, complain);
      await done;
    }
  }

  async #awaited(
    options: StoreOptions,
    written: Written,
  ): Promise<{ outcomes: Outcomes; reload: ReloadReport }> {
    const { enforce } = await import('../store/enforce.ts');
    const enforcing = enforce(this.optionsFor(options), written);
    this.#inBackground(options.banlist, async () => void (await enforcing));
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

  /** banctl never takes back an acknowledged change, whatever Apache says of the list: fail2ban relies on it. */
  async #reload(options: StoreOptions, { plan, whenEnforced }: Written): Promise<void> {
    const { reload } = await import('../reload/run.ts');
    const isUrgent = options.isUrgent === true;
    const result =
      plan === 'reload' ? await reload(this.optionsFor(options), { isForced: false, isUrgent }) : plan;
    report(result);
    if (result.result === 'done' || result.result === 'not-needed') await whenEnforced?.();
  }

  /** A reload that has begun may have read the list before this change, so another one follows it. */
  #inBackground(banlist: string, work: () => Promise<void>): void {
    const before = this.#underWay.get(banlist) ?? Promise.resolve();
    const done = before
      .then(work)
      .catch(complain)
      .finally(() => {
        if (this.#underWay.get(banlist) === done) this.#underWay.delete(banlist);
      });
    this.#underWay.set(banlist, done);
  }
}

function report({ result, message }: ReloadReport): void {
  if (result === 'failed') warn(`apache was not reloaded: ${message}`);
}

function complain(error: unknown): void {
  warn(isBanctlError(error) ? lineOf(error) : `${String(error)}; this is a bug in banctl, please report it`);
}
