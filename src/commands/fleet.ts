import { FLEET_ACTIONS } from '../cli/options.ts';
import type { Settings } from '../cli/settings.ts';
import { parseOneOf } from '../cli/values.ts';
import { isAgentLate, readStatus, type Status } from '../fleet/status.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { print, showJson } from '../terminal/print.ts';
import { tableLines } from '../terminal/table.ts';

/** `banctl fleet status`: 0 if this host is connected, 1 if not. It reads what the agent has written, without a network. */
export async function fleetCommand(settings: Settings, operands: readonly string[]): Promise<ExitCode> {
  const [action = 'status', ...more] = operands;
  parseOneOf('action of fleet', FLEET_ACTIONS, action);
  if (more.length > 0) throw new BanctlError(EXIT.usage, 'fleet takes one word', 'see banctl fleet --help');
  const status = readStatus(settings.fleetState);
  const isConnected = status?.connected === true && !isAgentLate(status, Date.now());
  if (settings.json) showJson(documentOf(status, isConnected, settings));
  else for (const line of await linesOf(status, isConnected, settings)) print(line);
  return isConnected ? EXIT.done : EXIT.findings;
}

function documentOf(
  status: Status | undefined,
  isConnected: boolean,
  { fleetName, fleetHost }: Settings,
): object {
  const empty = {
    name: fleetName,
    host: fleetHost ?? null,
    hosts: [],
    holds: 0,
    pending: 0,
    refused: 0,
    losses: 0,
  };
  return { ...empty, lastSync: null, ...status, connected: isConnected };
}

async function linesOf(
  status: Status | undefined,
  isConnected: boolean,
  { fleet, fleetState }: Settings,
): Promise<string[]> {
  if (status === undefined) {
    const why = fleet === undefined ? 'set fleet in /etc/banctl.json, and' : `no status in ${fleetState};`;
    return [`this server shares no bans: ${why} systemctl enable --now banctl.service`];
  }
  const { name, host, hosts, holds, pending, refused, losses, lastSync, error, cutSince } = status;
  const why = isAgentLate(status, Date.now())
    ? `banctl serve does not run; last heard of ${status.at}`
    : `not connected since ${cutSince}: ${error}`;
  return [
    `${host} in the fleet ${name}: ${isConnected ? 'connected' : why}`,
    `${holds} holds shared, ${pending} waiting to be sent, ${refused} of other servers refused here, ${losses} losses of the engine`,
    `last in step: ${lastSync ?? 'never'}`,
    '',
    ...(await tableLines(
      [
        ['SERVER', 'MACHINE', 'LAST SEEN', 'HOLDS', 'VERSION'],
        ...hosts.map((one) => [one.name, one.host, one.seen, String(one.holds), one.version]),
      ],
      Number.POSITIVE_INFINITY,
    )),
  ];
}
