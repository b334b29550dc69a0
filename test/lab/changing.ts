// A process that bans and releases addresses in the ban directory, one after the other, as one holder:
// changing.ts BANDIR HOLDER ROUNDS ADDRESS..
// It tells each change that is done as +ADDRESS or -ADDRESS, and ends with all of them banned. A change of its own that
// it does not find again makes it fail.

import { writeSync } from 'node:fs';
import { changeBanFile, readBanFile } from '../../src/store/directory.ts';
import { addition, release } from './call.ts';

const [bandir = '', holder = '', rounds = '', ...addresses] = process.argv.slice(2);
const options = { lockTimeout: 60, dryRun: false, durable: false };

function change(address: string, isBan: boolean): void {
  const asked = isBan ? addition(address, holder) : release(address, holder);
  changeBanFile(bandir, address, [asked], Math.floor(Date.now() / 1000), options);
  const text = readBanFile(bandir, address).text.toString();
  if (text.includes(` ${holder} ${address} since `) !== isBan)
    throw new Error(`${isBan ? 'ban' : 'release'} of ${address} by ${holder} is lost: ${text}`);
  writeSync(1, `${isBan ? '+' : '-'}${address}\n`);
}

for (let round = 0; round < Number(rounds); round += 1) {
  for (const address of addresses) {
    change(address, true);
    change(address, false);
  }
}
for (const address of addresses) change(address, true);
