import type { Ban } from '../banlist/ban-lines.ts';
import {
  type Hold,
  holderOf,
  isByHand,
  isJailName,
  isOfOtherHost,
  jailOf,
  nameOfHold,
  now,
} from '../bans/hold.ts';
import {
  configuration,
  configuredActions,
  isPrivate,
  type JailAction,
  jailNames,
} from '../fail2ban/client.ts';
import { actionsOf, type Holder, holdersOf, isSameList, truthsOf } from '../fail2ban/holders.ts';
import { type Difference, nameOfWanted, wantedOf } from '../fail2ban/repair.ts';
import { whySshdJailFails } from '../fail2ban/sshd-log.ts';
import type { HolderTruth } from '../fail2ban/truth.ts';
import { selectWanted } from '../fail2ban/wanted.ts';
import { quote } from '../system/printable.ts';
import type { Finding } from './finding.ts';
import type { AuditOptions } from './types.ts';

/** The list compared with the running fail2ban. */
export interface Comparison extends Difference {
  /** True if a running jail has this hold's ban, or may get it soon: the hold is not over then, whatever its end. */
  readonly isHeld: (hold: Hold) => boolean;
  /** The bans of the jails that had to be asked, by holder. */
  readonly truths: readonly HolderTruth[];
  /** Other findings. */
  readonly findings: readonly Finding[];
  /** Jails that run and ban in this list. */
  readonly jails: readonly string[];
}

/** A stopped fail2ban is no evidence against any hold. */
const STOPPED: Comparison = {
  added: [],
  released: [],
  isHeld: () => false,
  truths: [],
  findings: [],
  jails: [],
};

/** If fail2ban must not be asked, or does not answer, each jail may still hold its bans. */
export const NOT_ASKED: Comparison = { ...STOPPED, isHeld: isOfJail };

function isOfJail({ holder }: Pick<Hold, 'holder'>): boolean {
  return !isByHand(holder) && !isOfOtherHost(holder);
}

export async function compareWithFail2ban(settings: AuditOptions, bans: readonly Ban[]): Promise<Comparison> {
  const client = settings.fail2banClient;
  const holds = bans.flatMap((ban) => ban.holds);
  const names = await jailNames(client);
  if (!names.ok) {
    const findings = names.state === 'absent' ? [] : await downFindings(client, holds, names.why);
    const isStopped = names.state === 'absent' || names.state === 'stopped';
    return { ...(isStopped ? STOPPED : NOT_ASKED), findings };
  }
  const actions = await actionsOf(client, names.value);
  const ours = actions.filter((action) => isSameList(action, settings));
  const banning = holdersOf(ours).filter(hasName);
  const holders = [...banning, ...otherHolders(names.value, holds, banning)];
  const asked = await truthsOf(client, holders, holds, now());
  if (!asked.ok) return NOT_ASKED;
  const truths = asked.value;
  const byHolder = new Map(truths.map((truth) => [truth.holder, truth]));
  const named = new Set(holds.map((hold) => hold.holder));
  return {
    added: banning.flatMap(({ holder }) => missingFrom(holds, byHolder.get(holder), settings)),
    released: holds.filter((hold) => byHolder.get(hold.holder)?.mayHold(hold) === false),
    isHeld: (hold) => byHolder.get(hold.holder)?.mayHold(hold) === true,
    truths,
    findings: [
      ...[...named].filter((holder) => isOfJail({ holder }) && !byHolder.has(holder)).map(unknownJail),
      ...actions.filter((action) => !isSameList(action, settings)).map(otherList),
      ...holdersOf(ours)
        .filter((holder) => !hasName(holder))
        .map(withoutName),
      ...banning.filter(({ jails }) => jails.length > 1).map(sharedHolder),
      ...truths.flatMap((truth) => proxyFindings(truth, settings)),
    ],
    jails: [...new Set(ours.map(({ jail }) => jail))],
  };
}

/** A jail can have banned through another action, or by hand with --jail. */
function otherHolders(
  names: readonly string[],
  holds: readonly Hold[],
  banning: readonly Holder[],
): Holder[] {
  const named = new Set(holds.map((hold) => hold.holder));
  const others = names.map((jail) => ({ holder: holderOf(jail), jails: [jail] }));
  return others.filter(
    (other) => named.has(other.holder) && !banning.some(({ holder }) => holder === other.holder),
  );
}

