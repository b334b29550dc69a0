// Denied requests, probes and floods: a real Apache writes the log of them, a real fail2ban with the kit's jails bans by it.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Apache, kit, startApache } from '../lab/apache.ts';
import {
  answering,
  django,
  makeDjango,
  openForm,
  type RawRequest,
  rawRequest,
  underWsgi,
} from '../lab/application.ts';
import { executable } from '../lab/banctl.ts';
import { type Fail2ban, startFail2ban } from '../lab/fail2ban.ts';
import { until } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const requestsLog = kit('djangoapp-requests-log.conf');
const logOf = ({ dir }: Apache) => join(dir, 'djangoapp-requests.log');
const linesOf = (log: string) => readFileSync(log, 'utf8').split('\n').filter(Boolean);

/** The classes of each address, by the number that it ends in. */
async function classes(apache: Apache, requests: number): Promise<Map<number, string[]>> {
  await until('the access log', () => linesOf(apache.accessLog).length === requests);
  const found = new Map<number, string[]>();
  for (const line of linesOf(logOf(apache))) {
    const [, n, what = ''] =
      /^198\.18\.0\.(\d+) \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] (denied|probe|flood) [A-Z]+ \d{3} \S*$/.exec(
        line,
      ) ?? [];
    assert.ok(n !== undefined, line);
    found.set(Number(n), [...(found.get(Number(n)) ?? []), what]);
  }
  return found;
}

type Row = [target: string, status: number, expected: string, more?: RawRequest];
const site = (name: string) => ({ headers: { 'Sec-Fetch-Site': name } });
const password = { Authorization: 'Basic YTpi' };
const rows: Row[] = [
  ['/', 200, ''],
  ['/', 403, 'denied'],
  ['/x?/.env', 401, 'denied'],
  ['/', 403, 'denied', { method: 'POST' }],
  ['/', 404, 'flood'],
  ['/', 429, 'flood', { method: 'POST' }],
  ['/', 302, ''],
  ['/', 500, ''],
  // Another site's page.
  ['/', 403, '', site('cross-site')],
  ['/', 403, '', { method: 'POST', ...site('same-site') }],
  ['/', 401, '', site('cross-site')],
  ['/', 404, '', site('cross-site')],
  ['/', 429, '', site('same-site')],
  ['/.env', 404, '', site('cross-site')],
  // What no page can make a browser send counts, whatever the client says.
  ['/', 403, 'denied', { method: 'DELETE', ...site('cross-site') }],
  ['/', 401, 'denied', { headers: { ...site('cross-site').headers, ...password } }],
  ['/', 403, 'denied', site('same-origin')],
  ['/', 404, 'flood', site('none')],
  // A picture in a guest book of this site.
  ['/wp-login.php', 404, 'flood', site('same-origin')],
  // Probes.
  ...[
    ...[
      '/.env',
      '/.env.production',
      '/app/.env',
      '/.git/config',
      '/.git',
      '/.svn/entries',
      '/.aws/credentials',
      '/.ssh/id_rsa',
    ],
    ...[
      '/.htpasswd',
      '/.bash_history',
      '/wp-login.php',
      '/blog/wp-login.php',
      '/wp-admin/',
      '/wordpress/',
      '/xmlrpc.php',
    ],
    ...[
      '/phpmyadmin/',
      '/PhpMyAdmin-4.9/',
      '/pma/',
      '/pma2019/',
      '/mysqladmin/',
      '/adminer.php',
      '/cgi-bin/test.cgi',
      '/cgi-bin/',
    ],
    ...[
      '/index.php',
      '/x.php5',
      '/a.php/b',
      '/default.aspx',
      '/shell.jsp',
      '/dump.sql',
      '/db.sql.gz',
      '/site.bak',
      '/x/etc/passwd',
    ],
    // In other spellings, too.
    ...[
      '/%2eenv',
      '//.env',
      '/./.env',
      '/x/../.env',
      '/.ENV',
      '/%77p-login.php',
      '/.env?x',
      '/x/../../.git/HEAD',
      'http:/.env',
    ],
  ].map((target): Row => [target, 404, target.includes('/../../') ? 'probe' : 'flood probe']),
  ['/../../etc/passwd', 400, 'probe'],
  ['/static/..%2f..%2fsettings', 404, 'flood probe'],
  ['/static/%2e%2e/x', 404, 'flood probe'],
  ['/.env', 403, 'denied probe'],
  ['/.env', 500, 'probe'],
  ['/.env', 404, 'flood probe', site('none')],
  // A success never counts.
  ['/wp-login.php', 200, ''],
  ['/.env', 302, ''],
  // A visitor's own ways, and what looks like a probe from afar.
  ...[
    ...[
      '/favicon.ico',
      '/apple-touch-icon.png',
      '/static/admin/js/core.js.map',
      '/robots.txt',
      '/.well-known/security.txt',
    ],
    ...[
      '/environment/',
      '/.environment',
      '/git/',
      '/a.git/',
      '/phpmy/',
      '/sql/',
      '/x.sqlite',
      '/docs/index.php.html',
      '/opma/',
    ],
    ...[
      '/wp/',
      '/cgi-binary/',
      '/search?q=/.env',
      '/x?next=/../',
      '/exe',
      '/pmail/',
      '/etc/passwd.html',
      '/...',
      '/a..b/',
    ],
  ].map((target): Row => [target, 404, 'flood']),
];

