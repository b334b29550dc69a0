// The record: what is counted survives torn lines, a long file, a killed rotation and many writers.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { readRecord } from '../../src/report/record.ts';
import { FULL_BYTES, record } from '../../src/system/record.ts';

const dir = mkdtempSync(join(tmpdir(), 'banctl-record-'));
const path = join(dir, 'record');
after(() => rmSync(dir, { recursive: true }));
beforeEach(() => {
  for (const end of ['', '.1', '.next']) rmSync(path + end, { force: true, recursive: true });
});

const ban = (by: string | null, count = 1) =>
  record(path, { did: 'ban', by, count, addresses: ['203.0.113.5'] });
const bans = () => readRecord(path).totals.bans;

test('what happened is counted by holder, way, reason and length', () => {
  ban('web');
  ban(null, 3);
  ban('manual');
  record(path, { did: 'unban', by: 'web', how: 'unban', count: 1, lifted: 1 });
  record(path, { did: 'refuse', by: 'web', why: 'protected', count: 2 });
  for (const seconds of [0.04, 0.3, 100]) record(path, { did: 'reload', result: 'done', seconds });
  const { totals, entries } = readRecord(path);
  assert.deepEqual(totals.bans, { web: 1, manual: 3, '%6Danual': 1 });
  assert.deepEqual(
    [totals.unbans, totals.refusals, totals.reloads],
    [{ unban: 1 }, { protected: 2 }, { done: 3 }],
  );
  assert.deepEqual(totals.reloadBuckets, [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
  assert.equal(totals.reloadSeconds, 100.34);
  assert.equal(entries.length, 8);
});

test('without its directory, nothing is recorded and nothing fails', () => {
  record(join(dir, 'no', 'record'), { did: 'ban', by: null, count: 1 });
  assert.deepEqual(readRecord(join(dir, 'no', 'record')).entries, []);
});

test('a torn line, and what is no entry, cost only themselves', () => {
  ban('web');
  const whole = readFileSync(path, 'utf8');
  writeFileSync(
    path,
    `${whole}${whole.slice(0, 30)}${whole}null\n[]\n{"at":"x"}\n{"at":1,"did":"ban","count":-1}\n\u0001\n`,
  );
  ban('web');
  assert.deepEqual(bans(), { web: 3 });
});

test('a link in its place is not written to', () => {
  const other = join(dir, 'other');
  writeFileSync(other, '');
  symlinkSync(other, path);
  ban('web');
  assert.equal(statSync(other).size, 0);
});

test('a long record loses its older part, and no count', () => {
  let last = 0;
  for (let round = 0; round < 5; round += 1) {
    for (let count = 0; count < 100; count += 1) ban('web');
    last = readRecord(path, 2000).totals.bans.web ?? 0;
    assert.equal(last, (round + 1) * 100);
  }
  assert.ok(readRecord(path, 2000).entries.length <= 200);
});

test('a rotation that is killed at any step loses no count and doubles none', () => {
  const steps = ['renamed', 'nothing'] as const;
  for (const step of steps) {
    for (let count = 0; count < 50; count += 1) ban('web');
    readRecord(path, 100);
    for (let count = 0; count < 50; count += 1) ban('web');
    const before = bans().web;
    // As a rotation leaves it that was killed before or after it renamed the file.
    const inode = statSync(path).ino;
    const older = readRecord(`${path}.1`).totals;
    writeFileSync(
      `${path}.next`,
      `${JSON.stringify({ at: 1, carried: step, file: inode, totals: older })}\n`,
    );
    if (step === 'renamed') renameSync(path, `${path}.1`);
    assert.equal(bans().web, before, step);
    ban('web');
    assert.equal(bans().web, (before ?? 0) + 1, step);
    rmSync(path, { force: true });
    rmSync(`${path}.1`, { force: true });
  }
});

test('a record that is never shortened ends at its limit', () => {
  writeFileSync(path, Buffer.alloc(FULL_BYTES, ' '));
  ban('web');
  assert.equal(statSync(path).size, FULL_BYTES);
  const read = readRecord(path);
  assert.deepEqual(read.totals.bans, {});
  ban('web');
  assert.deepEqual(bans(), { web: 1 });
});

test('many processes write at once, while one shortens', async () => {
  const module = join(import.meta.dirname, '..', '..', 'src', 'system', 'record.ts');
  const script = `const { record } = await import(${JSON.stringify(module)});
    for (let count = 0; count < 300; count += 1) record(${JSON.stringify(path)}, { did: 'ban', by: 'web', count: 1, addresses: ['203.0.113.5'] });`;
  const writers = Array.from(
    { length: 4 },
    () =>
      new Promise((resolve) => {
        spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' }).on(
          'close',
          resolve,
        );
      }),
  );
  let isDone = false;
  const all = Promise.all(writers).then(() => {
    isDone = true;
  });
  let last = 0;
  while (!isDone) {
    const { totals } = readRecord(path, 20_000);
    assert.ok((totals.bans.web ?? 0) >= last, 'a counter went back');
    last = totals.bans.web ?? 0;
    await new Promise(setImmediate);
  }
  await all;
  assert.deepEqual(bans(), { web: 1200 });
});
