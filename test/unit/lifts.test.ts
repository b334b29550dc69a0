// What a repair learns of bans that are lifted while it waits.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import type { Change } from '../../src/bans/change.ts';
import { Lifts } from '../../src/store/lifts.ts';
import { changeBans, type StoreOptions } from '../../src/store/store.ts';
import { processId } from '../../src/system/process.ts';
import { withoutReload } from '../lab/call.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
/** No process has this number. */
const GONE = '4194305-1';

const add = (address: string, more: { holder?: string; id?: string; target?: string } = {}): Change => ({
  verb: 'add',
  target: more.target ?? address,
  hold: {
    holder: more.holder ?? 'web',
    address,
    id: more.id,
    since: 1_767_225_600,
    duration: null,
    reason: null,
  },
});
const release = (address: string, more: { holder?: string | null; id?: string | null } = {}): Change => ({
  verb: 'release',
  address,
  holder: more.holder === undefined ? 'web' : more.holder,
  id: more.id,
});

suite('a repair', () => {
  let directory: string;
  let options: StoreOptions;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'banctl-lifts-'));
    options = withoutReload(join(directory, 'banlist.conf'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const beside = () => readdirSync(directory).filter((name) => name.startsWith('.'));
  const banned = async (lifts: Lifts, ...changes: Change[]) => {
    const { outcomes } = await changeBans({ ...options, ...lifts.options }, changes);
    return outcomes.map(({ address }) => address);
  };

  for (const isBoth of [false, true])
    test(`adds nothing that was lifted since its question, ${isBoth ? 'with' : 'without'} a directory`, async () => {
      if (isBoth) options = { ...options, bandir: join(directory, 'bans') };
      using lifts = new Lifts(options);
      await changeBans(options, [add(A), add(B)]);
      await changeBans(options, (bansNow) => bansNow().map(({ address }) => release(address)));
      assert.deepEqual(await banned(lifts, add(A), add(B), add('203.0.113.7')), ['203.0.113.7']);
      lifts.forget();
      assert.deepEqual(await banned(lifts, add(A)), [A], 'a later answer counts again');
    });

  test('takes each release for what it releases', async () => {
    using lifts = new Lifts(options);
    const range = '203.0.113.0/24';
    await changeBans(options, [
      release(A, { holder: 'ssh' }),
      release(B, { id: 'user 1' }),
      release(range, { holder: null }),
    ]);
    assert.deepEqual(await banned(lifts, add(A)), [A]);
    assert.deepEqual(await banned(lifts, add(A, { holder: 'ssh' })), []);
    assert.deepEqual(await banned(lifts, add(B, { id: 'user 1' })), []);
    assert.deepEqual(await banned(lifts, add(B, { id: 'user 2' })), [B]);
    assert.deepEqual(await banned(lifts, add('203.0.113.9', { target: range })), []);
  });

  test('adds what it releases itself, and does not hear of other repairs or dry runs', async () => {
    using lifts = new Lifts(options);
    using other = new Lifts(options);
    await changeBans(options, [add(A)]);
    await changeBans({ ...options, dryRun: true }, [release(A)]);
    assert.deepEqual(await banned(lifts, release(A), add(A)), [A, A]);
    assert.deepEqual(await banned(other, add(A)), [A]);
  });

  for (const [what, next] of [
    ['repair', () => new Lifts(options)[Symbol.dispose]()],
    ['release', () => changeBans(options, [release(A)])],
  ] as const)
    test(`leaves nothing beside the list, and what a killed one left goes with the next ${what}`, async () => {
      const left = join(directory, '.banlist.conf.lifts');
      mkdirSync(left);
      await next();
      assert.deepEqual(beside(), [], 'killed before it had a file');
      mkdirSync(left);
      writeFileSync(join(left, `${GONE}.1`), '');
      await next();
      assert.deepEqual(beside(), []);
    });

  test('loses no line behind one that a full disk has cut', async () => {
    using lifts = new Lifts(options);
    const left = join(directory, '.banlist.conf.lifts');
    const [name = ''] = readdirSync(left);
    writeFileSync(join(left, name), '{"address":"203.0');
    await changeBans(options, [release(A)]);
    assert.deepEqual(await banned(lifts, add(A), add(B)), [B]);
  });

  test('has calls write to no file but its own, and wait for none', async () => {
    const left = join(directory, '.banlist.conf.lifts');
    mkdirSync(left);
    const other = join(directory, 'other');
    writeFileSync(other, '');
    writeFileSync(join(left, 'crontab'), '');
    symlinkSync(other, join(left, `${processId()}.1`));
    execFileSync('mkfifo', [join(left, `${processId()}.2`)]);
    await changeBans(options, [release(A)]);
    assert.deepEqual([readFileSync(other, 'utf8'), readFileSync(join(left, 'crontab'), 'utf8')], ['', '']);
  });

  test('goes on where it cannot have a file', async () => {
    writeFileSync(join(directory, '.banlist.conf.lifts'), '');
    using lifts = new Lifts(options);
    await changeBans(options, [release(A)]);
    assert.deepEqual(await banned(lifts, add(A)), [A]);
  });

  test('writes nothing in a dry run', () => {
    using _lifts = new Lifts({ ...options, dryRun: true });
    assert.deepEqual(beside(), []);
  });
});
