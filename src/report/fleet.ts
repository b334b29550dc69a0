import { readText } from '../system/read.ts';
import type { ReportDocument } from './types.ts';

/** Where the fleet's agent writes its status; see docs/fleet.md. */
const STATUS_FILE = '/var/lib/banctl/fleet/status.json';

/** The fleet as its agent last saw it; null without an agent. */
export function readFleet(path = STATUS_FILE): ReportDocument['fleet'] {
  try {
    const { connected, hosts } = JSON.parse(readText(path).text.toString('utf8'));
    return { connected: connected === true, hosts: Array.isArray(hosts) ? hosts.map(toHost) : [] };
  } catch {
    return null;
  }
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
