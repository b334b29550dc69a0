import { setTimeout as sleep } from 'node:timers/promises';
import { type Hold, isOfOtherHost, isOver, now } from '../bans/hold.ts';
import { applyChanges } from './applying.ts';
import type { Deciding, Plan } from './deciding.ts';
import { missingLifts, type Push } from './rules.ts';
import type { Spoken } from './spoken.ts';
import type { Teller } from './tell.ts';
import type { ChangeBans, Host } from './types.ts';

const TICK_MS = 1000;
/** Changes come in bursts: the first waits this long for others. */
const GATHERED_MS = 3;
const MINUTE_MS = 60_000;
/** After this many addresses, the resident yields to other requests. */
const IN_ONE_GO = 2000;

export interface PassParts {
  readonly host: Host;
  readonly spoken: Spoken;
  readonly deciding: Deciding;
  readonly teller: Teller;
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
    this.#parts.host.attention.rouse();
  }

  /** Until it is closed. */
  async run(): Promise<void> {
    const { attention, complain } = this.#parts.host;
    while (!this.#isClosed) {
      attention.calm();
      try {
        await this.#pass();
      } catch (error) {
        // A full disk, or a busy lock: the next pass looks at everything again.
        complain(error);
        attention.addAll();
        await sleep(TICK_MS);
      }
      await attention.roused(TICK_MS);
      if (!this.#isClosed) await sleep(GATHERED_MS);
    }
  }

  async #pass(): Promise<void> {
    await this.#look();
    const plan = await this.#decide();
    await this.#do(plan);
    this.#save();
    this.#parts.teller.work();
  }

  /** The list first, then what was said: a call writes its saying before it releases. */
  async #look(): Promise<void> {
    const { host, spoken } = this.#parts;
    const isMinute = this.#lastMinute === undefined || performance.now() - this.#lastMinute > MINUTE_MS;
    if (isMinute) await this.#minute();
    for (const address of isMinute ? await host.local.rescan() : await host.local.collect())
      host.attention.add(address);
    spoken.hear();
    if (performance.now() - this.#lastTick >= TICK_MS) this.#tick();
  }

  async #minute(): Promise<void> {
    const { host, deciding, change } = this.#parts;
    const { memory, mirror, local, filling } = host;
    this.#lastMinute = performance.now();
    memory.forgetOld();
    if (filling.isLeft) {
      await change([], 'all');
      filling.end();
    }
    if (filling.isCut && mirror.isKnown && ![...local.filedByUnknown()].some((one) => deciding.isBlank(one)))
      filling.end();
    if (deciding.renew()) host.attention.addAll();
  }

  /** Addresses whose holds end, and pushes that have waited long enough. fail2ban and the audit end this host's own holds. */
  #tick(): void {
    const { host, deciding } = this.#parts;
    this.#lastTick = performance.now();
    const time = now();
    const hasEnded = (hold: Hold) => isOver(hold, time) && isOfOtherHost(hold.holder);
    for (const address of host.local.addressesWith(hasEnded)) host.attention.add(address);
    for (const address of deciding.patience.dueAddresses()) host.attention.add(address);
  }

  async #decide(): Promise<Plan> {
    const { host, deciding } = this.#parts;
    const { memory, mirror, local, attention } = host;
    const lifts = mirror.isKnown ? missingLifts(memory.lifts, mirror.lifts) : [];
    const plan: Plan = { pushes: lifts, changes: new Map() };
    const addresses = attention.take(() => [...local.addresses(), ...mirror.addresses()]);
    for (const [index, address] of addresses.entries()) {
      if (index % IN_ONE_GO === IN_ONE_GO - 1) await new Promise(setImmediate);
      deciding.decide(address, plan);
    }
    return plan;
  }

  async #do({ pushes, changes }: Plan): Promise<void> {
    const { host, change, push, teller } = this.#parts;
    this.isPassing = true;
    teller.save();
    await Promise.all([push(pushes), applyChanges(host, change, changes)]);
    this.isPassing = false;
  }

  /** Forgets a saying once both the engine and the disk have it. */
  #save(): void {
    const { host, spoken } = this.#parts;
    try {
      host.memory.save();
      this.#parts.teller.save();
    } catch (error) {
      host.complain(error);
      return;
    }
    spoken.forget();
  }
}
