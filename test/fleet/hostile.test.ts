// An engine that another program, or an attacker, writes to: what is no ban of a fleet stays out, and takes no memory.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Engine, type Host, startEngine, startHost } from '../lab/fleet.ts';
import { banNames, ownMegabytes } from '../lab/served.ts';
import { read } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

const VALUE = '[1000,null,null]';
const GOOD = ['203.0.113.1 j@evil', '2001:db8::1 manual@evil'];
/** Each once, and then with numbers. */
const ODD: readonly (readonly [field: string, value: string])[] = [
  ['0.0.0.0/0 j@evil', VALUE],
  ['0.0.0.0/1 j@evil', VALUE],
  ['::/3 j@evil', VALUE],
  ['127.0.0.1 j@evil', VALUE],
  ['198.51.100.7 j@evil', VALUE],
  ['198.51.100.0/25 j@evil', VALUE],
  ['198.0.0.0/8 j@evil', VALUE],
  ['203.0.113.2\nRequire all granted j@evil', VALUE],
  ['203.0.113.2 j\nRequire all granted@evil', VALUE],
  ['203.0.113.2 j@evil\u0000', VALUE],
  ['../../etc/passwd j@evil', VALUE],
  ['203.0.113.2 j@e/vil', VALUE],
  ['203.0.113.2 @evil', VALUE],
  ['203.0.113.2', VALUE],
  ['203.0.113.2 manual', VALUE],
  ['203.0.113.02 j@evil', VALUE],
  ['2001:DB8::2 j@evil', VALUE],
  ['203.0.113.2 j@evil', '[1000,null,"a\\nRequire all granted"]'],
  ['203.0.113.2 i@evil', '[1000,null,"\\u001b[31m"]'],
  ['203.0.113.2 k@evil', '[1e3,null,null]'],
  ['203.0.113.2 l@evil', '[-1,null,null]'],
  ['203.0.113.2 m@evil', '[1000,99999999999999,null]'],
  ['203.0.113.2 n@evil', '{"since":1000}'],
  // Nothing could lift it: lifts are never from the future.
  ['203.0.113.2 q@evil', '[4000000000,null,null]'],
  ['203.0.113.2 o@evil', `[1000,null,"${'x'.repeat(100_000)}"]`],
  ['203.0.113.2 p@evil', '['.repeat(50_000)],
];
const MANY = 20_000;
/** Of an agent, whatever the engine has. */
const MOST_MEGABYTES = 150;

suite('an agent whose engine holds what no host of the fleet wrote', () => {
  let engine: Engine;
  let host: Host;

  before(async () => {
    engine = await startEngine();
    host = await startHost({ name: 'a', engine, config: { protect: ['198.51.100.0/24'] } });
    await host.connected();
  });
  after(async () => {
    await host?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  /** Many commands at once. */
  function send(commands: readonly (readonly string[])[]): Promise<void> {
    const texts = commands.map(
      (words) =>
        `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`,
    );
    return new Promise((resolve, reject) => {
      const socket = connect(Number(new URL(engine.url).port), '127.0.0.1').on('error', reject);
      socket.on('close', () => resolve()).resume();
      socket.end(texts.join(''));
    });
  }
  const detail = () => `${host.daemon().output()}${JSON.stringify(host.status())}`;
  const set = (field: string, value: string) => ['hset', '{banctl}:holds', field, value];

  test('makes the bans that are right, and no other', async () => {
    const many = Array.from({ length: MANY }, (_, number) => {
      const [field = '', value = ''] = ODD[number % ODD.length] ?? [];
      return set(`${field}${number}`, value.slice(0, 1000));
    });
    await send([
      ...ODD.map(([field, value]) => set(field, value)),
      ...many,
      ...GOOD.map((field) => set(field, VALUE)),
    ]);
    // Nothing of this is in the log: the next beat finds that the sizes differ.
    await until('the good bans', () => host.holds().join() === GOOD.toSorted().join(), { detail });
    await until('the others to be counted', () => (host.status()?.refused ?? 0) > MANY / 2, { detail });
    assert.deepEqual(host.holds(), GOOD.toSorted());
    for (const name of banNames(host.bandir ?? ''))
      assert.match(
        read(join(host.bandir ?? '', name)),
        /^# banctl \| \S+ \S+ since \S+ for ever\nRequire not ip \S+\n$/,
      );
    assert.equal(read(host.list), '');
    const detailOfMemory = () => `${ownMegabytes(host.daemon())} MB`;
    const isSmall = () => ownMegabytes(host.daemon()) < MOST_MEGABYTES;
    await until('little memory', isSmall, { detail: detailOfMemory });
    const { stdout } = await host.run('audit');
    assert.match(stdout, /bans of other servers are not made here/);
  });

  test('reads on after a log that cannot be understood', async () => {
    const log = '{banctl}:log';
    await send([
      ['xadd', log, '*', 'n', '1', 'by', 'evil', 'c', 'no json'],
      ['xadd', log, '*', 'n', 'NaN', 'by', 'evil/\u0007', 'c', '[["h"]]'],
      ['xadd', log, '*', 'n', '-1', 'c', '[[],[null,{}],["l","*",1e308]]'],
      ['xadd', log, '*', 'x', 'y'],
      ['zadd', '{banctl}:lifts', '5', '203.0.113.1; rm', '6', 'x'.repeat(10_000)],
      ['zadd', '{banctl}:lifts', '4000000000', '*', 'inf', '203.0.113.9'],
      ['hset', '{banctl}:hosts', 'evil\u001b[31m', '[1]', 'b', '{"seen":1e300,"machine":5}', 'c', '{'],
    ]);
    await host.done('ban', '203.0.113.9');
    const field = ['hget', '{banctl}:holds', '203.0.113.9 manual@a'];
    await until('a ban of this host to get there', async () => (await engine.ask(...field)) !== '', {
      detail,
    });
    assert.deepEqual(host.holds(), [...GOOD, '203.0.113.9 manual'].toSorted());
    assert.ok(!(await host.done('fleet', 'status')).includes('\u001b'));
  });
});
