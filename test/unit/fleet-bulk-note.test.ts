// The note that stands while many bans of other hosts are written: who finds it, and what it says of empty files.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { BulkNote } from '../../src/fleet/bulk-note.ts';

suite('the note of a bulk change', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-filling-'));
    mkdirSync(join(dir, 'bans'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const bulkNote = (bandir = true) =>
    new BulkNote({ state: join(dir, 'fleet'), bandir: bandir ? join(dir, 'bans') : undefined });
  const notes = () =>
    readdirSync(dir).flatMap((name) => (name === 'fleet' ? readdirSync(join(dir, name)) : []));

  test('stands from before the first change until all are on the disk', () => {
    const bulk = bulkNote();
    assert.equal(bulk.begin(17), true);
    assert.deepEqual(notes(), ['filling.json']);
    bulk.end();
    assert.deepEqual(notes(), []);
  });

  test('is not written for few changes, which are synced one by one, or without a directory', () => {
    assert.equal(bulkNote().begin(16), false);
    assert.equal(bulkNote(false).begin(1000), false);
    assert.deepEqual(notes(), []);
  });

  test('makes the next process of the same boot sync, and no file is blank', () => {
    bulkNote().begin(17);
    const next = bulkNote();
    assert.deepEqual([next.isLeft, next.isCut], [true, false]);
    writeFileSync(join(dir, 'bans', '203.0.113.5'), '');
    assert.equal(next.isBlank('203.0.113.5'), false);
    assert.equal(next.begin(17), false);
  });

  test('stays for the next boot while a later bulk change runs', () => {
    bulkNote().begin(17);
    const path = join(dir, 'fleet', 'filling.json');
    const note = { ...JSON.parse(readFileSync(path, 'utf8')), boot: 'an earlier one' };
    writeFileSync(path, JSON.stringify(note));
    const next = bulkNote();
    assert.deepEqual([next.isLeft, next.isCut, next.begin(17)], [false, true, false]);
    assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), note);
  });

  test('counts as none if it is no note', () => {
    mkdirSync(join(dir, 'fleet'));
    writeFileSync(join(dir, 'fleet', 'filling.json'), '{"boot": 1');
    assert.deepEqual([bulkNote().isLeft, bulkNote().isCut], [false, false]);
  });
});
