// A process that bans one address as banctl does, and stops or kills itself right before one of its file system calls:
// interrupted.ts BANLIST ADDRESS SIGNAL CALL
// Tells how many calls it has made in the list's directory.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname } from 'node:path';

const [banlist = '', address = '', signal = '', call = ''] = process.argv.slice(2);
const directory = dirname(banlist);
let calls = Number.NaN;

function interrupt(): void {
  process.kill(process.pid, signal);
  // Another thread may take the signal: until it has, this one may not go on.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
}

const functions = fs as unknown as Record<string, unknown>;
for (const [name, original] of Object.entries(functions)) {
  if (!/^[a-z]+Sync$/.test(name) || typeof original !== 'function') continue;
  functions[name] = (...args: unknown[]) => {
    const [subject] = args;
    if (typeof subject === 'number' || String(subject).startsWith(directory)) {
      calls += 1;
      if (calls === Number(call)) interrupt();
    }
    return original(...args);
  };
}
syncBuiltinESMExports();

const { ban } = await import('./call.ts');
calls = 0;
await ban(banlist, address);
process.stdout.write(String(calls));
