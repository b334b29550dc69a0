import { bansOf, denyLines } from '../banlist/text.ts';
import { changeBanlist } from './list.ts';
import type { ChangeOptions, ChangeReport, Changes, PlaceOptions } from './types.ts';

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
  return (await import('./both.ts')).changeBoth(options, bandir, changesFor);
}
