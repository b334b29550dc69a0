// What Node runs first in the executable. Node's own code cache contains only functions that had been called when it was
// made, and compiling the others takes a fifth of a ban's time. So the program is an asset with a cache of its own, made
// after the program has run (see tools/code-cache.ts).
import { getRawAsset } from 'node:sea';
import { startProgram } from './parts.ts';

const asset = (name: string) => Buffer.from(getRawAsset(name) as ArrayBuffer);
startProgram(
  // ASCII; it is not copied.
  (name) => ({ source: asset(`${name}.cjs`).toString('latin1'), cachedData: asset(`${name}.cache`) }),
  require,
);
