import { type Address, isTooBroad, parseAddress, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { type Hold, isByHand, now } from '../bans/hold.ts';
import { findProtected, protectedRanges } from '../protection/protection.ts';
import { fieldOf, liftOf } from './entry.ts';
import type { JailUnbans } from './jail-unbans.ts';
import type { LiftQueue } from './lift-queue.ts';
import { RefillDelay } from './refill-delay.ts';
import { decide, type Push, type Step } from './rules.ts';
import type { Host } from './types.ts';

/** Refused bans are counted up to this number. */
const MOST_REFUSED = 100_000;
/** Holds of one address on one host: Apache limits the length of a line, and more reasons add nothing. */
const MOST_HOLDERS = 64;

/** The result of the rules: pushes for the engine, and changes of this host's bans by address. */
export interface Plan {
  readonly pushes: Push[];
  readonly changes: Map<string, Change[]>;
}

/** Has the rules decide on one address after another. */
export class Planner {
  readonly #host: Host;
  readonly #liftQueue: LiftQueue;
  readonly #jailUnbans: JailUnbans;
  readonly #refused = new Set<string>();
  #protected: readonly Address[] = [];
  readonly refillDelay: RefillDelay;

  constructor(host: Host, liftQueue: LiftQueue, jailUnbans: JailUnbans) {
    this.#host = host;
    this.#liftQueue = liftQueue;
    this.#jailUnbans = jailUnbans;
    this.refillDelay = new RefillDelay(host);
  }

  /** How many bans of other hosts this host refuses. */
  get refused(): number {
    return this.#refused.size;
  }

  /** Reads the protected ranges again. True if some bans were refused: the rules must decide on them again. */
  renew(): boolean {
    this.#protected = protectedRanges(this.#host.options);
    const hadRefused = this.#refused.size > 0;
    this.#refused.clear();
    return hadRefused;
  }

  decide(address: string, plan: Plan): void {
    const { hostState, mirror, local } = this.#host;
    const there = mirror.at(address) ?? new Map();
    const here = local.holds(address);
    const isBlank = this.isBlank(address);
    if (here.length === 0 && there.size === 0 && !isBlank) return;
    // Its text is lost: what the engine has takes its place.
    if (isBlank) plan.changes.set(address, [{ verb: 'cede', address, holds: [] }]);
    const steps = decide({
      self: hostState.name,
      address,
      here,
      there: mirror.isKnown ? there : undefined,
      lifts: hostState.lifts,
      now: now(),
      engineNow: mirror.engineNow(),
      wasInStep: hostState.wasInStep(),
      isHeldByUnknown: local.isHeldByUnknown(address) && !isBlank,
      isRefused: () => here.length >= MOST_HOLDERS || this.#isRefused(address),
      isSpokenHere: (field) => this.#isSpokenHere(address, field),
    });
    this.refillDelay.forgetMet(address, steps);
    for (const step of steps) this.#plan(step, address, plan);
  }

  /** A file that a power cut left without its text. Only with the engine can it be written again. */
  isBlank(address: string): boolean {
    const { bulkNote, mirror, local } = this.#host;
    return mirror.isKnown && bulkNote.isCut && local.isFiledByUnknown(address) && bulkNote.isBlank(address);
  }

  #isSpokenHere(address: string, field: string): boolean {
    const lift = liftOf(this.#host.hostState.lifts, address, field);
    return lift?.key === field && this.#liftQueue.hasField(field);
  }

  #isRefused(address: string): boolean {
    const target = widen(parseAddress(address), this.#host.options.prefixes);
    return isTooBroad(target) || findProtected(target, this.#protected) !== undefined;
  }

  #plan(step: Step, address: string, { pushes, changes }: Plan): void {
    if ('push' in step) {
      if (this.refillDelay.isDue(step)) pushes.push(step);
    } else if (step.here === 'refuse') this.#refuse(step.field);
    else {
      const planned = changes.get(address) ?? [];
      changes.set(address, planned);
      this.#change(step, address, planned);
    }
  }

  #change(step: Extract<Step, { hold: Hold }>, address: string, planned: Change[]): void {
    const { hold } = step;
    if (step.here === 'release') {
      planned.push({ verb: 'release', address, holder: hold.holder, seen: [hold] });
      if (step.isJails && !isByHand(hold.holder)) this.#unbanInJail(hold);
    } else if (planned.length >= MOST_HOLDERS) this.#refuse(fieldOf(hold, this.#host.hostState.name));
    else planned.push({ verb: 'set', target: this.#targetOf(address), hold });
  }

  #targetOf(address: string): string {
    return widen(parseAddress(address), this.#host.options.prefixes).text;
  }

  #refuse(field: string): void {
    if (this.#refused.size < MOST_REFUSED) this.#refused.add(field);
  }

  #unbanInJail(hold: Hold): void {
    const { hostState } = this.#host;
    const lift = liftOf(hostState.lifts, hold.address, fieldOf(hold, hostState.name));
    this.#jailUnbans.add(hold.holder, hold.address, lift?.time ?? 0);
  }
}
