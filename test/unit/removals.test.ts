// A temporary directory that one call shares among the files that it removes.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type Lock, LockLost, withLock } from '../../src/system/lock.ts';
import { statFile } from '../../src/system/read.ts';
import { discard } from '../../src/system/takeover.ts';
import { endRemovals, removalsIn, removeFile } from '../../src/system/write.ts';
import { change, release } from '../lab/call.ts';

const MANY = 40;
const HELD: Lock = { registerTemporary() {}, release() {} };

describe('a directory for many removals', () => {
  let dir: string;
  const file = (name: string) => join(dir, name);
  const seenOf = (name: string) => ({ version: statFile(file(name))?.version });

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-removals-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  test('leaves nothing when all files are removed', async () => {
    const addresses = Array.from({ length: MANY }, (_, n) => `198.18.0.${n}`);
    for (const address of addresses) writeFileSync(file(address), '');
    await change(
      join(tmpdir(), 'no-list'),
      addresses.map((address) => release(address)),
      dir,
    );
    assert.deepEqual(readdirSync(dir), []);
  });

  test('that a takeover removed keeps the file, and is made again for the next attempt', () => {
    const removals = removalsIn(dir);
    writeFileSync(file('first'), '');
    writeFileSync(file('second'), 'new');
    removeFile(file('first'), { lock: HELD, seen: seenOf('first'), durable: false, removals });
    const overtaken: Lock = { ...HELD, registerTemporary: discard };
    const lose = () => removeFile(file('second'), { lock: overtaken, seen: seenOf('second'), removals });
    assert.throws(lose, LockLost);
    assert.equal(readFileSync(file('second'), 'utf8'), 'new');
    removeFile(file('second'), { lock: HELD, seen: seenOf('second'), durable: false, removals });
    endRemovals(removals);
    assert.deepEqual(readdirSync(dir), []);
  });

  test('goes with the lock of a killed call, and no other directory does', () => {
    for (const [name, stays] of [
      ['old.banctl-5', false],
      ['precious', true],
    ] as const) {
      mkdirSync(file(name));
      writeFileSync(join(file(name), 'removed'), '');
      mkdirSync(file('address.lock'));
      writeFileSync(join(file('address.lock'), `999999999-1.1@${name}`), '');
      withLock(file('address'), { timeout: 5 }, () => {});
      assert.equal(existsSync(file(name)), stays);
      assert.equal(existsSync(file('address.lock')), false);
    }
  });
});
