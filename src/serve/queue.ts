import type { Change, Outcome } from '../bans/change.ts';
import type { ReloadReport } from '../reload/types.ts';
import { type StoreOptions, writeTogether } from '../store/store.ts';
import type { ChangesFor } from '../store/types.ts';
import { isBanctlError } from '../system/errors.ts';
import type { Reloads } from './reloads.ts';
import type { Work } from './types.ts';

/** A caller's request. */
export interface Done {
  readonly outcomes: readonly Outcome[];
  readonly reload: ReloadReport;
}

interface Job {
  readonly work: Work;
  readonly key: string;
  /** False once the caller has given up: nothing may change for it then. */
  readonly isWanted: () => boolean;
  readonly resolve: (done: Done) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The waiting changes, in order. Those that arrive while others are written become one write and one sync.
 */
export class Queue {
  readonly #reloads: Reloads;
  #waiting: Job[] = [];
  #running: Promise<void> | undefined;

  constructor(reloads: Reloads) {
    this.#reloads = reloads;
  }

  /** @throws BanctlError as a call would */
  change(work: Work, isWanted: () => boolean = () => true): Promise<Done> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ work, key: keyOf(work.options), isWanted, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Resolves when everything that was begun is done. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    // Read what has arrived together with the first before it begins.
    await new Promise(setImmediate);
    while (this.#waiting.length > 0) await this.#changeTogether(this.#takeAlike());
    this.#running = undefined;
  }

  /** The first, and those after it that can share a write with it. */
  #takeAlike(): Job[] {
    const [first] = this.#waiting;
    const isAlike = ({ key, work }: Job) =>
      key === first?.key && work.options.isWanted === first.work.options.isWanted;
    const different = this.#waiting.findIndex((job) => !isAlike(job));
    return this.#waiting.splice(0, different === -1 ? this.#waiting.length : different);
  }

  async #changeTogether(jobs: readonly Job[]): Promise<void> {
    const [first] = jobs;
    if (first === undefined) return;
    const { isWanted = () => true } = first.work.options;
    try {
      const callers = new Map<Change, Job>();
      const { written, outcomesOf } = await writeTogether(
        {
          ...this.#reloads.optionsFor(first.work.options),
          isWanted: (change) => callers.get(change)?.isWanted() !== false && isWanted(change),
        },
        jobs.map((job) => remembering(job, callers)),
      );
      const { outcomes, reload } = await this.#reloads.enforce(first.work.options, written);
      const parts = outcomesOf(outcomes);
      for (const [index, job] of jobs.entries()) job.resolve({ outcomes: parts[index] ?? [], reload });
    } catch (error) {
      // The error belongs to one of them.
      if (jobs.length > 1 && isBanctlError(error)) for (const job of jobs) await this.#changeTogether([job]);
      else for (const job of jobs) job.reject(error);
    }
  }
}

/** The changes of a job, each marked as that job's. */
function remembering(job: Job, callers: Map<Change, Job>): ChangesFor {
  const { work } = job;
  return (bansNow) => {
    const changes = typeof work.changes === 'function' ? work.changes(bansNow) : work.changes;
    for (const change of changes) callers.set(change, job);
    return changes;
  };
}

/** Requests share a write only if they differ in nothing but the changes. */
function keyOf(options: StoreOptions): string {
  const { banlist, bandir, apachectl, reloadCommand, reloads, reloadInterval, lockTimeout, config } = options;
  const { widening } = options;
  return JSON.stringify([
    banlist,
    bandir,
    apachectl,
    reloadCommand,
    reloads,
    reloadInterval,
    lockTimeout,
    config,
    options.isUrgent === true,
    options.sync,
    widening?.after,
    widening?.protect,
  ]);
}
