// The program that ships, run in this process: the parts in dist/bundle with their stand-ins for modules, started as
// src/executable/launcher.ts starts them. `scripts/build` makes them.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Script } from 'node:vm';
import { codeIn } from '../../src/executable/cache-asset.ts';
import { startProgram } from '../../src/executable/parts.ts';

const BUNDLE = join(import.meta.dirname, '..', '..', 'dist', 'bundle');
const requireBuiltIn = createRequire(import.meta.url);

function readPart(name: string) {
  return {
    source: readFileSync(join(BUNDLE, `${name}.cjs`), 'latin1'),
    cachedData: codeIn(readFileSync(join(BUNDLE, `${name}.cache`))),
  };
}

/**
 * A function that runs `banctl LINE` and returns its exit code. Each run starts anew, as a process of its own does; one
 * must end before the next begins.
 *
 * @param modules what the program gets in place of Node's modules, by name without `node:`
 */
export function shippedProgram(
  modules: Readonly<Record<string, unknown>>,
): (line: readonly string[]) => Promise<number> {
  const scripts = new Map<string, Script>();
  const require = (name: string) => modules[name.replace(/^node:/, '')] ?? requireBuiltIn(name);
  return (line) =>
    new Promise((resolve) => {
      process.argv = [process.execPath, process.execPath, ...line];
      // The program ends its process, always as a quick call does, but this one has more to do.
      process.exit = resolve as unknown as typeof process.exit;
      process.uptime = () => 0;
      startProgram(readPart, require, scripts);
    });
}
