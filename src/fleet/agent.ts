import { formatTime, isOfOtherHost, now } from '../bans/hold.ts';
import { BulkNote } from './bulk-note.ts';
import { DueAddresses } from './due-addresses.ts';
import { HostState } from './host-state.ts';
import { JailUnbans } from './jail-unbans.ts';
import { LiftQueue } from './lift-queue.ts';
import { Link } from './link.ts';
import { Listener } from './listener.ts';
import { LocalHolds } from './local-holds.ts';
import { Mirror } from './mirror.ts';
import { Passes } from './passes.ts';
import { Planner } from './planner.ts';
import { type Status, writeStatus } from './status.ts';
import type { ChangeBans, FleetOptions, Host } from './types.ts';
import { Warnings } from './warnings.ts';

/** How long status and audit show a twin after it last spoke. */
const TWIN_SHOWN_SECONDS = 600;

/**
 * The agent of a host does two things at once. A connection brings what the engine has. Passes go over the addresses for which
 * something has changed: the rules decide, then the agent pushes to the engine and has the store change the bans of this host.
 */
export class Agent {
  readonly #host: Host;
  readonly #liftQueue: LiftQueue;
  readonly #jailUnbans: JailUnbans;
  readonly #planner: Planner;
  readonly #listener: Listener;
  readonly #link: Link;
  readonly #passes: Passes;
  /** Seconds; null: nothing waits. */
  #behindSince: number | null = null;
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: FleetOptions, change: ChangeBans) {
    const host = hostOf(options);
    const liftQueue = new LiftQueue(host);
    const jailUnbans = new JailUnbans(options.fail2banClient, options.state);
    const planner = new Planner(host, liftQueue, jailUnbans);
    this.#listener = new Listener(host, () => !this.#passes.isPassing && host.dueAddresses.isIdle);
    this.#link = new Link(host, this.#listener, () => this.#report());
    const push: Link['push'] = (pushes) => this.#link.push(pushes);
    this.#passes = new Passes({ host, liftQueue, jailUnbans, planner, change, push });
    [this.#host, this.#liftQueue, this.#jailUnbans, this.#planner] = [host, liftQueue, jailUnbans, planner];
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
    const { options, hostState, mirror } = this.#host;
    const { cutSince, error } = this.#link;
    const { hosts, losses, twinSeen } = this.#listener;
    const connected = cutSince === null;
    const pending = this.#pending(connected);
    return {
      connected,
      name: options.engine.name,
      host: hostState.name,
      hosts,
      holds: mirror.holds,
      pending,
      refused: this.#planner.refused + mirror.odd,
      losses,
      lastSync: hostState.lastSync === 0 ? null : formatTime(connected ? now() : hostState.lastSync),
      error: connected ? null : error,
      cutSince: timeOf(cutSince),
      behindSince: timeOf(this.#updateBehind(pending)),
      clockAhead: Math.round(mirror.clockAheadMs / 100) / 10,
      twin: now() - twinSeen < TWIN_SHOWN_SECONDS ? formatTime(twinSeen) : null,
      at: formatTime(now()),
    };
  }

  #updateBehind(pending: number): number | null {
    const isBehind = pending > 0 || this.#passes.isPassing || this.#listener.unlike > 1;
    this.#behindSince = isBehind ? (this.#behindSince ?? now()) : null;
    return this.#behindSince;
  }

  #pending(isConnected: boolean): number {
    return this.#liftQueue.waiting + this.#jailUnbans.waiting + (isConnected ? 0 : this.#ownUnheard());
  }

  /** How many holds of this host the engine did not have when the agent last heard from it. */
  #ownUnheard(): number {
    const { local, mirror, hostState } = this.#host;
    let count = 0;
    for (const address of local.addresses())
      for (const { holder } of local.holds(address))
        if (!isOfOtherHost(holder) && mirror.at(address)?.has(`${holder}@${hostState.name}`) !== true)
          count += 1;
    return count;
  }
}

function hostOf(options: FleetOptions): Host {
  const dueAddresses = new DueAddresses();
  const hostState = new HostState(options.state, options.host);
  return {
    options,
    session: `${Date.now().toString(36).padStart(9, '0')}-${process.pid}`,
    hostState,
    local: new LocalHolds(options, () => dueAddresses.rouse()),
    mirror: new Mirror(),
    dueAddresses,
    bulkNote: new BulkNote(options),
    complain: new Warnings().report,
    remember: (key, time) => {
      if (hostState.remember(key, time)) dueAddresses.addLifted(key);
    },
  };
}

function timeOf(seconds: number | null): string | null {
  return seconds === null ? null : formatTime(seconds);
}
