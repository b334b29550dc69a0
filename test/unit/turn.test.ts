// A resident's changes of one list that follow at once: they share its lock, and the last one writes the state.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, type TestContext, test } from 'node:test';
import { lookAtState } from '../../src/reload/state.ts';
import { parseState, statePath, writeState } from '../../src/reload/state-file.ts';
import { Kept } from '../../src/store/kept.ts';
import { changeBanlist } from '../../src/store/list.ts';
import { changeBans } from '../../src/store/store.ts';
import type { ChangeOptions } from '../../src/store/types.ts';
import { acquireLock } from '../../src/system/lock.ts';
import { isHeld } from '../../src/system/lock-directory.ts';
import { processId } from '../../src/system/process.ts';
import { statFile } from '../../src/system/read.ts';
import { addition, withoutReload } from '../lab/call.ts';

const ADDRESSES = ['203.0.113.1', '203.0.113.2', '203.0.113.3'];
/** Takes the lock of a living process, which counts as stopped. */
const TAKEOVER = { timeout: 5, stale: 0.05 };

/** So that no turn counts as long, however slow the disk is. */
function stopClock(t: TestContext): void {
  t.mock.method(performance, 'now', () => 1000);
}

describe('a turn at the list', () => {
  let dir: string;
  let banlist: string;
  let kept: Kept;
  let options: ChangeOptions;
  const ban = (address: string, more: Partial<ChangeOptions> = {}) =>
    changeBanlist({ ...options, ...more }, () => [addition(address, 'web')]);
  const list = () => readFileSync(banlist, 'utf8');
  const writtenState = () => statFile(statePath(banlist))?.version;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-turn-'));
    banlist = join(dir, 'banlist.conf');
    kept = new Kept();
    options = { ...withoutReload(banlist), kept, endTurns: () => kept.endTurns() };
    // Names the Apache, which is written at once.
    await ban('203.0.113.9');
    kept.endTurns();
  });
  afterEach(async () => {
    await kept.close(false);
    rmSync(dir, { recursive: true });
  });

  test('keeps the lock from one change to the next, each of which is in the list when it returns', async (t) => {
    stopClock(t);
    for (const address of ADDRESSES) {
      await ban(address);
      assert.ok(list().includes(`Require not ip ${address}\n`));
      assert.ok(isHeld(banlist));
    }
    kept.endTurns();
    assert.ok(!isHeld(banlist));
  });

  test('ends by itself, with the state of its last change written', async (t) => {
    stopClock(t);
    const before = writtenState();
    for (const address of ADDRESSES) await ban(address);
    assert.equal(writtenState(), before);
    while (isHeld(banlist)) await new Promise((resolve) => setTimeout(resolve, 1));
    const state = parseState(banlist);
    assert.equal(state.list, statFile(banlist)?.version);
    assert.deepEqual(state, lookAtState(banlist));
  });

  test('counts each content of the list, though it writes the last one only', async () => {
    const { mark, digest } = parseState(banlist);
    for (const address of ADDRESSES) await ban(address);
    kept.endTurns();
    const after = parseState(banlist);
    assert.equal(after.mark.count, mark.count + ADDRESSES.length);
    assert.notEqual(after.digest, digest);
  });

  test('writes at once what another process waits for', async (t) => {
    stopClock(t);
    let deferred = 0;
    const reloading = { reloads: true, reloadInterval: 60, onDeferred: () => (deferred += 1) };
    assert.equal((await ban('203.0.113.1', { ...reloading, isUrgent: true })).plan, 'reload');
    assert.equal(parseState(banlist).list, statFile(banlist)?.version);
    kept.endTurns();
    const text = readFileSync(statePath(banlist), 'utf8');
    assert.match(text, /"lastTry":null/);
    writeFileSync(statePath(banlist), text.replace('"lastTry":null', `"lastTry":${Date.now()}`));
    await ban('203.0.113.2', reloading);
    assert.equal(deferred, 1);
    assert.equal(parseState(banlist).waiter, processId());
    assert.equal(parseState(banlist).interval, 60);
    const before = writtenState();
    await ban('203.0.113.3', reloading);
    assert.equal(writtenState(), before);
  });

  test('of a stopped resident is taken over: its state is lost, and its next change made after the other process', async () => {
    await ban('203.0.113.1');
    const before = writtenState();
    const other = acquireLock(banlist, TAKEOVER);
    const pending = ban('203.0.113.2');
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(writtenState(), before);
    assert.ok(!list().includes('203.0.113.2'));
    other.release();
    await pending;
    for (const address of ['203.0.113.1', '203.0.113.2']) assert.ok(list().includes(address));
    kept.endTurns();
    assert.equal(parseState(banlist).list, statFile(banlist)?.version);
  });

  test('begins with what another process has written during a wait for the lock', async (t) => {
    const waits = [0, 0.12];
    t.mock.method(Math, 'random', () => waits.shift() ?? 0.5);
    const first = acquireLock(banlist, { timeout: 5 });
    const changes = ['203.0.113.1', '203.0.113.2'].map((address) => ban(address));
    await new Promise(setImmediate);
    first.release();
    await changes[0];
    // The resident is stopped here.
    const other = acquireLock(banlist, TAKEOVER);
    writeState(banlist, { ...lookAtState(banlist), interval: 7 }, other);
    other.release();
    await changes[1];
    kept.endTurns();
    assert.equal(parseState(banlist).interval, 7);
    assert.equal(parseState(banlist).list, statFile(banlist)?.version);
  });

  test('ends before the resident changes another list, or the directory', async (t) => {
    stopClock(t);
    await ban('203.0.113.1');
    await changeBanlist({ ...options, banlist: join(dir, 'other.conf') }, () => []);
    assert.ok(!isHeld(banlist));
    const both = { ...options, bandir: join(dir, 'bans') };
    await changeBans(both, [addition('198.51.100.0/24', 'web')]);
    assert.ok(isHeld(banlist));
    let wasHeld = true;
    await changeBans(both, () => {
      wasHeld = isHeld(banlist);
      return [addition('203.0.113.2', 'web')];
    });
    assert.ok(!wasHeld);
  });

  test('writes no state for a change that changes nothing', async () => {
    kept.endTurns();
    const before = writtenState();
    for (let times = 0; times < 3; times += 1) {
      await ban('203.0.113.9');
      kept.endTurns();
    }
    assert.equal(writtenState(), before);
  });

  test('leaves nothing when the resident ends, and the state says what the list is', async () => {
    await ban('203.0.113.1');
    await kept.close(false);
    assert.deepEqual(readdirSync(dir).sort(), ['banlist.conf', 'banlist.conf.state']);
    assert.ok(!existsSync(`${banlist}.lock`));
    assert.equal(parseState(banlist).list, statFile(banlist)?.version);
  });
});
