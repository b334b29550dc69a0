import { unlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Address, isTooBroad, parseAddress, widen } from '../bans/address.ts';
import type { Change } from '../bans/change.ts';
import { formatTime, type Hold, isByHand, now } from '../bans/hold.ts';
import { findProtected, protectedRanges } from '../protection/protection.ts';
import type { PlaceOptions } from '../store/types.ts';
import { BanctlError, EXIT, lineOf } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';
import { type Beat, Engine, EngineError, type EngineOptions, explain, MOST_PUSHES } from './engine.ts';
import { fieldOf, isLiftKey, liftOf, sameValue } from './entry.ts';
import { Local } from './local.ts';
import { Memory } from './memory.ts';
import { Mirror } from './mirror.ts';
import { decide, missingLifts, type Push, type Step } from './rules.ts';
import { ALL, readSaid, type Saying, saidDirectory } from './say.ts';
import { type HostStatus, type Status, writeStatus } from './status.ts';
import { Teller } from './tell.ts';

/*
 * The agent of a host. Two things go on: a connection that brings what the engine has, and passes over the addresses that
 * something has changed for. Each pass lets the rules decide, pushes, and has the store change what stands here.
 */

export interface FleetOptions extends PlaceOptions {
  readonly engine: EngineOptions;
  /** The name that this host is to have. */
  readonly host: string;
  /** The directory of what it knows. */
  readonly state: string;
  readonly version: string;
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
  readonly protect: readonly string[];
  readonly record?: string | undefined;
  /** Undefined: fail2ban is not told. */
  readonly fail2banClient: string | undefined;
}

const BEAT_MS = 5000;
const TICK_MS = 1000;
/** Changes come in bursts; the first waits so long for the others. */
const GATHERED_MS = 3;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const MOST_CHANGES = 500;
/** Addresses that are decided on before others get their turn. */
const IN_ONE_GO = 2000;
const FORGOTTEN_SECONDS = 30 * 24 * 3600;
/** So long another host is shown as a twin after it last spoke. */
const TWIN_SHOWN_SECONDS = 600;
/** The owner goes first, and not all others at once. */
const PATIENCE_MS = { least: 1000, most: 10_000 };
const RETRY_MS = { least: 300, most: 5000 };

