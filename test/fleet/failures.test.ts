// What becomes of two hosts' bans while the engine fails in one way after another, and what audit says to do.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Engine, type Host, startEngine, startHost, startTlsEngine } from '../lab/fleet.ts';
import { until } from '../lab/wait.ts';

/** An hour ago, so that the audit takes it for something that lasts. */
const LONG_AGO = new Date(Date.now() - 3_600_000).toISOString();

/** What the audit of a host says of the fleet, once its trouble lasts. */
async function audited({ dir, state, run }: Host): Promise<string> {
  const later = join(dir, 'later');
  mkdirSync(later, { recursive: true });
  const status = JSON.parse(readFileSync(join(state, 'status.json'), 'utf8'));
  const at = new Date().toISOString();
  writeFileSync(join(later, 'status.json'), JSON.stringify({ ...status, cutSince: LONG_AGO, at }));
  const { stdout } = await run('audit', '--json', `--fleet-state=${later}`);
  const findings: { code: string; message: string }[] = JSON.parse(stdout).findings;
  return findings
    .flatMap(({ code, message }) => (code.startsWith('fleet') ? `${code} ${message}` : []))
    .join('\n');
}

suite('two hosts whose engine', () => {
  let engine: Engine;
  let hosts: [Host, Host];
  let number = 0;
  /** Banned for good, one for each failure. */
  const kept: string[] = [];

  before(async () => {
    engine = await startEngine(['--enable-debug-command', 'local', '--dbfilename', 'copy.rdb']);
    hosts = [await startHost({ name: 'a', engine }), await startHost({ name: 'b', engine })];
    for (const host of hosts) await host.connected();
  });
  after(async () => {
    for (const host of hosts ?? []) await host[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  const detail = () =>
    hosts
      .map((host) => `${host.holds()}\n${host.daemon().output()}${JSON.stringify(host.status())}`)
      .join('\n');
  const banned = (address: string, isBanned = true, which = hosts) =>
    until(
      `${address} to be ${isBanned ? 'banned' : 'free'}`,
      () => which.every((host) => host.banned().includes(address) === isBanned),
      { detail },
    );
  /** A ban that is to be lifted while the engine is away, and one that is made then. */
  const names = () => {
    number += 1;
    return { lifted: `203.0.113.${number}`, made: `198.51.100.${number}` };
  };

  /** Bans and lifts while the engine fails: that counts here, is said by the audit, and counts everywhere afterwards. */
  async function endure(fail: () => Promise<unknown>, says: RegExp, repair: () => Promise<unknown>) {
    const [a, b] = hosts;
    const { lifted, made } = names();
    await a.done('ban', lifted, '--jail', 'web');
    await banned(lifted);
    await fail();
    await until('the agent to notice', () => says.test(String(a.status()?.error)), { detail });
    await a.done('ban', made, '--jail', 'web');
    await b.done('unban', lifted);
    assert.ok(a.banned().includes(made));
    assert.ok(!b.banned().includes(lifted));
    assert.match(await audited(a), new RegExp(`^fleet-cut .* is cut off .*${says.source}`));
    await repair();
    kept.push(made);
    for (const address of kept) await banned(address);
    await banned(lifted, false);
    assert.equal(await audited(a), '');
  }

  const set = (name: string, value: string) => engine.ask('config', 'set', name, value);

  test('is killed, and comes back empty', () =>
    endure(
      () => engine.daemon().end('SIGKILL'),
      /nothing listens there; start it, or correct --fleet/,
      () => engine.start(),
    ));

  test('hangs', () =>
    endure(
      async () => process.kill(engine.daemon().pid, 'SIGSTOP'),
      /does not answer; is it hung, or does a firewall/,
      async () => process.kill(engine.daemon().pid, 'SIGCONT'),
    ));

  test('has no memory left', () =>
    endure(
      () => set('maxmemory', '1'),
      /no memory left; raise maxmemory/,
      () => set('maxmemory', '0'),
    ));

  test('became a read-only replica', () =>
    endure(
      () => engine.ask('replicaof', '127.0.0.1', '1'),
      /read-only replica; give --fleet the primary/,
      () => engine.ask('replicaof', 'no', 'one'),
    ));

  test('asks for a password', () =>
    endure(
      async () => {
        await set('requirepass', 'secret');
        // Those that are connected need none.
        await engine.ask('-a', 'secret', 'client', 'kill', 'type', 'normal');
      },
      /asks for a password; give --fleet-password-file/,
      () => engine.ask('-a', 'secret', 'config', 'set', 'requirepass', ''),
    ));

  test('permits too little', () =>
    endure(
      () => engine.ask('acl', 'setuser', 'default', '-hset'),
      /its ACL forbids what the fleet needs; set the line of docs\/fleet\.md/,
      () => engine.ask('acl', 'setuser', 'default', '+hset'),
    ));

  test('runs an older copy of its data: nothing that was lifted comes back, nothing is lost', async () => {
    const [a, b] = hosts;
    const { lifted, made } = names();
    await a.done('ban', lifted, '--jail', 'web');
    await banned(lifted);
    assert.equal(await engine.ask('save'), 'OK');
    cpSync(join(engine.dir, 'copy.rdb'), join(engine.dir, 'older.rdb'));
    await b.done('unban', lifted);
    await b.done('ban', made);
    await banned(lifted, false);
    await banned(made);
    const losses = a.status()?.losses ?? 0;
    await engine.daemon().end('SIGKILL');
    cpSync(join(engine.dir, 'older.rdb'), join(engine.dir, 'copy.rdb'));
    await engine.start();
    const field = (address: string, holder: string) =>
      engine.ask('hexists', '{banctl}:holds', `${address} ${holder}`);
    await until('the engine to be rebuilt', async () => (await field(made, 'manual@b')) === '1', { detail });
    await until('what was lifted to go', async () => (await field(lifted, 'web@a')) === '0', { detail });
    await until('the loss to be counted', () => a.status()?.losses === losses + 1, { detail });
    for (const address of [...kept, made]) await banned(address);
    await banned(lifted, false);
  });
});

suite('a host', { concurrency: 2 }, () => {
  /** What it bans while it is cut off counts here, and goes to the engine once what the audit names is put right. */
  async function endure(host: Host, server: Engine, says: RegExp, repair: () => Promise<unknown>) {
    await until('the agent to notice', () => says.test(String(host.status()?.error)), {
      detail: () => `${host.daemon().output()}${JSON.stringify(host.status())}`,
    });
    await host.done('ban', '203.0.113.1');
    assert.match(await audited(host), new RegExp(`^fleet-cut .* is cut off .*${says.source}`));
    await repair();
    await host.connected();
    await until('the ban', async () => (await server.ask('hlen', '{banctl}:holds')) === '1');
    assert.equal(await audited(host), '');
  }

  test('with a wrong password', async () => {
    await using engine = await startEngine();
    const file = join(engine.dir, 'password');
    writeFileSync(file, 'wrong\n');
    // As a user of its own, so that the test itself needs no password.
    await engine.ask('acl', 'setuser', 'banctl', 'on', '>right', '~*', '+@all');
    const config = { 'fleet-user': 'banctl', 'fleet-password-file': file };
    await using host = await startHost({ name: 'a', engine, config });
    await endure(host, engine, /it refuses the password; correct --fleet-password-file/, async () => {
      writeFileSync(file, 'right\n');
      await host.daemon().end('SIGTERM');
      await host.start();
    });
  });

  test('with a wrong authority', async () => {
    await using engine = await startTlsEngine();
    const file = join(engine.dir, 'authority');
    cpSync(engine.authority('other'), file);
    await using host = await startHost({
      name: 'a',
      engine: { url: engine.secure },
      config: { 'fleet-ca': file },
    });
    await endure(host, engine, /its certificate is not of that authority; correct --fleet-ca/, async () => {
      cpSync(engine.authority('ca'), file);
      await host.daemon().end('SIGTERM');
      await host.start();
    });
  });

  test('at a node of a cluster that has not the keys', async () => {
    const [one, two] = [
      await startEngine(['--cluster-enabled', 'yes']),
      await startEngine(['--cluster-enabled', 'yes']),
    ];
    await using rest = new AsyncDisposableStack();
    for (const engine of [one, two]) rest.use(engine);
    await one.ask('config', 'set', 'cluster-require-full-coverage', 'no');
    await using host = await startHost({ name: 'a', engine: one });
    await endure(host, two, /its cluster has moved the keys; it is asked again/, async () => {
      await one.ask('cluster', 'meet', '127.0.0.1', new URL(two.url).port);
      await two.ask('cluster', 'addslotsrange', '0', '16383');
    });
  });
});
