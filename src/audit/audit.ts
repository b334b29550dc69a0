import { setTimeout as sleep } from 'node:timers/promises';
import type { Ban } from '../banlist/ban-lines.ts';
import type { Change } from '../bans/change.ts';
import { isOver, MANUAL, nameOfHold, now } from '../bans/hold.ts';
import { truthsOf } from '../fail2ban/holders.ts';
import {
  type AskAgain,
  type Difference,
  nameOfWanted,
  readBans,
  releaseOf,
  repair,
} from '../fail2ban/repair.ts';
import type { HolderTruth } from '../fail2ban/truth.ts';
import { protectedRanges, wideningOf } from '../protection/protection.ts';
import { Lifts } from '../store/lifts.ts';
import { isAuditLate, NO_AUDIT, noteAudit } from '../system/last-audit.ts';
import { readText } from '../system/read.ts';
import { apacheFindings } from './apache.ts';
import { directoryFaults } from './directory.ts';
import { type Comparison, compareWithFail2ban, comparisonFindings, NOT_ASKED } from './fail2ban.ts';
import { fileFindings, openDirectory, repairFiles } from './files.ts';
import { type Finding, SETTLING } from './finding.ts';
import { type ListFault, listFaults } from './list.ts';
import { nameFindings } from './names.ts';
import type { AuditOptions } from './types.ts';

/** The findings, and the repairs that are safe. */
interface Inspection {
  readonly findings: readonly Finding[];
  readonly comparison: Comparison;
  readonly repairs: readonly Change[];
  readonly bans: readonly Ban[];
}

export interface AuditResult {
  readonly findings: readonly (Finding & { readonly fixed: boolean })[];
  readonly bans: readonly Ban[];
  /** Jails that run and ban in this list. */
  readonly jails: readonly string[];
}

/** Compares the list, fail2ban and Apache, and with `--fix` makes the safe repairs. */
export async function audit(settings: AuditOptions): Promise<AuditResult> {
  const names = await nameFindings(settings);
  using lifts = settings.fix && !settings.dryRun ? new Lifts(settings) : undefined;
  const before = await inspect(settings, names);
  const { jails } = before.comparison;
  if (lifts !== undefined) noteAudit(settings.record);
  if (lifts === undefined || before.findings.length === 0) {
    const findings = before.findings.map((finding) => ({ ...finding, fixed: false }));
    return { findings, bans: before.bans, jails };
  }
  repairFiles(settings);
  if (settings.bandir !== undefined && before.findings.some(({ code }) => code === 'bandir-unsearchable'))
    openDirectory(settings.bandir);
  const options = { ...settings, widening: wideningOf(settings) };
  const again: AskAgain = (holders) => askAgain(settings, before, holders);
  await repair(options, before.comparison, before.repairs, again, lifts);
  const after = await inspect(settings, names);
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
    jails,
  };
}

async function askAgain(
  settings: AuditOptions,
  { comparison, bans }: Inspection,
  holders: ReadonlySet<string>,
): Promise<readonly HolderTruth[]> {
  const asked = comparison.truths
    .filter(({ holder }) => holders.has(holder))
    .map(({ holder, jails }) => ({ holder, jails: jails.map(({ jail }) => jail) }));
  const holds = bans.flatMap((ban) => ban.holds);
  const truths = await truthsOf(settings.fail2banClient, asked, holds, now());
  return truths.ok ? truths.value : [];
}

async function inspect(settings: AuditOptions, names: readonly Finding[]): Promise<Inspection> {
  const { text } = readText(settings.banlist);
  const bans = await readBans(settings);
  const comparison = await settledComparison(settings, bans);
  const ranges = protectedRanges(settings);
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
        released: comparison.released.filter((hold) => !namesOver.has(nameOf(hold))),
      }),
      ...(await apacheFindings(settings, settings.asked)),
      ...fileFindings(settings),
      ...names,
      ...(settings.fix ? [] : lateFindings(settings, bans)),
    ],
    comparison,
    repairs: [
      ...over.map(releaseOf),
      ...faults.flatMap(({ code, address }) =>
        code === 'duplicate' && address !== undefined ? [{ verb: 'tidy', address } as const] : [],
      ),
      ...faults.flatMap(({ code, address }) => (code === 'protected' ? narrowing(bans, address) : [])),
    ],
    bans,
  };
}

/** Counted again, a network that was widened before an address in it was protected gives way to its own addresses. */
function narrowing(bans: readonly Ban[], address: string | undefined): Change[] {
  const widened = bans.find((ban) => ban.address === address && ban.widenedAfter !== undefined);
  return widened === undefined
    ? []
    : [{ verb: 'count', address: widened.address, holds: [], isProtected: true }];
}

/** A hold by hand has an end, and no job will end it. */
function lateFindings(settings: AuditOptions, bans: readonly Ban[]): Finding[] {
  if (!isAuditLate(settings, Date.now())) return [];
  return bans
    .flatMap((ban) => ban.holds)
    .filter(({ holder, until }) => holder === MANUAL && until !== null)
    .map(({ holder, address }) => ({ code: 'no-audit', address, holder, message: NO_AUDIT }));
}

/** A comparison without temporary differences: fail2ban has given the same answer twice. */
async function settledComparison(settings: AuditOptions, bans: readonly Ban[]): Promise<Comparison> {
  if (!settings.asksFail2ban) return NOT_ASKED;
  const first = await compareWithFail2ban(settings, bans);
  if (first.added.length + first.released.length === 0) return first;
  await sleep(SETTLING);
  const second = await compareWithFail2ban(settings, await readBans(settings));
  const wereAdded = new Set(first.added.map(addedName));
  const wereReleased = new Set(first.released.map(nameOf));
  return {
    ...second,
    added: second.added.filter((ban) => wereAdded.has(addedName(ban))),
    released: second.released.filter(
      (hold) => wereReleased.has(nameOf(hold)) && !mayRestore(hold.holder, first, second),
    ),
  };
}

/** If fail2ban's database cannot be read, a jail that holds more at each answer probably restores its bans. */
function mayRestore(holder: string, ...answers: readonly Comparison[]): boolean {
  const [before, after] = answers.map(({ truths }) => truths.find((truth) => truth.holder === holder));
  if (before === undefined || after === undefined) return true;
  if (after.isByDatabase) return false;
  const count = ({ jails }: HolderTruth) => jails.reduce((sum, { held }) => sum + held.length, 0);
  return count(after) > count(before);
}

function addedName({ holder, ban }: Difference['added'][number]): string {
  return nameOfWanted(holder, ban);
}

/** Identifies a hold, and the findings about it. */
function nameOf({ holder = '', address = '', id }: Pick<ListFault, 'holder' | 'address' | 'id'>): string {
  return nameOfHold({ holder, address, id });
}

function identityOf({ code, address, holder, id, message }: Finding): string {
  // Repairs of other lines move this one.
  return JSON.stringify([code, address, holder, id, address === undefined ? message : '']);
}