export class Agent {
  readonly #options: FleetOptions;
  readonly #change: (changes: readonly Change[]) => Promise<unknown>;
  readonly #memory: Memory;
  readonly #local: Local;
  readonly #mirror = new Mirror();
  readonly #teller: Teller;
  readonly #session = `${Date.now().toString(36).padStart(9, '0')}-${process.pid}`;
  #engine: Engine | undefined;
  /** The mirror is what the engine has. */
  #isKnown = false;
  readonly #dirty = new Set<string>();
  #isAllDirty = true;
  /** When to push what the engine lost, by field. Milliseconds of the process's clock. */
  readonly #patience = new Map<string, number>();
  readonly #spoken = new Set<string>();
  /** With full keys. */
  readonly #said = new Map<string, Saying>();
  readonly #refused = new Set<string>();
  #protected: readonly Address[] = [];
  #clockAheadMs = 0;
  #hosts: HostStatus[] = [];
  #losses = 0;
  #error: string | null = null;
  #cutSince: number | null = now();
  #behindSince: number | null = null;
  #twinSeen = 0;
  #unlike = 0;
  #lastMinute = 0;
  #lastTick = 0;
  #isClosed = false;
  /** What was decided is still being done. */
  #isPassing = false;
  readonly #complaints = new Map<string, number>();
  #wake: () => void = () => {};
  #isWoken = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: FleetOptions, change: (changes: readonly Change[]) => Promise<unknown>) {
    this.#options = options;
    this.#change = change;
    this.#memory = new Memory(options.state, options.host);
    this.#local = new Local(options, () => this.#rouse());
    this.#teller = new Teller(options.fail2banClient);
  }

  start(): void {
    this.#running = Promise.all([this.#passes(), this.#connections()]);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#engine?.close();
    this.#local.close();
    this.#rouse();
    await this.#running;
  }

  /** What goes on being wrong is said once a minute. */
  #complain(error: unknown): void {
    const message = error instanceof BanctlError ? lineOf(error) : String(error);
    const last = this.#complaints.get(message);
    if (last !== undefined && performance.now() - last < MINUTE_MS) return;
    if (this.#complaints.size > 100) this.#complaints.clear();
    this.#complaints.set(message, performance.now());
    warn(`fleet: ${message}`);
  }

  #rouse(): void {
    this.#isWoken = true;
    this.#wake();
  }

  // Passes

  async #passes(): Promise<void> {
    while (!this.#isClosed) {
      this.#isWoken = false;
      try {
        await this.#pass();
      } catch (error) {
        // A full disk, a lock that is not free: what is left is looked at again.
        this.#complain(error);
        this.#isAllDirty = true;
        await sleep(TICK_MS);
      }
      if (!this.#isWoken) await this.#woken();
      if (!this.#isClosed) await sleep(GATHERED_MS);
    }
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, TICK_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #pass(): Promise<void> {
    const isMinute = performance.now() - this.#lastMinute > MINUTE_MS || this.#lastMinute === 0;
    if (isMinute) await this.#minute();
    for (const address of isMinute ? await this.#local.rescan() : await this.#local.collect())
      this.#dirty.add(address);
    // After the list: a release is said before it is made.
    this.#hear();
    if (performance.now() - this.#lastTick >= TICK_MS) this.#tick();
    const pushes: Push[] = this.#unheard();
    const changes = new Map<string, Change[]>();
    const addresses = this.#takeDirty();
    for (const [index, address] of addresses.entries()) {
      if (index % IN_ONE_GO === IN_ONE_GO - 1) await new Promise(setImmediate);
      pushes.push(...this.#decide(address, changes));
    }
    this.#isPassing = true;
    await Promise.all([this.#push(pushes), this.#apply(changes)]);
    this.#isPassing = false;
    this.#save();
    this.#teller.work();
  }

  async #minute(): Promise<void> {
    this.#lastMinute = performance.now();
    this.#memory.forgetOld();
    this.#protected = protectedRanges(this.#options);
    const isFirst = this.#refused.size > 0;
    this.#refused.clear();
    if (isFirst) this.#isAllDirty = true;
  }

  /** What ends, and what has waited. */
  #tick(): void {
    this.#lastTick = performance.now();
    for (const address of this.#local.addresses())
      if (
        this.#local
          .holds(address)
          .some(({ holder, until }) => until !== null && until <= now() && holder.includes('@'))
      )
        this.#dirty.add(address);
    for (const [field, due] of this.#patience) {
      const address = field.slice(0, field.indexOf(' '));
      if (this.#local.holds(address).length === 0) this.#patience.delete(field);
      else if (performance.now() >= due) this.#dirty.add(address);
    }
  }

  #hear(): void {
    for (const [name, saying] of readSaid(this.#options.state)) {
      if (this.#said.has(name)) continue;
      const keys = saying.keys.flatMap((key) => this.#fullKey(key) ?? []);
      const time = Math.min(saying.time, this.#engineNow());
      this.#said.set(name, { keys, time });
      for (const key of keys) {
        if (key.includes(' ')) this.#spoken.add(key);
        this.#remember(key, time);
      }
    }
  }

  /** What a call says of a hold of this host, which does not know its name. */
  #fullKey(key: string): string | undefined {
    const full = key.includes(' ') && !key.includes('@') ? `${key}@${this.#memory.name}` : key;
    return isLiftKey(full) ? full : undefined;
  }

  #remember(key: string, time: number): void {
    if (!this.#memory.remember(key, time)) return;
    if (key === ALL) this.#isAllDirty = true;
    else this.#dirty.add(key.split(' ')[0] ?? key);
  }

  /** What was said and the engine has not heard, and lifts that it lost. */
  #unheard(): Push[] {
    return this.#isKnown ? missingLifts(this.#memory.lifts, this.#mirror.lifts) : [];
  }

  #forgetSaid(): void {
    for (const [name, { keys, time }] of this.#said) {
      const lacks = (key: string) => (this.#mirror.lifts.get(key) ?? -1) < time;
      if (!this.#isKnown || keys.some(lacks)) continue;
      try {
        unlinkSync(join(saidDirectory(this.#options.state), name));
      } catch {
        // Said again, it changes nothing.
      }
      this.#said.delete(name);
    }
  }

  /** What was said is forgotten once both the engine and the disk have it. */
  #save(): void {
    try {
      this.#memory.save();
    } catch (error) {
      this.#complain(error);
      return;
    }
    this.#forgetSaid();
  }

  #takeDirty(): string[] {
    const all = this.#isAllDirty ? [...this.#local.addresses(), ...this.#mirror.addresses()] : [];
    const addresses = new Set([...this.#dirty, ...all]);
    this.#isAllDirty = false;
    this.#dirty.clear();
    return [...addresses];
  }

  #decide(address: string, changes: Map<string, Change[]>): Push[] {
    const there = this.#mirror.at(address) ?? new Map();
    const here = this.#local.holds(address);
    if (here.length === 0 && there.size === 0) return [];
    const steps = decide({
      self: this.#memory.name,
      address,
      here,
      there: this.#isKnown ? there : undefined,
      lifts: this.#memory.lifts,
      now: now(),
      engineNow: this.#engineNow(),
      wasInStep: this.#memory.wasInStep(),
      isHeldByUnknown: this.#local.isHeldByUnknown(address),
      isRefused: () => here.length >= MOST_HOLDERS || this.#isRefused(address),
      isSpokenHere: (field) => {
        const lift = liftOf(this.#memory.lifts, address, field);
        return lift?.key === field && this.#spoken.has(field);
      },
    });
    const lost = new Set<string>();
    const pushes = steps.flatMap((step) => this.#do(step, address, changes, lost));
    for (const { holder } of here) {
      const field = fieldOf({ address, holder }, this.#memory.name);
      if (!lost.has(field)) this.#patience.delete(field);
    }
    return pushes;
  }

  #do(step: Step, address: string, changes: Map<string, Change[]>, lost: Set<string>): Push[] {
    if ('push' in step) {
      if (step.push !== 'hold' || step.over === undefined) return [step];
      lost.add(step.field);
      const due = this.#patience.get(step.field) ?? performance.now() + patienceMs();
      this.#patience.set(step.field, due);
      return performance.now() >= due ? [step] : [];
    }
    if (step.here === 'refuse') return this.#refuse(step.field);
    const { hold } = step;
    const mine: Change[] = changes.get(address) ?? [];
    // Apache's lines have an end, and one address needs no more reasons.
    if (step.here === 'set' && mine.length >= MOST_HOLDERS)
      return this.#refuse(fieldOf(hold, this.#memory.name));
    changes.set(address, mine);
    if (step.here === 'set') mine.push({ verb: 'set', target: this.#targetOf(address), hold });
    else mine.push({ verb: 'release', address, holder: hold.holder, seen: [hold] });
    if (step.here === 'release' && step.tells && !isByHand(hold.holder)) this.#tell(hold);
    return [];
  }

  #refuse(field: string): never[] {
    if (this.#refused.size < MOST_REFUSED) this.#refused.add(field);
    return [];
  }

  #tell(hold: Hold): void {
    const field = fieldOf(hold, this.#memory.name);
    this.#teller.add(hold.holder, hold.address, liftOf(this.#memory.lifts, hold.address, field)?.time ?? 0);
  }

  #targetOf(address: string): string {
    return widen(parseAddress(address), this.#options.prefixes).text;
  }

  #isRefused(address: string): boolean {
    const target = widen(parseAddress(address), this.#options.prefixes);
    return isTooBroad(target) || findProtected(target, this.#protected) !== undefined;
  }

  async #push(pushes: readonly Push[]): Promise<void> {
    const engine = this.#engine;
    if (engine === undefined || !this.#isKnown) return;
    const unique = withoutDoubles(pushes);
    try {
      for (let at = 0; at < unique.length; at += MOST_PUSHES)
        await engine.change(this.#by(), unique.slice(at, at + MOST_PUSHES));
    } catch (error) {
      this.#isAllDirty = true;
      this.#cut(explain(engine.reason(error), this.#options.engine));
    }
  }

  async #apply(changes: ReadonlyMap<string, readonly Change[]>): Promise<void> {
    let batch: Change[] = [];
    let addresses: string[] = [];
    const flush = async () => {
      const [some, named] = [batch, addresses];
      batch = [];
      addresses = [];
      if (some.length === 0) return;
      await this.#changeAll(some);
      await this.#local.refresh(named);
      for (const address of named) this.#dirty.add(address);
    };
    for (const [address, some] of changes) {
      batch.push(...some);
      addresses.push(address);
      if (batch.length >= MOST_CHANGES) await flush();
    }
    await flush();
    if (this.#dirty.size > 0) this.#isWoken = true;
  }

  /** One change that cannot be made must not keep the others from it. */
  async #changeAll(changes: readonly Change[]): Promise<void> {
    try {
      await this.#change(changes);
    } catch (error) {
      if (changes.length === 1 || !(error instanceof BanctlError) || error.exitCode === EXIT.lockBusy)
        throw error;
      const half = Math.ceil(changes.length / 2);
      let failure: unknown;
      for (const part of [changes.slice(0, half), changes.slice(half)])
        await this.#changeAll(part).catch((partly) => {
          failure = partly;
        });
      if (failure !== undefined) this.#complain(failure);
    }
  }

  #by(): string {
    return `${this.#memory.name}/${this.#session}`;
  }

  #engineNow(): number {
    return Math.floor((Date.now() - this.#clockAheadMs) / 1000);
  }

  // The connection

  async #connections(): Promise<void> {
    let failures = 0;
    while (!this.#isClosed) {
      try {
        await this.#connected(() => {
          failures = 0;
        });
      } catch (error) {
        this.#cut(error instanceof EngineError ? error.message : explain(error, this.#options.engine));
      }
      this.#status();
      if (this.#isClosed) return;
      failures += 1;
      const longest = Math.min(RETRY_MS.least * 2 ** failures, RETRY_MS.most);
      await sleep(RETRY_MS.least + Math.random() * longest, undefined, { ref: false });
    }
  }

  /** Until the connection ends. */
  async #connected(onConnected: () => void): Promise<void> {
    const engine = await Engine.connect(this.#options.engine, () => this.#cut(undefined));
    if (this.#isClosed) return engine.close();
    this.#engine = engine;
    const beating = { timer: undefined as NodeJS.Timeout | undefined };
    try {
      await this.#beat(engine);
      await this.#read(engine);
      onConnected();
      this.#error = null;
      this.#cutSince = null;
      this.#status();
      const beat = () => {
        this.#beat(engine).then(
          () => {
            if (this.#engine === engine) beating.timer = setTimeout(beat, BEAT_MS);
          },
          (error) => this.#cut(explain(engine.reason(error), this.#options.engine)),
        );
      };
      beating.timer = setTimeout(beat, BEAT_MS);
      let readAt = performance.now();
      while (this.#engine === engine && !this.#isClosed) {
        const isOld = performance.now() - readAt > HOUR_MS;
        if (!this.#isKnown || isOld) {
          await this.#read(engine);
          readAt = performance.now();
        }
        for (const entry of await engine.read(this.#mirror.id)) this.#take(entry);
      }
    } catch (error) {
      throw engine.reason(error);
    } finally {
      clearTimeout(beating.timer);
      if (this.#engine === engine) this.#engine = undefined;
      this.#isKnown = false;
      engine.close();
    }
  }

  async #read(engine: Engine): Promise<void> {
    const snapshot = await engine.snapshot();
    if (snapshot.n < this.#mirror.n) this.#losses += 1;
    this.#mirror.take(snapshot);
    this.#isKnown = true;
    this.#isAllDirty = true;
    for (const [key, time] of snapshot.lifts) this.#memory.remember(key, time);
    this.#leaveFormerName();
    this.#rouse();
  }

  #take(entry: Parameters<Mirror['apply']>[0]): void {
    if (!this.#isKnown) return;
    const [host, session] = entry.by.split('/');
    if (host === this.#memory.name && session !== undefined && session !== this.#session)
      this.#meetTwin(session);
    const touched = this.#mirror.apply(entry);
    if (touched === undefined) {
      this.#isKnown = false;
      return;
    }
    for (const change of entry.changes)
      if (change[0] === 'l' && isLiftKey(String(change[1]))) this.#remember(change[1], Number(change[2]));
    for (const address of touched) this.#dirty.add(address);
    this.#rouse();
  }

  async #beat(engine: Engine): Promise<void> {
    const said = {
      session: this.#session,
      machine: hostname(),
      version: this.#options.version,
      seen: now(),
      holds: this.#local.addresses().size,
      n: this.#mirror.n,
    };
    const before = this.#mirror.n;
    const asked = Date.now();
    const beat = await engine.beat(this.#memory.name, JSON.stringify(said), this.#goneHosts());
    this.#clockAheadMs = Math.round((asked + Date.now()) / 2 - beat.timeMs);
    this.#hosts = readHosts(beat.hosts);
    const { session } = readHost(beat.before);
    const isTwin = this.#isKnown && session !== undefined && session !== this.#session;
    if (isTwin) this.#meetTwin(session);
    if (this.#isKnown) this.#compare(beat, before);
    if (Math.random() < BEAT_MS / MINUTE_MS) await engine.change(this.#by(), [], now() - FORGOTTEN_SECONDS);
    this.#status();
  }

  /** Once the number is reached, at the next beat at the latest, there must be as much here as there. */
  #compare(beat: Beat, before: number): void {
    if (beat.n >= before && beat.n < this.#mirror.n) return;
    if (this.#mirror.isLike(beat)) {
      this.#unlike = 0;
      if (!this.#isPassing && this.#dirty.size === 0 && !this.#isAllDirty) this.#memory.synced();
      return;
    }
    this.#unlike += 1;
    const isLate = beat.n > this.#mirror.n && this.#unlike === 1;
    // A difference that stays is read more and more seldom: it would be the same.
    const isTurn = (this.#unlike & (this.#unlike - 1)) === 0;
    if (beat.n < before || (isTurn && !isLate)) this.#isKnown = false;
  }

  #goneHosts(): string[] {
    const oldest = now() - FORGOTTEN_SECONDS;
    return this.#hosts.filter(({ seen }) => Date.parse(seen) / 1000 < oldest).map(({ name }) => name);
  }

  /** The one that started later takes another name. */
  #meetTwin(session: string): void {
    this.#twinSeen = now();
    if (session > this.#session) return;
    const { name } = this.#memory;
    this.#memory.rename();
    warn(
      `another host of the fleet is called ${name}; this one is ${this.#memory.name} from now on: give each its own --fleet-host`,
    );
    this.#leaveFormerName();
    this.#isAllDirty = true;
    this.#rouse();
  }

  /** Else what this host holds would stay under a name that it no longer has. */
  #leaveFormerName(): void {
    const { formerName } = this.#memory;
    if (formerName === undefined || !this.#isKnown) return;
    for (const address of this.#local.addresses())
      for (const hold of this.#local.holds(address)) {
        if (hold.holder.includes('@')) continue;
        const there = this.#mirror.at(address)?.get(`${hold.holder}@${formerName}`);
        if (there !== undefined && sameValue(there, hold))
          this.#remember(fieldOf(hold, formerName), hold.since);
      }
    this.#memory.formerName = undefined;
  }

  #cut(why: string | undefined): void {
    this.#isKnown = false;
    this.#cutSince ??= now();
    this.#error = why ?? this.#error ?? 'the connection was lost';
    this.#engine?.close();
    this.#engine = undefined;
  }

  #status(): void {
    const { state, engine } = this.#options;
    const isConnected = this.#cutSince === null;
    const pending = this.#said.size + this.#teller.waiting + (isConnected ? 0 : this.#ownUnheard());
    const isBehind = pending > 0 || this.#isPassing || this.#unlike > 1;
    this.#behindSince = isBehind ? (this.#behindSince ?? now()) : null;
    const status: Status = {
      connected: isConnected,
      name: engine.name,
      host: this.#memory.name,
      hosts: this.#hosts,
      holds: this.#mirror.holds,
      pending,
      refused: this.#refused.size + this.#mirror.odd,
      losses: this.#losses,
      lastSync: this.#memory.lastSync === 0 ? null : formatTime(isConnected ? now() : this.#memory.lastSync),
      error: isConnected ? null : this.#error,
      cutSince: this.#cutSince === null ? null : formatTime(this.#cutSince),
      behindSince: this.#behindSince === null ? null : formatTime(this.#behindSince),
      clockAhead: Math.round(this.#clockAheadMs / 100) / 10,
      twin: now() - this.#twinSeen < TWIN_SHOWN_SECONDS ? formatTime(this.#twinSeen) : null,
      at: formatTime(now()),
    };
    try {
      writeStatus(state, status);
    } catch (error) {
      this.#complain(error);
    }
  }

  /** Holds of this host that the engine did not have when it was last heard. */
  #ownUnheard(): number {
    let count = 0;
    for (const address of this.#local.addresses())
      for (const { holder } of this.#local.holds(address))
        if (!holder.includes('@') && this.#mirror.at(address)?.has(`${holder}@${this.#memory.name}`) !== true)
          count += 1;
    return count;
  }
}

const MOST_REFUSED = 100_000;
/** Of one address, at one host. */
const MOST_HOLDERS = 64;

/** A lift of everything goes with each field that it makes void. */
function withoutDoubles(pushes: readonly Push[]): Push[] {
  const lifts = new Map<string, Push>();
  const others: Push[] = [];
  for (const push of pushes) {
    if (push.push !== 'lift') others.push(push);
    else {
      const known = lifts.get(push.key);
      if (known?.push !== 'lift' || known.time < push.time) lifts.set(push.key, push);
    }
  }
  return [...lifts.values(), ...others];
}

function patienceMs(): number {
  return PATIENCE_MS.least + Math.random() * (PATIENCE_MS.most - PATIENCE_MS.least);
}

function readHosts(hosts: Beat['hosts']): HostStatus[] {
  const known = [...hosts].slice(0, 1000).map(([name, text]) => {
    const { machine, version, seen, holds } = readHost(text);
    return {
      name: name.slice(0, 64),
      host: machine ?? '',
      seen: formatTime(seen ?? 0),
      holds: holds ?? 0,
      version: version ?? '',
    };
  });
  return known.sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Another host's words about itself: anything can stand there. */
function readHost(text: string): {
  session?: string;
  machine?: string;
  version?: string;
  seen?: number;
  holds?: number;
} {
  let said: unknown;
  try {
    said = JSON.parse(text.slice(0, 4000));
  } catch {
    return {};
  }
  if (typeof said !== 'object' || said === null) return {};
  const texts = ['session', 'machine', 'version'] as const;
  const numbers = ['seen', 'holds'] as const;
  const values = said as Record<string, unknown>;
  return Object.fromEntries([
    ...texts.flatMap((name) =>
      typeof values[name] === 'string' ? [[name, String(values[name]).slice(0, 100)]] : [],
    ),
    ...numbers.flatMap((name) =>
      Number.isSafeInteger(values[name]) &&
      Number(values[name]) >= 0 &&
      Number(values[name]) < 253_402_300_800
        ? [[name, values[name]]]
        : [],
    ),
  ]);
}
