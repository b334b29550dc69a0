// The engine by itself, a real redis-server: its scripts, snapshot and log, and what is said when it refuses.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { Engine, type EngineOptions } from '../../src/fleet/engine.ts';
import type { Push } from '../../src/fleet/rules.ts';
import { freePort, type Engine as Server, startEngine, startTlsEngine } from '../lab/fleet.ts';
import { until } from '../lab/wait.ts';

const X = '203.0.113.5';
const FIELD = `${X} j@a`;

const options = (server: { url: string }, more: Partial<EngineOptions> = {}): EngineOptions => ({
  url: server.url,
  user: undefined,
  password: undefined,
  ca: undefined,
  name: 'banctl',
  ...more,
});
const hold = (since: number, over?: string): Push => ({
  push: 'hold',
  field: FIELD,
  value: { since, until: null, reason: 'a "b" \\ é' },
  over,
});

async function connect(server: { url: string }, more: Partial<EngineOptions> = {}) {
  const engine = await Engine.connect(options(server, more), () => {});
  return Object.assign(engine, {
    [Symbol.dispose]: () => engine.close(),
  });
}

const said = (server: { url: string }, more: Partial<EngineOptions> = {}) =>
  connect(server, more).then(
    async (engine) => {
      try {
        await engine.beat('a', '{}');
        return 'it works';
      } catch (error) {
        const { explain } = await import('../../src/fleet/engine-errors.ts');
        return explain(engine.reason(error), server);
      } finally {
        engine.close();
      }
    },
    (error: Error) => error.message,
  );

