// What Node runs first in the executable. Node's own code cache holds no function that was not called when it was made,
// and compiling them takes a fifth of a ban's time. So the program is an asset, with a cache made after it has run (see
// tools/code-cache.ts).
import { getRawAsset } from 'node:sea';
import { startProgram } from './parts.ts';

const asset = (name: string) => Buffer.from(getRawAsset(name) as ArrayBuffer);
startProgram(
  // ASCII; it is not copied.
  (name) => ({ source: asset(`${name}.cjs`).toString('latin1'), cachedData: asset(`${name}.cache`) }),
  require,
);
