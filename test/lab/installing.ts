// What banctl setup does to the files of a tree, in this process.
import { join } from 'node:path';
import { chooseDirectory, removeChoice } from '../../src/setup/directory-config.ts';
import { type FileReport, installFiles, removeFiles } from '../../src/setup/install.ts';
import { kitOf } from '../../src/setup/kit.ts';
import { serverAt } from '../../src/setup/server.ts';
import type { Order } from './order.ts';

export function doSetup(root: string, { verb, kit }: NonNullable<Order['setup']>): FileReport[] {
  const server = serverAt({ root, remove: verb === 'remove' });
  const options = {
    root,
    banlist: server.layout.banlist,
    bandir: undefined,
    lockTimeout: 20,
    dryRun: false,
    enableJail: false,
    enableServe: false,
    config: join(root, 'etc/banctl.json'),
  };
  if (verb === 'remove') {
    const { bandir } = server.layout;
    return [
      ...removeFiles(kitOf(kit), server, () => undefined, { ...options, bandir }),
      ...removeChoice(server, { ...options, bandir, listOnly: false }),
    ];
  }
  const { bandir, written } = chooseDirectory(server, { ...options, listOnly: false });
  return installFiles(kitOf(kit), server, { ...options, bandir }, written?.text);
}
