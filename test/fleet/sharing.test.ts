// Bans that servers share over a real redis-server: each host is a `banctl serve` with a list and a directory of its own.
import assert from 'node:assert/strict';
import { readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Engine, type Host, startEngine, startHost } from '../lab/fleet.ts';
import { until } from '../lab/wait.ts';

const X = '203.0.113.5';
const Y = '2001:db8::5';

suite('three hosts', () => {
  let engine: Engine;
  let hosts: [Host, Host, Host];

  before(async () => {
    engine = await startEngine();
    const start = (name: string) => startHost({ name, engine });
    hosts = [await start('a'), await start('b'), await start('c')];
    for (const host of hosts) await host.connected();
  });
  after(async () => {
    for (const host of hosts) await host[Symbol.asyncDispose]();
    await engine[Symbol.asyncDispose]();
  });

  test('ban what one bans, and say who and why', async () => {
    const [a, b, c] = hosts;
    await a.done('ban', X, Y, '--reason', 'tries passwords', '--for', '1h');
    for (const host of [b, c]) await host.seen(`${X} manual@a`, `${Y} manual@a`);
    assert.match(await c.done('explain', X), /by manual@a since .*: tries passwords/);
    assert.equal(JSON.parse(await b.done('list', '--json')).bans[0].holds[0].holder, 'manual@a');
  });

  test('lift everywhere what one lifts, whoever banned it', async () => {
    const [a, b, c] = hosts;
    assert.match(await c.done('unban', X), /unbanned/);
    for (const host of [a, b, c]) await until('it to go', () => !host.banned().includes(X));
    await a.done('ban', X, '--jail', 'web');
    for (const host of [b, c]) await host.seen(`${X} web@a`, `${Y} manual@a`);
  });

  test('lift the hold of one jail where its own unban does, and keep others', async () => {
    const [a, b] = hosts;
    await b.done('ban', X, '--for', '10m');
    await a.seen(`${X} web`, `${X} manual@b`, `${Y} manual`);
    assert.match(await a.done('unban', X, '--jail', 'web'), /still held by manual@b/);
    await b.seen(`${X} manual`, `${Y} manual@a`);
  });

  test('keep what a flush of a jail takes from its host, as JAIL@HOST', async () => {
    const [a, b] = hosts;
    await a.done('ban', '203.0.113.9', '--jail', 'web');
    await b.seen('203.0.113.9 web@a', `${X} manual`, `${Y} manual@a`);
    await a.done('flush', '--jail', 'web');
    await a.seen('203.0.113.9 web@a', `${X} manual@b`, `${Y} manual`);
    await a.done('ban', '203.0.113.9', '--jail', 'web');
    await a.seen('203.0.113.9 web', `${X} manual@b`, `${Y} manual`);
  });

  test('heal a list and a directory that were deleted', async () => {
    const [a, b] = hosts;
    // At once, or the agent heals what has gone while the rest still goes.
    renameSync(a.bandir ?? '', join(a.dir, 'gone'));
    rmSync(join(a.dir, 'gone'), { recursive: true });
    rmSync(a.list, { force: true });
    await a.seen('203.0.113.9 web@a', `${X} manual@b`, `${Y} manual@a`);
    await b.seen('203.0.113.9 web@a', `${X} manual`, `${Y} manual@a`);
  });

  test('notice that the engine lost its data, and rebuild it', async () => {
    const [a, , c] = hosts;
    // A host that has never been in step would take what the engine lacks for lifted.
    for (const host of hosts)
      await until('a host in step', () => typeof host.status()?.lastSync === 'string');
    const holds = Number(await engine.ask('hlen', '{banctl}:holds'));
    assert.equal(holds, 3);
    await engine.ask('flushall');
    await until(
      'the rebuilt engine',
      async () => (await engine.ask('hlen', '{banctl}:holds')) === String(holds),
    );
    await until('a count of losses', () => a.status()?.losses === 1);
    await c.seen('203.0.113.9 web@a', `${X} manual@b`, `${Y} manual@a`);
    for (const key of ['holds', 'lifts', 'log', 'seq', 'hosts']) {
      await engine.ask('del', `{banctl}:${key}`);
      if (key === 'holds')
        await until('holds', async () => (await engine.ask('hlen', '{banctl}:holds')) === String(holds));
    }
    await until('lifts', async () => Number(await engine.ask('zcard', '{banctl}:lifts')) > 0);
    await c.seen('203.0.113.9 web@a', `${X} manual@b`, `${Y} manual@a`);
  });

  test('lift everything at once', async () => {
    const [a, b, c] = hosts;
    await b.done('flush', '--all');
    for (const host of [a, b, c]) await host.seen();
    await until('an empty engine', async () => (await engine.ask('hlen', '{banctl}:holds')) === '0');
    await until('nothing left to say', () => readdirSync(join(b.state, 'said')).length === 0);
  });

  test('show each other', async () => {
    const [a] = hosts;
    // Each host says again at its next beat that it is there.
    await until('all hosts', () => a.status()?.hosts.length === 3);
    const status = JSON.parse(await a.done('fleet', 'status', '--json'));
    assert.deepEqual(
      status.hosts.map(({ name }: { name: string }) => name),
      ['a', 'b', 'c'],
    );
    assert.equal(status.connected, true);
    assert.match(await a.done('fleet', 'status'), /a in the fleet banctl: connected/);
  });

  test('say of a stopped server that it was stopped', async () => {
    const [, , c] = hosts;
    await c.daemon().end('SIGTERM');
    const { exitCode, stdout } = await c.run('fleet', 'status');
    assert.equal(exitCode, 1);
    assert.match(
      stdout,
      /^c in the fleet banctl: not connected since \S+: banctl serve was stopped; systemctl start/,
    );
  });
});
