// The log of writes out of which the machine's tests cut: what was flushed stays, of the rest any part does.
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LoggedDisk, Replay } from '../../tools/machine/write-log.ts';

const directory = mkdtempSync(join(tmpdir(), 'banctl-write-log-'));
after(() => rmSync(directory, { recursive: true }));

const FLUSH = 1n;
const FUA = 2n;

function entry(sector: number, text: string, flags = 0n): Buffer {
  const head = Buffer.alloc(512);
  head.writeBigUInt64LE(BigInt(sector), 0);
  head.writeBigUInt64LE(text === '' ? 0n : 1n, 8);
  head.writeBigUInt64LE(flags, 16);
  return text === '' ? head : Buffer.concat([head, Buffer.alloc(512, text)]);
}

test('a cut keeps what was flushed and what was forced, and a part of the rest', () => {
  const disk = new LoggedDisk(directory, 'one', 4 * 512);
  const head = Buffer.alloc(512);
  head.writeBigUInt64LE(0x6a736677736872n, 0);
  writeFileSync(disk.log, head);
  const writes = [entry(0, 'a'), entry(0, '', FLUSH), entry(1, 'b'), entry(2, 'c', FUA), entry(3, 'd')];
  for (const write of writes) appendFileSync(disk.log, write);
  appendFileSync(disk.log, entry(3, 'e').subarray(0, 700));
  assert.equal(disk.entries().length, writes.length, 'the last one is not complete');

  const replay = new Replay(disk, join(directory, 'base'));
  const target = join(directory, 'target');
  writeFileSync(target, '');
  const after = (index: number, random: number) => {
    replay.cut(index, target, () => random);
    const text = readFileSync(target, 'latin1');
    return [0, 1, 2, 3]
      .map((sector) => text[sector * 512])
      .join('')
      .replaceAll('\0', '-');
  };
  assert.equal(after(1, 0), 'a---', 'written, not flushed, and kept');
  assert.equal(after(1, 1), '----', 'the same, lost');
  assert.equal(after(5, 1), 'a-c-');
  assert.equal(after(5, 0), 'abcd');
  assert.deepEqual(replay.from(replay.placeOf(3)), [3, 4]);
  replay.close();
});
