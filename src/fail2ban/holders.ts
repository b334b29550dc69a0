import { type Hold, holderOf } from '../bans/hold.ts';
import type { PlaceOptions } from '../store/types.ts';
import { followLinks } from '../system/links.ts';
import { type Asked, type JailAction, jailActions } from './client.ts';
import { type HolderTruth, truthOf } from './truth.ts';
import type { WantedOptions } from './wanted.ts';

/** The jails that ban under one name. */
export interface Holder {
  readonly holder: string;
  readonly jails: readonly string[];
}

/** How each of these jails uses banctl. */
export async function actionsOf(client: string, jails: readonly string[]): Promise<JailAction[]> {
  return (await Promise.all(jails.map((jail) => jailActions(client, jail)))).flat();
}

/** Who bans by these actions. */
export function holdersOf(actions: readonly JailAction[]): Holder[] {
  const jails = new Map<string, Set<string>>();
  for (const { holder: name, jail } of actions) {
    const holder = holderOf(name);
    jails.set(holder, (jails.get(holder) ?? new Set()).add(jail));
  }
  return [...jails].map(([holder, names]) => ({ holder, jails: [...names] }));
}

/** The bans of each of them. A jail that does not answer is busy, or about to stop, so its silence proves nothing. */
export async function truthsOf(
  client: string,
  holders: readonly Holder[],
  holds: readonly Hold[],
  now: number,
): Promise<Asked<HolderTruth[]>> {
  const truths: HolderTruth[] = [];
  for (const { holder, jails } of holders) {
    const listed = holds.filter((hold) => hold.holder === holder);
    const truth = await truthOf(client, holder, jails, listed, now);
    if (!truth.ok) return truth;
    truths.push(truth.value);
  }
  return { ok: true, value: truths };
}

/** True if the action bans in banctl's own places; banctl's configuration decides about empty parameters. */
export function isSameList(
  { banlist, bandir, ipv6Prefix }: JailAction,
  options: PlaceOptions & Pick<WantedOptions, 'prefixes'>,
): boolean {
  const isSameFile = banlist === '' || followLinks(banlist) === options.banlist;
  const isSameDirectory = bandir === '' || followLinks(bandir) === options.bandir;
  return isSameFile && isSameDirectory && (ipv6Prefix === '' || Number(ipv6Prefix) === options.prefixes.ipv6);
}
