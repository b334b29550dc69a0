import { setTimeout as sleep } from 'node:timers/promises';
import { type Ban, bansOf, denyLines } from '../banlist/text.ts';
import type { Change } from '../bans/change.ts';
import { type Hold, isOver, now } from '../bans/hold.ts';
import { addition } from '../fail2ban/wanted.ts';
import { protectedRanges } from '../protection/protection.ts';
import { bansInDirectory } from '../store/directory.ts';
import { changeBans } from '../store/store.ts';
import { readText } from '../system/read.ts';
import { apacheFindings } from './apache.ts';
import { directoryFaults } from './directory.ts';
import { type Comparison, compareWithFail2ban, comparisonFindings, NOT_ASKED } from './fail2ban.ts';
import { fileFindings, openDirectory, repairFiles } from './files.ts';
import { type Finding, SETTLING } from './finding.ts';
import { type ListFault, listFaults } from './list.ts';
import type { AuditOptions } from './types.ts';

/** What is wrong, and what of it can be put right without harm. */
interface Inspection {
  readonly findings: readonly Finding[];
  readonly repairs: readonly Change[];
  readonly bans: readonly Ban[];
}

export interface AuditResult {
  readonly findings: readonly (Finding & { readonly fixed: boolean })[];
  readonly bans: readonly Ban[];
}

/** Checks the list, fail2ban and Apache against each other, and with `--fix` repairs what cannot hurt. */
export async function audit(settings: AuditOptions): Promise<AuditResult> {
  const before = await inspect(settings);
  if (!settings.fix || settings.dryRun || before.findings.length === 0) {
    return { findings: before.findings.map((finding) => ({ ...finding, fixed: false })), bans: before.bans };
  }
  repairFiles(settings);
  if (settings.bandir !== undefined && before.findings.some(({ code }) => code === 'bandir-unsearchable'))
    openDirectory(settings.bandir);
  await changeBans({ ...settings, isUrgent: true }, before.repairs);
  const after = await inspect(settings);
  const left = new Set(after.findings.map(identityOf));
  const known = new Set(before.findings.map(identityOf));
  return {
    findings: [
      ...before.findings.map((finding) => ({ ...finding, fixed: !left.has(identityOf(finding)) })),
      ...after.findings
        .filter((finding) => !known.has(identityOf(finding)))
        .map((finding) => ({ ...finding, fixed: false })),
    ],
    bans: after.bans,
  };
}

async function inspect(settings: AuditOptions): Promise<Inspection> {
  const { text } = readText(settings.banlist);
  const bans = readBans(settings);
  const comparison = await settledComparison(settings, bans);
  const ranges = protectedRanges(settings.protect);
  const faults = [
    ...listFaults(text, ranges, now()),
    ...(settings.bandir === undefined ? [] : directoryFaults(settings.bandir, ranges, now())),
  ];
  const over = bans
    .flatMap((ban) => ban.holds)
    .filter((hold) => isOver(hold, now()) && !comparison.isHeld(hold));
  const namesOver = new Set(over.map(nameOf));
  return {
    findings: [
      ...faults.filter((fault) => fault.code !== 'expired' || namesOver.has(nameOf(fault))),
      ...comparisonFindings({
        ...comparison,
        stale: comparison.stale.filter((hold) => !namesOver.has(nameOf(hold))),
      }),
      ...(await apacheFindings(settings, settings.asked)),
      ...fileFindings(settings),
    ],
    repairs: [
      ...[...over, ...comparison.stale].map(releaseOf),
      ...comparison.missing.map(({ holder, ban }) => addition(holder, ban)),
      ...faults.flatMap(({ code, address }) =>
        code === 'duplicate' && address !== undefined ? [{ verb: 'tidy', address } as const] : [],
      ),
    ],
    bans,
  };
}

/** The bans in both places. */
function readBans({ banlist, bandir }: AuditOptions): Ban[] {
  const inList = bansOf(denyLines(readText(banlist).text));
  return bandir === undefined ? inList : [...inList, ...bansInDirectory(bandir)];
}

/** A comparison without what is only on its way. */
async function settledComparison(settings: AuditOptions, bans: readonly Ban[]): Promise<Comparison> {
  if (!settings.asksFail2ban) return NOT_ASKED;
  const first = await compareWithFail2ban(settings, bans);
  if (first.missing.length + first.stale.length === 0) return first;
  await sleep(SETTLING);
  const second = await compareWithFail2ban(settings, readBans(settings));
  const missingName = ({ holder, ban }: Comparison['missing'][number]) =>
    nameOf({ holder, address: ban.address.text });
  const wasMissing = new Set(first.missing.map(missingName));
  const wasStale = new Set(first.stale.map(nameOf));
  return {
    ...second,
    missing: second.missing.filter((ban) => wasMissing.has(missingName(ban))),
    stale: second.stale.filter((hold) => wasStale.has(nameOf(hold))),
  };
}

/** Tells holds apart, and the findings about them. */
function nameOf({ holder, address }: Pick<ListFault, 'holder' | 'address'>): string {
  return `${holder} ${address}`;
}

function releaseOf(hold: Hold): Change {
  return { verb: 'release', address: hold.address, holder: hold.holder, seen: [hold] };
}

function identityOf({ code, address, holder, message }: Finding): string {
  // Lines move when others are repaired.
  return JSON.stringify([code, address, holder, address === undefined ? message : '']);
}
