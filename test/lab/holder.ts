// A process that takes the lock of a file, reports it, and follows orders: holder.ts FILE [MILLISECONDS]
// MILLISECONDS is how long it takes from making the lock's directory to anything else.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const [file = '', slowness = '0'] = process.argv.slice(2);
const make = fs.mkdirSync;
fs.mkdirSync = ((...args: Parameters<typeof make>) => {
  const made = make(...args);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(slowness));
  return made;
}) as typeof make;
syncBuiltinESMExports();

const { acquireLock } = await import('../../src/system/lock.ts');
const { LockLost } = await import('../../src/system/held-lock.ts');
const { replaceFile } = await import('../../src/system/write.ts');
const lock = acquireLock(file, { timeout: 20 });
const told = {
  write() {
    try {
      replaceFile(file, [Buffer.from('written by the holder\n')], { lock });
      return 'written';
    } catch (error) {
      if (error instanceof LockLost) return 'lost';
      throw error;
    }
  },
  release() {
    lock.release();
    return 'released';
  },
};
process.on('message', (order: keyof typeof told) => process.send?.(told[order]()));
process.send?.('held');
