// A lock that moves from file to file instead of being made anew for each.
import assert from 'node:assert/strict';
import fs, {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { leftovers } from '../../src/audit/files.ts';
import type { Lock } from '../../src/system/held-lock.ts';
import { acquireLock, MovingLock, withLock, withLockAwaited } from '../../src/system/lock.ts';
import { isHeld, isTemporaryOf, lockPath, temporaryOf } from '../../src/system/lock-directory.ts';
import { discard, removeRestingLocks } from '../../src/system/takeover.ts';

const FREE = { timeout: 1 };
/** Takes the lock of a living process, which counts as stopped. */
const TAKEOVER = { timeout: 5, stale: 0.05 };

describe('a moving lock', () => {
  let dir: string;
  let moving: MovingLock;
  const file = (name: string) => join(dir, name);
  const lock = (name: string) => withLock(file(name), { ...FREE, moving }, () => readdirSync(dir));

  /** Another call takes over the lock of `a` when the next rename is about to happen, or has happened: a function for its lock. */
  function takenOver(when: 'before' | 'after'): () => Lock | undefined {
    const { renameSync } = fs;
    let other: Lock | undefined;
    fs.renameSync = (from, to) => {
      fs.renameSync = renameSync;
      syncBuiltinESMExports();
      if (when === 'after') renameSync(from, to);
      other = acquireLock(file('a'), TAKEOVER);
      if (when === 'before') renameSync(from, to);
    };
    syncBuiltinESMExports();
    return () => other;
  }

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-moving-'));
    moving = new MovingLock();
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  test('is the lock of one file at a time, and is gone when it is released', () => {
    for (const name of ['a', 'b', 'a', 'a', 'c']) assert.deepEqual(lock(name), [`${name}.lock`]);
    assert.throws(() => acquireLock(file('c'), { timeout: 0 }), /is locked by another banctl/);
    moving.release();
    assert.deepEqual(readdirSync(dir), []);
    acquireLock(file('c'), FREE).release();
  });

  test('takes its temporary file along', () => {
    withLock(file('a'), { ...FREE, moving }, (held) => held.registerTemporary(file('old.banctl-1')));
    lock('b');
    assert.match(readdirSync(lockPath(file('b'))).join(), /^\d+-\d+\.\d+@old\.banctl-1$/);
    moving.release();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('waits for a file that another call has locked, and keeps no other locked meanwhile', async () => {
    const other = acquireLock(file('b'), FREE);
    lock('a');
    const pending = withLockAwaited(file('b'), { timeout: 20, moving }, () => readdirSync(dir));
    acquireLock(file('a'), FREE).release();
    other.release();
    assert.deepEqual(await pending, ['b.lock']);
    moving.release();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('that was taken over leaves the other holder its lock', (t) => {
    lock('a');
    const other = acquireLock(file('a'), TAKEOVER);
    const renames = t.mock.method(fs, 'renameSync');
    syncBuiltinESMExports();
    lock('b');
    assert.equal(renames.mock.callCount(), 0);
    renames.mock.restore();
    syncBuiltinESMExports();
    assert.ok(isHeld(file('a')) && isHeld(file('b')));
    other.registerTemporary(file('.a.banctl-1'));
    other.release();
    moving.release();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('gives a lock back that another call has taken over in the middle of a move', () => {
    lock('a');
    const other = takenOver('before');
    lock('b');
    assert.ok(isHeld(file('a')) && isHeld(file('b')));
    other()?.registerTemporary(file('.a.banctl-1'));
    other()?.release();
    moving.release();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('replaces an empty directory, and removes the entry that its maker puts there', () => {
    lock('a');
    mkdirSync(lockPath(file('b')));
    assert.deepEqual(lock('b'), ['b.lock']);
    writeFileSync(join(lockPath(file('b')), '999999999-1.1'), '');
    assert.deepEqual(lock('c'), ['c.lock']);
    moving.release();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('is released by work that fails', () => {
    lock('a');
    const fail = () => {
      throw new Error('failed');
    };
    assert.throws(() => withLock(file('b'), { ...FREE, moving }, fail), /failed/);
    assert.equal(existsSync(lockPath(file('b'))), false);
  });

  describe('of one file', () => {
    beforeEach(() => {
      moving = new MovingLock(temporaryOf(file('a')));
    });

    test('is free for others between two changes, and the same in each', () => {
      const entry = () =>
        withLock(file('a'), { ...FREE, moving }, () => readdirSync(lockPath(file('a'))).join());
      const first = entry();
      acquireLock(file('a'), FREE).release();
      assert.equal(entry(), first);
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });

    test('waits for another holder, and is made anew', async () => {
      lock('a');
      const other = acquireLock(file('a'), FREE);
      const pending = withLockAwaited(file('a'), { timeout: 20, moving }, () => readdirSync(dir));
      other.release();
      assert.deepEqual(await pending, ['a.lock']);
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });

    test('lets a call that has begun to take the lock go first', async () => {
      lock('a');
      mkdirSync(lockPath(file('a')));
      const { ino } = statSync(lockPath(file('a')));
      const pending = withLockAwaited(file('a'), { timeout: 20, moving }, () => {});
      assert.equal(statSync(lockPath(file('a'))).ino, ino);
      rmdirSync(lockPath(file('a')));
      await pending;
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });

    test('leaves a call the lock that it has taken over in the middle of the way back', () => {
      lock('a');
      const other = takenOver('after');
      const takes = () => withLock(file('a'), { timeout: 0, moving }, () => {});
      assert.throws(takes, /is locked by another banctl/);
      assert.ok(isHeld(file('a')));
      other()?.registerTemporary(file('.a.banctl-1'));
      other()?.release();
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });

    test('that moves on with the entry of a call is not taken for that of the call', () => {
      const { readdirSync: list } = fs;
      fs.readdirSync = ((path: string) => {
        fs.readdirSync = list;
        syncBuiltinESMExports();
        fs.renameSync(path, file('elsewhere'));
        mkdirSync(path);
        return [];
      }) as typeof fs.readdirSync;
      syncBuiltinESMExports();
      const held = acquireLock(file('a'), { timeout: 5 });
      assert.equal(list(lockPath(file('a'))).length, 1);
      held.release();
    });

    test('is no leftover while its process runs', () => {
      lock('a');
      const [resting = ''] = readdirSync(dir);
      const entries = readdirSync(file(resting));
      const age = () => utimesSync(file(resting), 1, 1);
      age();
      assert.deepEqual(leftovers(file('a')), []);
      for (const entry of entries)
        renameSync(join(file(resting), entry), join(file(resting), '999999999-1.1'));
      age();
      assert.deepEqual(leftovers(file('a')), [file(resting)]);
      removeRestingLocks(file('a'));
      assert.deepEqual(readdirSync(dir), []);
    });

    test('that an audit took for a leftover is made anew', () => {
      lock('a');
      const [resting = ''] = readdirSync(dir);
      assert.ok(isTemporaryOf('a', resting));
      discard(file(resting));
      assert.deepEqual(readdirSync(dir), []);
      assert.deepEqual(lock('a'), ['a.lock']);
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });

    test('gives a lock back that another call has taken over when it was about to rest', () => {
      const other = withLock(file('a'), { ...FREE, moving }, () => takenOver('before'));
      assert.ok(isHeld(file('a')));
      other()?.registerTemporary(file('.a.banctl-1'));
      other()?.release();
      lock('a');
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });

    test('of two changes that wait at once leaves nothing', async () => {
      const other = acquireLock(file('a'), FREE);
      const wait = () => withLockAwaited(file('a'), { timeout: 20, moving }, () => {});
      const pending = [wait(), wait()];
      other.release();
      await Promise.all(pending);
      moving.release();
      assert.deepEqual(readdirSync(dir), []);
    });
  });
});
