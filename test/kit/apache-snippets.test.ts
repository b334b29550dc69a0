// apache2/*.conf in a real Apache: what they refuse, what they leave alone, wherever they are put.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import {
  type Apache,
  installedBandir,
  installedBanlist,
  kit,
  type RequestOptions,
  startApache,
} from '../lab/apache.ts';
import { read } from '../lab/site.ts';
import { until } from '../lab/wait.ts';

const directory = join(import.meta.dirname, '..', '..', 'apache2');
const banned = ['203.0.113.5', '2001:db8::5'];
const neighbours = ['203.0.113.6', '2001:db8::6'];
const password = { Authorization: `Basic ${Buffer.from('alice:password').toString('base64')}` };

const wholeSite = kit('djangoapp-banlist.conf');
const adminAlone = kit('djangoapp-banlist-admin.conf');

/** Sections of other people, for the whole site's tests: directories of these names, and what answers there. */
const basic = (dir: string) => `AuthType Basic\nAuthName private\nAuthUserFile ${dir}/users\n`;
const others = (dir: string) => `
<Location /open/>
  Require all granted
</Location>
<Location /static/>
  Require all granted
</Location>
<Location /closed/>
  Require all denied
</Location>
<Location /basic/>
  ${basic(dir)}
  Require valid-user
</Location>
<Location /either/>
  ${basic(dir)}
  <RequireAny>
    Require valid-user
    Require ip 203.0.113.0/24 2001:db8::/64
  </RequireAny>
</Location>
<LocationMatch ^/match/>
  Require all granted
</LocationMatch>
<Directory ${dir}/www/directory>
  Require all granted
</Directory>
<Directory ${dir}/www/directory/closed>
  ${basic(dir)}
  Require valid-user
</Directory>
<Directory ${dir}/www/htaccess>
  AllowOverride All
</Directory>
<Files secret.html>
  Require all denied
</Files>
<Location /nested/>
  <If "true">
    AuthMerging And
    ${basic(dir)}
    Require valid-user
  </If>
</Location>
ErrorDocument 403 /sorry/
`;

/** Everything below is there, the users too. */
function prepare(apache: Apache) {
  const pages = 'open closed basic either match directory directory/closed htaccess nested sorry app/admin x';
  for (const page of pages.split(' ')) {
    mkdirSync(join(apache.documentRoot, page), { recursive: true });
    writeFileSync(join(apache.documentRoot, page, 'index.html'), page);
  }
  writeFileSync(join(apache.documentRoot, 'htaccess', '.htaccess'), 'Require all granted\n');
  writeFileSync(join(apache.documentRoot, 'secret.html'), 'secret');
  writeFileSync(join(apache.dir, 'users'), 'alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n'); // password
}

const list = banned.map((address) => `Require not ip ${address}\n`).join('');

/** What each of the two families gets: they have to get the same. */
async function both(apache: Apache, path: string, addresses: string[], how: RequestOptions = {}) {
  const answers = [];
  for (const from of addresses)
    answers.push(await apache.get(path, { ...how, from, v6: from.includes(':') }));
  assert.equal(answers[0], answers[1], `${path}: IPv4 ${answers[0]}, IPv6 ${answers[1]}`);
  return answers[0];
}

function childrenOf(apache: Apache): string[] {
  return read(`/proc/${apache.pid()}/task/${apache.pid()}/children`).split(' ').filter(Boolean);
}

/** Puts the bans where exactly one of a snippet's two lines finds them. */
const rules: Record<string, (apache: Apache, addresses: readonly string[]) => Promise<void>> = {
  'the list': async (apache, addresses) => {
    writeFileSync(apache.banlist, addresses.map((address) => `Require not ip ${address}\n`).join(''));
    // A child of before may still take a request, under load, until it has heard that it is to end.
    const before = childrenOf(apache);
    await apache.graceful();
    await until('the children of before to end', () =>
      childrenOf(apache).every((pid) => !before.includes(pid)),
    );
  },
  'the directory': async (apache, addresses) => {
    rmSync(apache.bandir, { recursive: true, force: true });
    mkdirSync(apache.bandir);
    for (const address of addresses) writeFileSync(join(apache.bandir, address), '');
  },
};

