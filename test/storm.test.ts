// Storms: many bans, slow visitors, and reloads that fail; the built executable and a real Apache.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Apache, startApache } from './support/apache.ts';
import { banctl, banctlJson, executable } from './support/banctl.ts';
import { processesNaming } from './support/processes.ts';
import { execute, type Finished, until } from './support/wait.ts';

/** /etc/apache2/mods-available/mpm_event.conf of Debian. */
const debian =
  'StartServers 2\nMinSpareThreads 25\nMaxSpareThreads 75\nThreadLimit 64\nThreadsPerChild 25\nMaxRequestWorkers 150';
/** With more children a request after a reload does not wait for a new one: Apache starts one a second. */
const quick =
  'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';

const addresses = (count: number) => Array.from({ length: count }, (_, n) => `198.18.${n >> 8}.${n & 255}`);
const options = ({ banlist, ctl }: Apache) => [`--banlist=${banlist}`, `--apachectl=${ctl}`];
const waiters = ({ banlist }: Apache) => processesNaming(`reload --when-due --banlist=${banlist}`);
const quiet = (apache: Apache) => until('the waiter to end', () => waiters(apache).length === 0);

interface State {
  readonly spacing: number;
}
const stateOf = ({ banlist }: Apache): State => JSON.parse(readFileSync(`${banlist}.state`, 'utf8'));

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
    assert.equal(await rage(apache, (address) => banctl(['ban', address, ...options(apache)])), undefined);
    assert.ok(apache.reloads() <= 5, `${apache.reloads()} reloads`);
    assert.ok(stateOf(apache).spacing >= 4, `spacing ${stateOf(apache).spacing}`);
    // The visitors have gone.
    await banctl(['reload', ...options(apache)]);
    for (const from of storm) assert.equal(await apache.get('/', { from }), 403, from);
  });

  test('the interval is as before once the old generations have gone', async () => {
    await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
    const [one = '', two = '', three = '', four = '', five = ''] = storm;
    const ban = (address: string) =>
      banctlJson<{ reload: string }>(['ban', address, ...options(apache), '--reload-interval=1']);
    {
      using visitors = slowVisitors(apache);
      assert.ok(await visitors.come());
      assert.equal((await ban(one)).reload, 'done');
      assert.equal(stateOf(apache).spacing, 1);
      assert.equal((await ban(two)).reload, 'deferred');
      await quiet(apache);
      assert.equal(stateOf(apache).spacing, 2);
      assert.equal((await ban(three)).reload, 'deferred');
      await quiet(apache);
      assert.equal(stateOf(apache).spacing, 4);
    }
    assert.equal((await ban(four)).reload, 'deferred');
    await quiet(apache);
    assert.equal(stateOf(apache).spacing, 1);
    assert.equal(apache.reloads(), 4);
    await sleep(1000);
    assert.equal((await ban(five)).reload, 'done');
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

  test('that comes while a slow reload is under way has one process that waits, and keeps the interval', async () => {
    await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
    const times = join(apache.dir, 'times');
    const slow = program(
      apache,
      'slow',
      `if [ "$1" = -k ]; then sleep 1.5; date +%s.%N >> '${times}'; fi\nexec ${apache.ctl} "$@"`,
    );
    const all = addresses(25);
    let most = 0;
    const calls: Promise<Finished>[] = [];
    for (const address of all) {
      calls.push(banctl(['ban', address, `--banlist=${apache.banlist}`, `--apachectl=${slow}`]));
      await sleep(100);
      most = Math.max(most, waiters(apache).length);
    }
    for (const { exitCode, stderr } of await Promise.all(calls)) assert.equal(exitCode, 0, stderr);
    await quiet(apache);
    assert.equal(most, 1);
    for (const from of all) assert.equal(await apache.get('/', { from }), 403, from);
    const reloads = readFileSync(times, 'utf8').trim().split('\n').map(Number);
    const gaps = reloads.slice(1).map((time, index) => time - (reloads[index] ?? 0));
    assert.ok(Math.min(...gaps) > 1.9, `seconds between reloads: ${gaps.join(' ')}`);
  });
});

