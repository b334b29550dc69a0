// Calls of banctl's own code, in this process, without a reload.
import type { Change } from '../../src/banlist/change.ts';
import { changeBans } from '../../src/bans.ts';

export async function change(banlist: string, changes: readonly Change[]): Promise<void> {
  const options = {
    banlist,
    bandir: undefined,
    apachectl: undefined,
    reloadCommand: undefined,
    reloads: false,
    reloadInterval: 0,
    lockTimeout: 20,
    config: '',
    dryRun: false,
  };
  await changeBans(options, () => changes);
}

export function ban(banlist: string, address: string): Promise<void> {
  const hold = { holder: 'web', address, since: undefined, duration: null, reason: null };
  return change(banlist, [{ verb: 'add', target: address, hold }]);
}
