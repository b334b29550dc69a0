// A fleet in memory: hosts with lists, jails and clocks, and an engine that loses its data, for the simulation of the rules.
//
// The hosts decide by src/fleet/rules.ts itself; only what surrounds it is made up here. Each call of `step` is one pass of a host,
// with the engine as it is or as the host has last seen it.
import type { Hold } from '../../src/bans/hold.ts';
import { isOver } from '../../src/bans/hold.ts';
import { fieldOf, formatValue, liftOf, readField, readValue, type Value } from '../../src/fleet/entry.ts';
import { liftTime } from '../../src/fleet/lift-notes.ts';
import { decide, missingLifts, type Push, type Step, type View } from '../../src/fleet/rules.ts';

export type Decide = (view: View) => Step[];
export type Variant = { decide?: Decide /** Hosts forget lifts with the engine. */; forgets?: boolean };

/** `ADDRESS`, or `ADDRESS HOLDER@HOST`, and what is void: holds that do not begin later. Seconds since the epoch. */
export type Lift = { key: string; time: number };

export type Random = (below: number) => number;

/** Mulberry32: the same numbers for the same seed. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Seconds since the epoch: what is right everywhere, apart from each host's offset. */
export type Clock = { time: number };

export class Engine {
  holds = new Map<string, string>();
  lifts = new Map<string, number>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What the script does. */
  take(pushes: readonly Push[]): void {
    const now = this.#clock.time;
    for (const push of pushes) {
      if (push.push === 'lift')
        this.lifts.set(push.key, Math.max(this.lifts.get(push.key) ?? -1, Math.min(push.time, now)));
      else if (push.push === 'drop') {
        if (this.holds.get(push.field) === push.seen) this.holds.delete(push.field);
      } else if (push.over === undefined || push.over === (this.holds.get(push.field) ?? '')) {
        const value = { ...push.value, since: Math.min(push.value.since, now) };
        this.holds.set(push.field, formatValue(value));
      }
    }
  }

  knows(field: string, since: number): boolean {
    const value = readValue(this.holds.get(field) ?? '');
    return value !== undefined && value.since >= since;
  }

  knowsLift({ key, time }: Lift): boolean {
    return (this.lifts.get(key) ?? -1) >= time;
  }

  copy(): { holds: Map<string, string>; lifts: Map<string, number> } {
    return { holds: new Map(this.holds), lifts: new Map(this.lifts) };
  }
}

export class Host {
  readonly name: string;
  /** Its clock is so many seconds ahead. */
  readonly offset: number;
  isUp = true;
  isJailUp = true;
  list: Hold[] = [];
  /** What fail2ban has in its database: its jail is `j`. */
  jail: Hold[] = [];
  said: Lift[] = [];
  lifts = new Map<string, number>();
  spoken = new Map<string, number>();
  /** As `lifts`, in a variant that forgets too. */
  readonly #heard = new Map<string, number>();
  #seen: ReturnType<Engine['copy']> | undefined;
  #wasInStep = false;
  readonly #clock: Clock;

  constructor(name: string, offset: number, clock: Clock) {
    this.name = name;
    this.offset = offset;
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.time + this.offset;
  }

  set(hold: Hold): void {
    this.release(hold);
    this.list.push(hold);
  }

  release({ holder, address }: Pick<Hold, 'holder' | 'address'>): void {
    this.list = this.list.filter((hold) => hold.holder !== holder || hold.address !== address);
  }

  ban(holder: string, address: string, seconds: number | null): Hold {
    const since = this.now();
    const hold = { holder, address, since, until: seconds === null ? null : since + seconds, reason: null };
    this.set(hold);
    if (holder === 'j') this.jail = [...this.jail.filter((ban) => ban.address !== address), hold];
    return hold;
  }

  /**
   * By hand: the address, or with a holder that hold alone, as when fail2ban's client is asked. Returns once the clock has
   * passed the time that it says.
   */
  unban(address: string, holder?: string): Lift | undefined {
    const seen = this.list.filter(
      (hold) => hold.address === address && (holder === undefined || hold.holder === holder),
    );
    if (holder !== undefined && !seen.some((hold) => hold.until === null || hold.until > this.now() + 2))
      return undefined;
    const key = holder === undefined ? address : `${address} ${holder}@${this.name}`;
    const time = liftTime(seen, this.now(), holder !== undefined);
    this.#clock.time = Math.max(this.#clock.time, time + 1 - this.offset);
    this.said.push({ key, time });
    if (holder !== undefined) this.spoken.set(key, time);
    for (const hold of seen) this.release(hold);
    if (this.isJailUp) this.forget(address);
    return { key, time };
  }

