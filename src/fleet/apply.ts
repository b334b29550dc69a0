import type { Change } from '../bans/change.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import type { ChangeBans, Host } from './types.ts';

const MOST_CHANGES = 500;

/** Makes changes here, some at a time, so that callers get their turn. One sync puts the files of all on the disk. */
export async function applyChanges(
  { local, dueAddresses, bulkNote, complain }: Pick<Host, 'local' | 'dueAddresses' | 'bulkNote' | 'complain'>,
  change: ChangeBans,
  changes: ReadonlyMap<string, readonly Change[]>,
): Promise<void> {
  const isOne = countAll(changes) <= MOST_CHANGES;
  let isNoted = false;
  try {
    isNoted = bulkNote.begin(changes.size);
  } catch (error) {
    complain(error);
  }
  try {
    for (const batch of batches(changes)) {
      const all = [...batch.values()].flat();
      const banned = await changeAll(change, all, isOne ? undefined : 'later', complain);
      await local.refresh(batch, banned);
      for (const address of batch.keys()) dueAddresses.add(address);
    }
  } finally {
    if (!isOne) await change([], 'all');
  }
  if (isNoted) bulkNote.end();
  if (dueAddresses.hasNamed) dueAddresses.rouse();
}

function countAll(changes: ReadonlyMap<string, readonly Change[]>): number {
  return [...changes.values()].reduce((sum, some) => sum + some.length, 0);
}

function* batches(changes: ReadonlyMap<string, readonly Change[]>) {
  let batch = new Map<string, readonly Change[]>();
  let count = 0;
  for (const [address, some] of changes) {
    if (some.length === 0) continue;
    batch.set(address, some);
    count += some.length;
    if (count < MOST_CHANGES) continue;
    yield batch;
    [batch, count] = [new Map(), 0];
  }
  if (count > 0) yield batch;
}

/**
 * Makes the others even if one fails.
 *
 * @returns the addresses that were not banned before
 */
async function changeAll(
  change: ChangeBans,
  changes: readonly Change[],
  sync: Parameters<ChangeBans>[1],
  complain: (error: unknown) => void,
): Promise<string[]> {
  try {
    const { outcomes } = await change(changes, sync);
    return outcomes.flatMap(({ status, address }) => (status === 'banned' ? address : []));
  } catch (error) {
    if (changes.length === 1 || !isOfOne(error)) throw error;
    const half = Math.ceil(changes.length / 2);
    let failure: unknown;
    for (const part of [changes.slice(0, half), changes.slice(half)])
      await changeAll(change, part, sync, complain).catch((partly) => {
        failure = partly;
      });
    if (failure !== undefined) complain(failure);
    return [];
  }
}

/** A busy lock fails all of them alike. */
function isOfOne(error: unknown): boolean {
  return error instanceof BanctlError && error.exitCode !== EXIT.lockBusy;
}
