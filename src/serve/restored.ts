import { bansOf, denyLines } from '../banlist/ban-lines.ts';
import { isSingle, readAddress } from '../bans/address.ts';
import { type HoldName, isSameAsked, nameOfHold } from '../bans/hold.ts';
import { bansInFile, isInDirectory } from '../store/ban-files.ts';
import type { PlaceOptions } from '../store/types.ts';
import { type FileVersion, readText, statFile } from '../system/read.ts';

interface Known {
  readonly version: FileVersion | undefined;
  /** The name of each hold. */
  readonly holds: ReadonlySet<string>;
}

/** The holds of lists, read again only if a list has changed: fail2ban restores thousands of bans one by one. */
export class Restored {
  readonly #lists = new Map<string, Known>();

  /** True if the hold exists, by one read without a lock. */
  has({ banlist, bandir }: PlaceOptions, hold: HoldName): boolean {
    const { address } = hold;
    const isFiled =
      bandir !== undefined &&
      isSingleAddress(address) &&
      isInDirectory(bandir, address) &&
      bansInFile(bandir, address).some(({ holds }) => holds.some((other) => isSameAsked(other, hold)));
    return isFiled || this.#holdsOf(banlist).has(nameOfHold(hold));
  }

  /** Drops data that is useful only while fail2ban restores bans. */
  forget(): void {
    this.#lists.clear();
  }

  #holdsOf(banlist: string): ReadonlySet<string> {
    const known = this.#lists.get(banlist);
    if (known !== undefined && known.version === statFile(banlist)?.version) return known.holds;
    const { text, version } = readText(banlist);
    const holds = new Set(bansOf(denyLines(text)).flatMap((ban) => ban.holds.map(nameOfHold)));
    this.#lists.set(banlist, { version, holds });
    return holds;
  }
}

function isSingleAddress(text: string): boolean {
  const address = readAddress(text);
  return address !== undefined && isSingle(address);
}
