import type { Change } from '../bans/change.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import type { ChangeBans, Host } from './types.ts';

const MOST_CHANGES = 500;

/** Makes changes here, some at a time, so that callers get their turn. */
export async function applyChanges(
  { local, attention, complain }: Pick<Host, 'local' | 'attention' | 'complain'>,
  change: ChangeBans,
  changes: ReadonlyMap<string, readonly Change[]>,
): Promise<void> {
  for (const batch of batches(changes)) {
    await changeAll(change, [...batch.values()].flat(), complain);
    await local.refresh(batch.keys());
    for (const address of batch.keys()) attention.add(address);
  }
  if (attention.hasNamed) attention.rouse();
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

/** One change that cannot be made must not keep the others from it. */
async function changeAll(
  change: ChangeBans,
  changes: readonly Change[],
  complain: (error: unknown) => void,
): Promise<void> {
  try {
    await change(changes);
  } catch (error) {
    if (changes.length === 1 || !isOfOne(error)) throw error;
    const half = Math.ceil(changes.length / 2);
    let failure: unknown;
    for (const part of [changes.slice(0, half), changes.slice(half)])
      await changeAll(change, part, complain).catch((partly) => {
        failure = partly;
      });
    if (failure !== undefined) complain(failure);
  }
}

/** A lock that is not free keeps all from it. */
function isOfOne(error: unknown): boolean {
  return error instanceof BanctlError && error.exitCode !== EXIT.lockBusy;
}
