import { readAddress } from '../bans/address.ts';
import { jailOf } from '../bans/hold.ts';
import { heldBans, tellUnbanned } from '../fail2ban/client.ts';

/** Lets jails of this host forget what was lifted elsewhere, until they have answered. */
export class Teller {
  readonly #client: string | undefined;
  /** When it was lifted, by jail and address. Seconds. */
  readonly #waiting = new Map<string, Map<string, number>>();
  #working: Promise<void> | undefined;

  /** @param client undefined: fail2ban is not to be told */
  constructor(client: string | undefined) {
    this.#client = client;
  }

  add(holder: string, address: string, lifted: number): void {
    if (this.#client === undefined) return;
    const jail = jailOf(holder);
    this.#waiting.set(jail, (this.#waiting.get(jail) ?? new Map()).set(address, lifted));
  }

  get waiting(): number {
    return [...this.#waiting.values()].reduce((sum, addresses) => sum + addresses.size, 0);
  }

  /** Asks each jail once; what does not answer is asked again at the next call. */
  work(): void {
    this.#working ??= this.#tell().finally(() => {
      this.#working = undefined;
    });
  }

  async #tell(): Promise<void> {
    for (const [jail, addresses] of this.#waiting) {
      const asked = new Map(addresses);
      if (!(await this.#isTold(jail, asked))) continue;
      for (const [address, lifted] of asked) if (addresses.get(address) === lifted) addresses.delete(address);
      if (addresses.size === 0) this.#waiting.delete(jail);
    }
  }

  /** A ban that is newer than the lift is another one, and stays. */
  async #isTold(jail: string, lifted: ReadonlyMap<string, number>): Promise<boolean> {
    const client = this.#client ?? '';
    const held = await heldBans(client, jail);
    // One that does not run, or has no such jail, holds nothing; what it restores is released again.
    if (!held.ok) return held.state !== 'silent' && held.state !== 'odd';
    const old = held.value.filter(({ address, since }) => {
      const time = lifted.get(readAddress(address)?.text ?? address);
      return time !== undefined && since <= time;
    });
    if (old.length === 0) return true;
    const failure = await tellUnbanned(
      client,
      jail,
      old.map(({ address }) => address),
    );
    return failure === undefined;
  }
}
