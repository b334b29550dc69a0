import { setTimeout as sleep } from 'node:timers/promises';
import { type Hold, isOfOtherHost, isOver, now } from '../bans/hold.ts';
import { applyChanges } from './apply.ts';
import type { JailUnbans } from './jail-unbans.ts';
import type { LiftQueue } from './lift-queue.ts';
import type { Plan, Planner } from './planner.ts';
import { missingLifts, type Push } from './rules.ts';
import type { ChangeBans, Host } from './types.ts';

const TICK_MS = 1000;
/** Changes come in bursts: the first waits this long for others. */
const GATHERED_MS = 3;
const MINUTE_MS = 60_000;
/** After this many addresses, the resident yields to other requests. */
const IN_ONE_GO = 2000;

export interface PassParts {
  readonly host: Host;
  readonly liftQueue: LiftQueue;
  readonly planner: Planner;
  readonly jailUnbans: JailUnbans;
  readonly change: ChangeBans;
  readonly push: (pushes: readonly Push[]) => Promise<void>;
}

/** Passes over the addresses for which something has changed: look, decide, push and change. */
export class Passes {
  readonly #parts: PassParts;
  #lastMinute: number | undefined;
  #lastTick = 0;
  #isClosed = false;
  /** The last decisions are still being carried out. */
  isPassing = false;

  constructor(parts: PassParts) {
    this.#parts = parts;
  }

  close(): void {
    this.#isClosed = true;
    this.#parts.host.dueAddresses.rouse();
  }

  /** Until it is closed. */
  async run(): Promise<void> {
    const { dueAddresses, complain } = this.#parts.host;
    while (!this.#isClosed) {
      dueAddresses.calm();
      try {
        await this.#pass();
      } catch (error) {
        // A full disk, or a busy lock: the next pass looks at everything again.
        complain(error);
        dueAddresses.addAll();
        await sleep(TICK_MS);
      }
      await dueAddresses.roused(TICK_MS);
      if (!this.#isClosed) await sleep(GATHERED_MS);
    }
  }

  async #pass(): Promise<void> {
    await this.#look();
    const plan = await this.#decide();
    await this.#do(plan);
    this.#save();
    this.#parts.jailUnbans.work();
  }

  /** The list first, then what was said: a call writes its note before it releases. */
  async #look(): Promise<void> {
    const { host, liftQueue } = this.#parts;
    const isMinute = this.#lastMinute === undefined || performance.now() - this.#lastMinute > MINUTE_MS;
    if (isMinute) await this.#minute();
    for (const address of isMinute ? await host.local.rescan() : await host.local.collect())
      host.dueAddresses.add(address);
    liftQueue.readNotes();
    if (performance.now() - this.#lastTick >= TICK_MS) this.#tick();
  }

  async #minute(): Promise<void> {
    const { host, planner, change } = this.#parts;
    const { hostState, mirror, local, bulkNote } = host;
    this.#lastMinute = performance.now();
    hostState.forgetOld();
    if (bulkNote.isLeft) {
      await change([], 'all');
      bulkNote.end();
    }
    if (bulkNote.isCut && mirror.isKnown && ![...local.filedByUnknown()].some((one) => planner.isBlank(one)))
      bulkNote.end();
    if (planner.renew()) host.dueAddresses.addAll();
  }

  /** Addresses whose holds end, and pushes that have waited long enough. fail2ban and the audit end this host's own holds. */
  #tick(): void {
    const { host, planner } = this.#parts;
    this.#lastTick = performance.now();
    const time = now();
    const hasEnded = (hold: Hold) => isOver(hold, time) && isOfOtherHost(hold.holder);
    for (const address of host.local.addressesWith(hasEnded)) host.dueAddresses.add(address);
    for (const address of planner.refillDelay.dueAddresses()) host.dueAddresses.add(address);
  }

  async #decide(): Promise<Plan> {
    const { host, planner } = this.#parts;
    const { hostState, mirror, local, dueAddresses } = host;
    const lifts = mirror.isKnown ? missingLifts(hostState.lifts, mirror.lifts) : [];
    const plan: Plan = { pushes: lifts, changes: new Map() };
    const addresses = dueAddresses.take(() => [...local.addresses(), ...mirror.addresses()]);
    for (const [index, address] of addresses.entries()) {
      if (index % IN_ONE_GO === IN_ONE_GO - 1) await new Promise(setImmediate);
      planner.decide(address, plan);
    }
    return plan;
  }

  async #do({ pushes, changes }: Plan): Promise<void> {
    const { host, change, push, jailUnbans } = this.#parts;
    this.isPassing = true;
    jailUnbans.save();
    await Promise.all([push(pushes), applyChanges(host, change, changes)]);
    this.isPassing = false;
  }

  /** Forgets a note once both the engine and the disk have it. */
  #save(): void {
    const { host, liftQueue } = this.#parts;
    try {
      host.hostState.save();
      this.#parts.jailUnbans.save();
    } catch (error) {
      host.complain(error);
      return;
    }
    liftQueue.forget();
  }
}
