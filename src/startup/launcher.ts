// What Node runs first in the executable. Node's own code cache holds no function that was not called when it was made,
// and compiling them takes a fifth of a ban's time. So the program is an asset, with a cache made after it has run (see
// scripts/code-cache.ts).
import { getRawAsset } from 'node:sea';
import { Script } from 'node:vm';

// The bundle is ASCII; it is not copied.
const source = Buffer.from(getRawAsset('banctl.cjs') as ArrayBuffer).toString('latin1');
const cachedData = Buffer.from(getRawAsset('code-cache') as ArrayBuffer);
new Script(source, { filename: 'banctl.cjs', cachedData }).runInThisContext()(require);
