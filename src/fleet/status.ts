import { join } from 'node:path';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';

/** The agent's status, in a file that all users may read without network or password. */
export interface Status {
  readonly connected: boolean;
  /** The fleet's. */
  readonly name: string;
  /** This one's. */
  readonly host: string;
  readonly hosts: readonly HostStatus[];
  /** What the engine has. */
  readonly holds: number;
  /** What this host has to say, and the engine has not heard. */
  readonly pending: number;
  /** Bans of other hosts that are not made here: protected, too broad, or not readable. */
  readonly refused: number;
  /** How often the engine lost data since the agent started. */
  readonly losses: number;
  /** ISO 8601; null: never. */
  readonly lastSync: string | null;
  /** Why it is not connected. */
  readonly error: string | null;
  /** When the connection was lost, ISO 8601; null: it is there. */
  readonly cutSince: string | null;
  /** Since when something waits, ISO 8601; null: nothing does. */
  readonly behindSince: string | null;
  /** Seconds that this host's clock is ahead of the engine's. */
  readonly clockAhead: number;
  /** When another host spoke under the same name, ISO 8601. */
  readonly twin: string | null;
  /** When this was written, ISO 8601. */
  readonly at: string;
}

export interface HostStatus {
  readonly name: string;
  /** The machine's own name. */
  readonly host: string;
  readonly seen: string;
  readonly holds: number;
  readonly version: string;
}

/** The agent writes each few seconds. Milliseconds. */
const LATE_MS = 60_000;

/** True if no agent runs: it would have written by now. */
export function isAgentLate({ at }: Pick<Status, 'at'>, nowMs: number): boolean {
  return !(Math.abs(nowMs - Date.parse(at)) < LATE_MS);
}

export function statusFile(state: string): string {
  return join(state, 'status.json');
}

export function writeStatus(state: string, status: Status): void {
  makeDirectory(state);
  const text = `${JSON.stringify(status, null, 2)}\n`;
  replaceFile(statusFile(state), [Buffer.from(text)], {
    lock: undefined,
    durable: false,
    mode: 0o644,
    keepsMode: false,
  });
}

/** Undefined if no agent has ever written it, or it is not readable. */
export function readStatus(state: string): Status | undefined {
  try {
    const status = JSON.parse(readText(statusFile(state)).text.toString('utf8'));
    return typeof status === 'object' && status !== null && Array.isArray(status.hosts) ? status : undefined;
  } catch {
    return undefined;
  }
}
