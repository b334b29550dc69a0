import { includedFiles, runningApache, testConfig } from '../apache.ts';
import { followLinks, readText } from '../file.ts';
import type { ReloadOptions } from '../reload-plan.ts';
import { isPending, readState } from '../reload-state.ts';
import type { Finding } from './finding.ts';

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
  const state = { ...readState(options.banlist, list), pidFile: test.pidFile };
  if (!isPending(state)) return findings;
  const why = state.error === null ? '' : `; the last reload failed: ${state.error}`;
  return [
    ...findings,
    { code: 'reload-pending', message: `apache is not known to have loaded the list as it is${why}` },
  ];
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
