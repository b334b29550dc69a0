import fs from 'node:fs';

/** node:fs, of which `make` makes each synchronous call: it gets the name and the arguments, and may do more. */
export function watchedFileSystem(
  make: (name: string, args: readonly unknown[], call: () => unknown) => unknown,
): typeof fs {
  const functions: Record<string, unknown> = { ...fs };
  for (const [name, original] of Object.entries(functions)) {
    if (!/^[a-z]+Sync$/i.test(name) || typeof original !== 'function') continue;
    functions[name] = (...args: unknown[]) => make(name, args, () => original(...args));
  }
  return functions as unknown as typeof fs;
}
