// Storms: many bans, slow visitors, and reloads that fail; the built executable and a real Apache.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Apache, startApache } from '../lab/apache.ts';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { processesNaming } from '../lab/processes.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

/** /etc/apache2/mods-available/mpm_event.conf of Debian. */
const debian =
  'StartServers 2\nMinSpareThreads 25\nMaxSpareThreads 75\nThreadLimit 64\nThreadsPerChild 25\nMaxRequestWorkers 150';
/** With more children a request after a reload does not wait for a new one: Apache starts one a second. */
const quick =
  'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';

const addresses = (count: number) => Array.from({ length: count }, (_, n) => `198.18.${n >> 8}.${n & 255}`);
const options = ({ banlist, ctl }: Apache) => [`--banlist=${banlist}`, `--apachectl=${ctl}`];
const waiters = ({ banlist }: Apache) => processesNaming(`reload --when-due --banlist=${banlist}`);
/** What comes only at the end of an interval. */
const AT_ITS_END = { limit: 60_000 };
const quiet = (apache: Apache) => until('the waiter to end', () => waiters(apache).length === 0, AT_ITS_END);

interface State {
  readonly spacing: number;
}
const stateOf = ({ banlist }: Apache): State => JSON.parse(readFileSync(`${banlist}.state`, 'utf8').slice(2));

/** Visitors who take a file and read nothing of it, until they are let go. */
function slowVisitors(apache: Apache) {
  const taken: ReturnType<typeof request>[] = [];
  return {
    /** One comes, if Apache answers within `limit` ms. */
    async come(limit = 3000): Promise<boolean> {
      const slow = request({
        port: apache.port,
        path: '/slow.bin',
        headers: { Host: 'localhost' },
        agent: false,
      });
      taken.push(slow);
      slow.on('error', () => {});
      const answered = new Promise<boolean>((resolve) => slow.on('response', () => resolve(true)).end());
      return await Promise.race([answered, sleep(limit, false, { ref: false })]);
    },
    [Symbol.dispose]() {
      for (const slow of taken) slow.destroy();
    },
  };
}

/** True if Apache answers a request within five seconds. */
async function answers(apache: Apache): Promise<boolean> {
  const answered = apache.get('/').then(
    (status) => status === 200,
    () => false,
  );
  return await Promise.race([answered, sleep(5000, false, { ref: false })]);
}

suite('a storm of bans while slow visitors hold old generations of Apache', () => {
  const storm = addresses(40);

  /** A ban each 0.4 s, after each of which two slow visitors come. Returns how many it took until Apache was silent. */
  async function rage(
    apache: Apache,
    ban: (address: string) => Promise<Finished>,
  ): Promise<number | undefined> {
    using visitors = slowVisitors(apache);
    for (const [index, address] of storm.entries()) {
      const began = performance.now();
      const { exitCode, stderr } = await ban(address);
      assert.equal(exitCode, 0, stderr);
      const isServed = (await visitors.come()) && (await visitors.come());
      if (!isServed && !(await answers(apache))) return index + 1;
      await sleep(Math.max(0, 400 - (performance.now() - began)));
    }
    return (await answers(apache)) ? undefined : storm.length;
  }

  test('Apache stops answering if each ban reloads it', async () => {
    await using apache = await startApache({ remoteip: true, mpm: debian, list: '' });
    const silent = await rage(apache, (address) =>
      execute('sh', [
        '-c',
        `echo "Require not ip ${address}" >> "$1"; shift; exec "$@"`,
        'sh',
        apache.banlist,
        ...apache.ctl.split(' '),
        '-k',
        'graceful',
      ]),
    );
    assert.ok(silent !== undefined, `${apache.reloads()} reloads, and it answers`);
  });

  test('it answers on with banctl, which waits longer and longer, and refuses them all in the end', async () => {
    await using apache = await startApache({ remoteip: true, mpm: debian, list: '' });
    const began = performance.now();
    assert.equal(await rage(apache, (address) => banctl(['ban', address, ...options(apache)])), undefined);
    const seconds = (performance.now() - began) / 1000;
    // After 0, 2, 4, 8, 16 seconds and so on: from the third on, the interval doubles.
    assert.ok(apache.reloads() <= 1 + Math.log2(seconds), `${apache.reloads()} reloads in ${seconds} s`);
    assert.ok(stateOf(apache).spacing >= 4, `spacing ${stateOf(apache).spacing}`);
    // The visitors have gone.
    await banctl(['reload', ...options(apache)]);
    for (const from of storm) assert.equal(await apache.get('/', { from }), 403, from);
  });

  test('the interval is as before once the old generations have gone', async () => {
    await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
    const [one = '', two = '', three = '', four = '', five = ''] = storm;
    const interval = 6; // holds a call or two on a machine with much else to do
    const ban = async (address: string) => {
      const args = ['ban', address, ...options(apache), `--reload-interval=${interval}`];
      return (await banctlJson<{ reload: string }>(args)).reload;
    };
    const reloaded = async (count: number) => {
      await until(`reload ${count}`, () => apache.reloads() === count, AT_ITS_END);
      await quiet(apache);
    };
    {
      using visitors = slowVisitors(apache);
      assert.ok(await visitors.come(20_000));
      assert.equal(await ban(one), 'done');
      assert.equal(stateOf(apache).spacing, interval);
      assert.equal(await ban(two), 'deferred');
      await reloaded(2);
      assert.equal(stateOf(apache).spacing, 2 * interval);
      assert.equal(await ban(three), 'deferred');
      await reloaded(3);
      assert.equal(stateOf(apache).spacing, 4 * interval);
    }
    assert.equal(await ban(four), 'deferred');
    await reloaded(4);
    assert.equal(stateOf(apache).spacing, interval);
    await sleep(interval * 1000);
    assert.equal(await ban(five), 'done');
  });
});

