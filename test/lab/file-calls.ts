// To be loaded before what it is to watch.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

/** Has each synchronous call of node:fs made by `make`, which is given its name and arguments and may do more. */
export function watchFileCalls(
  make: (name: string, args: readonly unknown[], call: () => unknown) => unknown,
): void {
  const functions = fs as unknown as Record<string, unknown>;
  for (const [name, original] of Object.entries(functions)) {
    if (!/^[a-z]+Sync$/i.test(name) || typeof original !== 'function') continue;
    functions[name] = (...args: unknown[]) => make(name, args, () => original(...args));
  }
  syncBuiltinESMExports();
}
