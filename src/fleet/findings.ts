import type { Finding } from '../audit/finding.ts';
import { isAgentLate, type Status } from './status.ts';

/** A shorter problem is no finding. Milliseconds. */
const LASTING_MS = 60_000;
/** With a larger difference, a ban can look older than a lift that came before it. */
const CLOCK_SECONDS = 2;

/** The problems of sharing, according to the agent's status file. */
export function fleetFindings(status: Status | undefined, isSet: boolean, nowMs: number): Finding[] {
  const runs = status !== undefined && !isAgentLate(status, nowMs);
  if (!isSet && !runs) return [];
  if (!isSet)
    return [
      down(
        'banctl serve shares bans, but fleet is not set in /etc/banctl.json, so that unban lifts on this server alone; set it there',
      ),
    ];
  if (!runs)
    return [
      down('banctl serve does not run, so this server shares no bans; systemctl enable --now banctl.service'),
    ];
  return [...connectionFindings(status, nowMs), ...memberFindings(status)];
}

function down(message: string): Finding {
  return { code: 'fleet-down', message };
}

function connectionFindings(
  { connected, cutSince, error, behindSince, pending }: Status,
  nowMs: number,
): Finding[] {
  const lasts = (since: string | null) => since !== null && nowMs - Date.parse(since) > LASTING_MS;
  if (!connected)
    return lasts(cutSince)
      ? [{ code: 'fleet-cut', message: `this server is cut off from the fleet since ${cutSince}: ${error}` }]
      : [];
  if (!lasts(behindSince)) return [];
  const message = `${pending} changes wait since ${behindSince}; the journal of banctl.service says why`;
  return [{ code: 'fleet-behind', message }];
}

function memberFindings({ clockAhead, twin, host, refused }: Status): Finding[] {
  const findings: Finding[] = [];
  if (Math.abs(clockAhead) >= CLOCK_SECONDS) {
    const way = `${Math.abs(clockAhead)} s ${clockAhead > 0 ? 'ahead of' : 'behind'} the engine's`;
    findings.push({
      code: 'fleet-clock',
      message: `this server's clock is ${way}, so that bans and lifts can be taken in the wrong order; set it by NTP`,
    });
  }
  if (twin !== null)
    findings.push({
      code: 'fleet-twin',
      message: `two servers of the fleet had one name; this one is called ${host} now: give each its own --fleet-host`,
    });
  if (refused > 0)
    findings.push({
      code: 'fleet-refused',
      message: `${refused} bans of other servers are not made here: protected, too broad, or not readable`,
    });
  return findings;
}

/** Lines in Prometheus' text format, without the final newline. */
export function fleetMetrics(status: Status, nowMs: number): string[] {
  const isConnected = status.connected && !isAgentLate(status, nowMs);
  const gauge = (name: string, help: string, value: number, type = 'gauge') => [
    `# HELP banctl_fleet_${name} ${help}`,
    `# TYPE banctl_fleet_${name} ${type}`,
    `banctl_fleet_${name} ${value}`,
  ];
  return [
    ...gauge('connected', '1 if this server shares its bans now.', isConnected ? 1 : 0),
    ...gauge('hosts', 'Servers that the fleet knows.', status.hosts.length),
    ...gauge('holds', 'Holds that the fleet shares.', status.holds),
    ...gauge('pending', 'Changes that this server has to send.', status.pending),
    ...gauge('refused', 'Bans of other servers that are not made here.', status.refused),
    ...gauge(
      'losses_total',
      'How often the engine lost data since the agent started.',
      status.losses,
      'counter',
    ),
    ...gauge(
      'last_sync_timestamp_seconds',
      'When this server was last in step with the fleet.',
      status.lastSync === null ? 0 : Math.floor(Date.parse(status.lastSync) / 1000),
    ),
  ];
}
