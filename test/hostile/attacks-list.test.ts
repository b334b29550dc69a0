// Inputs of the kinds that once made an acknowledged ban fail, or come back after its unban.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import { banctl } from '../lab/banctl.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const inOrder = { concurrency: 1 };

suite('what is written in the list', inOrder, () => {
  let directory: string;
  let banlist: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'banctl-attacks-'));
    banlist = join(directory, 'banlist.conf');
  });
  after(() => rmSync(directory, { recursive: true }));
  afterEach(() => rmSync(banlist));
  async function done(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await banctl([...args, `--banlist=${banlist}`]);
    assert.deepEqual([exitCode, stderr], [0, ''], args.join(' '));
    return stdout;
  }

  const SPELLINGS: [string, string][] = [
    ['2001:db8:1:2::/64', '2001:DB8:0001:2::/64'],
    ['2001:db8:1:2::/64', '2001:db8:1:2::5/64'],
    ['203.0.113.0/24', '203.0.113.5/24'],
    ['203.0.113.0/24', '203.0.113.0/255.255.255.0'],
  ];
  for (const [range, spelling] of SPELLINGS) {
    for (const count of [1, 9]) {
      test(`a range written as ${spelling} is released by its jail, asked for ${count} addresses`, async () => {
        const held = range.includes(':') ? '2001:db8:1:2::5' : A;
        writeFileSync(
          banlist,
          `# banctl | web ${held} since 2026-01-01T00:00:00Z for ever\nRequire not ip ${spelling}\n`,
        );
        const others = Array.from({ length: count - 1 }, (_, host) => `192.0.2.${host}`);
        await done('unban', held, ...others, '--jail=web', '--no-reload');
        const left = readFileSync(banlist, 'utf8');
        assert.doesNotMatch(left, /Require|banctl/);
      });
    }
  }

  // Each call reads 64 MiB, or writes them: few calls.
  for (const [room, exitCode] of [
    [40, 73],
    [4096, 0],
  ] as const) {
    test(`a list that ends ${room} bytes before the most that is read: what is written can be read`, async () => {
      const most = 2 ** 26;
      const ban = `Require not ip ${B}\n`;
      const comment = `${'#'.repeat(most / 64 - 1)}\n`.repeat(64);
      writeFileSync(banlist, `${ban}${comment.slice(room + ban.length)}`);
      assert.equal(statSync(banlist).size, most - room);
      const call = (...args: string[]) => banctl([...args, '--no-reload', `--banlist=${banlist}`]);
      const banned = await call('ban', A, '--jail=web');
      assert.equal(banned.exitCode, exitCode, banned.stderr);
      const lifted = await call('unban', A, B, '--no-fail2ban');
      assert.deepEqual([lifted.exitCode, lifted.stderr], [0, '']);
      assert.doesNotMatch(readFileSync(banlist, 'utf8'), /Require/);
    });
  }

  const NAMES = [
    'my jail',
    ' x',
    'a|b',
    'jail; x',
    'ünï',
    '100%',
    'a%20b',
    'x/y',
    'for ever',
    'since',
    '-x',
    '#',
    "it's",
    'a  b',
  ];
  for (const name of NAMES) {
    test(`a jail that is called '${name}' bans and unbans`, async () => {
      await done('ban', A, `--jail=${name}`, '--for=600', '--reason=5 failures', '--no-reload');
      await done('ban', A, '--jail=web', '--no-reload');
      const { bans } = JSON.parse((await banctl(['list', '--json', `--banlist=${banlist}`])).stdout);
      assert.deepEqual(
        bans[0].holds.map(({ holder }: { holder: string }) => holder).sort(),
        [name, 'web'].sort(),
      );
      await done('unban', A, `--jail=${name}`, '--no-reload');
      assert.match(readFileSync(banlist, 'utf8'), /\| web /);
      await done('unban', A, '--jail=web', '--no-reload');
      assert.doesNotMatch(readFileSync(banlist, 'utf8'), /Require/);
    });
  }
});
