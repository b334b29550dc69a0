// What banctl setup does to the files of a tree, in this process.
import { type FileReport, installFiles, removeFiles } from '../../src/setup/files.ts';
import { kitOf } from '../../src/setup/kit.ts';
import { serverAt } from '../../src/setup/server.ts';
import type { Order } from './order.ts';

export function doSetup(root: string, { verb, kit }: NonNullable<Order['setup']>): FileReport[] {
  const server = serverAt({ root, remove: verb === 'remove' });
  const options = { root, banlist: server.layout.banlist, bandir: undefined, lockTimeout: 20, dryRun: false };
  return verb === 'install'
    ? installFiles(kitOf(kit), server, options)
    : removeFiles(kitOf(kit), server, () => undefined, options);
}