suite('the log of requests has', () => {
  let apache: Apache;
  let found = new Map<number, string[]>();
  before(async () => {
    // /x/../../ is refused by Apache, whatever the application would say.
    apache = await startApache(underWsgi(answering, { remoteip: true, after: requestsLog }));
    for (const [n, [target, status, , { headers, ...more } = {}]] of rows.entries())
      await rawRequest(apache, target, {
        method: 'GET',
        from: `198.18.0.${n}`,
        headers: { 'X-Answer': `${status}`, ...headers },
        ...more,
      });
    found = await classes(apache, rows.length);
  });
  after(() => apache[Symbol.asyncDispose]());
  for (const [n, [target, status, expected, more]] of rows.entries())
    test(`${expected || 'nothing'} for ${more?.method ?? 'GET'} ${target} ${status} ${JSON.stringify(more?.headers ?? {})} (${n})`, () => {
      assert.deepEqual(found.get(n)?.sort() ?? [], expected.split(' ').filter(Boolean));
    });
});

// What stands beside the ban in the site, and its own answers.
const closed = `
<Location /closed>
  Require all denied
</Location>
<Location /basic>
  AuthType Basic
  AuthName private
  AuthUserFile /dev/null
  Require valid-user
</Location>
`;
for (const snippet of ['djangoapp-banlist.conf', 'djangoapp-banlist-admin.conf'])
  test(`what the ban answers to the banned never counts, in list and directory, and all else does: ${snippet}`, async () => {
    const list = 'Require not ip 198.18.0.1\nRequire not ip 198.18.0.2/31\n';
    await using apache = await startApache(
      underWsgi(answering, { remoteip: true, list, site: kit(snippet) + closed, after: requestsLog }),
    );
    mkdirSync(apache.bandir);
    chmodSync(apache.bandir, 0o755);
    writeFileSync(join(apache.bandir, '198.18.0.4'), '');
    const banned = ['198.18.0.1', '198.18.0.2', '198.18.0.4'];
    const visit = (from: string, target: string, answer = 200) =>
      rawRequest(apache, target, { method: 'GET', from, headers: { 'X-Answer': `${answer}` } });
    for (const from of banned)
      for (const target of ['/admin/', '/admin/.env', '/admin/x/'])
        assert.equal((await visit(from, target, 404)).status, 403);
    for (const [target, status] of [
      ['/admin/', 403],
      ['/closed/', 403],
      ['/basic/', 401],
    ] as const)
      assert.equal((await visit('198.18.0.9', target, 403)).status, status);
    const found = await classes(apache, 12);
    assert.deepEqual([...found], [[9, ['denied', 'denied', 'denied']]]);
  });

// --- With fail2ban ---------------------------------------------------------------------------------------------------

type Changes = Record<string, Record<string, string | number>>;
/**
 * The kit's jails, switched on, with shorter times where a test says so. They ban in the directory unless the test is of
 * the list: its reloads restart Django, and requests that are under way then end with 500.
 */
function jails(apache: Apache, changes: Changes = {}, where: 'list' | 'directory' = 'directory'): string {
  return ['denied', 'probes', 'flood']
    .map((name) => {
      const text = readFileSync(join(repository, 'jail.d', `djangoapp-${name}.local`), 'utf8');
      const own = {
        enabled: 'true',
        logpath: logOf(apache),
        action: actionOf(apache, where),
        ...changes[name],
      };
      return Object.entries(own).reduce(
        (jail, [option, value]) =>
          jail.replace(new RegExp(`^${option} = .*$`, 'm'), () => `${option} = ${value}`),
        text,
      );
    })
    .join('\n');
}
function actionOf(apache: Apache, where: 'list' | 'directory'): string {
  const bandir = where === 'list' ? '' : `, bandir="${apache.bandir}"`;
  return `apache-banlist[jail=%(__name__)s, banctl="${executable}", banlist="${apache.banlist}", apachectl="${apache.ctl}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3"${bandir}]`;
}
const startJails = (...given: Parameters<typeof jails>) =>
  startFail2ban({
    jails: jails(...given),
    filterFiles: ['djangoapp-denied.conf', 'djangoapp-probes.conf', 'djangoapp-flood.conf'],
  });

