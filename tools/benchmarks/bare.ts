// The least work of Node for a ban that is not lost: takes a lock, writes a new list, syncs it, and replaces the old one.
// bare LIST ADDRESS
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  writeSync,
} from 'node:fs';

const [list = '', address = ''] = process.argv.slice(2);
mkdirSync(`${list}.lock`);
const text = readFileSync(list);
const temporary = openSync(`${list}.new`, 'w', 0o644);
writeSync(temporary, text);
writeSync(temporary, `Require not ip ${address}\n`);
fsyncSync(temporary);
closeSync(temporary);
renameSync(`${list}.new`, list);
rmdirSync(`${list}.lock`);
