import { hostname } from 'node:os';
import { now } from '../bans/hold.ts';
import { warn } from '../terminal/print.ts';
import type { Beat, Engine, LogEntry } from './engine.ts';
import { fieldOf, REMEMBERED_SECONDS, sameValue } from './entry.ts';
import { readHost, readHosts } from './hosts.ts';
import type { HostStatus } from './status.ts';
import type { Host } from './types.ts';

/** On average, one beat in this many makes the engine forget old lifts. */
const BEATS_FOR_FORGETTING = 12;

/** Receives the engine's snapshot and log, and compares with each beat whether anything is missing. */
export class Listener {
  readonly #host: Host;
  readonly #isAtRest: () => boolean;
  /** Consecutive beats at which this host did not have as much as the engine. */
  unlike = 0;
  /** How often the engine has lost data since the agent started. */
  losses = 0;
  hosts: HostStatus[] = [];
  /** When another host spoke under this one's name. Seconds. */
  twinSeen = 0;

  /** @param isAtRest false while something that was decided is still being done */
  constructor(host: Host, isAtRest: () => boolean) {
    this.#host = host;
    this.#isAtRest = isAtRest;
  }

  /** This host's name in the log. */
  get by(): string {
    return `${this.#host.hostState.name}/${this.#host.session}`;
  }

  async read(engine: Engine): Promise<void> {
    const { mirror, hostState, dueAddresses } = this.#host;
    const snapshot = await engine.snapshot();
    if (snapshot.n < mirror.n) this.losses += 1;
    mirror.take(snapshot);
    dueAddresses.addAll();
    hostState.clamp(mirror.latest(), mirror.engineNow());
    for (const [key, time] of mirror.lifts) hostState.remember(key, time);
    this.#leaveFormerName();
    dueAddresses.rouse();
  }

  take(entry: LogEntry): void {
    const { mirror, dueAddresses } = this.#host;
    if (!mirror.isKnown) return;
    this.#heedTwin(entry.by);
    const touched = mirror.apply(entry);
    if (touched === undefined) return;
    for (const [kind, key] of entry.changes) {
      const time = kind === 'l' ? mirror.lifts.get(String(key)) : undefined;
      if (time !== undefined) this.#host.remember(String(key), time);
    }
    for (const address of touched) dueAddresses.add(address);
    dueAddresses.rouse();
  }

  async beat(engine: Engine): Promise<void> {
    const { mirror, hostState } = this.#host;
    const before = mirror.n;
    const asked = Date.now();
    const beat = await engine.beat(hostState.name, this.#introduction(), this.#goneHosts());
    mirror.clockAheadMs = Math.round((asked + Date.now()) / 2 - beat.timeMs);
    this.hosts = readHosts(beat.hosts);
    const { session } = readHost(beat.before);
    if (mirror.isKnown && session !== undefined) this.#heedTwin(`${hostState.name}/${session}`);
    if (mirror.isKnown) this.#compare(beat, before);
    if (Math.random() * BEATS_FOR_FORGETTING < 1)
      await engine.change(this.by, [], now() - REMEMBERED_SECONDS);
  }

  #introduction(): string {
    const { session, options, local, mirror } = this.#host;
    const { version } = options;
    const said = { session, machine: hostname(), version, seen: now(), holds: local.size, n: mirror.n };
    return JSON.stringify(said);
  }

  #goneHosts(): string[] {
    const oldest = now() - REMEMBERED_SECONDS;
    return this.hosts.filter(({ seen }) => Date.parse(seen) / 1000 < oldest).map(({ name }) => name);
  }

  /** Once the number is reached, by the next beat at the latest, this host must have as much as the engine. */
  #compare(beat: Beat, before: number): void {
    const { mirror, hostState } = this.#host;
    if (beat.n >= before && beat.n < mirror.n) return;
    if (mirror.isLike(beat)) {
      this.unlike = 0;
      if (this.#isAtRest()) hostState.synced();
      return;
    }
    this.unlike += 1;
    const isLate = beat.n > mirror.n && this.unlike === 1;
    // A lasting difference would be the same each time, so the snapshots become rarer.
    const isTurn = (this.unlike & (this.unlike - 1)) === 0;
    if (beat.n < before || (isTurn && !isLate)) mirror.isKnown = false;
  }

  /** Of two hosts with one name, the one that started later takes another. */
  #heedTwin(by: string): void {
    const { hostState, session: own, dueAddresses } = this.#host;
    const [name, session] = by.split('/');
    if (name !== hostState.name || session === undefined || session === own) return;
    this.twinSeen = now();
    if (session > own) return;
    hostState.rename();
    warn(
      `another host of the fleet is called ${name}; this one is ${hostState.name} from now on: give each its own --fleet-host`,
    );
    this.#leaveFormerName();
    dueAddresses.addAll();
    dueAddresses.rouse();
  }

  /** Without this, the holds of this host would stay under a name that it no longer has. */
  #leaveFormerName(): void {
    const { hostState, mirror, local } = this.#host;
    const { formerName } = hostState;
    if (formerName === undefined || !mirror.isKnown) return;
    for (const address of local.addresses())
      for (const hold of local.holds(address)) {
        const there = mirror.at(address)?.get(`${hold.holder}@${formerName}`);
        if (there !== undefined && sameValue(there, hold))
          this.#host.remember(fieldOf(hold, formerName), hold.since);
      }
    hostState.formerName = undefined;
  }
}
