import { tidyOver } from '../banlist/change.ts';
import type { Ban } from '../banlist/text.ts';
import type { Change, Outcome } from '../bans/change.ts';
import { now } from '../bans/hold.ts';
import type { Settings } from '../cli/settings.ts';
import { type HeldBan, heldBans, ignoredBy, ignoredByConfig } from '../fail2ban/client.ts';
import { addition, selectWanted, type WantedBan } from '../fail2ban/wanted.ts';
import { changeBans } from '../store/store.ts';
import type { ChangesFor } from '../store/types.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { terminalProgress } from '../terminal/progress.ts';
import { recordChange, recordRefusal } from './record-change.ts';
import { showChange } from './show-change.ts';

/** What fail2ban holds for a jail. */
interface Held {
  readonly bans: readonly HeldBan[];
  /** Undefined: not known, so nothing may be added. */
  readonly ignored: readonly string[] | undefined;
}

/** `banctl sync --jail NAME`: makes the jail's holds equal to what fail2ban holds. */
export async function sync(settings: Settings): Promise<ExitCode> {
  const { jail } = settings;
  if (jail === undefined) throw new BanctlError(EXIT.usage, 'sync needs --jail NAME');
  const plan = await planSync(settings, jail);
  if (typeof plan === 'string') {
    return showChange(
      { isChanged: false, outcomes: [], reload: { result: 'not-needed', message: plan } },
      settings,
    );
  }
  const urgently = { ...settings, isUrgent: true, progress: await terminalProgress() };
  const report = await changeBans(urgently, plan.changes);
  recordChange('sync', report.outcomes, settings);
  return showChange({ ...report, outcomes: [...report.outcomes, ...plan.skipped] }, settings);
}

/** What a sync changes, and the addresses that it leaves out. A text is why it changes nothing. */
export async function planSync(
  settings: Settings,
  jail: string,
): Promise<{ changes: ChangesFor; skipped: Outcome[] } | string> {
  const held = settings.fromDatabase ? await readDatabase(settings, jail) : await askFail2ban(settings, jail);
  if (typeof held === 'string') return held;
  const { wanted, refused } = selectWanted(held.bans, held.ignored ?? [], settings);
  recordRefusal('unusable', refused, settings);
  const added = held.ignored === undefined ? [] : wanted;
  return {
    changes: (bansNow) => [
      ...releaseOthers(bansNow(), jail, wanted),
      ...added.map((ban) => addition(jail, ban)),
    ],
    skipped: refused.map((address) => ({ address, status: 'skipped', heldBy: [], isChanged: false })),
  };
}

function releaseOthers(bans: readonly Ban[], holder: string, wanted: readonly WantedBan[]): Change[] {
  const kept = new Set(wanted.map((ban) => ban.address.text));
  const holds = bans.flatMap((ban) => ban.holds);
  const ended = holds.filter((hold) => hold.holder === holder && !kept.has(hold.address));
  return [
    ...ended.map(({ address }) => ({ verb: 'release', address, holder }) as const),
    ...tidyOver(bans, now()),
  ];
}

async function readDatabase(settings: Settings, jail: string): Promise<Held | string> {
  const { bansInDatabase } = await import('../fail2ban/database.ts');
  const bans = bansInDatabase(settings.fail2banDatabase, jail, now());
  if (bans === undefined)
    return `fail2ban's database (${settings.fail2banDatabase}) has no jail ${jail}; nothing was changed`;
  return { bans, ignored: bans.length === 0 ? [] : await ignoredByConfig(settings.fail2banClient, jail) };
}

async function askFail2ban(settings: Settings, jail: string): Promise<Held | string> {
  const { fail2banClient } = settings;
  const bans = await heldBans(fail2banClient, jail);
  if (typeof bans === 'string') return `${bans}; nothing was changed`;
  return { bans, ignored: await ignoredBy(fail2banClient, jail) };
}