type Rows = [path: string, anybody: number, withPassword: number][];
const openOrClosed: Rows = [
  ['/', 200, 200],
  ['/static/app.css', 200, 200],
  ['/open/', 200, 200],
  ['/closed/', 403, 403],
  ['/basic/', 401, 200],
  ['/either/', 200, 200],
  ['/match/', 200, 200],
  ['/directory/', 200, 200],
  ['/directory/closed/', 401, 200],
  ['/htaccess/', 200, 200],
  ['/secret.html', 403, 403],
  ['/nested/', 401, 200],
  ['/nothing/', 404, 404],
];

const places: [where: string, options: Parameters<typeof startApache>[0]][] = [
  ['in the virtual host, first', { site: (dir) => wholeSite + others(dir) }],
  ['in the virtual host, last', { site: (dir) => others(dir) + wholeSite }],
  ['in the virtual host, the others at server level', { server: others, site: wholeSite }],
  ['at server level, before the virtual host', { server: wholeSite, site: others }],
  ['at server level, after the virtual host', { site: others, after: wholeSite }],
  ['twice', { server: wholeSite, site: (dir) => wholeSite + others(dir) }],
];
for (const [where, options] of places)
  suite(`the ban for the whole site, ${where}`, () => {
    let apache: Apache;
    before(async () => {
      apache = await startApache({ ...options, remoteip: true });
      prepare(apache);
    });
    after(() => apache[Symbol.asyncDispose]());

    test('without a list and a directory everything is as it was', async () => {
      for (const [path, anybody, withPassword] of openOrClosed) {
        assert.equal(await both(apache, path, banned), anybody, path);
        assert.equal(
          await both(apache, path, banned, { headers: password }),
          withPassword,
          `${path} with password`,
        );
      }
    });

    for (const [rule, ban] of Object.entries(rules)) {
      test(`${rule}: an empty one is fine`, async () => {
        await ban(apache, []);
        assert.equal(await both(apache, '/', banned), 200);
      });

      test(`${rule}: the banned get 403 everywhere`, async () => {
        await ban(apache, banned);
        for (const [path] of openOrClosed) {
          assert.equal(await both(apache, path, banned), 403, path);
          assert.equal(await both(apache, path, banned, { headers: password }), 403, `${path} with password`);
        }
        for (const answer of [200, 302, 401] as const)
          assert.equal(await apache.login(answer, { from: banned[0] ?? '' }), 403);
      });

      test(`${rule}: all others get what they got`, async () => {
        for (const [path, anybody, withPassword] of openOrClosed) {
          assert.equal(await both(apache, path, neighbours), anybody, path);
          assert.equal(
            await both(apache, path, neighbours, { headers: password }),
            withPassword,
            `${path} with password`,
          );
        }
      });

      test(`${rule}: when the ban is gone they are let in again`, async () => {
        await ban(apache, []);
        for (const [path, anybody] of openOrClosed)
          assert.equal(await both(apache, path, banned), anybody, path);
      });
    }
  });

test('Basic authentication at server level stays on', async () => {
  for (const options of [
    {
      server: (dir: string) => `<Location />\n${basic(dir)}Require valid-user\n</Location>\n`,
      site: wholeSite,
    },
    { site: (dir: string) => `${wholeSite}<Location />\n${basic(dir)}Require valid-user\n</Location>\n` },
    {
      server: wholeSite,
      site: (dir: string) => `<Directory ${dir}/www>\n${basic(dir)}Require valid-user\n</Directory>`,
    },
  ]) {
    await using apache = await startApache({ ...options, remoteip: true });
    prepare(apache);
    for (const ban of Object.values(rules)) {
      await ban(apache, banned);
      assert.equal(await both(apache, '/x/', neighbours), 401);
      assert.equal(await both(apache, '/x/', neighbours, { headers: password }), 200);
      assert.equal(await both(apache, '/x/', banned), 403);
      assert.equal(await both(apache, '/x/', banned, { headers: password }), 403);
      await ban(apache, []);
      assert.equal(await both(apache, '/x/', banned), 401);
    }
  }
});

