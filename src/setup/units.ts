import { existsSync } from 'node:fs';
import { run } from '../system/program.ts';
import type { FileReport } from './install.ts';
import { SERVICE, SOCKET, TIMER } from './kit.ts';
import { runsSystemd, SERVICE_LINK, type Server, SOCKET_LINK, TIMER_LINK } from './server.ts';
import type { SetupOptions } from './types.ts';

/*
 * The job that runs the audit, which ends holds on time: a systemd timer where systemd runs, a cron job elsewhere, never both;
 * and the socket of `banctl serve`. Setup installs their files like all others; a timer and a socket must also be enabled.
 */

/** Limit of one systemctl call. */
const LIMIT_SECONDS = 30;

type Options = Pick<SetupOptions, 'root' | 'dryRun' | 'enableServe'>;

/** Enables the timer, and the socket if asked for, after their files exist. A failure shows in the remaining steps, because the link is missing. */
export async function startUnits(server: Server, options: Options): Promise<FileReport[]> {
  const started = await startUnit(server, TIMER, TIMER_LINK, options);
  return options.enableServe
    ? [...started, ...(await startUnit(server, SOCKET, SOCKET_LINK, options))]
    : started;
}

async function startUnit(
  server: Server,
  unit: string,
  link: string,
  { root, dryRun }: Options,
): Promise<FileReport[]> {
  const isWanted = root === undefined && runsSystemd(server, root) && !existsSync(server.at(link));
  if (!isWanted) return [];
  if (dryRun) return [{ path: link, status: 'written' }];
  await run('systemctl', ['daemon-reload'], LIMIT_SECONDS);
  await run('systemctl', ['enable', '--now', unit], LIMIT_SECONDS);
  return existsSync(server.at(link)) ? [{ path: link, status: 'written' }] : [];
}

/** Disables setup's own units before their files go. A package's units belong to the package. */
export async function stopUnits(server: Server, { root, dryRun }: Options): Promise<void> {
  if (root !== undefined || dryRun || !runsSystemd(server, root)) return;
  const isOwn = (unit: string) => existsSync(server.at(`/etc/systemd/system/${unit}`));
  if (isOwn(TIMER)) await run('systemctl', ['disable', '--now', TIMER], LIMIT_SECONDS);
  const isEnabled = [SOCKET_LINK, SERVICE_LINK].some((link) => existsSync(server.at(link)));
  if (isOwn(SOCKET) && isEnabled)
    await run('systemctl', ['disable', '--now', SOCKET, SERVICE], LIMIT_SECONDS);
}
