import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { acquireLock } from '../../src/system/lock.ts';
import { addition, ban } from '../lab/call.ts';
import { forEachCall, interruptible } from '../lab/interruptible.ts';
import type { Order } from '../lab/order.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const TEXT = '# by hand\nRequire not ip 192.0.2.1\n';

function temporaryDirectory() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-faults-'));
  const banlist = join(directory, 'banlist.conf');
  return {
    directory,
    banlist,
    files: () => readdirSync(directory).sort(),
    banned: () =>
      [...readFileSync(banlist, 'utf8').matchAll(/^Require not ip (.*)\n/gm)].map(([, address]) => address),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

suite('a process that ends or stops in the middle', () => {
  const banOfA = (directory: string): Order => ({ directory, changes: [addition(A, 'web')] });

  /** How many file system calls a ban makes. */
  async function countCalls(): Promise<number> {
    using temporary = temporaryDirectory();
    writeFileSync(temporary.banlist, TEXT);
    using process = await interruptible();
    const calls = await process.count(banOfA(temporary.directory));
    assert.ok(calls > 20, String(calls));
    return calls;
  }

  test('killed at any file system call: the old list or the new one, and nothing stays behind', async () => {
    const calls = await countCalls();
    await forEachCall(calls, async (call) => {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, TEXT);
      using process = await interruptible();
      await process.killed({ ...banOfA(temporary.directory), before: [call] });
      const after = temporary.banned();
      assert.ok(after.join() === '192.0.2.1' || after.join() === `192.0.2.1,${A}`, `call ${call}: ${after}`);
      await ban(temporary.banlist, B);
      assert.deepEqual(temporary.banned(), [...after, B], `call ${call}`);
      assert.deepEqual(temporary.files(), ['banlist.conf', 'banlist.conf.state'], `call ${call}`);
    });
  });

  test('stopped at any file system call and replaced: it goes on without undoing what others did', async () => {
    using process = await interruptible();
    const calls = await countCalls();
    for (let call = 1; call <= calls; call += 1) {
      using temporary = temporaryDirectory();
      writeFileSync(temporary.banlist, TEXT);
      assert.equal(await process.stopped({ ...banOfA(temporary.directory), before: [call] }), undefined);
      acquireLock(temporary.banlist, { timeout: 10, stale: 0.05 }).release();
      await ban(temporary.banlist, B);
      assert.notEqual(await process.goesOn(), undefined, `call ${call}`);
      assert.deepEqual(temporary.banned().sort(), ['192.0.2.1', A, B], `call ${call}`);
      assert.deepEqual(temporary.files(), ['banlist.conf', 'banlist.conf.state'], `call ${call}`);
    }
  });
});
