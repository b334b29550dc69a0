// Three servers, each with an Apache and a fail2ban: what the jail of one bans is refused by all.
import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { formatBan } from '../../src/banlist/ban-lines.ts';
import { type Engine, type Host, startEngine, startHost } from '../lab/fleet.ts';
import { read, type Site, startSite } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

const X = '203.0.113.5';
const Y = '203.0.113.6';
/** Bans of fail2ban at its restart. With RESTORED=5000, the Python action makes them: else each would cost a call. */
const MANY = Number(process.env.RESTORED ?? 25);
const isServed = MANY > 100;
const LIMIT = 300_000 + MANY * 500;
/** As many as one line of fail2ban-client may name. */
const AT_ONCE = 500;

suite('three servers', () => {
  let engine: Engine;
  let sites: [Site, Site, Site];
  /** The first. */
  let site: Site;
  let hosts: [Host, Host, Host];
  const rest = new AsyncDisposableStack();

  before(async () => {
    engine = rest.use(await startEngine());
    const start = async (isServed: boolean) =>
      rest.use(await startSite({ jails: { web: 'bantime = 1d' }, bandir: 'configured', isServed }));
    sites = [await start(isServed), await start(false), await start(false)];
    [site] = sites;
    const started: Host[] = [];
    for (const [index, { apache, fail2ban }] of sites.entries()) {
      const { banlist, bandir, ctl, dir } = apache;
      const own = { apachectl: [ctl], 'reload-interval': 0, 'fail2ban-client': fail2ban.clientCommand };
      const name = 'abc'[index] ?? '';
      const places = { banlist, bandir };
      started.push(rest.use(await startHost({ name, engine, dir, places, config: own })));
    }
    hosts = started as [Host, Host, Host];
    for (const host of hosts) await host.connected();
  });
  after(() => rest.disposeAsync());

  const detail = () => hosts.map((host) => `${host.holds()}\n${host.daemon().output()}`).join('\n');
  const answers = (from: string, status: number, which: readonly Site[] = sites) =>
    until(
      `${from} to get ${status} everywhere`,
      async () =>
        (await Promise.all(which.map(({ apache }) => apache.get('/', { from })))).every(
          (one) => one === status,
        ),
      { detail },
    );
  const forgets = (address: string, { fail2ban } = site) =>
    until('fail2ban to forget', async () => !(await fail2ban.banned('web')).includes(address), { detail });

  test("refuse whom one's jail bans; an unban on the third frees everywhere, and the jail bans again", async () => {
    const [, , c] = hosts;
    await site.tells('set', 'web', 'banip', X);
    await answers(X, 403);
    assert.match(await c.done('explain', X), /by web@a since .*: 0 failures/);
    await sites[1].tells('set', 'web', 'banip', X);
    await c.seen(`${X} web@a`, `${X} web@b`);
    assert.match(await c.done('unban', X), /unbanned/);
    await answers(X, 200);
    for (const one of sites) await forgets(X, one);
    await site.tells('set', 'web', 'banip', X);
    await answers(X, 403);
  });

  test('free what was lifted while one was away, although its fail2ban restores it', async () => {
    const [a, , c] = hosts;
    await a.daemon().end('SIGTERM');
    // At once: fail2ban rounds, and so it can restore the ban with a time after the unban.
    await c.done('unban', X);
    await site.fail2ban.stop();
    await answers(X, 200, sites.slice(1));
    await a.start();
    await answers(X, 200);
    await site.fail2ban.start();
    await site.fail2ban.awaitLog(/Restore Ban 203\.0\.113\.5/);
    await forgets(X);
    await answers(X, 200);
  });

  test('see nothing of a restart of fail2ban', async () => {
    const [a, b, c] = hosts;
    const addresses = Array.from(
      { length: MANY },
      (_, index) => `198.51.${100 + (index >> 8)}.${index & 255}`,
    );
    /** Stops at the first that is not so: thousands of files take a while to read. */
    const eachFile = (host: Host, part: string) =>
      addresses.every((address) => read(join(host.bandir ?? '', address)).includes(part));
    for (let at = 0; at < MANY; at += AT_ONCE)
      await site.tells('set', 'web', 'banip', ...addresses.slice(at, at + AT_ONCE));
    for (const host of [b, c]) {
      await until('all bans on the others', () => eachFile(host, ' web@a '), { detail, limit: LIMIT });
      assert.equal(host.banned().length, MANY);
    }
    // Without the lock of the last ban, which may still be there.
    const stamp = () =>
      [b, c].flatMap((host) =>
        host.banned().map((name) => {
          const path = join(host.bandir ?? '', name);
          return `${name} ${statSync(path).mtimeMs} ${read(path)}`;
        }),
      );
    const before = stamp();
    const log = site.fail2ban.log().length;
    await site.fail2ban.stop();
    await until(
      'the bans to stand as those of the server',
      () => eachFile(a, ' web@a ') && a.holds().every((hold) => hold.endsWith('web@a')),
      { detail, limit: LIMIT },
    );
    await site.fail2ban.start();
    const isRestored = () => site.fail2ban.log().includes(`Restore Ban ${addresses.at(-1)}`, log);
    await until('fail2ban to restore the last', isRestored, { detail, limit: LIMIT });
    await until(
      'the bans to be the jail’s again',
      () => eachFile(a, ' web ') && a.holds().every((hold) => hold.endsWith(' web')),
      { detail, limit: LIMIT },
    );
    assert.equal(a.holds().length, MANY);
    assert.deepEqual(stamp(), before);
  });

  test('keep the bans of a server that is gone until their end', async () => {
    const [a, b, c] = hosts;
    await a.done('ban', Y, '--jail', 'web', '--for', '6');
    await answers(Y, 403, sites.slice(1));
    await site.fail2ban.kill();
    await a.daemon().end('SIGKILL');
    assert.ok(b.banned().includes(Y) && c.banned().includes(Y));
    await answers(Y, 200, sites.slice(1));
    // A stop of another server's fail2ban is not that server's end: its jail has the same name.
    await sites[1].fail2ban.stop();
    assert.equal(b.banned().length, MANY);
  });

  test('end by an audit what is over where no agent runs, and take no jail of another server for their own', async () => {
    const [, , c] = hosts;
    await c.daemon().end('SIGTERM');
    const put = (address: string, until: number | null) => {
      const hold = { holder: 'other@z', address, since: 1000, until, reason: null };
      writeFileSync(join(c.bandir ?? '', address), formatBan(address, [hold]));
    };
    put(X, 2000);
    put(Y, null);
    const { stdout } = await c.run('audit', '--fix', '--json');
    const findings: { code: string; address?: string; fixed: boolean }[] = JSON.parse(stdout).findings;
    const ofBans = findings.filter(({ address }) => address !== undefined);
    assert.deepEqual(
      ofBans.map(({ code, address, fixed }) => ({ code, address, fixed })),
      [{ code: 'expired', address: X, fixed: true }],
    );
    assert.ok(!findings.some(({ code }) => code === 'unknown-jail'), stdout);
    assert.ok(c.banned().includes(Y) && !c.banned().includes(X));
    assert.equal(c.banned().length, MANY + 1);
  });
});
