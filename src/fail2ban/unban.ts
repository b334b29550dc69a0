import type { Address } from '../bans/address.ts';
import { type Hold, isByHand, isOfOtherHost, jailOf } from '../bans/hold.ts';
import { jailsHolding, unbanIn } from './client.ts';

/**
 * Lifts the bans of the addresses in each jail that holds one: the holders named in the list, and the jails that fail2ban
 * itself names.
 *
 * @returns the failures to report; none of them stops the unban
 */
export async function releaseInFail2ban(
  client: string,
  addresses: readonly Address[],
  holds: readonly (readonly Hold[])[],
): Promise<string[]> {
  const asked = new Map<string, Set<string>>();
  const ask = (jail: string, address: string) => asked.set(jail, (asked.get(jail) ?? new Set()).add(address));
  for (const { holder, address, id } of holds.flat()) {
    if (!isByHand(holder) && !isOfOtherHost(holder)) ask(jailOf(holder), id ?? address);
  }
  const jails = await jailsHolding(
    client,
    addresses.map((address) => address.text),
  );
  addresses.forEach(({ text }, index) => {
    for (const jail of jails.ok ? (jails.value[index] ?? []) : []) ask(jail, text);
  });
  const failures = new Set<string>();
  if (!jails.ok) failures.add('fail2ban does not answer: the unban may not have reached jails that hold it');
  for (const [jail, names] of asked) {
    const failure = await unbanIn(client, jail, [...names]);
    if (failure !== undefined) failures.add(`${failure}: the unban did not reach it`);
  }
  return [...failures];
}

/** The consequence of releasing a jail's holds by hand: the jail keeps these bans, and the next audit bans them again. */
export async function stillHeldNotes(
  client: string,
  jail: string,
  addresses: readonly Address[],
): Promise<string[]> {
  const texts = addresses.map(({ text }) => text);
  const holding = await jailsHolding(client, texts);
  const held = texts.filter((_, index) => holding.ok && holding.value[index]?.includes(jail));
  return held.map(
    (text) =>
      `jail ${jail} still holds ${text}: audit --fix bans it again; banctl unban ${text} releases both`,
  );
}
