// `banctl list` for long lists: what is selected, in which order, in columns, in a pager on a terminal.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

const dir = mkdtempSync(join(tmpdir(), 'banctl-list-'));
const list = join(dir, 'list');
after(() => rmSync(dir, { recursive: true }));

const hold = (jail: string, address: string, since: string, until: string, reason = '') =>
  `| ${encodeURIComponent(jail)} ${address} since 2026-01-${since}T00:00:00Z ${until}${reason && `: ${reason}`}`;
const ban = (address: string, ...holds: string[]) =>
  `# banctl ${holds.join(' ')}\nRequire not ip ${address}\n`;
const UNTIL = 'until 2036-01-01T00:00:00Z';

writeFileSync(
  list,
  [
    ban('203.0.113.20', hold('web', '203.0.113.20', '03', 'for ever', 'x')),
    ban(
      '203.0.113.3',
      hold('sshd', '203.0.113.3', '01', UNTIL),
      hold('web', '203.0.113.3', '05', 'for ever'),
    ),
    ban('2001:db8::1', hold('日本語', '2001:db8::1', '02', 'until 2037-01-01T00:00:00Z', '不正なログイン')),
    ban('198.51.100.0/24', hold('manual', '198.51.100.0/24', '04', 'for ever')),
    'Require not ip 192.0.2.1\n',
  ].join(''),
);

const addresses = async (...args: string[]) => {
  const { bans } = await banctlJson<{ bans: { address: string; holds: { holder: string }[] }[] }>([
    'list',
    `--banlist=${list}`,
    ...args,
  ]);
  return bans.map(({ address, holds }) => `${address} ${holds.map(({ holder }) => holder).join()}`);
};

test('--jail lists what a jail holds, and nothing of others', async () => {
  assert.deepEqual(await addresses('--jail=web'), ['203.0.113.20 web', '203.0.113.3 web']);
  assert.deepEqual(await addresses('--jail=日本語'), ['2001:db8::1 日本語']);
  assert.deepEqual(await addresses('--jail=manual'), [], 'a jail of that name, not bans by hand');
  const { stdout } = await banctl(['list', `--banlist=${list}`, '--jail=nobody']);
  assert.match(stdout, /^no ban matches\n/);
});

test('--network lists what is in it, and what covers it', async () => {
  assert.deepEqual(await addresses('--network=203.0.113.0/27'), ['203.0.113.20 web', '203.0.113.3 sshd,web']);
  assert.deepEqual(await addresses('--network=198.51.100.7'), ['198.51.100.0/24 manual']);
  assert.deepEqual(await addresses('--network=2001:db8::/32'), ['2001:db8::1 日本語']);
  const { exitCode, stderr } = await banctl(['list', `--banlist=${list}`, '--network=10.1']);
  assert.deepEqual([exitCode, /not an address: "10\.1"/.test(stderr)], [64, true]);
});

test('--sort orders by address, holder, since or until', async () => {
  const firsts = async (key: string) => (await addresses(`--sort=${key}`)).map((line) => line.split(' ')[0]);
  assert.deepEqual(await firsts('address'), [
    '192.0.2.1',
    '198.51.100.0/24',
    '203.0.113.3',
    '203.0.113.20',
    '2001:db8::1',
  ]);
  assert.deepEqual(await firsts('since'), [
    '203.0.113.3',
    '2001:db8::1',
    '203.0.113.20',
    '198.51.100.0/24',
    '192.0.2.1',
  ]);
  assert.deepEqual((await firsts('until')).slice(0, 2), ['203.0.113.3', '2001:db8::1']);
  assert.deepEqual((await firsts('holder')).slice(0, 2), ['198.51.100.0/24', '203.0.113.3']);
  const { exitCode, stderr } = await banctl(['list', `--banlist=${list}`, '--sort=size']);
  assert.deepEqual([exitCode, /no such order: "size"; give address/.test(stderr)], [64, true]);
});

test('wide characters keep the columns straight', async () => {
  const { stdout } = await banctl(['list', `--banlist=${list}`]);
  const width = (text: string) =>
    [...text].reduce((sum, character) => sum + (/[\u3000-\u9fff]/.test(character) ? 2 : 1), 0);
  const lines = stdout.split('\n').filter((line) => / 2026-01-0/.test(line));
  assert.equal(lines.length, 5);
  assert.equal(
    new Set(lines.map((line) => width(line.slice(0, line.indexOf(' 2026-01-0'))))).size,
    1,
    stdout,
  );
});

/** On a terminal of 10 lines, or of another size. */
async function onTerminal(environment: string, args = '', size = 'rows 10 columns 60'): Promise<string> {
  const line = `stty ${size}; TERM=xterm; export TERM; ${environment} ${executable} list --banlist=${list} ${args}`;
  const { stdout } = await execute('script', ['-qec', line, '/dev/null']);
  return stdout.replaceAll('\r', '');
}

test('a long list is shown by the pager on a terminal, a short one is not', async () => {
  const many = Array.from({ length: 30 }, (_, index) =>
    ban(`203.0.113.${index}`, hold('web', `203.0.113.${index}`, '01', 'for ever', '漢字'.repeat(40))),
  );
  writeFileSync(list, many.join(''));
  const paged = await onTerminal("PAGER='sed s/^/paged:/'");
  assert.equal(paged.match(/^paged:/gm)?.length, 31, paged);
  for (const row of paged.split('\n').filter((one) => one.startsWith('paged:203')))
    assert.ok([...row.slice(6)].reduce((sum, one) => sum + (one > '\u2fff' ? 2 : 1), 0) <= 60, row);
  assert.doesNotMatch(await onTerminal("PAGER='sed s/^/paged:/'", '--network=203.0.113.0/30'), /paged:/);
  assert.match(await onTerminal('PAGER='), /^203\.0\.113\.29/m);
  assert.match(await onTerminal('PAGER=/nonexistent/pager'), /^203\.0\.113\.29/m);
  const paging = "PAGER='sed s/^/paged:/'";
  assert.doesNotMatch(await onTerminal(`TERM=dumb ${paging}`), /paged:/);
  assert.doesNotMatch(await onTerminal(`env --unset=TERM ${paging}`), /paged:/);
  assert.doesNotMatch(await onTerminal("SUDO_UID=1000 PAGER='sed s/^/paged:/'", '| cat'), /paged:/);
});

test('a terminal that does not report its size shows everything, without a pager', async () => {
  const shown = await onTerminal("PAGER='sed s/^/paged:/'", '', 'rows 0 columns 0');
  assert.doesNotMatch(shown, /paged:/);
  assert.match(shown, /^203\.0\.113\.29 .*(漢字){40}$/m);
});

test('100,000 bans are listed in moments', { timeout: 60_000 }, async () => {
  const bans = Array.from({ length: 100_000 }, (_, index) => {
    const address = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
    return ban(address, hold('web', address, '01', 'for ever', 'x'));
  });
  writeFileSync(list, bans.join(''));
  const begin = performance.now();
  const { stdout } = await banctl(['list', `--banlist=${list}`, '--sort=address']);
  assert.equal(stdout.split('\n').length, 100_003);
  assert.ok(performance.now() - begin < 15_000, `${performance.now() - begin} ms`);
});