test('an ErrorDocument is shown to the banned', async () => {
  const site = `${wholeSite}ErrorDocument 403 /sorry/index.html`;
  await using apache = await startApache({ remoteip: true, site });
  prepare(apache);
  for (const ban of Object.values(rules)) {
    await ban(apache, banned);
    const { status, body } = await apache.request('/', { from: banned[0] ?? '' });
    assert.deepEqual({ status, body }, { status: 403, body: 'sorry' });
    assert.equal(await both(apache, '/sorry/', banned), 403);
    await ban(apache, []);
  }
});

test('what the comments name as the way around: another <If> with its own Require lines needs AuthMerging And', async () => {
  const other = (merging: string) => `${wholeSite}<If "true">\n${merging}\nRequire all granted\n</If>`;
  for (const [merging, status] of [
    ['', 200],
    ['AuthMerging And', 403],
  ] as const) {
    await using apache = await startApache({ remoteip: true, site: other(merging) });
    for (const ban of Object.values(rules)) {
      await ban(apache, banned);
      assert.equal(await both(apache, '/', banned), status, merging);
      await ban(apache, []);
    }
  }
});

for (const [rule, ban] of Object.entries(rules))
  suite(`the ban for /admin/ alone, by ${rule}`, () => {
    let apache: Apache;
    before(async () => {
      apache = await startApache({
        remoteip: true,
        site: (dir) => `
RewriteEngine On
RewriteRule ^/backoffice/(.*) /admin/$1 [PT]
<Directory ${dir}/www/x>
  RewriteEngine On
  RewriteRule ^go/(.*) /admin/$1
</Directory>
${adminAlone}
<Location /admin/>
  Require all granted
</Location>
<Location /admin/reports/>
  ${basic(dir)}
  Require valid-user
</Location>
<Directory ${dir}/www/admin>
  Require all granted
</Directory>
${others(dir)}`,
      });
      prepare(apache);
      mkdirSync(join(apache.documentRoot, 'admin', 'reports'));
      writeFileSync(join(apache.documentRoot, 'admin', 'reports', 'index.html'), 'reports');
      await ban(apache, banned);
    });
    after(() => apache[Symbol.asyncDispose]());

    const refused: [spelling: string, path: string, others: number][] = [
      ['/admin/', '/admin/', 200],
      ['below it', '/admin/login/?next=/admin/', 200],
      ['where there is nothing', '/admin/nothing', 404],
      ['without the slash', '/admin', 301],
      ['without the slash, with a query string', '/admin?x', 301],
      ['two slashes', '//admin/', 200],
      ['slashes at the end', '/admin///login//', 200],
      ['a dot', '/./admin/', 200],
      ['an encoded dot', '/%2e/admin/', 200],
      ['up and down', '/static/../admin/', 200],
      ['encoded letters', '/%61dm%69n/', 200],
      ['an encoded slash', '/admin%2flogin/', 404],
      ['another case', '/ADMIN/', 404],
      ['a whole URL', 'http://localhost/admin/', 200],
      ['a path that is rewritten to it', '/backoffice/login/', 200],
      ['a path that a directory rewrites to it', '/x/go/login/', 200],
      ['a place with a password', '/admin/reports/', 401],
    ];
    for (const [spelling, path, status] of refused)
      test(`${spelling}: refused to the banned alone`, async () => {
        // Apache itself answers an encoded slash with 404 to every visitor.
        assert.equal(await both(apache, path, banned), path.includes('%2f') ? 404 : 403);
        assert.equal(await both(apache, path, neighbours), status);
      });

    test('the rest is as it was, for the banned as well', async () => {
      for (const [path, anybody, withPassword] of openOrClosed) {
        assert.equal(await both(apache, path, banned), anybody, path);
        assert.equal(
          await both(apache, path, banned, { headers: password }),
          withPassword,
          `${path} with password`,
        );
      }
      for (const path of ['/admin-like/', '/app/admin/', '/?/admin/']) {
        assert.equal(await both(apache, path, banned), 200, path);
        assert.equal(await both(apache, path, neighbours), 200, path);
      }
    });
  });

