import { isAgentLate, readStatus } from '../fleet/status.ts';
import type { ReportDocument } from './types.ts';

/** The fleet as its agent last saw it; null without an agent. */
export function readFleet(state: string): ReportDocument['fleet'] {
  const status = readStatus(state);
  if (status === undefined) return null;
  const { connected, hosts } = status;
  return {
    connected: connected === true && !isAgentLate(status, Date.now()),
    hosts: hosts.map((host) => toHost({ ...host })),
  };
}

function toHost(
  host: Readonly<Record<string, unknown>>,
): NonNullable<ReportDocument['fleet']>['hosts'][number] {
  const { name, host: id, seen, holds, version } = host;
  return {
    name: String(name ?? id),
    seen: textOf(seen),
    holds: typeof holds === 'number' ? holds : null,
    version: textOf(version),
  };
}

function textOf(value: unknown): string | null {
  return value === undefined || value === null ? null : String(value);
}
