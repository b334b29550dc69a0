import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ApacheUser,
  type Configuration,
  ENABLE_SNIPPET,
  type ReadableConfiguration,
  whyNotRead,
} from '../apache/configuration.ts';
import { type Directive, directivesOf, mayInclude } from '../apache/directives.ts';
import { canSearch, directoryRule, whyNotLookedUp } from '../apache/directory-rule.ts';
import { layoutOf } from '../apache/layout.ts';
import { findApache, readTextOrEmpty } from '../apache/processes.ts';
import { type Asked, askAll } from '../reload/ask.ts';
import { currentError, isPending, lookAtState } from '../reload/state.ts';
import type { ReloadState } from '../reload/state-file.ts';
import { namesOf, type ReloadOptions } from '../reload/types.ts';
import { isWaitedFor } from '../reload/waiter.ts';
import type { PlaceOptions } from '../store/types.ts';
import { statFile } from '../system/read.ts';
import { bypassFindings } from './bypass.ts';
import { type Finding, SETTLING } from './finding.ts';
import type { AuditOptions } from './types.ts';
import { workerHints } from './workers.ts';

type Options = ReloadOptions & PlaceOptions & Pick<AuditOptions, 'fix' | 'config'>;

/**
 * Does each Apache run, can it reload, does it read the list, and has it loaded the current list?
 *
 * @param asked the Apaches' answers, if the caller has asked them
 */
export async function apacheFindings(options: Options, asked?: readonly Asked[]): Promise<Finding[]> {
  const answers = asked ?? (await askAll(options));
  const findings: Finding[] = [];
  for (const { configuration } of answers)
    if (configuration !== undefined) findings.push(...(await configurationFindings(options, configuration)));
  const isReloadable = findings.every(({ code }) => code !== 'apache-down' && code !== 'config-broken');
  return isReloadable ? [...findings, ...(await pendingFindings(options, answers))] : findings;
}

async function configurationFindings(options: Options, configuration: Configuration): Promise<Finding[]> {
  if (configuration.result === 'refused')
    return [{ code: 'config-broken', message: configuration.refusal.message }];
  if (configuration.result === 'unfinished')
    return [{ code: 'config-broken', message: configuration.message }];
  if (configuration.result === 'no-apache')
    return options.reloadCommand === undefined
      ? [{ code: 'apache-down', message: configuration.message }]
      : [];
  const { banlist, bandir, fix, config } = options;
  const directives = directivesIn(configuration);
  const notRead =
    statFile(banlist) === undefined
      ? whyNeverRead(configuration, banlist, bandir)
      : whyNotRead(configuration, banlist);
  const isStopped = findApache(configuration).is === 'stopped';
  return [
    ...(notRead === undefined ? [] : [{ code: 'not-included', message: `apache ${notRead}` } as const]),
    ...(bandir === undefined ? [] : await directoryFindings(bandir, configuration)),
    ...bypassFindings(directives, options),
    // Not by the job that repairs: a hint every five minutes is a mail every five minutes.
    ...(bandir !== undefined || fix ? [] : workerHints(directives, layoutOf().bandir, config)),
    ...(isStopped ? [{ code: 'apache-down', message: 'apache is not running' } as const] : []),
  ];
}

/** Before the first ban there is no list, which Apache cannot list as included. A directory needs none before a range is banned. */
function whyNeverRead(
  { inclusions, isElsewhere }: ReadableConfiguration,
  banlist: string,
  bandir: string | undefined,
): string | undefined {
  if (inclusions === undefined || isElsewhere || bandir !== undefined) return undefined;
  try {
    if (mayInclude(inclusions, (path) => readFileSync(path, 'latin1'), banlist)) return undefined;
  } catch {
    // What cannot be read here may include it.
    return undefined;
  }
  return `would not read ${banlist}, which does not exist yet; ${ENABLE_SNIPPET}`;
}

/** Skips a container's files: another file may have the same path here. */
function directivesIn({ inclusions, isElsewhere }: ReadableConfiguration): readonly Directive[] {
  return isElsewhere || inclusions === undefined ? [] : directivesOf(inclusions, readTextOrEmpty);
}

async function pendingFindings(options: Options, asked: readonly Asked[]): Promise<Finding[]> {
  const state = await settledState(options);
  if (!isPending(state, namesOf(options)) || isWaitedFor(state.waiter, options)) return [];
  if (state.apaches.length === 0 && isOlder(options.banlist, asked)) return [];
  const error = currentError(state);
  const why = error === null ? '' : `; the last reload failed: ${error}`;
  const message = `apache may not have loaded the latest list${why}`;
  return [{ code: 'reload-pending', message }];
}

/** The state, but not between a call's change and its reload. */
async function settledState(options: Options): Promise<ReloadState> {
  if (isPending(lookAtState(options.banlist), namesOf(options))) await sleep(SETTLING);
  return lookAtState(options.banlist);
}

/** Longer than Apache takes to read its configuration. */
const LONGEST_READING_MS = 10_000;

/**
 * True if every Apache has read its configuration since the list changed, judged by times. Only for a list without any
 * record of banctl, which the audit would otherwise report until the first ban.
 */
function isOlder(banlist: string, asked: readonly Asked[]): boolean {
  const changed = statFile(banlist)?.modified ?? 0;
  return asked.every(({ configuration }) => {
    const read = configuration?.result === 'passed' ? statFile(configuration.pidFile)?.modified : undefined;
    return read !== undefined && read - changed >= LONGEST_READING_MS && read <= Date.now();
  });
}

/** The rule fails open: if Apache may not search the directory, it refuses no address in it. */
async function directoryFindings(bandir: string, configuration: ReadableConfiguration): Promise<Finding[]> {
  const { paths } = directoryRule(configuration, bandir);
  const why = whyNotLookedUp(configuration, bandir);
  return [
    ...(why === undefined ? [] : [{ code: 'not-included', message: `apache ${why}` } as const]),
    ...(await searchFindings(bandir, paths, configuration.user)),
  ];
}

/** Checks the directories above too, and names the first closed one. */
async function searchFindings(
  bandir: string,
  paths: readonly string[],
  user: ApacheUser | undefined,
): Promise<Finding[]> {
  if (user === undefined || !existsSync(bandir)) return [];
  const above = [...paths, bandir].flatMap((path) =>
    path.split('/').map((_part, index, parts) => parts.slice(0, index + 1).join('/') || '/'),
  );
  for (const directory of new Set(above)) {
    if ((await canSearch(directory, user)) !== false) continue;
    const message = `apache's user ${user.name} cannot search ${directory}, so no ban in ${bandir} takes effect; chmod a+x ${directory}`;
    return [{ code: 'bandir-unsearchable', message }];
  }
  return [];
}
