import type { Settings } from '../cli/settings.ts';
import { readRangesFile } from '../protection/protection.ts';
import { keepRanges } from '../protection/proxies-file.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { followOwnLinks } from '../system/links.ts';
import { print, showJson } from '../terminal/print.ts';
import { showReload } from './show-change.ts';

const STANDARD_INPUT = 0;

/** `banctl ranges FILE`: updates the file of trusted proxies from a downloaded list, and reloads Apache. */
export async function rangesCommand(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const [source, ...others] = operands;
  if (source === undefined || others.length > 0)
    throw new BanctlError(
      EXIT.usage,
      'ranges needs one file: the ip-ranges.json of AWS, or - for standard input',
    );
  const ranges =
    source === '-'
      ? readRangesFile(STANDARD_INPUT, settings.service, 'standard input')
      : readRangesFile(source, settings.service);
  const output = followOwnLinks(settings.output);
  const { added, removed, count, isUndone, reload } = await keepRanges(output, ranges, settings);
  const isChanged = added.length + removed.length > 0 && isUndone !== true;
  if (settings.json)
    showJson({
      changed: isChanged && !settings.dryRun,
      ranges: count,
      added,
      removed,
      reload: reload.result,
    });
  else if (isChanged)
    print(
      `${output} ${settings.dryRun ? 'would have' : 'has'} ${count} ${count === 1 ? 'range' : 'ranges'}: ${added.length} added, ${removed.length} removed`,
    );
  return showReload(reload, settings.json);
}
