import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { now } from '../bans/hold.ts';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';
import { isHostName, isLiftKey, REMEMBERED_SECONDS } from './entry.ts';

/*
 * What a host knows for itself: its name in the fleet, what was lifted, and when it was last in step. A cloned disk has the
 * name of another host: the name is bound to the machine.
 */

const MACHINE_ID = '/etc/machine-id';

interface Identity {
  readonly name: string;
  /** What it was made of: another one of these, and it is another host. */
  readonly machine: string;
  readonly hostname: string;
  readonly wanted: string;
}

export class HostState {
  readonly #path: string;
  #identity: Identity;
  readonly lifts = new Map<string, number>();
  /** Seconds since the epoch; 0: never. */
  lastSync = 0;
  /** The name that it had until now, if that was this host's. */
  formerName: string | undefined;
  #isSaved = false;

  /** @param wanted the name that the host is to have */
  constructor(state: string, wanted: string) {
    this.#path = join(state, 'state.json');
    const here = { machine: machineId(), hostname: hostname(), wanted };
    this.#identity = { name: wanted, ...here };
    const { identity, lifts, lastSync } = readState(this.#path);
    for (const [key, time] of lifts) this.lifts.set(key, time);
    const isSameMachine = identity?.machine === here.machine && identity.hostname === here.hostname;
    if (!isSameMachine) return;
    this.lastSync = lastSync;
    if (identity.wanted === wanted) this.#identity = identity;
    else this.formerName = identity.name;
    this.#isSaved = this.#identity === identity;
  }

  get name(): string {
    return this.#identity.name;
  }

  /** Another host has the same name, and had it first. */
  rename(): void {
    this.formerName = this.#identity.name;
    const short = this.#identity.wanted.slice(0, 58);
    this.#identity = { ...this.#identity, name: `${short}-${randomBytes(2).toString('hex')}` };
    this.#isSaved = false;
  }

  /** True if it is news. */
  remember(key: string, time: number): boolean {
    if ((this.lifts.get(key) ?? -1) >= time) return false;
    this.lifts.set(key, time);
    this.#isSaved = false;
    return true;
  }

  wasInStep(): boolean {
    return now() - this.lastSync <= REMEMBERED_SECONDS;
  }

  synced(): void {
    // Days count: a file each few seconds would be too much.
    if (now() - this.lastSync < 600) return;
    this.lastSync = now();
    this.#isSaved = false;
  }

  forgetOld(): void {
    for (const [key, time] of this.lifts)
      if (time < now() - REMEMBERED_SECONDS) {
        this.lifts.delete(key);
        this.#isSaved = false;
      }
  }

  /** What the engine's clock dated later than `latest`, while it was wrong, was lifted until `time`. */
  clamp(latest: number, time: number): void {
    for (const [key, lifted] of this.lifts)
      if (lifted > latest) {
        this.lifts.set(key, time);
        this.#isSaved = false;
      }
  }

  /** @throws BanctlError cannotWrite */
  save(): void {
    if (this.#isSaved) return;
    makeDirectory(join(this.#path, '..'));
    const document = { id: this.#identity, lastSync: this.lastSync, lifts: Object.fromEntries(this.lifts) };
    replaceFile(this.#path, [Buffer.from(`${JSON.stringify(document)}\n`)], { lock: undefined });
    this.#isSaved = true;
  }
}

function machineId(): string {
  try {
    return readFileSync(MACHINE_ID, 'utf8').trim();
  } catch {
    return '';
  }
}

/** An unreadable state counts as none. */
function readState(path: string): { identity?: Identity; lifts: [string, number][]; lastSync: number } {
  try {
    const { id, lastSync, lifts } = JSON.parse(readText(path).text.toString('utf8'));
    const known = Object.entries(lifts ?? {}).filter(
      (lift): lift is [string, number] => isLiftKey(lift[0]) && Number.isSafeInteger(lift[1]),
    );
    const isIdentity = isHostName(String(id?.name)) && isHostName(String(id?.wanted));
    return {
      ...(isIdentity ? { identity: id } : {}),
      lifts: known,
      lastSync: Number.isSafeInteger(lastSync) ? lastSync : 0,
    };
  } catch {
    return { lifts: [], lastSync: 0 };
  }
}