function missingFrom(
  holds: readonly Hold[],
  truth: HolderTruth | undefined,
  settings: AuditOptions,
): Difference['added'] {
  if (truth === undefined) return [];
  const { holder } = truth;
  const listed = new Set(holds.filter((hold) => hold.holder === holder).map(nameOfHold));
  return wantedOf(truth, settings)
    .filter((ban) => !listed.has(nameOfWanted(holder, ban)))
    .map((ban) => ({ holder, ban }));
}

/** Until it runs, bans and unbans of its jails are lost, and it bans no attacker. */
async function downFindings(client: string, holds: readonly Hold[], why: string): Promise<Finding[]> {
  const configured = await configuration(client);
  const banning = configured.ok
    ? configured.value.jails.filter((jail) => configuredActions(jail).length > 0).map(({ name }) => name)
    : holds.filter(isOfJail).map(({ holder }) => jailOf(holder));
  const jails = [...new Set(banning)];
  if (jails.length === 0) return [];
  const which = `${jails.length === 1 ? 'jail' : 'jails'} ${jails.join(', ')}`;
  const remedy = (isPrivate(client) ? undefined : whySshdJailFails()) ?? 'systemctl start fail2ban';
  const message = `${why}, so ${which} ${jails.length === 1 ? 'does' : 'do'} not ban; ${remedy}`;
  return [{ code: 'fail2ban-down', message }];
}

/** The findings of the comparison, in words. */
export function comparisonFindings({ added, released, findings }: Comparison): Finding[] {
  return [
    ...added.map(({ holder, ban }): Finding => {
      const message = `jail ${jailOf(holder)} of fail2ban holds it${forId(ban.id)}, banctl does not`;
      return { code: 'missing', address: ban.address.text, holder, id: ban.id, message };
    }),
    ...released.map(({ holder, address, id }): Finding => {
      const message = `held by ${jailOf(holder)}${forId(id)}, but not by that jail of fail2ban`;
      return { code: 'stale', address, holder, id, message };
    }),
    ...findings,
  ];
}

function forId(id: string | undefined): string {
  return id === undefined ? '' : ` for ${quote(id)}`;
}

function unknownJail(holder: string): Finding {
  return {
    code: 'unknown-jail',
    holder,
    message: `${jailOf(holder)} holds bans, but fail2ban has no such jail`,
  };
}

function otherList({ jail, banlist, bandir, ipv6Prefix }: JailAction): Finding {
  const parameters = [
    banlist && `banlist ${banlist}`,
    bandir && `bandir ${bandir}`,
    ipv6Prefix && `ipv6_prefix ${ipv6Prefix}`,
  ];
  const message = `jail ${jail} bans with ${parameters.filter(Boolean).join(', ')}; set it only in /etc/banctl.json`;
  return { code: 'other-list', holder: jail, message };
}

/** False for a name that the list cannot keep. */
function hasName({ holder }: Holder): boolean {
  return isJailName(jailOf(holder));
}

function withoutName({ holder }: Holder): Finding {
  const message = `jail ${quote(jailOf(holder))} does not ban: banctl takes no control characters in a name; rename the jail`;
  return { code: 'missing', message };
}

/** An unban by one of them lifts the other's ban. */
function sharedHolder({ holder, jails }: Holder): Finding {
  const message = `jails ${jails.join(', ')} all ban as ${jailOf(holder)}, so an unban by one lifts the ban of all; write action = apache-banlist[jail=%(__name__)s]`;
  return { code: 'shared-holder', holder, message };
}

/** Visitors are never protected addresses, so fail2ban takes a proxy for a visitor. */
function proxyFindings({ holder, jails }: HolderTruth, settings: AuditOptions): Finding[] {
  const refused = jails.flatMap(({ jail, held, ignored }) =>
    selectWanted(held, ignored, settings).refused.map((ban) => ({ jail, ...ban })),
  );
  return refused.flatMap(({ jail, address, protectedBy }): Finding[] => {
    if (protectedBy === undefined) return [];
    const message = `jail ${jail} wants it banned, but banctl protects ${protectedBy.text}: Apache logs a proxy as the client. Set up mod_remoteip, and switch off client ports in X-Forwarded-For`;
    return [{ code: 'proxy-banned', address, holder, message }];
  });
}
