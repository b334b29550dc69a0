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
import { type Lock, LockLost } from '../../src/system/held-lock.ts';
import { withLock } from '../../src/system/lock.ts';
import { statFile } from '../../src/system/read.ts';
import { Removals, removeFile } from '../../src/system/remove.ts';
import { discard } from '../../src/system/takeover.ts';
import { change, release } from '../lab/call.ts';

const MANY = 40;
const HELD: Lock = { registerTemporary() {}, release() {} };

describe('a directory for many removals', () => {
  let dir: string;
  const file = (name: string) => join(dir, name);
  const seenOf = (name: string) => ({ version: statFile(file(name))?.version });

  /** The lock is taken over before the file is moved. */
  function assertLost(name: string, removals: Removals): void {
    const lock: Lock = { ...HELD, registerTemporary: discard };
    assert.throws(() => removeFile(file(name), { lock, seen: seenOf(name), removals }), LockLost);
  }

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
    const removals = Removals.from(dir);
    writeFileSync(file('first'), '');
    writeFileSync(file('second'), 'new');
    removeFile(file('first'), { lock: HELD, seen: seenOf('first'), durable: false, removals });
    assertLost('second', removals);
    assert.equal(readFileSync(file('second'), 'utf8'), 'new');
    removeFile(file('second'), { lock: HELD, seen: seenOf('second'), durable: false, removals });
    removals.end();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('keeps the files that are deleted later, a thousand in each', () => {
    const later: string[] = [];
    const removals = Removals.from(dir, (directory) => later.push(directory));
    const names = Array.from({ length: 1001 }, (_, n) => `${n}`);
    for (const name of names) writeFileSync(file(name), '');
    for (const name of names)
      removeFile(file(name), { lock: HELD, seen: seenOf(name), durable: false, removals });
    removals.end();
    assert.deepEqual(
      later.map((directory) => readdirSync(directory).length),
      [1000, 1],
    );
    assert.deepEqual(
      readdirSync(dir)
        .map((name) => file(name))
        .sort(),
      later.toSorted(),
    );
    for (const directory of later) discard(directory);
    assert.deepEqual(readdirSync(dir), []);
  });

  test('that a takeover set aside is made again, and its file stays', () => {
    const later: string[] = [];
    const removals = Removals.from(dir, (directory) => later.push(directory));
    writeFileSync(file('first'), '');
    writeFileSync(file('second'), 'new');
    removeFile(file('first'), { lock: HELD, seen: seenOf('first'), durable: false, removals });
    assertLost('second', removals);
    assert.deepEqual(readdirSync(dir), ['second']);
    removeFile(file('second'), { lock: HELD, seen: seenOf('second'), durable: false, removals });
    removals.end();
    assert.equal(later.length, 2);
    assert.deepEqual(
      readdirSync(dir).map((name) => file(name)),
      later.slice(1),
    );
  });

  test('that a takeover set aside takes no more files, even with a foreign one in it', () => {
    const removals = Removals.from(dir, () => {});
    for (const name of ['first', 'second']) writeFileSync(file(name), '');
    removeFile(file('first'), { lock: HELD, seen: seenOf('first'), durable: false, removals });
    const [directory = ''] = readdirSync(dir).filter((name) => name.startsWith('old.'));
    writeFileSync(join(file(directory), '.nfs0001'), '');
    assertLost('second', removals);
    assert.ok(existsSync(file('second')));
    const [aside = ''] = readdirSync(dir).filter((name) => name.startsWith('old.'));
    assert.deepEqual(readdirSync(file(aside)), ['.nfs0001']);
  });

  test('goes with the lock of a killed call, and no other directory does', () => {
    for (const [name, stays] of [
      ['old.banctl-5', false],
      ['precious', true],
    ] as const) {
      mkdirSync(file(name));
      for (const removed of ['removed', '1', '2']) writeFileSync(join(file(name), removed), '');
      mkdirSync(file('address.lock'));
      writeFileSync(join(file('address.lock'), `999999999-1.1@${name}`), '');
      withLock(file('address'), { timeout: 5 }, () => {});
      assert.equal(existsSync(file(name)), stays);
      assert.equal(existsSync(file('address.lock')), false);
    }
  });
});