suite('the engine', { concurrency: 2 }, () => {
  test('keeps what a host writes, and logs what took effect', async () => {
    await using server = await startEngine();
    using engine = await connect(server);
    const { id } = await engine.snapshot();
    assert.equal(await engine.change('a/1', [hold(1000)]), 1);
    assert.equal(await engine.change('a/1', [hold(1000)]), 0);
    const [entry] = await engine.read(id);
    const value = '[1000,null,"a \\"b\\" \\\\ é"]';
    assert.deepEqual([entry?.n, entry?.by, entry?.changes], [1, 'a/1', [['h', FIELD, value]]]);
    assert.equal(await engine.change('b/1', [hold(900, '')]), 0);
    assert.equal(await engine.change('b/1', [hold(1100, value)]), 1);
    assert.equal(await engine.change('b/1', [{ push: 'drop', field: FIELD, seen: value }]), 0);
    assert.equal(await engine.change('b/1', [{ push: 'lift', key: X, time: 1100 }]), 1);
    assert.equal(await engine.change('b/1', [{ push: 'lift', key: X, time: 1000 }]), 0);
    const { n, holds, lifts } = await engine.snapshot();
    assert.deepEqual([n, [...holds.keys()], [...lifts]], [3, [FIELD], [[X, 1100]]]);
    const beat = await engine.beat('a', '{"session":"1"}');
    assert.deepEqual([beat.n, beat.holds, beat.lifts, beat.before], [3, 1, 1, '']);
    assert.equal((await engine.beat('a', '{}')).before, '{"session":"1"}');
    assert.equal(await engine.change('a/1', [], 2000), 1);
    assert.equal((await engine.snapshot()).lifts.size, 0);
  });

  test('takes no time from the future', async () => {
    await using server = await startEngine();
    using engine = await connect(server);
    await engine.change('a/1', [hold(9_000_000_000), { push: 'lift', key: '*', time: 9_000_000_000 }]);
    const { holds, lifts } = await engine.snapshot();
    const now = Date.now() / 1000;
    assert.ok(JSON.parse(holds.get(FIELD) ?? '')[0] <= now);
    assert.ok((lifts.get('*') ?? 0) <= now);
  });

  test('forgets lifts that another clock, or another program, dated in the future', async () => {
    await using server = await startEngine();
    using engine = await connect(server);
    await server.ask('zadd', '{banctl}:lifts', '9000000000', '*', 'inf', X);
    assert.equal(await engine.change('a/1', [], 0), 1);
    assert.equal(await engine.change('a/1', [{ push: 'lift', key: '*', time: 1000 }], 0), 1);
    assert.deepEqual([...(await engine.snapshot()).lifts], [['*', 1000]]);
  });

  test('needs no more than the line of the documentation', async () => {
    await using server = await startEngine();
    const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'fleet.md'), 'utf8');
    const line = /^ACL (SETUSER banctl on >PASSWORD [^`]*)```/m.exec(page)?.[1]?.trim().split(/\s+/) ?? [];
    assert.equal(await server.ask('ACL', ...line), 'OK');
    const user = { user: 'banctl', password: 'PASSWORD' };
    using engine = await connect(server, user);
    await engine.change(
      'a/1',
      [hold(1000), { push: 'lift', key: X, time: 5 }, { push: 'drop', field: 'x', seen: '' }],
      2,
    );
    await engine.beat('a', '{}', ['gone']);
    const { id } = await engine.snapshot();
    assert.deepEqual(await engine.read('0').then((entries) => entries.length), 1);
    assert.notEqual(id, '0');
    await server.ask('ACL', 'SETUSER', 'banctl', '-hset');
    assert.match(
      await said(server, user),
      /its ACL forbids what the fleet needs; set the line of docs\/fleet\.md/,
    );
    assert.match(await said(server, { ...user, name: 'other' }), /its ACL forbids/);
    assert.match(
      await said(server, { ...user, password: 'wrong' }),
      /it refuses the password; correct --fleet-password-file/,
    );
  });

  test('that asks for a password, has no memory, or is a replica, says what it is', async () => {
    await using server = await startEngine();
    await server.ask('config', 'set', 'maxmemory', '1');
    assert.match(await said(server), /no memory left; raise maxmemory/);
    await server.ask('config', 'set', 'maxmemory', '0');
    await server.ask('replicaof', '127.0.0.1', '1');
    assert.match(await said(server), /read-only replica; give --fleet the primary/);
    await server.ask('replicaof', 'no', 'one');
    await server.ask('config', 'set', 'requirepass', 'secret');
    assert.match(await said(server), /asks for a password; give --fleet-password-file/);
    assert.equal(await said(server, { password: 'secret' }), 'it works');
    // Again and again: by chance, the answers to the password and to what follows it come together.
    for (let again = 0; again < 20; again += 1)
      assert.match(
        await said(server, { password: 'wrong' }),
        /it refuses the password; correct --fleet-password-file/,
      );
    assert.match(await said({ url: `redis://127.0.0.1:${await freePort()}` }), /nothing listens there/);
    assert.match(await said({ url: 'unix:/nowhere/socket' }), /there is no such socket/);
  });

  test('is left where a reply would take all memory', async () => {
    await using server = await startEngine();
    using engine = await connect(server);
    const fill = "for i = 1, 70 do redis.call('HSET', KEYS[1], i, string.rep('x', 1048576)) end";
    await server.ask('eval', fill, '1', '{banctl}:holds');
    const { explain } = await import('../../src/fleet/engine-errors.ts');
    await assert.rejects(engine.snapshot(), (error) => {
      // A slow machine gives up on it before it is too long.
      assert.match(
        explain(engine.reason(error), server),
        /what no fleet writes; delete them|does not answer/,
      );
      return true;
    });
  });

  test('that hangs is noticed within five seconds', async () => {
    await using server = await startEngine();
    let ended = 0;
    const engine = await Engine.connect(options(server), () => {
      ended += 1;
    });
    process.kill(await pidOf(server), 'SIGSTOP');
    const began = performance.now();
    await assert.rejects(engine.read('$'));
    assert.ok(performance.now() - began < 5000);
    engine.close();
    assert.match(await said(server), /does not answer/);
    process.kill(await pidOf(server), 'SIGCONT');
    assert.equal(ended, 0);
  });

  test('of a cluster names the node that has the keys', async () => {
    await using one = await startEngine(['--cluster-enabled', 'yes']);
    await using two = await startEngine(['--cluster-enabled', 'yes']);
    const port = (server: Server) => new URL(server.url).port;
    await one.ask('cluster', 'meet', '127.0.0.1', port(two));
    await two.ask('cluster', 'addslotsrange', '0', '16383');
    await one.ask('config', 'set', 'cluster-require-full-coverage', 'no');
    await until('the cluster', async () =>
      /cluster_slots_assigned:16384/.test(await one.ask('cluster', 'info')),
    );
    await until('an answer', async () => (await said(one)) === 'it works');
    assert.equal(await two.ask('hlen', '{banctl}:hosts'), '1');
  });

  test('with TLS is trusted only by its authority', async () => {
    await using server = await startTlsEngine();
    const url = server.secure;
    const authority = (name: 'ca' | 'other') => readFileSync(server.authority(name), 'utf8');
    assert.equal(await said({ url }, { ca: authority('ca') }), 'it works');
    // Again and again: an error of a connection that nothing listens to would end the process, now and then.
    for (let again = 0; again < 20; again += 1)
      assert.match(
        await said({ url }, { ca: authority('other') }),
        /not of that authority; correct --fleet-ca/,
      );
    assert.match(await said({ url }), /not of that authority/);
  });
});

async function pidOf(server: Server): Promise<number> {
  return server.daemon().pid;
}
