// The deferred reloads of a resident: one for all changes within the interval, and none is forgotten.
import assert from 'node:assert/strict';
import fs, { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Queue } from '../../src/serve/queue.ts';
import { Reloads } from '../../src/serve/reloads.ts';
import { Kept } from '../../src/store/kept.ts';
import { addition, withoutReload } from '../lab/call.ts';
import { until } from '../lab/wait.ts';

/** Twice as long as a waiting process looks for a state that nobody writes. */
const BURST_MS = 3000;
const STANDARD_ERROR = 2;

describe('the deferred reload of a resident', () => {
  let dir: string;
  let kept: Kept;
  let reloads: Reloads;
  let ban: (address: string) => Promise<unknown>;
  const reloadsSoFar = () => readFileSync(join(dir, 'reloads'), 'utf8').length;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-deferred-'));
    const reloadCommand = join(dir, 'reload');
    writeFileSync(reloadCommand, `#!/bin/sh\nprintf . >>${dir}/reloads\n`, { mode: 0o755 });
    const options = { ...withoutReload(join(dir, 'list')), reloads: true, reloadInterval: 60, reloadCommand };
    kept = new Kept();
    reloads = new Reloads(kept);
    const queue = new Queue(reloads);
    ban = (address) =>
      queue.change({
        options,
        changes: [addition(address, 'web')],
        needs: undefined,
        skipped: [],
        onDone: () => {},
      });
    // The first reloads at once.
    await ban('198.51.100.1');
    await reloads.finish();
    assert.equal(reloadsSoFar(), 1);
  });
  afterEach(async () => {
    await kept.close(false);
    rmSync(dir, { recursive: true });
  });

  test('does not come before its time in a burst of changes, in which the state is behind nearly always', async () => {
    const until = performance.now() + BURST_MS;
    for (let count = 0; performance.now() < until; count += 1) {
      await ban(`203.0.${count >> 8}.${count & 255}`);
      await new Promise(setImmediate);
    }
    assert.equal(reloadsSoFar(), 1);
    await reloads.finish();
    assert.equal(reloadsSoFar(), 2);
  });

  test('is waited for again with the next change after the wait has failed', async (t) => {
    const inItsPlace = join(dir, 'list.waiter.lock');
    const { writeSync } = fs;
    let said = '';
    const writes = t.mock.method(fs, 'writeSync', (to: number, bytes: Buffer, ...where: number[]) => {
      if (to !== STANDARD_ERROR) return writeSync(to, bytes, ...where);
      said += bytes;
      return bytes.length;
    });
    syncBuiltinESMExports();
    mkdirSync(join(inItsPlace, 'foreign'), { recursive: true });
    await ban('198.51.100.2');
    await until('a complaint', () => said !== '');
    writes.mock.restore();
    syncBuiltinESMExports();
    assert.match(said, /^banctl: cannot lock \S+\.waiter\.lock: /);
    rmdirSync(join(inItsPlace, 'foreign'));
    rmdirSync(inItsPlace);
    await ban('198.51.100.3');
    await reloads.finish();
    assert.equal(reloadsSoFar(), 2);
  });
});