suite('each file as it stands', () => {
  for (const file of readdirSync(directory).filter((name) => name.endsWith('.conf'))) {
    const include = `Include ${join(directory, file)}\n`;
    // The file itself is read, so that this is defined as Debian's envvars do it.
    const logs = (dir: string) => `Define APACHE_LOG_DIR ${dir}\n`;
    const logsAllSites = /^GlobalLog /m.test(kit(file));
    const serverLevelAlone = logsAllSites || file.startsWith('remoteip');
    for (const [where, options] of [
      ['at server level', { server: (dir: string) => logs(dir) + include, site: '' }],
      ...(serverLevelAlone ? [] : [['in a virtual host', { server: logs, site: include }] as const]),
    ] as const)
      test(`${file} is accepted ${where}, and admits every visitor`, async () => {
        await using apache = await startApache({ ...options, modules: ['remoteip'] });
        const { exitCode, stderr } = await apache.ask('-t');
        assert.equal(exitCode, 0, stderr);
        assert.match(stderr, /Syntax OK/);
        assert.equal(await apache.get('/'), 200);
      });

    if (logsAllSites)
      test(`${file} is refused in a virtual host: it would miss what other sites are asked`, () =>
        assert.rejects(
          startApache({ server: logs, site: include }),
          /GlobalLog cannot occur within <VirtualHost> section/,
        ));
  }

  test('none of them opens what is closed', async () => {
    for (const file of readdirSync(directory).filter((name) => name.endsWith('.conf'))) {
      const site = '<Location />\nRequire all denied\n</Location>';
      await using apache = await startApache({ server: kit(file), site, modules: ['remoteip'] });
      assert.equal(await apache.get('/'), 403, file);
      assert.equal(await apache.get('/admin/'), 403, file);
    }
  });

  test("every path to the list is banctl's default, and the directory is beside it", () => {
    for (const text of [wholeSite, adminAlone]) {
      assert.deepEqual(text.match(/^\s*Include\w* .*/gm), [`    IncludeOptional ${installedBanlist}`]);
      assert.deepEqual(text.match(/^\s*Require expr .*/gm), [
        `    Require expr "! -e '${installedBandir}/%{REMOTE_ADDR}'"`,
      ]);
    }
  });
});

