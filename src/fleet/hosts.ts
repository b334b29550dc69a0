import { formatTime } from '../bans/hold.ts';
import type { HostStatus } from './status.ts';

/** More than these are not shown. */
const MOST_HOSTS = 1000;
const LONGEST_NAME = 64;
const LONGEST_TEXT = 4000;
const LONGEST_WORD = 100;
/** The first second of the year 10000. */
const TOO_LATE = 253_402_300_800;

/** What a host says of itself with each beat. */
export interface Introduction {
  readonly session?: string;
  readonly machine?: string;
  readonly version?: string;
  readonly seen?: number;
  readonly holds?: number;
}

export function readHosts(hosts: ReadonlyMap<string, string>): HostStatus[] {
  return [...hosts]
    .slice(0, MOST_HOSTS)
    .map(([name, text]) => statusOf(name, readHost(text)))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

function statusOf(name: string, { machine, version, seen, holds }: Introduction): HostStatus {
  return {
    name: name.slice(0, LONGEST_NAME),
    host: machine ?? '',
    seen: formatTime(seen ?? 0),
    holds: holds ?? 0,
    version: version ?? '',
  };
}

/** Another host wrote this: it can be anything. */
export function readHost(text: string): Introduction {
  let said: unknown;
  try {
    said = JSON.parse(text.slice(0, LONGEST_TEXT));
  } catch {
    return {};
  }
  if (typeof said !== 'object' || said === null) return {};
  const { session, machine, version, seen, holds } = said as Record<string, unknown>;
  return {
    ...given('session', wordOf(session)),
    ...given('machine', wordOf(machine)),
    ...given('version', wordOf(version)),
    ...given('seen', numberOf(seen)),
    ...given('holds', numberOf(holds)),
  };
}

function given<T>(name: string, value: T | undefined): Record<string, T> {
  return value === undefined ? {} : { [name]: value };
}

function wordOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value.slice(0, LONGEST_WORD) : undefined;
}

function numberOf(value: unknown): number | undefined {
  const number = Number.isSafeInteger(value) ? Number(value) : -1;
  return number >= 0 && number < TOO_LATE ? number : undefined;
}