suite("Django's admin with the three jails", () => {
  let apache: Apache;
  let fail2ban: Fail2ban;
  before(async () => {
    apache = await startApache(
      underWsgi(django, { remoteip: true, site: kit('djangoapp-banlist.conf') + closed, after: requestsLog }),
    );
    await makeDjango(apache);
    fail2ban = await startJails(apache);
  });
  after(async () => {
    await fail2ban?.[Symbol.asyncDispose]();
    await apache[Symbol.asyncDispose]();
  });
  const get = async (from: string, target: string, headers: Record<string, string> = {}) =>
    (await rawRequest(apache, target, { method: 'GET', from, headers })).status;
  /** Bans by a probe, and so knows that fail2ban has read all before it. */
  const readSoFar = async (from: string) => {
    for (let n = 0; n < 3; n++) await get(from, '/.env');
    await until(`the mark ${from}`, async () => (await fail2ban.banned('djangoapp-probes')).includes(from), {
      detail: fail2ban.log,
    });
  };

  test('ban a scanner, which is then refused, and no other visitor', async () => {
    for (const target of ['/.env', '/wp-login.php']) assert.equal(await get('203.0.113.1', target), 404);
    await readSoFar('203.0.113.2');
    assert.deepEqual(await fail2ban.banned('djangoapp-probes'), ['203.0.113.2']);
    await get('203.0.113.1', '/phpmyadmin/');
    await until('403', async () => (await get('203.0.113.1', '/admin/login/')) === 403);
    assert.equal(await get('203.0.113.3', '/admin/login/'), 200);
  });

  test('ban who is refused again and again', async () => {
    for (let n = 0; n < 29; n++) assert.equal(await get('203.0.113.11', '/closed/'), 403);
    await readSoFar('203.0.113.12');
    assert.deepEqual(await fail2ban.banned('djangoapp-denied'), []);
    assert.equal(await get('203.0.113.11', '/basic/', { Authorization: 'Basic YTpi' }), 401);
    await until('the ban', async () => (await fail2ban.banned('djangoapp-denied')).includes('203.0.113.11'));
    await until('403', async () => (await get('203.0.113.11', '/admin/login/')) === 403);
  });

  test('ban who asks for hundreds of pages that do not exist, and not a hundred', async () => {
    const many = (from: string, count: number) =>
      Promise.all(
        Array.from({ length: 8 }, async (_, part) => {
          for (let n = part; n < count; n += 8) await get(from, `/page/${n}`);
        }),
      );
    await many('2001:db8::21', 300);
    await many('203.0.113.22', 100);
    await until('the ban', async () => (await fail2ban.banned('djangoapp-flood')).includes('2001:db8::21'));
    await readSoFar('203.0.113.23');
    assert.deepEqual(await fail2ban.banned('djangoapp-flood'), ['2001:db8::21']);
  });

  test("let a browser's visit of the admin alone, with what it asks for by itself", async () => {
    const from = '203.0.113.31';
    const own = ['/favicon.ico', '/apple-touch-icon.png', '/apple-touch-icon-precomposed.png', '/robots.txt'];
    const files = [
      'css/base.css',
      'css/login.css',
      'js/core.js',
      'js/core.js.map',
      'js/vendor/jquery/jquery.js.map',
      'img/icon.svg',
    ];
    for (let visit = 0; visit < 5; visit++) {
      const form = await openForm(apache, from);
      assert.equal((await form.tries('/admin/login/', 'wrong')).status, 200);
      const { loggedIn, cookies } = await form.tries('/admin/login/', 'correct');
      assert.ok(loggedIn);
      for (const target of ['/admin/', '/admin/auth/user/', '/admin/auth/user/99/change/'])
        assert.ok((await get(from, target, { Cookie: cookies.join('; ') })) < 400);
      for (const target of own) assert.equal(await get(from, target), 404);
      for (const file of files)
        assert.equal(await get(from, `/static/admin/${file}`, { 'Sec-Fetch-Site': 'same-origin' }), 404);
    }
    await readSoFar('203.0.113.32');
    for (const jail of ['djangoapp-denied', 'djangoapp-probes', 'djangoapp-flood'])
      assert.ok(!(await fail2ban.banned(jail)).includes(from), jail);
    assert.equal(await get(from, '/admin/login/'), 200);
  });

  test('let a visitor alone whose browser another page makes probe, ask and post', async () => {
    const from = '203.0.113.41';
    const headers = { 'Sec-Fetch-Site': 'cross-site' };
    for (let n = 0; n < 40; n++) {
      for (const target of ['/.env', '/closed/', '/basic/']) await get(from, target, headers);
      await rawRequest(apache, '/admin/login/', { from, headers });
    }
    await readSoFar('203.0.113.42');
    for (const jail of ['djangoapp-denied', 'djangoapp-probes', 'djangoapp-flood'])
      assert.ok(!(await fail2ban.banned(jail)).includes(from), jail);
  });
});