// 127.0.0.1 is the proxy here, 127.0.0.2 a client that goes around it.
// 198.51.100.9 is a proxy too. CloudFront's is any customer's, and its word counts for nothing: it is named itself.
const proxies: [file: string, setUp: (text: string, dir: string) => string, believesChains: boolean][] = [
  [
    'remoteip-cloudfront.conf',
    (text, dir) => {
      writeFileSync(join(dir, 'cloudfront-proxies'), '127.0.0.1\n::1\n198.51.100.0/24\n');
      return text.replaceAll('/etc/apache2/djangoapp/cloudfront-proxies', join(dir, 'cloudfront-proxies'));
    },
    false,
  ],
  [
    'remoteip-loadbalancer.conf',
    (text) => text.replace(/^(RemoteIPInternalProxy) .*/m, '$1 127.0.0.1 ::1 198.51.100.0/24'),
    true,
  ],
];
for (const [file, setUp, believesChains] of proxies)
  suite(`${file}, filled in`, () => {
    let apache: Apache;
    before(async () => {
      apache = await startApache({
        list,
        modules: ['remoteip'],
        server: (dir) => setUp(kit(file), dir),
        site: (dir) => `${wholeSite}CustomLog ${dir}/a.log djangoapp_combined`,
      });
    });
    after(() => apache[Symbol.asyncDispose]());
    const via = (forwarded: string, from?: string) =>
      apache.get('/', { headers: { 'X-Forwarded-For': forwarded }, ...(from ? { from } : {}) });

    test('the banned are refused behind the proxy, others are not, nor is the proxy', async () => {
      assert.equal(await via('203.0.113.5'), 403);
      assert.equal(await via('2001:db8::5'), 403);
      assert.equal(await via('203.0.113.6'), 200);
      assert.equal(await apache.get('/'), 200);
    });

    test('over IPv6 too', async () => {
      assert.equal(await apache.get('/', { v6: true, headers: { 'X-Forwarded-For': '203.0.113.5' } }), 403);
      assert.equal(await apache.get('/', { v6: true, headers: { 'X-Forwarded-For': '203.0.113.6' } }), 200);
    });

    test('what the client says of itself is not believed', async () => {
      assert.equal(await via('203.0.113.5, 203.0.113.6'), 200, 'the banned address is made up');
      assert.equal(await via('203.0.113.6, 203.0.113.5'), 403, 'the banned client makes one up');
      assert.equal(await via('rubbish, 203.0.113.5'), 403);
    });

    test(`behind two proxies: the last address ${believesChains ? 'that no proxy has counts' : 'counts, a proxy or not'}`, async () => {
      assert.equal(await via('203.0.113.6, 203.0.113.5, 198.51.100.9'), believesChains ? 403 : 200);
      assert.equal(await via('203.0.113.5, 203.0.113.6, 198.51.100.9'), 200, 'the banned address is made up');
    });

    test('whoever goes around the proxy is not believed at all', async () => {
      assert.equal(await via('203.0.113.5', '127.0.0.2'), 200);
    });

    test('the log names the client, so that fail2ban does', async () => {
      const log = (name: string) => readFileSync(join(apache.dir, name), 'utf8');
      const request = async (marker: string, forwarded: string, from: string) => {
        await apache.get(`/?${marker}`, { from, headers: { 'X-Forwarded-For': forwarded } });
        const clients = [];
        for (const name of ['access.log', 'a.log']) {
          const line = await until(marker, () =>
            log(name)
              .split('\n')
              .find((one) => one.includes(`/?${marker} `)),
          ); // prettier-ignore
          clients.push(line.split(' ')[0]);
        }
        return clients;
      };
      assert.deepEqual(await request('plain', '203.0.113.9', '127.0.0.1'), ['203.0.113.9', '203.0.113.9']);
      assert.deepEqual(await request('six', '2001:db8::9', '127.0.0.1'), ['2001:db8::9', '2001:db8::9']);
      assert.deepEqual(await request('forged', '203.0.113.1, 203.0.113.9', '127.0.0.1'), [
        '203.0.113.9',
        '203.0.113.9',
      ]);
      const last = believesChains ? '203.0.113.9' : '198.51.100.9';
      assert.deepEqual(await request('chain', '203.0.113.1, 203.0.113.9, 198.51.100.9', '127.0.0.1'), [
        last,
        last,
      ]);
      assert.deepEqual(await request('around', '203.0.113.9', '127.0.0.2'), ['127.0.0.2', '127.0.0.2']);
    });
  });

test('behind a proxy the directory is asked for the client, not for the proxy', async () => {
  await using apache = await startApache({ remoteip: true, site: wholeSite });
  const via = (forwarded: string) => apache.get('/', { headers: { 'X-Forwarded-For': forwarded } });
  await rules['the directory']?.(apache, [...banned, '127.0.0.1']);
  assert.equal(await via('203.0.113.5'), 403);
  assert.equal(await via('2001:DB8:0:0::5'), 403, 'as Apache prints it, not as the proxy says it');
  assert.equal(await via('203.0.113.6, 203.0.113.5'), 403, 'the banned client makes one up');
  assert.equal(await via('203.0.113.5, 203.0.113.6'), 200, 'the banned address is made up');
  assert.equal(await via('../bans/203.0.113.5'), 403, 'no address: it counts as the proxy');
});