  forget(address: string): void {
    this.jail = this.jail.filter((ban) => ban.address !== address);
  }

  stopJail(): void {
    this.isJailUp = false;
    this.list = this.list.filter(({ holder }) => holder !== 'j');
  }

  /** @param later fail2ban rounds: it restores a ban up to a second later than it told of it */
  startJail(later: number): void {
    this.isJailUp = true;
    this.jail = this.jail.filter((ban) => !isOver(ban, this.now()));
    for (const ban of this.jail) this.set({ ...ban, since: ban.since + later });
  }

  /** fail2ban and the audit end what is over. */
  endOver(): void {
    this.jail = this.jail.filter((ban) => !isOver(ban, this.now()));
    this.list = this.list.filter((hold) => hold.holder.includes('@') || !isOver(hold, this.now()));
  }

  step(engine: Engine | undefined, { isFresh, variant }: { isFresh: boolean; variant: Variant }): void {
    if (engine === undefined) this.#seen = undefined;
    else if (isFresh || this.#seen === undefined) this.#seen = engine.copy();
    const seen = this.#seen;
    if (variant.forgets && seen !== undefined) this.lifts = new Map(seen.lifts);
    const remember = (key: string, time: number) => {
      for (const memory of [this.lifts, this.#heard]) memory.set(key, Math.max(memory.get(key) ?? -1, time));
    };
    const pushes: Push[] = [];
    for (const { key, time } of this.said) {
      remember(key, Math.min(time, this.#clock.time));
      if (engine !== undefined) pushes.push({ push: 'lift', key, time });
    }
    if (engine !== undefined) this.said = [];
    for (const [key, time] of seen?.lifts ?? []) remember(key, time);
    if (seen !== undefined && !variant.forgets) pushes.push(...missingLifts(this.lifts, seen.lifts));
    for (const address of this.#addresses()) pushes.push(...this.#decide(address, variant));
    engine?.take(pushes);
    if (seen !== undefined) this.#wasInStep = true;
  }

  #decide(address: string, variant: Variant): Push[] {
    const steps = (variant.decide ?? decide)({
      self: this.name,
      address,
      here: this.list.filter((hold) => hold.address === address),
      there: this.#there(address),
      lifts: this.lifts,
      now: this.now(),
      engineNow: this.#clock.time,
      wasInStep: this.#wasInStep,
      isHeldByUnknown: false,
      isRefused: () => false,
      isSpokenHere: (field) => this.spoken.get(field) === liftOf(this.lifts, address, field)?.time,
    });
    return steps.flatMap((step): Push[] => {
      if ('push' in step) return [step];
      if (step.here === 'set') this.set(step.hold);
      if (step.here === 'release') this.release(step.hold);
      if (step.here === 'release' && step.isJails && step.hold.holder === 'j' && this.isJailUp)
        this.forget(address);
      return [];
    });
  }

  #there(address: string): Map<string, Value> | undefined {
    if (this.#seen === undefined) return undefined;
    const found = new Map<string, Value>();
    for (const [field, text] of this.#seen.holds) {
      const read = readField(field);
      const value = readValue(text);
      if (read?.address === address && value !== undefined) found.set(read.holder, value);
    }
    return found;
  }

  #addresses(): Set<string> {
    const there = [...(this.#seen?.holds.keys() ?? [])].map((field) => field.slice(0, field.indexOf(' ')));
    return new Set([...this.list.map(({ address }) => address), ...there]);
  }

  /** The list has it as it began then or later, or fail2ban's database has, from which a stopped jail starts. */
  knows(field: string, since: number): boolean {
    const restored = this.isJailUp ? [] : this.jail;
    return [...this.list, ...restored].some(
      (hold) => hold.since >= since && fieldOf(hold, this.name) === field,
    );
  }

  /** Whether it has come here, so that it must never be lost again. */
  hasHeard({ key, time }: Lift): boolean {
    return (
      this.said.some((lift) => lift.key === key && lift.time >= time) || (this.#heard.get(key) ?? -1) >= time
    );
  }

  endsOf(field: string): (number | null)[] {
    return this.list.filter((hold) => fieldOf(hold, this.name) === field).map(({ until }) => until);
  }

  fields(): Set<string> {
    const alive = this.list.filter((hold) => !isOver(hold, this.now()));
    return new Set(alive.map((hold) => fieldOf(hold, this.name)));
  }
}
