import type { Address } from '../address.ts';
import type { Outcome } from '../banlist/change.ts';
import { denyLines } from '../banlist/text.ts';
import { type ChangeReport, changeBans } from '../bans.ts';
import type { ExitCode } from '../errors.ts';
import { readText } from '../file.ts';
import type { Hold } from '../hold.ts';
import { showChange, warn } from '../output.ts';
import type { Settings } from '../settings.ts';
import { readAddresses } from './operands.ts';

/** `banctl unban ADDRESS...`: releases the jail's hold, or without a jail every hold. */
export async function unban(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const addresses = readAddresses(operands);
  const { jail } = settings;
  if (jail === undefined) return releaseByHand(settings, addresses);
  const changes = addresses.map(({ text }) => ({ verb: 'release', address: text, holder: jail }) as const);
  return showChange(await changeBans(settings, () => changes), settings);
}

/**
 * Releases every hold. fail2ban is told first, or it would take the next offences for those of a banned address;
 * it calls back to release its own holds, so no lock is held meanwhile. What is banned anew by then stays.
 */
export async function releaseByHand(
  settings: Settings & { isUrgent?: boolean },
  addresses: readonly Address[],
): Promise<ExitCode> {
  const seen = findHolds(readText(settings.banlist).text, addresses);
  if (settings.asksFail2ban && !settings.dryRun) {
    const { releaseInFail2ban } = await import('../release.ts');
    const holds = seen.map((bans) => bans ?? []);
    for (const note of await releaseInFail2ban(settings.fail2banClient, addresses, holds)) warn(note);
  }
  const report = await changeBans(settings, () =>
    addresses.map(({ text }, index) => ({
      verb: 'release',
      address: text,
      holder: null,
      seen: seen[index] ?? [],
    })),
  );
  const wasBanned = (index: number) => seen[index] !== undefined;
  return showChange(withCallbacks(report, wasBanned), settings);
}

/** The holds of each address, by one pass over the list; undefined for one that is not banned. */
function findHolds(text: Buffer, addresses: readonly Address[]): (Hold[] | undefined)[] {
  const lines = denyLines(text);
  return addresses.map((address) => {
    const holds: Hold[] = [];
    let isBanned = false;
    for (const line of lines) {
      const isNamed = line.arguments.some((argument) => argument.address?.text === address.text);
      const named = isNamed ? line.holds : line.holds.filter((hold) => hold.address === address.text);
      holds.push(...named);
      isBanned ||= isNamed || named.length > 0;
    }
    return isBanned ? holds : undefined;
  });
}

/** What fail2ban has released by calling back is part of what this call did. */
function withCallbacks(report: ChangeReport, wasBanned: (index: number) => boolean): ChangeReport {
  const isCallback = ({ status }: Outcome, index: number) => status === 'not-banned' && wasBanned(index);
  if (!report.outcomes.some(isCallback)) return report;
  return {
    isChanged: true,
    outcomes: report.outcomes.map((outcome, index) =>
      isCallback(outcome, index) ? { ...outcome, status: 'unbanned' } : outcome,
    ),
    reload: report.reload.result === 'not-needed' ? { result: 'done' } : report.reload,
  };
}
