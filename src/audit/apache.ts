import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ApacheUser,
  canSearch,
  directoryRule,
  runningApache,
  testConfig,
  whyNotRead,
} from '../apache/apache.ts';
import { isPending, type ReloadState, readState } from '../reload/state.ts';
import type { ReloadOptions } from '../reload/types.ts';
import type { PlaceOptions } from '../store/types.ts';
import { isRunning } from '../system/process.ts';
import { readText } from '../system/read.ts';
import { type Finding, SETTLING } from './finding.ts';

/** Does Apache run, can it reload, does it read the list, and has it read it as it is? */
export async function apacheFindings(options: ReloadOptions & PlaceOptions): Promise<Finding[]> {
  const test = await testConfig(options.apachectl);
  if (test.result === 'failed') return [{ code: 'config-broken', message: test.message }];
  if (test.result === 'no-apache') return [{ code: 'apache-down', message: test.message }];
  const list = readText(options.banlist);
  const findings = [
    ...(list.version === undefined ? [] : await inclusion(options)),
    ...(options.bandir === undefined ? [] : await directoryFindings(options, options.bandir, test)),
  ];
  if (runningApache(test.pidFile) === undefined) {
    return [...findings, { code: 'apache-down', message: 'apache is not running' }];
  }
  const state = await settledState(options, test.pidFile);
  if (!isPending(state) || (state.waiter !== null && isRunning(state.waiter))) return findings;
  const why = state.error === null ? '' : `; the last reload failed: ${state.error}`;
  return [
    ...findings,
    { code: 'reload-pending', message: `apache is not known to have loaded the list as it is${why}` },
  ];
}

/** The state, not while a call is between its change and its reload. */
async function settledState({ banlist }: ReloadOptions, pidFile: string): Promise<ReloadState> {
  const look = () => ({ ...readState(banlist, readText(banlist)), pidFile });
  if (isPending(look())) await sleep(SETTLING);
  return look();
}

async function inclusion({ apachectl, banlist }: ReloadOptions): Promise<Finding[]> {
  const notRead = await whyNotRead(apachectl, banlist);
  return notRead === undefined ? [] : [{ code: 'not-included', message: `apache ${notRead}` }];
}

type Passed = Extract<Awaited<ReturnType<typeof testConfig>>, { result: 'passed' }>;

/** The rule fails open: where Apache may not search the directory, nobody in it is refused. */
async function directoryFindings(
  { apachectl }: ReloadOptions,
  bandir: string,
  { pidFile, user }: Passed,
): Promise<Finding[]> {
  const { state, paths } = await directoryRule(apachectl, bandir, pidFile);
  const expected = `Require expr "! -e '${bandir}/%{REMOTE_ADDR}'"`;
  const message = {
    loaded: undefined,
    unknown: undefined,
    'not-loaded': `apache has not read the rule for ${bandir} yet; banctl reload --force`,
    absent: `apache does not look into ${bandir}; put ${expected} into the site's configuration`,
  }[state];
  return [
    ...(message === undefined ? [] : [{ code: 'not-included', message } as const]),
    ...(await searchFindings(bandir, paths, user)),
  ];
}

/** Also the directories above count; the first that is closed is named. */
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
    const message = `${user.name}, whom apache runs as, cannot search ${directory}, so no ban in ${bandir} counts; chmod a+x ${directory}`;
    return [{ code: 'bandir-unsearchable', message }];
  }
  return [];
}
