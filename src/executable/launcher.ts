// The first code that Node runs in the executable. Node's own code cache contains only functions that had been called when it
// was made, and compiling the others takes a fifth of a ban's time. So the program is an asset with its own cache, made
// after the program has run (see tools/code-cache.ts).
import { getRawAsset } from 'node:sea';
import { codeIn } from './cache-asset.ts';
import { startProgram } from './parts.ts';

const asset = (name: string) => Buffer.from(getRawAsset(name) as ArrayBuffer);
startProgram(
  // The text is ASCII, and latin1 needs no decoding.
  (name) => ({ source: asset(`${name}.cjs`).toString('latin1'), cachedData: codeIn(asset(`${name}.cache`)) }),
  require,
);
