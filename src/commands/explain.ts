import { whyNotLookedUp } from '../apache/directory-rule.ts';
import { findApache } from '../apache/processes.ts';
import { describeOverruling } from '../banlist/overruling.ts';
import { parseAddress } from '../bans/address.ts';
import type { Settings } from '../cli/settings.ts';
import { askAll } from '../reload/ask.ts';
import { type Report, readReport } from '../store/read.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { print, showJson } from '../terminal/print.ts';
import { banDocument, describeHold, reloadLine, whyWidened } from './show-bans.ts';

/** `banctl explain ADDRESS`: whether Apache refuses it, and why. */
export async function explain(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const [operand, ...others] = operands;
  if (operand === undefined || others.length > 0)
    throw new BanctlError(EXIT.usage, 'explain needs one address');
  const address = parseAddress(operand);
  const report = readReport(settings, address);
  const isBanned = report.bans.length > 0;
  const notLookedUp = await withoutRule(settings, report);
  const isLoaded = report.bans.some(({ where }) =>
    where === 'bandir' ? notLookedUp === undefined : !report.isPending,
  );
  const isEnforced = isLoaded && report.overruling === undefined;
  if (settings.json) {
    const by = report.bans.map((ban) => ({ ...banDocument(ban), line: ban.line }));
    showJson({ address: address.text, banned: isBanned, enforced: isEnforced, by });
  } else if (!isBanned) {
    print(`${address.text} is not banned`);
  } else {
    print(`${address.text} is banned${isEnforced ? '' : ', but Apache may not enforce it yet'}`);
    for (const ban of report.bans) {
      const line = ban.line === undefined ? '' : `, line ${ban.line}`;
      print(`  ${ban.address === address.text ? '' : `by ${ban.address} `}in ${ban.file}${line}`);
      for (const why of whyWidened(ban)) print(`    because ${why}`);
      for (const line of ban.holds.length === 0 ? ['by an unknown holder'] : ban.holds.map(describeHold))
        print(`    ${line}`);
    }
  }
  if (!settings.json) {
    for (const line of reloadLine(report)) print(line);
    if (notLookedUp !== undefined) print(`apache ${notLookedUp}`);
    if (report.overruling !== undefined) print(describeOverruling(settings.banlist, report.overruling));
  }
  return isBanned ? EXIT.done : EXIT.findings;
}

/** The problem if a running Apache has no rule for the ban's directory; asks Apache only for a ban in the directory. */
async function withoutRule(settings: Settings, { bans }: Report): Promise<string | undefined> {
  const { bandir } = settings;
  if (bandir === undefined || bans.every(({ where }) => where !== 'bandir')) return undefined;
  const running = (await askAll(settings)).flatMap(({ configuration }) =>
    configuration?.result === 'passed' && findApache(configuration).is === 'running' ? [configuration] : [],
  );
  return running
    .map((configuration) => whyNotLookedUp(configuration, bandir))
    .find((why) => why !== undefined);
}
