import type { Change } from './banlist/change.ts';
import { type Ban, bansOf, denyLines } from './banlist/text.ts';
import { type ChangeOptions, type ChangeReport, changeBanlist } from './list-change.ts';

export interface PlaceOptions {
  readonly banlist: string;
  /** Undefined: every ban stands in the list. */
  readonly bandir: string | undefined;
}

/** What changes are made of the bans there are, which are read only if they are asked for. */
export type Changes = (bansNow: () => readonly Ban[]) => readonly Change[];

/**
 * Changes bans where they stand: in the list, or with a ban directory in both.
 *
 * @throws BanctlError as of changeBanlist: then nothing has changed in the list
 */
export async function changeBans(
  options: ChangeOptions & PlaceOptions,
  changesFor: Changes,
): Promise<ChangeReport> {
  const { bandir } = options;
  if (bandir === undefined)
    return changeBanlist(options, (text) => changesFor(() => bansOf(denyLines(text))));
  return (await import('./both-places.ts')).changeBoth(options, bandir, changesFor);
}
