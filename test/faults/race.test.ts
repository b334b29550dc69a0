import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { acquireLock } from '../../src/system/lock.ts';
import { banctl } from '../lab/banctl.ts';
import type { Fail2ban } from '../lab/fail2ban.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute } from '../lab/wait.ts';
import { HOLDERS, type Place, startHoldingFail2ban, startWorkload } from '../lab/workload.ts';

// Real processes, all started at once on one list.

function temporaryList(text: string) {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-race-'));
  const banlist = join(directory, 'banlist.conf');
  writeFileSync(banlist, text);
  return {
    banlist,
    /** Each `Require` line, sorted; any other line that is not a whole comment of banctl's fails the test. */
    banned(): string[] {
      const lines = readFileSync(banlist, 'utf8').trimEnd().split('\n').filter(Boolean);
      for (const line of lines) assert.match(line, /^(?:# banctl \| .+ for ever|Require not ip [\d.]+)$/);
      return lines.filter((line) => line.startsWith('Require')).sort();
    },
    files: () => readdirSync(directory).sort(),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

const lines = (addresses: readonly string[]) =>
  addresses.map((address) => `Require not ip ${address}`).sort();

/** Starts all calls at once; each has to end with 0. */
async function callAtOnce(banlist: string, calls: readonly (readonly string[])[]): Promise<void> {
  const ended = await Promise.all(
    calls.map((call) => banctl([...call, '--banlist', banlist, '--no-reload'])),
  );
  for (const { exitCode, stderr } of ended) assert.deepEqual([exitCode, stderr], [0, '']);
}

suite('many processes at once', () => {
  test('10 bans and 10 unbans, 50 rounds: no ban is lost, no unban is undone', async () => {
    const kept = ['192.0.2.1', '192.0.2.2'];
    using list = temporaryList(lines(kept).join('\n')); // the shell's, without an end
    const hosts = Array.from({ length: 10 }, (_, index) => index);
    const addressesOf = (round: number) => hosts.map((host) => `203.0.113.${(round % 20) * 10 + host}`);
    // The first half of them is unbanned by hand, the other by the jail.
    let before: string[] = [];
    for (let round = 0; round < 50; round += 1) {
      const added = addressesOf(round);
      const bans = added.map((address) => ['ban', address, '--jail', 'web']);
      const unbans = before.map((address, index) => [
        'unban',
        address,
        ...(index < 5 ? ['--no-fail2ban'] : ['--jail', 'web']),
      ]);
      await callAtOnce(
        list.banlist,
        bans.flatMap((call, index) => [call, unbans[index] ?? ['unban', '192.0.2.99', '--jail', 'web']]),
      );
      assert.deepEqual(list.banned(), lines([...kept, ...added]), `round ${round}`);
      before = added;
    }
    assert.deepEqual(list.files(), ['banlist.conf', 'banlist.conf.state']);
  });

  test('200 bans: none is lost, none refused', async () => {
    using list = temporaryList('');
    const addresses = Array.from({ length: 200 }, (_, host) => `203.0.113.${host}`);
    await callAtOnce(
      list.banlist,
      // The last in line waits for 199 others, longer than by default on a busy machine.
      addresses.map((address) => ['ban', address, '--lock-timeout=100']),
    );
    assert.deepEqual(list.banned(), lines(addresses));
    assert.deepEqual(list.files(), ['banlist.conf', 'banlist.conf.state']);
  });

  test('40 holds of one address: one line with all of them', async () => {
    using list = temporaryList('');
    const jails = Array.from({ length: 40 }, (_, number) => `jail-${number}`);
    await callAtOnce(
      list.banlist,
      jails.map((jail) => ['ban', '203.0.113.5', '--jail', jail]),
    );
    assert.deepEqual(list.banned(), lines(['203.0.113.5']));
    const held = [...readFileSync(list.banlist, 'utf8').matchAll(/\| (\S+) /g)].map(([, jail]) => jail);
    assert.deepEqual(held.sort(), jails.sort());
    await callAtOnce(
      list.banlist,
      jails.map((jail) => ['unban', '203.0.113.5', '--jail', jail]),
    );
    assert.deepEqual(list.banned(), []);
  });
});

suite('many processes at once in the ban directory', () => {
  const A = '203.0.113.5';
  const B = '203.0.113.6';

  function temporaryPlaces() {
    const directory = mkdtempSync(join(tmpdir(), 'banctl-race-'));
    const banlist = join(directory, 'banlist.conf');
    const bandir = join(directory, 'bans');
    writeFileSync(banlist, '');
    return {
      banlist,
      bandir,
      files: () => readdirSync(bandir).sort(),
      /** The file is whole, or the test fails. */
      holders(address: string): string[] {
        const [comment = '', ...rest] = readFileSync(join(bandir, address), 'utf8').split('\n');
        assert.match(comment, /^# banctl(?: \| [\w-]+ [\d.]+ since \S+ for ever)+$/);
        assert.deepEqual(rest, [`Require not ip ${address}`, '']);
        return [...comment.matchAll(/\| (\S+) /g)].map(([, holder]) => holder ?? '').sort();
      },
      call: (...args: string[]) =>
        banctl([...args, '--banlist', banlist, '--bandir', bandir, '--no-reload', '--lock-timeout=0']),
      [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
    };
  }

  /** Starts all calls at once; each has to end with 0. */
  async function atOnce(calls: readonly string[][]): Promise<void> {
    const ended = await Promise.all(calls.map((call) => banctl(call)));
    for (const { exitCode, stderr } of ended) assert.deepEqual([exitCode, stderr], [0, '']);
  }

  test('20 holds of one address: one file with all of them, which goes with the last', async () => {
    using places = temporaryPlaces();
    const options = ['--banlist', places.banlist, '--bandir', places.bandir, '--no-reload'];
    const jails = Array.from({ length: 20 }, (_, number) => `jail-${number}`);
    await atOnce(jails.map((jail) => ['ban', A, '--jail', jail, ...options]));
    assert.deepEqual(places.holders(A), jails.sort());
    const [last = '', ...others] = jails;
    await atOnce([
      ...others.map((jail) => ['unban', A, '--jail', jail, ...options]),
      ['ban', A, '--jail', 'new', ...options],
    ]);
    assert.deepEqual(places.holders(A), [last, 'new'].sort());
    await atOnce([last, 'new'].map((jail) => ['unban', A, '--jail', jail, ...options]));
    assert.deepEqual(places.files(), []);
  });

  test('6 holders that ban and release the same addresses again and again: no change of any is lost', async () => {
    using places = temporaryPlaces();
    const holders = ['a', 'b', 'c', 'd', 'e', 'f'];
    const script = join(import.meta.dirname, '..', 'lab', 'changing.ts');
    const ended = await Promise.all(
      holders.map((holder) => execute(process.execPath, [script, places.bandir, holder, '15', A, B])),
    );
    for (const { exitCode, stderr } of ended) assert.deepEqual([exitCode, stderr], [0, '']);
    for (const address of [A, B]) assert.deepEqual(places.holders(address), holders);
    assert.deepEqual(places.files(), [A, B]);
  });

  test('an address that is locked keeps no other one waiting', async () => {
    using places = temporaryPlaces();
    assert.equal((await places.call('ban', A, B)).exitCode, 0);
    const lock = acquireLock(join(places.bandir, A), { timeout: 0 });
    const locked = await places.call('ban', A, '--jail', 'web');
    assert.deepEqual(
      [locked.exitCode, locked.stderr],
      [
        75,
        `banctl: ${places.bandir}/${A} is locked by another banctl for over 0 s; nothing was changed, try again\n`,
      ],
    );
    for (const call of [
      ['ban', B, '--jail', 'web'],
      ['unban', B, '--jail', 'web'],
      ['unban', B, '--no-fail2ban'],
      ['ban', B],
      ['flush', '--jail', 'web'],
      ['ban', '198.51.100.0/24'],
    ]) {
      const { exitCode, stderr } = await places.call(...call);
      assert.deepEqual([exitCode, stderr], [0, ''], call.join(' '));
    }
    assert.deepEqual(places.files(), [A, `${A}.lock`, B]);
    lock.release();
  });

  test('a list that is locked keeps no ban of a single address waiting, and an unban does not end before it', async () => {
    using places = temporaryPlaces();
    for (const list of ['', 'Require not ip 198.51.100.0/24\n', 'Require not ip 198.51.100.7\n']) {
      writeFileSync(places.banlist, list);
      const lock = acquireLock(places.banlist, { timeout: 0 });
      const banned = await places.call('ban', A, B, '--jail', 'web');
      assert.deepEqual([banned.exitCode, banned.stderr], [0, '']);
      // The holder of the lock may be a migration that is about to write the ban into the list.
      const unbans = [
        ['unban', A, '--jail', 'web'],
        ['unban', B, '--no-fail2ban'],
      ];
      for (const call of unbans) {
        const { exitCode, stderr } = await places.call(...call);
        assert.equal(exitCode, 75, call.join(' '));
        assert.match(stderr, /banlist\.conf is locked by another banctl/);
      }
      assert.deepEqual(places.files(), []);
      assert.equal((await places.call('ban', '198.51.100.128/25')).exitCode, 75, 'a range waits');
      lock.release();
      for (const call of unbans) assert.equal((await places.call(...call)).exitCode, 0, call.join(' '));
      assert.equal(readFileSync(places.banlist, 'utf8'), list);
    }
  });

  test('a ban that the list shows already does not end before a locked list is free: its hold may be about to go', async () => {
    using places = temporaryPlaces();
    const range = ['ban', '198.51.100.0/24', '--jail', 'web'];
    assert.equal((await places.call(...range)).exitCode, 0);
    const lock = acquireLock(places.banlist, { timeout: 0 });
    assert.equal((await places.call(...range)).exitCode, 75);
    lock.release();
    const { exitCode, stdout } = await places.call(...range);
    assert.equal(exitCode, 0);
    assert.match(stdout, /^198\.51\.100\.0\/24 already banned\n/);
  });

  test('of several addresses of which one is locked, the error says how many are done', async () => {
    using places = temporaryPlaces();
    assert.equal((await places.call('ban', '192.0.2.1')).exitCode, 0);
    const lock = acquireLock(join(places.bandir, B), { timeout: 0 });
    const { exitCode, stdout, stderr } = await places.call('ban', A, B);
    assert.deepEqual([exitCode, stdout], [75, '']);
    assert.match(
      stderr,
      /^banctl: 1 of 2 addresses are done; then: \S+203\.0\.113\.6 is locked by .*, try again\n$/,
    );
    lock.release();
    assert.deepEqual(places.files(), ['192.0.2.1', A]);
  });
});

suite('many writers for a while, and audits that repair', () => {
  const writers = [...HOLDERS, 'five', 'six', 'seven', 'eight'];
  let fail2ban: Fail2ban;
  before(async () => {
    fail2ban = await startHoldingFail2ban();
  });
  after(() => fail2ban[Symbol.asyncDispose]());

  for (const place of ['the list', 'the directory'] satisfies Place[]) {
    test(`of ${place}: after each call its holder holds what was acknowledged, and nothing else`, async (t) => {
      await using load = await startWorkload({ place, fail2ban, isKilling: false, isServed: true });
      let isOver = false;
      const audits = load.audit(() => isOver);
      await Promise.all(writers.map((holder) => load.hold(holder, 7 * TORTURE)));
      isOver = true;
      await audits;
      for (const line of load.told()) t.diagnostic(line);
      await load.check();
      await load.rest();
    });
  }
});
