// What is written is on the disk before banctl says so: the order of the executable's calls, as strace sees them. A power
// cut cannot be made here; what it can take away is what fsync(2) has not been called for, a name as well as a text.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test } from 'node:test';
import { traced } from '../lab/traced.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';

function temporaryPlaces() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-durability-'));
  const banlist = join(directory, 'banlist.conf');
  return {
    directory,
    bandir: join(directory, 'bans'),
    /** Runs banctl under strace; returns what it did. */
    call: (...args: string[]) =>
      traced([...args, `--banlist=${banlist}`, '--jail=web', '--no-reload', '--json']),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

/** A database with what banctl reads of fail2ban's. */
function writeDatabase(path: string, addresses: readonly string[]): void {
  const database = new DatabaseSync(path);
  database.exec(
    'CREATE TABLE jails(name TEXT); CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, data JSON)',
  );
  database.exec("INSERT INTO jails VALUES ('web')");
  for (const address of addresses)
    database.prepare("INSERT INTO bips VALUES (?, 'web', 1700000000, -1, NULL)").run(address);
  database.close();
}

/** Each of `steps` is there, one after the other, and nothing comes after the answer. */
function assertOrder(calls: readonly string[], steps: readonly string[]): void {
  let from = 0;
  for (const step of steps) {
    const at = calls.indexOf(step, from);
    assert.notEqual(at, -1, `no '${step}' after '${calls[from - 1] ?? 'the start'}':\n${calls.join('\n')}`);
    from = at + 1;
  }
  assert.equal(calls.filter((call) => call === 'tell').length, 1, calls.join('\n'));
  const after = calls.slice(calls.indexOf('tell') + 1);
  assert.deepEqual(after, [], 'something is done after it was told');
}

suite('a change is on the disk before it is acknowledged', () => {
  const REPLACED = [
    'write banlist.conf.TEMPORARY',
    'fsync banlist.conf.TEMPORARY',
    'rename banlist.conf.TEMPORARY banlist.conf',
  ];

  test('a ban in the list, and its unban', async () => {
    using places = temporaryPlaces();
    const steps = [...REPLACED, `fsync ${basename(places.directory)}`, 'tell'];
    assertOrder(await places.call('ban', A), steps);
    assertOrder(await places.call('ban', B), steps);
    assertOrder(await places.call('unban', A), steps);
    // The list is empty then, so nothing is written to the file.
    assertOrder(await places.call('flush'), [...steps.slice(1)]);
  });

  test('a ban in the directory, and its unban', async () => {
    using places = temporaryPlaces();
    mkdirSync(places.bandir);
    const bandir = `--bandir=${places.bandir}`;
    const replaced = [
      `write ${A}.TEMPORARY`,
      `fsync ${A}.TEMPORARY`,
      `rename ${A}.TEMPORARY ${A}`,
      'fsync bans',
      'tell',
    ];
    assertOrder(await places.call('ban', A, bandir), replaced);
    assertOrder(await places.call('ban', A, bandir, '--reason=another'), replaced);
    const removed = [`rename ${A} removed`, 'remove removed', 'fsync bans', 'tell'];
    assertOrder(await places.call('unban', A, bandir), removed);
  });

  test('the first ban in a directory that does not exist yet, nor its parent', async () => {
    using places = temporaryPlaces();
    const calls = await places.call('ban', A, `--bandir=${join(places.directory, 'new', 'bans')}`);
    assertOrder(calls, [
      'mkdir new',
      `fsync ${basename(places.directory)}`,
      'mkdir bans',
      'fsync new',
      `fsync ${A}.TEMPORARY`,
      'fsync bans',
      'tell',
    ]);
  });

  test('many bans in the directory, by one call for all', async () => {
    using places = temporaryPlaces();
    const many = Array.from({ length: 20 }, (_, host) => `203.0.113.${host}`);
    const bandir = `--bandir=${places.bandir}`;
    const last = many.at(-1);
    const made = await places.call('ban', ...many, bandir);
    assertOrder(made, [`write ${last}.TEMPORARY`, `rename ${last}.TEMPORARY ${last}`, 'syncfs bans', 'tell']);
    assertOrder(await places.call('flush', bandir), ['rename 203.0.113.0 removed', 'syncfs bans', 'tell']);
  });

  test('what another call has done that was killed before it was on the disk', async () => {
    using places = temporaryPlaces();
    const leave = (path: string) => {
      mkdirSync(`${path}.lock`);
      writeFileSync(join(`${path}.lock`, '1-1.1@gone'), '');
    };
    await places.call('ban', A);
    leave(join(places.directory, 'banlist.conf'));
    assertOrder(await places.call('ban', A), [`fsync ${basename(places.directory)}`, 'tell']);
    const bandir = `--bandir=${places.bandir}`;
    await places.call('ban', B, bandir);
    leave(join(places.bandir, B));
    assertOrder(await places.call('ban', B, bandir), ['fsync bans', 'tell']);
  });

  test('what a sync has changed', async () => {
    using places = temporaryPlaces();
    await places.call('ban', A);
    const database = join(places.directory, 'fail2ban.sqlite3');
    writeDatabase(database, [B]);
    // Of fail2ban, a sync at the start of a jail asks what the configuration says: nothing is ignored, bans are for ever.
    const client = join(places.directory, 'client');
    writeFileSync(
      client,
      `#!/bin/sh\necho "['add', 'web', 'auto']"\necho "['set', 'web', 'bantime', '-1']"\n`,
      { mode: 0o755 },
    );
    const calls = await places.call(
      'sync',
      '--from-database',
      `--fail2ban-db=${database}`,
      `--fail2ban-client=${client}`,
    );
    assertOrder(calls, [...REPLACED, `fsync ${basename(places.directory)}`, 'tell']);
  });
});