for (const where of ['list', 'directory'] as const)
  test(`a page that reloads itself is free when its ban has ended: ${where}`, async () => {
    await using apache = await startApache(
      underWsgi(answering, {
        remoteip: true,
        site: kit('djangoapp-banlist.conf') + closed,
        after: requestsLog,
      }),
    );
    await using fail2ban = await startJails(apache, { denied: { bantime: 6, findtime: 60 } }, where);
    const from = '203.0.113.51';
    const get = async (target: string) => (await rawRequest(apache, target, { method: 'GET', from })).status;
    for (let n = 0; n < 30; n++) await get('/closed/');
    await until('the ban', async () => (await get('/')) === 403, { detail: fail2ban.log });
    // Fifty refusals and more, to the last moment.
    let refusals = 0;
    await until('the end of the ban', async () => {
      const status = await get('/');
      if (status === 403) refusals += 1;
      return status === 200;
    });
    assert.ok(refusals > 40, `${refusals} refusals`);
    await fail2ban.awaitLog(/Unban 203\.0\.113\.51/);
    assert.equal(fail2ban.log().split('Ban 203.0.113.51').length - 1, 1, fail2ban.log());
    assert.equal(await get('/'), 200);
  });

test('an attacker who takes a new address of a /64 for each try is counted, and banned, by network', async () => {
  await using apache = await startApache(
    underWsgi(answering, {
      remoteip: true,
      site: kit('djangoapp-banlist.conf'),
      after: kit('djangoapp-login-log.conf') + requestsLog,
    }),
  );
  const jail = readFileSync(join(repository, 'jail.d', 'djangoapp-networks.local'), 'utf8')
    .replace(/^enabled = .*$/m, 'enabled = true')
    .replace(/^logpath = .*$/m, `logpath = ${join(apache.dir, 'djangoapp-networks.log')}`)
    .replace(/^action = .*$/m, () => `action = ${actionOf(apache, 'directory')}`);
  await using fail2ban = await startFail2ban({ jails: jail, filterFiles: ['djangoapp-networks.conf'] });
  const log = () => linesOf(join(apache.dir, 'djangoapp-networks.log')).map((line) => line.split(' ')[0]);
  const ask = async (from: string, method: string, target: string, answer: number) =>
    (await rawRequest(apache, target, { method, from, headers: { 'X-Answer': `${answer}` } })).status;
  // As an attacker spells it, and as Apache does: with zeros in the network, in the host, in both.
  const hosts = Array.from({ length: 19 }, (_, n) => [`${n + 1}`, `0:0:${n + 1}:0`, `${n + 1}:a:b:c`][n % 3]);
  for (const network of ['2001:db8:0:7', '2001:0:0:7', '2001:db8:1:2']) {
    for (const host of hosts) {
      const from = host?.includes(':') ? `${network}:${host}` : `${network}::${host}`;
      assert.equal(await ask(from, 'POST', '/admin/login/', 200), 200);
    }
  }
  assert.equal(log().length, 3 * hosts.length);
  // What is no failure, and an IPv4 address, which has a jail of its own.
  assert.equal(await ask('2001:db8:1:2::99', 'POST', '/admin/login/', 302), 302);
  assert.equal(await ask('2001:db8:1:2::99', 'GET', '/page/', 404), 404);
  assert.equal(await ask('203.0.113.5', 'POST', '/admin/login/', 200), 200);
  assert.equal(log().length, 3 * hosts.length);
  // The twentieth.
  await ask('2001:db8:0:7::99', 'POST', '/admin/login/', 200);
  await ask('2001:0:0:7::99', 'GET', '/.env', 404);
  const banned = ['2001:0:0:7::/64', '2001:db8:0:7::/64'];
  await until('the bans', async () => (await fail2ban.banned('djangoapp-networks')).length === 2, {
    detail: fail2ban.log,
  });
  assert.deepEqual(await fail2ban.banned('djangoapp-networks'), banned);
  for (const from of ['2001:db8:0:7::abcd', '2001:0:0:7:1:2:3:4'])
    await until(`${from} to be refused`, async () => (await ask(from, 'GET', '/', 200)) === 403, {
      detail: fail2ban.log,
    });
  for (const from of ['2001:db8:0:8::1', '2001:db8:1:2::1', '203.0.113.5'])
    assert.equal(await ask(from, 'GET', '/', 200), 200, from);
  await fail2ban.client('set', 'djangoapp-networks', 'unbanip', '2001:db8:0:7::/64');
  await until('the end', async () => (await ask('2001:db8:0:7::abcd', 'GET', '/', 200)) === 200);
});
