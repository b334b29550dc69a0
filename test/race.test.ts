import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { banctl } from './support/banctl.ts';

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
      addresses.map((address) => ['ban', address]),
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