suite('no reload is ever missing', { concurrency: 2 }, () => {
  /** What Apache's control does instead of its work, or besides. */
  const mishaps = {
    none: 'exec CTL "$@"',
    refuses: 'echo "it will not" >&2; exit 1',
    'fails afterwards': 'CTL "$@"; exit 1',
    dies: 'kill -KILL $$',
    'dies afterwards': 'CTL "$@"; kill -KILL $$',
    'is slow': 'sleep 1; exec CTL "$@"',
    'does nothing': 'exit 0',
    // Longer than banctl waits; it names the directory, so that it is found at the end.
    hangs: 'exec tail -f HERE/never',
  };

  for (const seed of [1, 2, 3]) {
    test(`whatever fails, hangs or is killed (seed ${seed})`, async () => {
      await using apache = await startApache({ remoteip: true, mpm: quick, list: '' });
      const random = generator(seed);
      const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
      const kinds = Object.values(mishaps);
      const plan = Array.from({ length: 400 }, () =>
        random() < 0.3 ? 0 : 1 + Math.floor(random() * (kinds.length - 2)),
      );
      plan[5 + Math.floor(random() * 10)] = kinds.length - 1; // a single one hangs: that takes banctl 25 s
      const control = unreliable(apache, kinds, plan);
      const all = addresses(60);
      const args = [`--banlist=${apache.banlist}`, `--apachectl=${control}`];
      const banned = new Set<string>();
      const deadline = performance.now() + 45_000;

      try {
        for (const address of all) {
          if (performance.now() > deadline) break;
          const [command, interval] = [
            banned.size > 0 && random() < 0.3 ? 'unban' : 'ban',
            pick([0.3, 0.3, 0.3, 1, 0]),
          ];
          const subject = command === 'ban' ? address : pick([...banned]);
          const child = spawn(
            executable,
            [command, subject, '--jail=web', ...args, `--reload-interval=${interval}`],
            {
              detached: true,
              stdio: 'ignore',
            },
          );
          const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
          const fate = random();
          // Some callers are killed, with their process group, as fail2ban does; then the list tells what came of it.
          const exitCode = await Promise.race([
            ended,
            sleep(fate < 0.25 ? 20 + random() * 200 : 6000, 'late', { ref: false }),
          ]);
          if (exitCode === 'late') {
            process.kill(-(child.pid ?? 0), 'SIGKILL');
            await ended;
          } else assert.ok(exitCode === 0 || exitCode === 69, `${command} ${subject}: ${exitCode}`);
          for (const pid of waiters(apache)) if (random() < 0.15) killIfThere(pid);
          if (listed(apache).has(subject)) banned.add(subject);
          else banned.delete(subject);
          await sleep(random() * 150);
        }
      } finally {
        writeFileSync(join(apache.dir, 'calm'), '');
        for (const pid of processesNaming(`${apache.dir}/never`)) killIfThere(pid);
      }

      // Calm: what still waits comes to its end, and one more call makes up for what was cut off.
      await until('no process of banctl', () => processesNaming(apache.banlist).length === 0, {
        limit: 90_000,
      });
      const { exitCode, stderr } = await banctl([
        'unban',
        '192.0.2.1',
        '--jail=web',
        ...args,
        '--reload-interval=0',
      ]);
      assert.equal(exitCode, 0, stderr);
      const list = listed(apache);
      assert.ok(list.size > 10, `${list.size} bans`);
      for (const from of all) assert.equal(await apache.get('/', { from }), list.has(from) ? 403 : 200, from);
      const { reload } = await banctlJson<{ reload: { pending: boolean; error: string | null } }>([
        'list',
        args[0] ?? '',
      ]);
      assert.deepEqual([reload.pending, reload.error], [false, null]);
    });
  }

  /** An apachectl whose nth call does what the plan says, until it is calm. */
  function unreliable(apache: Apache, kinds: readonly string[], plan: readonly number[]): string {
    mkdirSync(join(apache.dir, 'calls'));
    writeFileSync(join(apache.dir, 'never'), '');
    writeFileSync(join(apache.dir, 'plan'), `${plan.join('\n')}\n`);
    const cases = kinds.map((text, index) => `${index}) ${text} ;;`).join('\n');
    const text = `[ -e HERE/calm ] && exec CTL "$@"
n=1; while ! mkdir HERE/calls/$n 2>/dev/null; do n=$((n + 1)); done
case $(sed -n "$n"p HERE/plan) in
${cases}
esac`;
    return program(apache, 'control', text.replaceAll('CTL', apache.ctl).replaceAll('HERE', apache.dir));
  }

  function listed({ banlist }: Apache): Set<string> {
    return new Set(
      [...readFileSync(banlist, 'utf8').matchAll(/^Require not ip (.*)$/gm)].map(
        ([, address = '']) => address,
      ),
    );
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
