// Calls of banctl's own code, in this process.
import { changeBans } from '../../src/bans.ts';

export async function ban(banlist: string, address: string): Promise<void> {
  const options = {
    banlist,
    apachectl: undefined,
    reloadCommand: undefined,
    reloads: false,
    reloadInterval: 0,
    lockTimeout: 20,
    dryRun: false,
  };
  const hold = { holder: 'web', address, since: undefined, duration: null, reason: null };
  await changeBans(options, () => [{ verb: 'add', target: address, hold }]);
}
