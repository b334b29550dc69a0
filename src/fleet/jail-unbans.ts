import { join } from 'node:path';
import { readAddress } from '../bans/address.ts';
import { isJailName, jailOf } from '../bans/hold.ts';
import { heldBans, unbanIn } from '../fail2ban/client.ts';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';

/**
 * Lets jails of this host forget what was lifted elsewhere, until they have answered. The disk has what waits before the
 * hold goes: nothing else would remember it.
 */
export class JailUnbans {
  readonly #client: string | undefined;
  readonly #path: string;
  /** When it was lifted, by jail and address. Seconds. */
  readonly #waiting: Map<string, Map<string, number>>;
  #isSaved = true;
  #working: Promise<void> | undefined;

  /**
   * @param client undefined: fail2ban is left alone
   * @param state the directory of what the host knows
   */
  constructor(client: string | undefined, state: string) {
    this.#client = client;
    this.#path = join(state, 'telling.json');
    this.#waiting = client === undefined ? new Map() : readWaiting(this.#path);
  }

  add(holder: string, address: string, lifted: number): void {
    if (this.#client === undefined) return;
    const jail = jailOf(holder);
    this.#waiting.set(jail, (this.#waiting.get(jail) ?? new Map()).set(address, lifted));
    this.#isSaved = false;
  }

  /** @throws BanctlError cannotWrite */
  save(): void {
    if (this.#isSaved) return;
    makeDirectory(join(this.#path, '..'));
    const jails = [...this.#waiting].map(([jail, addresses]) => [jail, Object.fromEntries(addresses)]);
    const text = `${JSON.stringify(Object.fromEntries(jails))}\n`;
    replaceFile(this.#path, [Buffer.from(text)], { lock: undefined });
    this.#isSaved = true;
  }

  get waiting(): number {
    return [...this.#waiting.values()].reduce((sum, addresses) => sum + addresses.size, 0);
  }

  /** Asks each jail once; what does not answer is asked again at the next call. */
  work(): void {
    this.#working ??= this.#unban().finally(() => {
      this.#working = undefined;
    });
  }

  async #unban(): Promise<void> {
    for (const [jail, addresses] of this.#waiting) {
      const asked = new Map(addresses);
      if (!(await this.#hasForgotten(jail, asked))) continue;
      for (const [address, lifted] of asked) if (addresses.get(address) === lifted) addresses.delete(address);
      if (addresses.size === 0) this.#waiting.delete(jail);
      this.#isSaved = false;
    }
  }

  /** A ban that is newer than the lift is another one, and stays. */
  async #hasForgotten(jail: string, lifted: ReadonlyMap<string, number>): Promise<boolean> {
    const client = this.#client ?? '';
    const held = await heldBans(client, jail);
    // A fail2ban that does not run, or has no such jail, holds nothing. What it restores is released again.
    if (!held.ok) return held.state !== 'silent' && held.state !== 'odd';
    const old = held.value.filter(({ address, since }) => {
      const time = lifted.get(readAddress(address)?.text ?? address);
      return time !== undefined && since <= time;
    });
    if (old.length === 0) return true;
    const failure = await unbanIn(
      client,
      jail,
      old.map(({ address }) => address),
    );
    return failure === undefined;
  }
}

/** An unreadable file is lost: the audit finds the bans in it. */
function readWaiting(path: string): Map<string, Map<string, number>> {
  try {
    const jails: [string, object][] = Object.entries(JSON.parse(readText(path).text.toString('utf8')));
    return new Map(
      jails.filter(([jail]) => isJailName(jail)).map(([jail, lifted]) => [jail, readLifted(lifted)]),
    );
  } catch {
    return new Map();
  }
}

function readLifted(lifted: object): Map<string, number> {
  const entries: [string, unknown][] = Object.entries(lifted);
  return new Map(
    entries.filter(
      (entry): entry is [string, number] =>
        readAddress(entry[0])?.text === entry[0] && Number.isSafeInteger(entry[1]),
    ),
  );
}
