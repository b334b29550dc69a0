// What Apache's own configuration does with the list: other ways to include it, and sections of the administrator.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { type ApacheOptions, startApache } from '../lab/apache.ts';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';

const including = (what: string): ApacheOptions => ({
  remoteip: true,
  site: (dir) => {
    mkdirSync(join(dir, 'lists'), { recursive: true });
    return `<Location "/">\n<RequireAll>\nRequire all granted\n${what.replace('DIR', join(dir, 'lists'))}\n</RequireAll>\n</Location>`;
  },
});

suite('a list that Apache includes together with every file beside it', () => {
  for (const what of ['IncludeOptional DIR/*', 'IncludeOptional DIR/*.conf', 'Include DIR/']) {
    test(`${what}: bans, unbans and reloads go on`, async () => {
      await using apache = await startApache(including(what));
      const banlist = join(apache.dir, 'lists', 'banlist.conf');
      const options = [`--banlist=${banlist}`, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
      for (const turn of [1, 2]) {
        const ban = await banctl(['ban', A, '--jail=web', ...options]);
        assert.deepEqual([ban.exitCode, ban.stderr], [0, ''], String(turn));
        assert.equal(await apache.get('/', { from: A }), 403);
        const unban = await banctl(['unban', A, '--jail=web', ...options]);
        assert.deepEqual([unban.exitCode, unban.stderr], [0, '']);
        assert.equal(await apache.get('/', { from: A }), 200);
      }
      assert.equal((await apache.ask('-t')).exitCode, 0);
      assert.match(readFileSync(`${banlist}.state`, 'utf8'), /^# \{.*\}\n$/);
    });
  }

  test('IncludeOptional DIR/*: half a list that a killed ban has left is not read', async () => {
    await using apache = await startApache(including('IncludeOptional DIR/*'));
    const lists = join(apache.dir, 'lists');
    const options = [`--banlist=${join(lists, 'banlist.conf')}`, `--apachectl=${apache.ctl}`];
    const isTemporary = (name: string) => name.includes('.banctl-');
    await banctl(['ban', B, ...options, '--no-reload']);
    const ban = [executable, 'ban', A, ...options, '--no-reload'];
    const killed = 'strace -f -o /dev/null -e inject=fsync:signal=KILL "$@"; test $? -gt 128';
    assert.equal((await execute('sh', ['-c', killed, 'sh', ...ban])).exitCode, 0);
    const [left = '', ...others] = readdirSync(lists).filter(isTemporary);
    assert.deepEqual(others, []);
    assert.match(readFileSync(join(lists, left), 'utf8'), new RegExp(`^Require not ip ${A}$`, 'm'));
    writeFileSync(join(lists, left), `Require not ip ${B}\nRequire no`);
    const { exitCode, stderr, stdout } = await apache.ask('-t', '-D', 'DUMP_INCLUDES');
    assert.equal(exitCode, 0, stderr);
    assert.doesNotMatch(stdout, /lists\/\.banlist/);
    const reload = await banctl(['reload', ...options, '--force']);
    assert.deepEqual([reload.exitCode, reload.stderr], [0, '']);
    assert.deepEqual(await Promise.all([A, B].map((from) => apache.get('/', { from }))), [200, 403]);
    await banctl(['ban', A, ...options, '--reload-interval=0']);
    assert.equal(await apache.get('/', { from: A }), 403);
    assert.deepEqual(readdirSync(lists).filter(isTemporary), []);
  });
});

suite('a line in a section of the administrator', () => {
  test('is no ban: ban bans, explain knows, and the section stays', async () => {
    await using apache = await startApache({ remoteip: true, list: '' });
    const section = `<IfDefine NEVER>\nRequire not ip ${A}\n</IfDefine>\n`;
    writeFileSync(apache.banlist, section);
    const options = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
    assert.equal((await banctl(['explain', A, `--banlist=${apache.banlist}`])).exitCode, 1);
    const { stdout } = await banctl(['ban', A, '--jail=web', ...options]);
    assert.match(stdout, new RegExp(`^${A.replaceAll('.', '\\.')} banned`));
    assert.equal(await apache.get('/', { from: A }), 403);
    await banctl(['unban', A, '--jail=web', ...options]);
    assert.equal(await apache.get('/', { from: A }), 200);
    assert.equal(readFileSync(apache.banlist, 'utf8'), section);
  });
});

suite('a directive in the list that makes its bans not count', () => {
  test('ban, explain and audit name it; without it the ban counts', async () => {
    await using apache = await startApache({ remoteip: true, list: '' });
    const places = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`];
    const ban = ['ban', A, '--jail=web', ...places, '--reload-interval=0'];
    for (const directive of ['Satisfy Any', 'AuthMerging Or']) {
      writeFileSync(apache.banlist, `${directive}\n`);
      const { exitCode, stdout } = await banctl(ban);
      assert.equal(exitCode, 0);
      assert.ok(
        stdout.includes(`${apache.banlist} line 1 admits banned visitors: ${directive}; remove it`),
        stdout,
      );
      assert.equal(await apache.get('/', { from: A }), 200);
      const explained = await banctlJson<{ enforced: boolean }>(['explain', A, ...places]);
      assert.equal(explained.enforced, false);
      assert.match((await banctl(['explain', A, ...places])).stdout, /line 1 admits banned visitors: /);
      const { findings } = await banctlJson<{ findings: { code: string; message: string }[] }>(
        ['audit', ...places, '--no-fail2ban'],
        1,
      );
      const found = findings.filter(({ code }) => code === 'not-enforced').map(({ message }) => message);
      assert.equal(found.length, 1);
      assert.ok(
        found[0]?.startsWith(`${apache.banlist} line 1: "${directive}" admits banned visitors`),
        found[0],
      );
    }
    writeFileSync(apache.banlist, 'Require all granted\n');
    assert.doesNotMatch((await banctl(ban)).stdout, /admits/);
    assert.equal(await apache.get('/', { from: A }), 403);
    assert.equal((await banctlJson<{ enforced: boolean }>(['explain', A, ...places])).enforced, true);
  });
});

suite('--widen-after', () => {
  const V = [1, 2, 3].map((last) => `203.0.113.${last}`);
  const NEIGHBOUR = '203.0.113.200';

  for (const place of ['list', 'directory'] as const) {
    test(`in the ${place}: a neighbour is refused while enough are held, and let in when fewer are`, async () => {
      await using apache = await startApache({ remoteip: true, list: '' });
      const places = [`--banlist=${apache.banlist}`];
      if (place === 'directory') places.push(`--bandir=${apache.bandir}`);
      const options = [...places, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
      const ban = (address: string, jail: string, ...more: string[]) =>
        banctl(['ban', address, `--jail=${jail}`, '--widen-after=3', ...more, ...options]);
      await Promise.all([ban(V[0] ?? '', 'web'), ban(V[1] ?? '', 'ssh')]);
      assert.equal(await apache.get('/', { from: NEIGHBOUR }), 200);
      await ban(V[2] ?? '', 'web');
      assert.equal(await apache.get('/', { from: NEIGHBOUR }), 403);
      assert.equal(await apache.get('/', { from: V[0] ?? '' }), 403);
      const list = JSON.parse((await banctl(['list', '--json', ...places])).stdout);
      const network = list.bans.find((one: { address: string }) => one.address === '203.0.113.0/24');
      assert.deepEqual(network?.holds.map((hold: { address: string }) => hold.address).sort(), V);
      assert.equal(network?.where, 'banlist');
      assert.match((await banctl(['list', ...places])).stdout, /^203\.0\.113\.0\/24 is banned because 3 of/m);
      assert.match((await banctl(['explain', NEIGHBOUR, ...places])).stdout, /because 3 of its addresses/);
      await banctl(['unban', V[0] ?? '', '--jail=web', ...options]);
      assert.equal(await apache.get('/', { from: NEIGHBOUR }), 200);
      if (place === 'list') assert.equal(await apache.get('/', { from: V[1] ?? '' }), 403);
      await ban(V[0] ?? '', 'web', `--protect=${NEIGHBOUR}`);
      assert.equal(await apache.get('/', { from: NEIGHBOUR }), 200);
    });
  }
});
