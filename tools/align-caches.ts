// Moves V8's compiled code in an executable to where V8 need not copy it: align-caches.ts EXECUTABLE
//
// The kernel maps the file by whole pages, so a place in the file is aligned as in memory.
import { closeSync, openSync, writeSync } from 'node:fs';
import { ALIGNMENT, assetOf, codeIn } from '../src/executable/cache-asset.ts';
import { assetsOf } from './executable-parts.ts';

const [executable = ''] = process.argv.slice(2);
const descriptor = openSync(executable, 'r+');
for (const { name, content } of assetsOf(executable)) {
  if (!name.endsWith('.cache')) continue;
  const start = (ALIGNMENT - (content.byteOffset % ALIGNMENT)) % ALIGNMENT;
  writeSync(descriptor, assetOf(codeIn(content), start), 0, content.length, content.byteOffset);
}
closeSync(descriptor);
