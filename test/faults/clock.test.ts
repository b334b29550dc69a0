// A clock that is set: back, far ahead, and to times that no text can say.
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { startServer } from '../lab/served.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const C = '203.0.113.7';

/** banctl with a clock that is off by so much; as in a machine whose clock was set, the time since boot goes on as it did. */
function at(offset: string, args: readonly string[]): Promise<Finished> {
  const clock = offset === '' ? [] : ['faketime', offset.startsWith('@') ? offset.slice(1) : `now ${offset}`];
  return execute('env', ['NO_FAKE_STAT=1', 'FAKETIME_DONT_FAKE_MONOTONIC=1', ...clock, executable, ...args]);
}

function temporarySite(bandir: boolean) {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-clock-'));
  const banlist = join(directory, 'banlist.conf');
  const options = [`--banlist=${banlist}`, ...(bandir ? [`--bandir=${directory}/bans`] : [])];
  const reloads = join(directory, 'reloads');
  writeFileSync(join(directory, 'reload'), `#!/bin/sh\necho reload >>${reloads}\n`, { mode: 0o755 });
  writeFileSync(reloads, '');
  return {
    directory,
    banlist,
    async call(offset: string, ...args: string[]): Promise<string> {
      const reloading = ['ban', 'unban', 'flush'].includes(args[0] ?? '')
        ? [`--reload-command=${directory}/reload`, '--apachectl=/nonexistent', '--reload-interval=60']
        : [];
      const { exitCode, stdout, stderr } = await at(offset, [...args, ...options, ...reloading]);
      assert.deepEqual([exitCode, stderr], [0, ''], `${offset} ${args.join(' ')}: ${stdout}`);
      return stdout;
    },
    async banned(offset: string): Promise<string[]> {
      const { bans } = JSON.parse(await this.call(offset, 'list', '--json')) as {
        bans: { address: string; holds: { holder: string | null; since: string | null }[] }[];
      };
      return bans
        .flatMap(({ address, holds }) =>
          holds.map(({ holder, since }) => {
            assert.ok(since !== null && !Number.isNaN(Date.parse(since)), `${address} since ${since}`);
            return `${address} ${holder}`;
          }),
        )
        .sort();
    },
    reloads: () => readFileSync(reloads, 'utf8').split('\n').length - 1,
    left: () =>
      readdirSync(directory, { recursive: true })
        .map(String)
        .filter((name) => /\.lock|banctl-/.test(name)),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

const OFFSETS = [
  '-1 day',
  '+1 day',
  '@1969-12-31 12:00:00',
  '-1 minute',
  '-20 years',
  '+70 years',
  '@1970-01-01 00:00:00',
];

for (const place of ['list', 'directory'] as const) {
  suite(`the ${place} and a clock that is set`, () => {
    for (const offset of OFFSETS.slice(0, TORTURE > 1 ? OFFSETS.length : 3)) {
      test(`${offset.replace('@', 'to ')}: nothing is lost, banned or lifted by that alone`, async () => {
        using site = temporarySite(place === 'directory');
        await site.call('', 'ban', A, '--for=1h');
        await site.call('', 'ban', A, '--jail=web', '--for=1h');
        await site.call('', 'ban', B, '--jail=web', '--for=1h');
        const before = [`${A} manual`, `${A} web`, `${B} web`];
        assert.deepEqual(await site.banned(offset), before);
        assert.equal(
          (await site.call(offset, 'ban', C, '--jail=web', '--for=1h')).split('\n')[0],
          `${C} banned`,
        );
        assert.deepEqual(await site.banned(offset), [...before, `${C} web`]);
        // Back in time again.
        assert.deepEqual(await site.banned(''), [...before, `${C} web`]);
        assert.match(await site.call('', 'unban', B, '--jail=web'), /^203\.0\.113\.6 unbanned$/m);
        assert.match(await site.call(offset, 'unban', C, '--jail=web'), /^203\.0\.113\.7 unbanned$/m);
        // A manual hold that is over goes with a call that names it, a jail's does not.
        await site.call(offset, 'ban', A, '--jail=ssh', '--for=1h');
        const isAhead = offset.startsWith('+');
        assert.deepEqual(await site.banned(''), [
          ...(isAhead ? [] : [`${A} manual`]),
          `${A} ssh`,
          `${A} web`,
        ]);
        await site.call(offset, 'flush', '--jail=web');
        await site.call('', 'flush', '--all', '--no-fail2ban');
        assert.deepEqual(await site.banned(offset), []);
        // A process that waited for a reload ends once it sees that none is due.
        await until('no lock to be left', () => site.left().length === 0);
      });
    }
  });
}

test('a time after the year 9999 makes a hold that can be read', async () => {
  using site = temporarySite(false);
  await site.call('+9000 years', 'ban', A, '--for=1h', '--jail=web');
  assert.deepEqual(await site.banned(''), [`${A} web`]);
  assert.match(
    readFileSync(site.banlist, 'utf8'),
    /^# banctl \| web 203\.0\.113\.5 since 9999-12-31T23:59:59Z for ever$/m,
  );
  assert.match(await site.call('', 'unban', A, '--jail=web'), /unbanned/);
});

test('a reload after the clock was set back is not put off until the old time', async () => {
  using site = temporarySite(false);
  await site.call('+1 day', 'ban', A);
  assert.equal(site.reloads(), 1);
  await site.call('', 'ban', B);
  assert.equal(site.reloads(), 2, 'the reload of tomorrow was the last one');
  await site.call('', 'ban', B);
  assert.equal(site.reloads(), 2);
  assert.doesNotMatch(await site.call('', 'list'), /may not have loaded/);
});

test('a list from the future is reloaded once, and counts as loaded then', async () => {
  using site = temporarySite(false);
  const tomorrow = Date.now() / 1000 + 86_400;
  writeFileSync(site.banlist, `Require not ip ${A}\n`);
  utimesSync(site.banlist, tomorrow, tomorrow);
  await site.call('', 'ban', A, '--jail=web');
  assert.equal(site.reloads(), 1);
  utimesSync(site.banlist, tomorrow, tomorrow);
  await site.call('', 'ban', A, '--jail=web');
  assert.equal(site.reloads(), 1);
});

test('what is under way by a clock that was set back is no leftover, and what was left is one once it is old', async () => {
  using site = temporarySite(true);
  const bans = join(site.directory, 'bans');
  mkdirSync(bans);
  const left = join(bans, `${A}.banctl-1`);
  for (const path of [left, `${site.banlist}.banctl-1`]) writeFileSync(path, '');
  const audit = (offset: string) =>
    at(offset, [
      'audit',
      '--fix',
      '--no-fail2ban',
      '--no-reload',
      '--apachectl=/nonexistent',
      `--banlist=${site.banlist}`,
      `--bandir=${bans}`,
    ]);
  await audit('-1 day');
  assert.equal(site.left().length, 2);
  await audit('+2 minutes');
  assert.deepEqual(site.left(), []);
});

test('a server whose clock is set while it runs answers, loses nothing, and ends bans by hand', async () => {
  using site = temporarySite(false);
  const clock = join(site.directory, 'clock');
  const set = (offset: string) => writeFileSync(clock, `${offset}\n`);
  set('+0');
  // By the program faketime, the server would not be the process that is started here.
  const { stdout: library } = await execute('faketime', ['-f', '+0', 'printenv', 'LD_PRELOAD']);
  const env = {
    LD_PRELOAD: library.trim(),
    FAKETIME_TIMESTAMP_FILE: clock,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  };
  const dir = join(site.directory, 'run');
  await using server = await startServer({ dir, options: [`--banlist=${site.banlist}`, '--no-reload'], env });
  await using client = await server.connect();
  const ask = async (command: string, address: string) => {
    const { greeting } = client;
    const options = { jail: 'web', banlist: site.banlist, 'no-reload': true };
    const more = command === 'ban' ? { for: '3600' } : {};
    const before = greeting.now + 300;
    const { exit, said } = await client.ask(command, { address, options: { ...options, ...more }, before });
    assert.equal(exit, 0, said);
    return said;
  };
  await site.call('', 'ban', B, '--for=1h');
  await ask('ban', A);
  set('-1d');
  assert.match(await ask('ban', C), /banned/);
  assert.deepEqual(await site.banned(''), [`${A} web`, `${B} manual`, `${C} web`]);
  assert.match(await ask('unban', C), /unbanned/);
  set('+2h');
  assert.match(await ask('ban', C), /banned/);
  const detail = () => readFileSync(site.banlist, 'utf8') + server.daemon().output();
  await until('the ban by hand to end', () => !/\| manual /.test(detail()), { detail });
  set('+0');
  assert.match(await ask('unban', A), /unbanned/);
  assert.match(readFileSync(site.banlist, 'utf8'), /\| web 203\.0\.113\.7 since /);
});
