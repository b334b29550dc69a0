import { dirname, join } from 'node:path';
import { type Address, readAddress } from '../bans/address.ts';
import { isHostName } from '../bans/host-name.ts';
import { readText } from '../system/read.ts';

/*
 * Host names in `--protect`, for people whose address changes. Only `audit --fix` resolves them, into a file beside the
 * record. A ban reads that file: it never waits for a name server, and a missing or damaged file never stops it.
 */

/** What is never banned, and where the addresses of host names are kept. */
export interface Protected {
  readonly protect: readonly string[];
  /** The file's directory keeps them; undefined: host names protect nothing. */
  readonly record?: string | undefined;
}

export function namesPath(record: string): string {
  return join(dirname(record), 'protected-names');
}

/** The last known addresses of each name: a line has the name, then its addresses. */
export function readNames(record: string | undefined): Map<string, readonly Address[]> {
  const names = new Map<string, readonly Address[]>();
  for (const line of record === undefined ? [] : linesOf(namesPath(record))) {
    const [name = '', ...addresses] = line.trim().split(/\s+/);
    if (isHostName(name))
      names.set(
        name.toLowerCase(),
        addresses.flatMap((text) => readAddress(text) ?? []),
      );
  }
  return names;
}

function linesOf(path: string): string[] {
  try {
    return readText(path).text.toString().split('\n');
  } catch {
    // The audit writes it anew, or reports why it cannot.
    return [];
  }
}
