import { setTimeout as sleep } from 'node:timers/promises';
import { includedFiles, runningApache, testConfig } from '../apache.ts';
import { followLinks, readText } from '../file.ts';
import { isRunning } from '../process.ts';
import type { ReloadOptions } from '../reload-plan.ts';
import { isPending, type ReloadState, readState } from '../reload-state.ts';
import { type Finding, SETTLING } from './finding.ts';

/** Does Apache run, can it reload, does it read the list, and has it read it as it is? */
export async function apacheFindings(options: ReloadOptions): Promise<Finding[]> {
  const test = await testConfig(options.apachectl);
  if (test.result === 'failed') return [{ code: 'config-broken', message: test.message }];
  if (test.result === 'no-apache') return [{ code: 'apache-down', message: test.message }];
  const list = readText(options.banlist);
  const findings = list.version === undefined ? [] : await inclusion(options);
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
  const files = await includedFiles(apachectl);
  if (files === undefined || files.some((file) => followLinks(file) === banlist)) return [];
  return [
    {
      code: 'not-included',
      message: `apache does not read ${banlist}; include it in the site's configuration`,
    },
  ];
}
