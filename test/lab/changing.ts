// A process that bans and releases addresses in the ban directory, one after the other, as one holder:
// changing.ts BANDIR HOLDER ROUNDS ADDRESS..
// It runs the program of the executable (shipped.ts), tells each change that is done as +ADDRESS or -ADDRESS, and ends
// with all of them banned. A change of its own that it does not find again makes it fail.

import { readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../../src/system/errors.ts';
import { watchedFileSystem } from './file-calls.ts';
import { shippedProgram } from './shipped.ts';

const [bandir = '', holder = '', rounds = '', ...addresses] = process.argv.slice(2);

const silent = watchedFileSystem((name, args, call) =>
  name === 'writeSync' && args[0] === 1 ? (args[1] as Buffer).length : call(),
);
const run = shippedProgram({ fs: silent });

/** The last other holder can remove the file at any moment. */
function textOf(address: string): string {
  try {
    return readFileSync(join(bandir, address), 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return '';
  }
}

async function change(address: string, isBan: boolean): Promise<void> {
  const places = [`--banlist=${join(bandir, '..', 'banlist.conf')}`, `--bandir=${bandir}`, '--no-reload'];
  const exitCode = await run([isBan ? 'ban' : 'unban', address, `--jail=${holder}`, ...places]);
  const text = textOf(address);
  if (exitCode !== 0 || text.includes(` ${holder} ${address} since `) !== isBan)
    throw new Error(`${isBan ? 'ban' : 'release'} of ${address} by ${holder} is lost: ${exitCode}, ${text}`);
  writeSync(1, `${isBan ? '+' : '-'}${address}\n`);
}

for (let round = 0; round < Number(rounds); round += 1) {
  for (const address of addresses) {
    await change(address, true);
    await change(address, false);
  }
}
for (const address of addresses) await change(address, true);
