import { formatTime, isOfOtherHost, now } from '../bans/hold.ts';
import { Attention } from './attention.ts';
import { Complaints } from './complaints.ts';
import { Deciding } from './deciding.ts';
import { Filling } from './filling.ts';
import { Hearing } from './hearing.ts';
import { Link } from './link.ts';
import { Local } from './local.ts';
import { Memory } from './memory.ts';
import { Mirror } from './mirror.ts';
import { Passes } from './passes.ts';
import { Spoken } from './spoken.ts';
import { type Status, writeStatus } from './status.ts';
import { Teller } from './tell.ts';
import type { ChangeBans, FleetOptions, Host } from './types.ts';

/** How long status and audit show a twin after it last spoke. */
const TWIN_SHOWN_SECONDS = 600;

/**
 * The agent of a host does two things at once. A connection brings what the engine has. Passes go over the addresses for which
 * something has changed: the rules decide, then the agent pushes to the engine and has the store change the bans of this host.
 */
export class Agent {
  readonly #host: Host;
  readonly #spoken: Spoken;
  readonly #teller: Teller;
  readonly #deciding: Deciding;
  readonly #hearing: Hearing;
  readonly #link: Link;
  readonly #passes: Passes;
  /** Seconds; null: nothing waits. */
  #behindSince: number | null = null;
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: FleetOptions, change: ChangeBans) {
    const host = hostOf(options);
    const spoken = new Spoken(host);
    const teller = new Teller(options.fail2banClient, options.state);
    const deciding = new Deciding(host, spoken, teller);
    this.#hearing = new Hearing(host, () => !this.#passes.isPassing && host.attention.isIdle);
    this.#link = new Link(host, this.#hearing, () => this.#report());
    const push: Link['push'] = (pushes) => this.#link.push(pushes);
    this.#passes = new Passes({ host, spoken, teller, deciding, change, push });
    [this.#host, this.#spoken, this.#teller, this.#deciding] = [host, spoken, teller, deciding];
  }

  start(): void {
    this.#running = Promise.all([this.#passes.run(), this.#link.run()]);
  }

  async close(): Promise<void> {
    this.#link.close();
    this.#host.local.close();
    this.#passes.close();
    await this.#running;
  }

  #report(): void {
    try {
      writeStatus(this.#host.options.state, this.#status());
    } catch (error) {
      this.#host.complain(error);
    }
  }

  #status(): Status {
    const { options, memory, mirror } = this.#host;
    const { cutSince, error } = this.#link;
    const { hosts, losses, twinSeen } = this.#hearing;
    const connected = cutSince === null;
    const pending = this.#pending(connected);
    return {
      connected,
      name: options.engine.name,
      host: memory.name,
      hosts,
      holds: mirror.holds,
      pending,
      refused: this.#deciding.refused + mirror.odd,
      losses,
      lastSync: memory.lastSync === 0 ? null : formatTime(connected ? now() : memory.lastSync),
      error: connected ? null : error,
      cutSince: timeOf(cutSince),
      behindSince: timeOf(this.#updateBehind(pending)),
      clockAhead: Math.round(mirror.clockAheadMs / 100) / 10,
      twin: now() - twinSeen < TWIN_SHOWN_SECONDS ? formatTime(twinSeen) : null,
      at: formatTime(now()),
    };
  }

  #updateBehind(pending: number): number | null {
    const isBehind = pending > 0 || this.#passes.isPassing || this.#hearing.unlike > 1;
    this.#behindSince = isBehind ? (this.#behindSince ?? now()) : null;
    return this.#behindSince;
  }

  #pending(isConnected: boolean): number {
    return this.#spoken.waiting + this.#teller.waiting + (isConnected ? 0 : this.#ownUnheard());
  }

  /** How many holds of this host the engine did not have when the agent last heard from it. */
  #ownUnheard(): number {
    const { local, mirror, memory } = this.#host;
    let count = 0;
    for (const address of local.addresses())
      for (const { holder } of local.holds(address))
        if (!isOfOtherHost(holder) && mirror.at(address)?.has(`${holder}@${memory.name}`) !== true)
          count += 1;
    return count;
  }
}

function hostOf(options: FleetOptions): Host {
  const attention = new Attention();
  const memory = new Memory(options.state, options.host);
  return {
    options,
    session: `${Date.now().toString(36).padStart(9, '0')}-${process.pid}`,
    memory,
    local: new Local(options, () => attention.rouse()),
    mirror: new Mirror(),
    attention,
    filling: new Filling(options),
    complain: new Complaints().say,
    remember: (key, time) => {
      if (memory.remember(key, time)) attention.addLifted(key);
    },
  };
}

function timeOf(seconds: number | null): string | null {
  return seconds === null ? null : formatTime(seconds);
}
