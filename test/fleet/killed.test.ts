// The agent, killed before each of its calls of the file system and of the engine: the next one finishes what it began. And
// a disk on which nothing can be said.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { formatTime } from '../../src/bans/hold.ts';
import { Engine } from '../../src/fleet/engine.ts';
import { type Engine as Server, startEngine } from '../lab/fleet.ts';
import { ownFileSystem } from '../lab/own-file-system.ts';
import { TORTURE } from '../lab/torture.ts';
import { until } from '../lab/wait.ts';

/** Of this host, and of no other. */
const OWN = '203.0.113.1';
/** Of another host: not here yet, lifted by a call here, lifted there. */
const [NEW, SPOKEN, LIFTED] = ['203.0.113.2', '203.0.113.3', '203.0.113.4'] as const;
/** More of them than are written one after another. */
const MORE = Array.from({ length: 18 }, (_, last) => `198.51.100.${last}`);
/** When all began, and when two of them were lifted. Lifts are remembered for 30 days. */
const SINCE = Math.floor(Date.now() / 1000) - 7200;
const LIFT = SINCE + 3600;
/** Of all calls, so many are tried; with --torture, which is 25 unless it is given otherwise, every call. */
const MOST_TRIED = TORTURE >= 25 ? Number.POSITIVE_INFINITY : 8 * TORTURE;

const program = join(import.meta.dirname, '..', 'lab', 'killed-agent.ts');
const fileOf = (address: string, holder: string) =>
  `# banctl | ${holder} ${address} since ${formatTime(SINCE)} for ever\nRequire not ip ${address}\n`;

suite('an agent', () => {
  let server: Server;
  before(async () => {
    server = await startEngine();
  });
  after(() => server[Symbol.asyncDispose]());

  /** What the other host has told the engine, and how this one stood when its agent began. */
  async function prepare() {
    const dir = mkdtempSync(join(tmpdir(), 'banctl-killed-'));
    await server.ask('flushall');
    const url = server.url;
    const engine = await Engine.connect(
      { url, user: undefined, password: undefined, ca: undefined, name: 'banctl' },
      () => {},
    );
    const value = { since: SINCE, until: null, reason: null };
    const hold = (field: string) => ({ push: 'hold', field, value, over: undefined }) as const;
    await engine.change('b/1', [
      hold(`${NEW} manual@b`),
      hold(`${SPOKEN} manual@b`),
      hold(`${LIFTED} web@a`),
      ...MORE.map((address) => hold(`${address} manual@b`)),
    ]);
    await engine.change('b/1', [{ push: 'lift', key: LIFTED, time: LIFT }]);
    engine.close();
    const bandir = join(dir, 'bans');
    mkdirSync(bandir);
    for (const [address, holder] of [
      [OWN, 'web'],
      [SPOKEN, 'manual@b'],
      [LIFTED, 'web'],
    ] as const)
      writeFileSync(join(bandir, address), fileOf(address, holder));
    mkdirSync(join(dir, 'fleet', 'said'), { recursive: true });
    const said = JSON.stringify({ keys: [SPOKEN], time: LIFT });
    writeFileSync(join(dir, 'fleet', 'said', '1700000000000-1-0123abcd'), said);
    const config = join(dir, 'banctl.json');
    const settings = {
      banlist: join(dir, 'banlist.conf'),
      bandir,
      fleet: url,
      'fleet-host': 'a',
      socket: join(dir, 'socket'),
    };
    const more = {
      'fleet-state': join(dir, 'fleet'),
      'no-fail2ban': true,
      'no-reload': true,
      record: join(dir, 'record'),
    };
    writeFileSync(config, JSON.stringify({ ...settings, ...more }));
    return { dir, bandir, config, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
  }
  type Place = Awaited<ReturnType<typeof prepare>>;

  function run({ dir, config }: Place, call: number): ChildProcess {
    const { port } = new URL(server.url);
    return fork(program, [dir, port, String(call), config], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  }

  async function isDone({ dir, bandir }: Place): Promise<boolean> {
    const names = readdirSync(bandir).filter((name) => /^[\d.]+$/.test(name));
    if (names.sort().join() !== [OWN, NEW, ...MORE].sort().join()) return false;
    if (readdirSync(join(dir, 'fleet', 'said')).length > 0) return false;
    const fields = await server.ask('hkeys', '{banctl}:holds');
    const shared = [`${OWN} web@a`, ...[NEW, ...MORE].map((address) => `${address} manual@b`)];
    return fields.split('\n').sort().join() === shared.sort().join();
  }

  async function finish(place: Place): Promise<number> {
    const agent = run(place, 0);
    try {
      await until('everything to be as it should', () => isDone(place), {
        detail: () => `${readdirSync(place.bandir)} ${readdirSync(join(place.dir, 'fleet', 'said'))}`,
      });
      const answer = once(agent, 'message');
      agent.send('count');
      return Number((await answer)[0]);
    } finally {
      agent.kill('SIGKILL');
      await ended(agent);
    }
  }

  const ended = async (agent: ChildProcess) => {
    if (agent.exitCode === null && agent.signalCode === null) await once(agent, 'exit');
  };

  test('killed before any of its calls loses nothing and brings nothing back', async (t) => {
    using whole = await prepare();
    const calls = await finish(whole);
    assert.ok(calls > 40, String(calls));
    const step = Math.max(calls / MOST_TRIED, 1);
    t.diagnostic(`tries ${Math.ceil(calls / step)} of ${calls} calls`);
    for (let call = 1; call <= calls; call += step) {
      using place = await prepare();
      const agent = run(place, Math.round(call));
      await until('the kill, or the end', async () => agent.signalCode !== null || (await isDone(place)));
      agent.kill('SIGKILL');
      await ended(agent);
      assert.ok(existsSync(join(place.bandir, OWN)), `after call ${call}`);
      await finish(place);
      const lifts = await server.ask('zrange', '{banctl}:lifts', '0', '-1');
      assert.deepEqual(lifts.split('\n').sort(), [SPOKEN, LIFTED], `after call ${call}`);
      const state = JSON.parse(readFileSync(join(place.dir, 'fleet', 'state.json'), 'utf8'));
      assert.equal(state.lifts[SPOKEN], LIFT, `after call ${call}`);
      for (const address of MORE)
        assert.equal(readFileSync(join(place.bandir, address), 'utf8'), fileOf(address, 'manual@b'));
    }
  });
});

test('an unban that cannot be said on a full disk changes nothing', async () => {
  await using disk = await ownFileSystem();
  const at = (name: string) => join(disk.directory, name);
  const config = join(disk.outside, 'banctl.json');
  const places = { banlist: at('banlist.conf'), bandir: at('bans'), 'fleet-state': at('fleet') };
  const settings = { ...places, fleet: 'redis://127.0.0.1:1', 'no-fail2ban': true, 'no-reload': true };
  writeFileSync(config, JSON.stringify(settings));
  const options = [`--config=${at('banctl.json')}`];
  assert.equal((await disk.banctl(['ban', OWN, ...options])).exitCode, 0);
  for (const room of [0, 1]) {
    await disk.leave('inodes', room);
    const { exitCode, stderr } = await disk.banctl(['unban', OWN, ...options]);
    assert.equal(exitCode, 73, stderr);
    assert.match(stderr, /^banctl: .*fleet.*no space is left/);
    assert.ok(existsSync(join(disk.outside, 'bans', OWN)));
    await disk.free();
  }
  assert.equal((await disk.banctl(['unban', OWN, ...options])).exitCode, 0);
  assert.equal(readdirSync(join(disk.outside, 'fleet', 'said')).length, 1);
});
