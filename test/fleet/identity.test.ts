// Hosts that differ: two with one name, a cloned disk, clocks that are off, and options of their own.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { type Engine, type Host, type HostOptions, startEngine, startHost } from '../lab/fleet.ts';
import { banNames } from '../lab/served.ts';
import { read } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

// Each test has addresses of its own: a lift counts for bans that a slow clock dates before it.

suite('a fleet', () => {
  let engine: Engine;
  const rest = new AsyncDisposableStack();
  const start = async (name: string, more: Partial<HostOptions> = {}): Promise<Host> => {
    const host = rest.use(await startHost({ name, engine, ...more }));
    await host.connected();
    return host;
  };

  before(async () => {
    engine = rest.use(await startEngine());
  });
  after(() => rest.disposeAsync());

  test('with two hosts of one name gives the later one another, and keeps the bans of both', async () => {
    const [X, Y] = ['203.0.113.1', '203.0.113.2'] as const;
    const first = await start('twin');
    await first.done('ban', X);
    const second = await start('twin');
    await until('another name', () => second.status()?.host !== 'twin');
    const name = second.status()?.host ?? '';
    assert.match(name, /^twin-[0-9a-f]{4}$/);
    await second.done('ban', Y);
    await first.seen(`${X} manual`, `${Y} manual@${name}`);
    await second.seen(`${X} manual@twin`, `${Y} manual`);
    const audited = await second.run('audit');
    assert.match(
      audited.stdout,
      new RegExp(`this one is called ${name} now: give each its own --fleet-host`),
    );
    await second.daemon().end();
    await second.start();
    await second.connected();
    assert.equal(second.status()?.host, name);
    assert.equal(first.status()?.host, 'twin');
    await first.done('unban', X, Y);
    for (const host of [first, second]) await host.seen();
    for (const host of [first, second]) await host.daemon().end();
  });

  test('takes a cloned disk for another host: nothing is lifted, and both share', async () => {
    const called = (name: string): Partial<HostOptions> => ({
      program: ['unshare', '--uts', 'sh', '-c', `hostname ${name} && exec "$0" "$@"`, executable],
      config: { 'fleet-host': undefined },
    });
    const X = '203.0.113.3';
    const image = await start('web1', called('web1'));
    await image.done('ban', X, '--jail', 'web');
    await until('the ban to get there', async () => (await engine.ask('hlen', '{banctl}:holds')) === '1');
    await image.daemon().end();
    const dir = mkdtempSync(join(tmpdir(), 'banctl-clone-'));
    rest.defer(() => rmSync(dir, { recursive: true }));
    for (const name of ['fleet', 'bans']) cpSync(join(image.dir, name), join(dir, name), { recursive: true });
    await image.start();
    const clone = await start('web2', { ...called('web2'), dir });
    assert.equal(clone.status()?.host, 'web2');
    assert.equal(image.status()?.host, 'web1');
    await image.seen(`${X} web`, `${X} web@web2`);
    await clone.seen(`${X} web`, `${X} web@web1`);
    assert.equal((await image.done('unban', X)).includes('unbanned'), true);
    for (const host of [image, clone]) await host.seen();
    for (const host of [image, clone]) await host.daemon().end();
  });

  test('has each host widen and protect by its own options, and an unban of the range lifts what was asked for', async () => {
    const [X, Y, Z] = ['203.0.113.65', '203.0.113.66', '198.18.7.10'] as const;
    const narrow = await start('narrow');
    const wide = await start('wide', { config: { 'ipv4-prefix': 24, protect: ['198.18.7.9'] } });
    await narrow.done('ban', X, Y, Z);
    await wide.seen(`${X} manual@narrow`, `${Y} manual@narrow`);
    assert.deepEqual(wide.banned(), ['203.0.113.0/24']);
    await until('the third to be refused', () => wide.status()?.refused === 1);
    assert.match(await wide.done('unban', X), /still held by manual@narrow/);
    await narrow.seen(`${Y} manual`, `${Z} manual`);
    assert.match(await wide.done('unban', '203.0.113.0/24'), /unbanned/);
    await narrow.seen(`${Z} manual`);
    await wide.seen();
    await narrow.done('unban', Z);
    for (const host of [narrow, wide]) await host.daemon().end();
  });

  /** Two seconds and two hours: bans and unbans by hosts with other clocks count all the same. */
  for (const [number, offset] of ['+2s', '-2s', '+2h', '-2h'].entries())
    test(`with a clock that is off by ${offset} bans, lifts, and says so`, async () => {
      const [X, Y] = [`198.51.100.${number}`, `198.51.100.1${number}`] as const;
      const right = await start(`right${number}`);
      const wrong = await start(`wrong${number}`, { program: ['env', ...clock(offset), executable] });
      await wrong.done('ban', X);
      await right.seen(`${X} manual@wrong${number}`);
      assert.ok(sinceOf(right) <= Date.now() / 1000 + 1, 'it begins in the future');
      await right.done('unban', X);
      for (const host of [right, wrong]) await host.seen();
      await right.done('ban', Y);
      await wrong.seen(`${Y} manual@right${number}`);
      await wrong.done('unban', Y);
      for (const host of [right, wrong]) await host.seen();
      const far = /h$/.test(offset);
      await until('the beat', () => Math.abs(wrong.status()?.clockAhead ?? 0) > (far ? 7000 : 1));
      if (far) {
        const { stdout } = await wrong.run('audit');
        assert.match(stdout, /s (?:ahead of|behind) the engine's, .* set it by NTP/);
      }
      for (const host of [right, wrong]) await host.daemon().end();
    });
});

/** Of the only ban, in seconds. */
function sinceOf({ bandir = '' }: Host): number {
  const [name = ''] = banNames(bandir);
  return Date.parse(/since (\S+)/.exec(read(join(bandir, name)))?.[1] ?? '') / 1000;
}

/** As in a machine whose clock was set, the time since boot goes on as it did. */
function clock(offset: string): string[] {
  const library = readdirSync('/usr/lib')
    .map((name) => join('/usr/lib', name, 'faketime'))
    .find((path) => read(join(path, 'libfaketime.so.1')) !== '');
  const variables = { NO_FAKE_STAT: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1', FAKETIME: offset };
  return [
    `LD_PRELOAD=${join(library ?? '', 'libfaketime.so.1')}`,
    ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
  ];
}
