// What docs/jails.md shows works with a real fail2ban: wanted bots are left alone, and who comes back is banned for longer.
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { kit, startApache } from '../lab/apache.ts';
import { banctlJson, executable } from '../lab/banctl.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { execute, until } from '../lab/wait.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'jails.md'), 'utf8');
/** The block of the page that has this in it. */
const block = (language: string, part: string) => {
  const blocks = [...page.matchAll(/```(\w+)\n([\s\S]*?)```/g)];
  const found = blocks.find(([, name, text = '']) => name === language && text.includes(part));
  return found?.[2] ?? assert.fail(`the page has no ${part}`);
};

test("a search engine's crawlers, by the ranges that it publishes, are neither banned nor counted", async () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-crawlers-'));
  try {
    const at = (name: string) => join(dir, name);
    const crawlers = {
      creationTime: '2026-11-25T00:00:00',
      prefixes: [{ ipv6Prefix: '2001:db8:4801::/64' }],
    };
    const more = [{ ipv4Prefix: '192.0.2.0/27' }, { ipv6Prefix: '2001:db8:4801:1::/64' }];
    writeFileSync(
      at('crawler.json'),
      JSON.stringify({ ...crawlers, prefixes: [...crawlers.prefixes, ...more] }),
    );
    writeFileSync(
      at('banctl.json'),
      JSON.stringify({ protect: [`@${at('crawlers')}`], banlist: at('list') }),
    );
    writeFileSync(at('list'), '');
    const command = block('sh', 'banctl ranges')
      .replace(/curl \S+ \S+/, `cat ${at('crawler.json')}`)
      .replace('banctl ranges', `${executable} ranges --banlist=${at('list')}`)
      .replace('/etc/banctl-crawlers', at('crawlers'));
    const { exitCode, stdout, stderr } = await execute('sh', ['-c', command]);
    assert.equal(exitCode, 0, stdout + stderr);
    assert.match(
      readFileSync(at('crawlers'), 'utf8'),
      /^192\.0\.2\.0\/27\n2001:db8:4801::\/64\n2001:db8:4801:1::\/64$/m,
    );
    // One that is cut short changes nothing.
    writeFileSync(at('crawler.json'), JSON.stringify(crawlers).slice(0, -3));
    assert.equal((await execute('sh', ['-c', command])).exitCode, 78);

    const jail = block('ini', 'ignorecommand').replace(
      'banctl ban',
      `${executable} ban --config=${at('banctl.json')} --no-reload`,
    );
    await using fail2ban = await startFail2ban({
      filterFiles: ['djangoapp-probes.conf'],
      jails: `${jail}enabled = true\nfilter = djangoapp-probes\nlogpath = DIR/access.log\nmaxretry = 2\n`,
    });
    const probe = (from: string) =>
      `${from} [${new Date().toISOString().slice(0, 19).replace('T', ' ')} +0000] probe GET 404 /.env\n`;
    const clients = ['192.0.2.7', '2001:db8:4801:1::9', '203.0.113.5'];
    appendFileSync(
      join(fail2ban.dir, 'access.log'),
      clients.flatMap((from) => [probe(from), probe(from)]).join(''),
    );
    await fail2ban.awaitLog(/Ban 203\.0\.113\.5/);
    assert.deepEqual(await fail2ban.banned('djangoapp-probes'), ['203.0.113.5']);
    assert.match(fail2ban.log(), /Ignore 192\.0\.2\.7 by command/);
    assert.match(fail2ban.log(), /Ignore 2001:db8:4801:1::9 by command/);
    assert.doesNotMatch(fail2ban.log(), /ERROR|Found (?:192|2001)/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

for (const place of ['list', 'directory'] as const)
  test(`who comes back is banned for longer, and the longer ban of recidive outlives the jail's: ${place}`, async () => {
    const dir = mkdtempSync(join(tmpdir(), 'banctl-recidive-'));
    writeFileSync(join(dir, 'fail2ban.log'), '');
    try {
      await using apache = await startApache({ remoteip: true, site: kit('djangoapp-banlist.conf') });
      const bandir = place === 'directory' ? `, bandir="${apache.bandir}"` : '';
      const action = `action = apache-banlist[jail=%(__name__)s, banctl="${executable}", banlist="${apache.banlist}", apachectl="${apache.ctl}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3"${bandir}]`;
      const own = `filter = djangoapp-admin-login\nlogpath = DIR/access.log\nbantime = 5\nenabled = true\n${action}\n`;
      const jails = block('ini', 'bantime.increment')
        .replace('[recidive]', `${own}[recidive]`)
        .replace(/action = (?!.*banctl=).*/, action);
      await using fail2ban = await startFail2ban({
        dir,
        jails: `${jails}\nfilter = recidive\nlogpath = DIR/fail2ban.log\nmaxretry = 2\nfindtime = 1d\n`,
        filterFiles: [
          'djangoapp-admin-login.conf',
          ...['recidive', 'common'].map((name) => `/etc/fail2ban/filter.d/${name}.conf`),
        ],
      });
      const from = '203.0.113.5';
      const places = [`--banlist=${apache.banlist}`, ...(bandir === '' ? [] : [`--bandir=${apache.bandir}`])];
      const holders = async () => {
        const { bans } = await banctlJson<{ bans: { holds: { holder: string }[] }[] }>(['list', ...places]);
        return bans.flatMap(({ holds }) => holds.map(({ holder }) => holder)).sort();
      };
      const is = (status: number) =>
        until(`${status}`, async () => (await apache.get('/', { from })) === status, {
          detail: fail2ban.log,
        });
      await fail2ban.client('set', 'djangoapp-admin-login', 'banip', from);
      await is(403);
      await fail2ban.awaitLog(/\[djangoapp-admin-login\] Unban 203\.0\.113\.5/);
      await is(200);
      const again = fail2ban.log().length;
      await fail2ban.client('set', 'djangoapp-admin-login', 'banip', from);
      await fail2ban.awaitLog(/\[recidive\] Ban 203\.0\.113\.5/, again);
      // Twice as long as the first, by fail2ban's own formula.
      await fail2ban.awaitLog(/\[djangoapp-admin-login\] Increase Ban 203\.0\.113\.5 \(2 # 10s /, again);
      await until('both holds', async () => (await holders()).join() === 'djangoapp-admin-login,recidive');
      await fail2ban.awaitLog(/\[djangoapp-admin-login\] Unban 203\.0\.113\.5/, again);
      await until('one hold', async () => (await holders()).join() === 'recidive', { detail: fail2ban.log });
      assert.equal(await apache.get('/', { from }), 403);
      assert.equal((await fail2ban.client('get', 'recidive', 'bantime')).stdout.trim(), '604800');
      await fail2ban.client('set', 'recidive', 'unbanip', from);
      await is(200);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
