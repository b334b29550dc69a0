import { existsSync } from 'node:fs';
import { run } from '../system/program.ts';
import type { FileReport } from './files.ts';
import { TIMER } from './kit.ts';
import { runsSystemd, type Server, TIMER_LINK } from './server.ts';
import type { SetupOptions } from './types.ts';

/*
 * The job that runs the audit, which ends holds on time: a systemd timer where systemd runs, a cron job elsewhere, never both.
 * Setup installs its files like all others; a timer must also be enabled.
 */

/** Limit of one systemctl call. */
const LIMIT_SECONDS = 30;

type Options = Pick<SetupOptions, 'root' | 'dryRun'>;

/** Enables the timer after its files exist. A failure shows in the remaining steps, because the link is missing. */
export async function startTimer(server: Server, { root, dryRun }: Options): Promise<FileReport[]> {
  const isWanted = root === undefined && runsSystemd(server, root) && !existsSync(server.at(TIMER_LINK));
  if (!isWanted) return [];
  if (dryRun) return [{ path: TIMER_LINK, status: 'written' }];
  await run('systemctl', ['daemon-reload'], LIMIT_SECONDS);
  await run('systemctl', ['enable', '--now', TIMER], LIMIT_SECONDS);
  return existsSync(server.at(TIMER_LINK)) ? [{ path: TIMER_LINK, status: 'written' }] : [];
}

/** Disables setup's own timer before its files go. A package's timer belongs to the package. */
export async function stopTimer(server: Server, { root, dryRun }: Options): Promise<void> {
  const isOwn = existsSync(server.at(`/etc/systemd/system/${TIMER}`));
  if (root !== undefined || dryRun || !isOwn || !runsSystemd(server, root)) return;
  await run('systemctl', ['disable', '--now', TIMER], LIMIT_SECONDS);
}
