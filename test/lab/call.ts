// Calls of banctl's own code, in this process, without a reload.
import type { Change } from '../../src/bans/change.ts';
import { changeBans, type StoreOptions } from '../../src/store/store.ts';

export async function change(banlist: string, changes: readonly Change[], bandir?: string): Promise<void> {
  await changeBans(withoutReload(banlist, bandir), () => changes);
}

export function withoutReload(banlist: string, bandir?: string): StoreOptions {
  return {
    banlist,
    bandir,
    apachectl: [],
    reloadCommand: undefined,
    reloads: false,
    reloadInterval: 0,
    lockTimeout: 20,
    config: '',
    dryRun: false,
  };
}

export function ban(banlist: string, address: string): Promise<void> {
  return change(banlist, [addition(address, 'web')]);
}

export function addition(address: string, holder: string, target = address): Change {
  return { verb: 'add', target, hold: { holder, address, since: undefined, duration: null, reason: null } };
}

/** By a jail; without a holder by hand. */
export function release(address: string, holder: string | null = null): Change {
  return { verb: 'release', address, holder };
}
