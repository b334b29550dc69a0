import type { Ban } from '../banlist/text.ts';
import { readAddress } from '../bans/address.ts';
import { type Hold, MANUAL } from '../bans/hold.ts';
import { heldBans, ignoredBy, type JailAction, jailAction, jailNames } from '../fail2ban/client.ts';
import { selectWanted, type WantedBan } from '../fail2ban/wanted.ts';
import { BanctlError } from '../system/errors.ts';
import { followLinks } from '../system/links.ts';
import type { Finding } from './finding.ts';
import type { AuditOptions } from './types.ts';

/** A jail, and the name under which it bans. */
interface Holder {
  readonly jail: string;
  readonly holder: string;
}

/** The list beside what the running fail2ban says. */
export interface Comparison {
  /** Bans that fail2ban holds and the list does not. */
  readonly missing: readonly { readonly holder: string; readonly ban: WantedBan }[];
  /** Holds in the list that their jail does not have any more. */
  readonly stale: readonly Hold[];
  /** True if a running jail has this hold's ban: then it is not over, whatever its end. */
  readonly isHeld: (hold: Hold) => boolean;
  readonly unknownHolders: readonly string[];
  /** Jails whose action bans in another list, or with another prefix. */
  readonly otherLists: readonly JailAction[];
}

/** A fail2ban that does not run holds nothing against the list. */
const STOPPED: Comparison = {
  missing: [],
  stale: [],
  isHeld: () => false,
  unknownHolders: [],
  otherLists: [],
};

/** Where fail2ban is not to be asked, or does not answer, each jail may still hold its bans. */
export const NOT_ASKED: Comparison = { ...STOPPED, isHeld: (hold) => hold.holder !== MANUAL };

export async function compareWithFail2ban(settings: AuditOptions, bans: readonly Ban[]): Promise<Comparison> {
  const client = settings.fail2banClient;
  const jails = await jailNames(client);
  if (jails === 'stopped') return STOPPED;
  if (jails === 'unknown') return NOT_ASKED;
  const holds = bans.flatMap((ban) => ban.holds);
  const actions = (await Promise.all(jails.map((jail) => jailAction(client, jail)))).filter(
    (found) => found !== undefined,
  );
  const banning: Holder[] = actions.filter((action) => isSameList(action, settings));
  const named = new Set(holds.map((hold) => hold.holder));
  // A jail can have banned through another action, or by hand with --jail.
  const others = jails.filter((jail) => named.has(jail) && !banning.some((known) => known.holder === jail));
  const held = new Map<string, Set<string>>();
  const missing: { holder: string; ban: WantedBan }[] = [];
  for (const { jail, holder } of [...banning, ...others.map((jail) => ({ jail, holder: jail }))]) {
    const bansHeld = await heldBans(client, jail).catch(notUnderstood);
    const ignored = await ignoredBy(client, jail);
    // It runs, but is busy, or about to stop: nothing may be concluded.
    if (bansHeld === undefined || typeof bansHeld === 'string' || ignored === undefined) return NOT_ASKED;
    held.set(holder, new Set(bansHeld.map(({ address }) => readAddress(address)?.text ?? address)));
    if (others.includes(jail)) continue;
    const { wanted } = selectWanted(bansHeld, ignored, settings);
    const inList = new Set(holds.filter((hold) => hold.holder === holder).map((hold) => hold.address));
    missing.push(...wanted.filter((ban) => !inList.has(ban.address.text)).map((ban) => ({ holder, ban })));
  }
  const isHeld = (hold: Hold) => held.get(hold.holder)?.has(hold.address) === true;
  return {
    missing,
    stale: holds.filter((hold) => held.has(hold.holder) && !isHeld(hold)),
    isHeld,
    unknownHolders: [...named].filter((holder) => holder !== MANUAL && !held.has(holder)),
    otherLists: actions.filter((action) => !isSameList(action, settings)),
  };
}

function notUnderstood(error: unknown): undefined {
  if (!(error instanceof BanctlError)) throw error;
  return undefined;
}

/** What the comparison finds, in words. */
export function comparisonFindings({ missing, stale, unknownHolders, otherLists }: Comparison): Finding[] {
  return [
    ...missing.map(({ holder, ban }): Finding => {
      const message = `jail ${holder} of fail2ban holds it, banctl does not`;
      return { code: 'missing', address: ban.address.text, holder, message };
    }),
    ...stale.map(({ holder, address }): Finding => {
      return {
        code: 'stale',
        address,
        holder,
        message: `held by ${holder}, but not by that jail of fail2ban`,
      };
    }),
    ...unknownHolders.map((holder): Finding => {
      return { code: 'unknown-jail', holder, message: `${holder} holds bans, but fail2ban has no such jail` };
    }),
    ...otherLists.map(({ jail, banlist, bandir, ipv6Prefix }): Finding => {
      const what = [
        banlist && `banlist ${banlist}`,
        bandir && `bandir ${bandir}`,
        ipv6Prefix && `ipv6_prefix ${ipv6Prefix}`,
      ]
        .filter(Boolean)
        .join(', ');
      return {
        code: 'other-list',
        holder: jail,
        message: `jail ${jail} bans with ${what}; set it in /etc/banctl.json alone`,
      };
    }),
  ];
}

function isSameList({ banlist, bandir, ipv6Prefix }: JailAction, settings: AuditOptions): boolean {
  const isSameFile = banlist === '' || followLinks(banlist) === settings.banlist;
  const isSameDirectory = bandir === '' || followLinks(bandir) === settings.bandir;
  return (
    isSameFile && isSameDirectory && (ipv6Prefix === '' || Number(ipv6Prefix) === settings.prefixes.ipv6)
  );
}