test('before they are filled in, the proxy files trust no proxy, not even with an empty list', async () => {
  for (const [file] of proxies) {
    const server = (dir: string) => {
      writeFileSync(join(dir, 'none'), '');
      return kit(file).replaceAll('/etc/apache2/djangoapp/cloudfront-proxies', join(dir, 'none'));
    };
    await using apache = await startApache({ list, modules: ['remoteip'], server, site: wholeSite });
    for (const from of ['127.0.0.1', '127.0.0.2'])
      assert.equal(await apache.get('/', { from, headers: { 'X-Forwarded-For': '203.0.113.5' } }), 200, file);
  }
});

suite('both proxy files together: CloudFront in front of a load balancer', () => {
  const keepsOne = /^RequestHeader edit X-Forwarded-For .*$/m;
  /** The load balancer is 127.0.0.1. */
  const start = (change: (cloudfront: string) => string) =>
    startApache({
      list,
      modules: ['remoteip'],
      server: (dir) => {
        writeFileSync(join(dir, 'cloudfront'), '198.51.100.0/24\n');
        const installed = '/etc/apache2/djangoapp/cloudfront-proxies';
        const cloudfront = change(kit('remoteip-cloudfront.conf')).replaceAll(
          installed,
          join(dir, 'cloudfront'),
        );
        const balancer = kit('remoteip-loadbalancer.conf');
        return cloudfront + balancer.replace(/^(RemoteIPInternalProxy) .*/m, '$1 127.0.0.1');
      },
      site: wholeSite,
    });
  const client = async (apache: Apache, forwarded: string) => {
    const marker = `/?${encodeURIComponent(forwarded)} `;
    const status = await apache.get(marker.trim(), { headers: { 'X-Forwarded-For': forwarded } });
    const line = await until(`the line of ${forwarded}`, () =>
      read(apache.accessLog)
        .split('\n')
        .find((one) => one.includes(marker)),
    ); // prettier-ignore
    return [status, line.split(' ')[0]];
  };

  test('with the line for two hops, the viewer is the client, and what it sent is not believed', async () => {
    const twoHops = /Two hops[\s\S]*?\n# {3}(RequestHeader .*)/.exec(kit('remoteip-loadbalancer.conf'))?.[1];
    assert.ok(twoHops);
    await using apache = await start((text) => text.replace(keepsOne, () => twoHops));
    const cases: [forwarded: string, status: number, client: string][] = [
      ['203.0.113.5, 198.51.100.9', 403, '203.0.113.5'],
      ['203.0.113.5, 203.0.113.6, 198.51.100.9', 200, '203.0.113.6'],
      ['203.0.113.6, 203.0.113.5, 198.51.100.9', 403, '203.0.113.5'],
      // Another customer's distribution in front of yours, and a client of the load balancer itself.
      ['203.0.113.5, 198.51.100.8, 198.51.100.9', 200, '198.51.100.8'],
      ['203.0.113.5, 203.0.113.6', 200, '203.0.113.6'],
    ];
    for (const [forwarded, status, address] of cases)
      assert.deepEqual(await client(apache, forwarded), [status, address], forwarded);
  });

  test('without it CloudFront is the client, which is protected: no visitor is taken for another', async () => {
    await using apache = await start((text) => text);
    for (const forwarded of ['203.0.113.5, 198.51.100.9', '203.0.113.5, 203.0.113.6, 198.51.100.9'])
      assert.deepEqual(await client(apache, forwarded), [200, '198.51.100.9'], forwarded);
    assert.deepEqual(await client(apache, '203.0.113.6, 203.0.113.5'), [403, '203.0.113.5']);
  });
});
