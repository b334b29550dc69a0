// Several processes at once, killed at random moments, beside a model of what must be there. `scripts/test --torture`
// does it longer.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import { type Apache, startApache } from '../lab/apache.ts';
import { executable } from '../lab/banctl.ts';
import type { Fail2ban } from '../lab/fail2ban.ts';
import { processesNaming } from '../lab/processes.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, until } from '../lab/wait.ts';
import { ADDRESSES, HOLDERS, type Place, startHoldingFail2ban, startWorkload } from '../lab/workload.ts';

/** Calls of each holder. */
const CALLS = 20 * TORTURE;
/** How often it is calm in between. */
const ROUNDS = 2 * TORTURE;
const CALLS_TO_CALM = 5;

suite('calls killed at random moments, some with their process group', () => {
  let fail2ban: Fail2ban;
  before(async () => {
    fail2ban = await startHoldingFail2ban();
  });
  after(() => fail2ban[Symbol.asyncDispose]());

  for (const place of ['the list', 'the directory'] satisfies Place[]) {
    test(`about ${place}: what was acknowledged is there, every version is whole, nothing piles up`, async (t) => {
      await using load = await startWorkload({ place, fail2ban, isKilling: true, isServed: true });
      let isOver = false;
      const audits = load.audit(() => isOver);
      const kills = load.killServer(() => isOver);
      await Promise.all(HOLDERS.map((holder) => load.hold(holder, CALLS)));
      isOver = true;
      await load.endAudits();
      await Promise.all([audits, kills]);
      for (const line of load.told()) t.diagnostic(line);
      assert.ok(load.killed() > CALLS / 10, `${load.killed()} were killed`);
      await load.check();
      await load.clear();
    });
  }
});

suite('networks that are banned while three of their addresses are held, by calls killed at random moments', () => {
  const NETWORK = '203.0.113.0/24';
  const within = (network: string) => [1, 2, 3].map((last) => network.replace('0/24', String(last)));
  const PROTECTED = '198.51.100.0/24';
  const addresses = [...within(NETWORK), ...within(PROTECTED)];
  const config = { 'widen-after': 3, protect: ['198.51.100.200'] };
  const heldIn = (text: string, prefix: string) =>
    new Set(
      [...text.matchAll(/\| \S+ (\S+) since/g)].flatMap(([, one = '']) =>
        one.startsWith(prefix) ? one : [],
      ),
    );

  test('the list has the network in every version in which three are held, and never one with a protected address', async (t) => {
    await using load = await startWorkload({ place: 'the list', isKilling: true, addresses, config });
    const isWidened = (text: string) => text.includes(`Require not ip ${NETWORK}\n`);
    const countWidened = () => [...load.versions].filter(isWidened).length;
    // Where most calls were killed, three are never held at once.
    for (let round = 0; round < ROUNDS && countWidened() === 0; round += 1)
      await Promise.all(HOLDERS.map((holder) => load.hold(holder, CALLS)));
    for (const text of load.versions) {
      assert.equal(isWidened(text), heldIn(text, '203.0.113.').size === 3, text);
      assert.doesNotMatch(text, /198\.51\.100\.0/);
    }
    const widened = countWidened();
    for (const line of load.told()) t.diagnostic(line);
    t.diagnostic(`${widened} of ${load.versions.size} versions have the network`);
    assert.ok(widened > 0 && widened < load.versions.size, `${widened} of ${load.versions.size}`);
    await load.check();
    await load.clear();
  });

  test('in the directory, the next call makes it right', async (t) => {
    await using load = await startWorkload({ place: 'the directory', isKilling: true, addresses, config });
    for (let round = 0; round < ROUNDS; round += 1) {
      await Promise.all(HOLDERS.map((holder) => load.hold(holder, CALLS / ROUNDS)));
      for (const verb of ['ban', 'unban']) {
        const call = [verb, '203.0.113.9', '198.51.100.9', '--jail=calm', '--no-reload', ...load.where];
        const { exitCode, stderr } = await execute(executable, call);
        assert.deepEqual([exitCode, stderr], [0, '']);
      }
      const { stdout } = await execute(executable, ['list', '--json', ...load.where]);
      const { bans } = JSON.parse(stdout) as { bans: { address: string; holds: { address: string }[] }[] };
      const held = new Set(bans.flatMap(({ holds }) => holds.map(({ address }) => address)));
      const banned = bans.map(({ address }) => address);
      const isMany = within(NETWORK).every((address) => held.has(address));
      assert.equal(banned.includes(NETWORK), isMany, `${[...held]}: ${banned}`);
      assert.ok(!banned.includes(PROTECTED), `${banned}`);
      for (const address of held)
        assert.ok(banned.includes(address) || (isMany && within(NETWORK).includes(address)), address);
      t.diagnostic(`${[...held]} held, ${banned} banned`);
    }
    for (const line of load.told()) t.diagnostic(line);
    await load.check();
    await load.clear();
  });
});

suite('reloads and those who wait for them, killed at random moments', () => {
  const waiters = ({ banlist }: Apache) => processesNaming(`reload --when-due --banlist=${banlist}`);

  test('once it is calm, Apache refuses the addresses in the list and no others', async (t) => {
    const mpm =
      'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
    await using apache = await startApache({ remoteip: true, mpm, list: '' });
    const intervals = [0, 0.2, 0.2, 0.5];
    const reloading = () => [
      `--apachectl=${apache.ctl}`,
      `--reload-interval=${intervals[Math.floor(Math.random() * intervals.length)]}`,
    ];
    await using load = await startWorkload({
      place: 'the list',
      isKilling: true,
      directory: apache.dir,
      reloading,
    });
    let waited = 0;
    let killedWaiters = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      let isOver = false;
      const killWaiters = async () => {
        const seen = new Set<number>();
        while (!isOver) {
          for (const pid of waiters(apache)) {
            if (!seen.has(pid)) waited += 1;
            seen.add(pid);
            if (Math.random() < 0.2) {
              process.kill(pid, 'SIGKILL');
              killedWaiters += 1;
            }
          }
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
        }
      };
      const kills = killWaiters();
      await Promise.all(HOLDERS.map((holder) => load.hold(holder, CALLS_TO_CALM)));
      isOver = true;
      await kills;
      // Calm: one more call that may change something, and what waits after it.
      const calm = [
        'unban',
        '192.0.2.1',
        '--jail=web',
        `--banlist=${apache.banlist}`,
        `--apachectl=${apache.ctl}`,
      ];
      const { exitCode, stderr } = await execute(executable, calm);
      assert.deepEqual([exitCode, stderr], [0, '']);
      await until('no process of banctl', () => processesNaming(apache.banlist).length === 0, {
        limit: 60_000,
      });
      const list = readFileSync(apache.banlist, 'utf8');
      for (const from of ADDRESSES) {
        const expected = list.includes(`Require not ip ${from}\n`) ? 403 : 200;
        assert.equal(await apache.get('/', { from }), expected, `${from}, round ${round}`);
      }
    }
    for (const line of load.told()) t.diagnostic(line);
    t.diagnostic(
      `${killedWaiters} of ${waited} waiting processes killed; ${apache.reloads()} reloads; ${ROUNDS} times calm, ` +
        `and Apache was asked for ${ROUNDS * ADDRESSES.length} addresses`,
    );
    await load.check();
  });
});