suite('a burst', () => {
  test('is covered by one reload although its whole process group is killed', async () => {
    await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
    const [first = '', ...rest] = addresses(21);
    assert.equal((await banctl(['ban', first, ...options(apache)])).exitCode, 0);
    const ban = `'${executable}' ban "$address" ${options(apache)
      .map((word) => `'${word}'`)
      .join(' ')}`;
    const script = `for address in ${rest.join(' ')}; do ${ban} || exit; done >/dev/null; echo done; exec sleep 60`;
    const caller = spawn('sh', ['-c', script], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    caller.stdout.on('data', (text) => {
      said += text;
    });
    try {
      await until('the burst', () => said !== '' || caller.exitCode !== null);
      assert.equal(said, 'done\n');
    } finally {
      process.kill(-(caller.pid ?? 0), 'SIGKILL');
    }
    await quiet(apache);
    for (const from of [first, ...rest]) assert.equal(await apache.get('/', { from }), 403, from);
  });

  test('that comes while a slow reload is under way has one process that waits beside the one that reloads, and keeps the interval', async () => {
    await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
    const times = join(apache.dir, 'times');
    const slow = program(
      apache,
      'slow',
      `sleep 1.5; date +%s.%N >> '${times}'; exec ${apache.ctl} -k graceful`,
    );
    const all = addresses(25);
    let most = 0;
    const calls: Promise<Finished>[] = [];
    for (const address of all) {
      calls.push(banctl(['ban', address, ...options(apache), `--reload-command=${slow}`]));
      await sleep(100);
      most = Math.max(most, waiters(apache).length);
    }
    for (const { exitCode, stderr } of await Promise.all(calls)) assert.equal(exitCode, 0, stderr);
    await quiet(apache);
    // The one that has waited reloads, which takes its time, when the next begins to wait.
    assert.ok(most === 1 || most === 2, `${most} processes`);
    for (const from of all) assert.equal(await apache.get('/', { from }), 403, from);
    const reloads = readFileSync(times, 'utf8').trim().split('\n').map(Number);
    const gaps = reloads.slice(1).map((time, index) => time - (reloads[index] ?? 0));
    // The interval of 2 s begins when a reload has ended, and the next takes its 1.5 s until it is noted.
    assert.ok(Math.min(...gaps) > 3.4, `seconds between reloads: ${gaps.join(' ')}`);
  });
});

suite('no reload is ever missing', { concurrency: 2 }, () => {
  /** What Apache's control does instead of its work, or besides. */
  const mishaps = [
    'echo "it will not" >&2; exit 1',
    'CTL "$@"; exit 1',
    'kill -KILL $$',
    'CTL "$@"; kill -KILL $$',
    'sleep 1; exec CTL "$@"',
  ];
  /** What takes banctl as long as it waits: once a test. The first names the directory, so that it can be found. */
  const standstills = ['exec tail -f HERE/never'];
  const rounds = 6;

  for (const seed of [1, 2, 3]) {
    test(`whatever fails, hangs or is killed (seed ${seed})`, async () => {
      await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
      const random = generator(seed);
      const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
      const calm = join(apache.dir, 'calm');
      const control = unreliable(apache, random, pick(standstills));
      const all = addresses(rounds * 8);
      const args = [`--banlist=${apache.banlist}`, `--apachectl=${control}`, '--jail=web'];

      /** One call, of which some are killed with their process group, as fail2ban does; and so are some waiters. */
      const mishandle = async (address: string) => {
        const banned = [...listed(apache)];
        const isBan = banned.length === 0 || random() < 0.7;
        const line = [isBan ? 'ban' : 'unban', isBan ? address : pick(banned), ...args];
        const child = spawn(executable, [...line, `--reload-interval=${pick([0.3, 0.3, 1, 0])}`], {
          detached: true,
          stdio: 'ignore',
        });
        const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
        const patience = random() < 0.3 ? 20 + random() * 300 : 8000;
        const exitCode = await Promise.race([ended, sleep(patience, 'late', { ref: false })]);
        if (exitCode === 'late') process.kill(-(child.pid ?? 0), 'SIGKILL');
        else assert.ok(exitCode === 0 || exitCode === 69, `${line.join(' ')}: ${exitCode}`);
        await ended;
        for (const pid of waiters(apache)) if (random() < 0.2) killIfThere(pid);
        await sleep(random() * 100);
      };

      for (let round = 0; round < rounds; round += 1) {
        try {
          for (const address of all.slice(round * 8, round * 8 + 8)) await mishandle(address);
        } finally {
          writeFileSync(calm, '');
          for (const pid of processesNaming(`${apache.dir}/never`)) killIfThere(pid);
        }
        // Calm: one more call, and what waits after it.
        const last = ['unban', '192.0.2.1', ...args, `--reload-interval=${pick([0, 0.3])}`];
        const { exitCode, stderr } = await banctl(last);
        assert.equal(exitCode, 0, stderr);
        await until('no process of banctl', () => processesNaming(apache.banlist).length === 0, {
          limit: 60_000,
        });
        const list = listed(apache);
        const sample = round === rounds - 1 ? all : Array.from({ length: 16 }, () => pick(all));
        for (const from of new Set([...sample, ...all.slice(round * 8, round * 8 + 8)])) {
          assert.equal(
            await apache.get('/', { from }),
            list.has(from) ? 403 : 200,
            `${from}, round ${round}`,
          );
        }
        const told = await banctlJson<{ reload: { pending: boolean; error: string | null } }>([
          'list',
          `--banlist=${apache.banlist}`,
        ]);
        assert.deepEqual([told.reload.pending, told.reload.error], [false, null]);
        rmSync(calm);
      }
      assert.ok(listed(apache).size > 0, 'there were bans');
    });
  }

  /** An apachectl of which two thirds of the calls go wrong, unless it is calm. */
  function unreliable(apache: Apache, random: () => number, standstill: string): string {
    const calls = 400;
    const plan = Array.from({ length: calls }, () => Math.floor((random() * mishaps.length * 3) / 2));
    plan[5 + Math.floor(random() * 20)] = calls;
    mkdirSync(join(apache.dir, 'calls'));
    writeFileSync(join(apache.dir, 'never'), '');
    writeFileSync(join(apache.dir, 'plan'), `${plan.join('\n')}\n`);
    const text = `[ -e HERE/calm ] && exec CTL "$@"
n=1; while ! mkdir HERE/calls/$n 2>/dev/null; do n=$((n + 1)); done
case $(sed -n "$n"p HERE/plan) in
${mishaps.map((mishap, index) => `${index}) ${mishap} ;;`).join('\n')}
${calls}) ${standstill} ;;
*) exec CTL "$@" ;;
esac`;
    return program(apache, 'control', text.replaceAll('CTL', apache.ctl).replaceAll('HERE', apache.dir));
  }

  function listed({ banlist }: Apache): Set<string> {
    const text = readFileSync(banlist, 'utf8');
    return new Set([...text.matchAll(/^Require not ip (.*)$/gm)].map(([, address = '']) => address));
  }
});

function program(apache: Apache, name: string, text: string): string {
  const path = join(apache.dir, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

function killIfThere(pid: number) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
