// filter.d/djangoapp-admin-login.conf, by the real fail2ban-regex: made-up lines in tables, and lines that a real Apache
// wrote while clients did their worst.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { startApache } from '../lab/apache.ts';
import { execute, until } from '../lab/wait.ts';

const filter = join(import.meta.dirname, '..', '..', 'filter.d', 'djangoapp-admin-login.conf');
const dir = mkdtempSync(join(tmpdir(), 'banctl-filter-'));
after(() => rmSync(dir, { recursive: true }));

type Found = { address: string; time: number };

/** What the filter finds in each line that it matches. */
async function find(lines: string[], parameters = ''): Promise<Map<string, Found>> {
  const log = join(dir, 'access.log');
  writeFileSync(log, `${lines.join('\n')}\n`);
  const out = await execute('fail2ban-regex', ['-o', '<time> <ip> <matches>', log, filter + parameters]);
  assert.equal(out.exitCode === 0 || out.stdout === '', true, out.stdout + out.stderr);
  assert.doesNotMatch(out.stdout + out.stderr, /ERROR|Traceback/);
  const found = new Map<string, Found>();
  for (const row of out.stdout.split('\n').filter(Boolean)) {
    const [, time = '', address = '', line = ''] = /^(\S+) (\S+) (.*)$/.exec(row) ?? [];
    assert.ok(lines.includes(line), `not a line of the log: ${row}`);
    found.set(line, { address, time: Number(time) });
  }
  return found;
}

const date = '22/Nov/2026:10:20:30 +0100';
const epoch = Date.parse('2026-11-22T10:20:30+01:00') / 1000;

type Line = {
  client?: string;
  user?: string;
  request?: string;
  status?: number;
  rest?: string;
};
/** A line in the common format and its relatives. */
function line({
  client = '203.0.113.5',
  user = '-',
  request = 'POST /admin/login/ HTTP/1.1',
  status = 200,
  rest = ' 2131 "https://example.com/admin/login/" "Mozilla/5.0"',
}: Line = {}): string {
  return `${client} - ${user} [${date}] "${request}" ${status}${rest}`;
}
const login = (target: string, method = 'POST') => ({ request: `${method} ${target} HTTP/1.1` });

type Case = [behaviour: string, line: string, address: string | null];

function table(title: string, cases: Case[], parameters = '') {
  suite(title, () => {
    let found = new Map<string, Found>();
    before(async () => {
      const lines = cases.map(([, text]) => text);
      assert.equal(new Set(lines).size, lines.length, 'each line once');
      found = await find(lines, parameters);
    });
    for (const [behaviour, text, address] of cases)
      test(behaviour, () => {
        assert.deepEqual(found.get(text), address === null ? undefined : { address, time: epoch }, text);
      });
  });
}

table('a failed login is found', [
  ['Django: 200 after a POST', line(), '203.0.113.5'],
  ['an application that answers 401', line({ status: 401 }), '203.0.113.5'],
  ['an application that answers 403', line({ status: 403 }), '203.0.113.5'],
  ['with a query string', line(login('/admin/login/?next=/admin/')), '203.0.113.5'],
  ['with an odd query string', line(login('/admin/login/?a=\\"b [c] HTTP/1.1\\" 302 ')), '203.0.113.5'],
  ['HTTP/1.0', line({ request: 'POST /admin/login/ HTTP/1.0' }), '203.0.113.5'],
  ['HTTP/2.0', line({ request: 'POST /admin/login/ HTTP/2.0' }), '203.0.113.5'],
  ['from IPv6', line({ client: '2001:db8::5' }), '2001:db8::5'],
  ['from IPv6 without ::', line({ client: '2001:db8:1:2:3:4:5:6' }), '2001:db8:1:2:3:4:5:6'],
  ['without the last slash', line(login('/admin/login')), '203.0.113.5'],
  ['a part of the form', line({ status: 206 }), '203.0.113.5'],
  ['no part of the form', line({ status: 416 }), '203.0.113.5'],
  ['a whole URL without a host', line(login('http:/admin/login/')), '203.0.113.5'],
  ['of a known user', line({ user: 'alice' }), '203.0.113.5'],
  ['common format', line({ rest: ' 2131' }), '203.0.113.5'],
  ['common format, %b of -', line({ rest: ' -' }), '203.0.113.5'],
  ['combined format, %b of -', line({ rest: ' - "-" "-"' }), '203.0.113.5'],
  ['the status at the end of the line', line({ rest: '' }), '203.0.113.5'],
  ['more fields at the end', line({ rest: ' 5 "-" "-" 1234 0.5' }), '203.0.113.5'],
  ['vhost_combined', line({ client: 'www.example.com:443 203.0.113.6' }), '203.0.113.6'],
  ['vhost_combined, IPv6', line({ client: 'www.example.com:443 2001:db8::5' }), '2001:db8::5'],
  [
    'vhost_combined, a host named by its address',
    line({ client: '192.0.2.1:80 203.0.113.7' }),
    '203.0.113.7',
  ],
  ['vhost_combined, by its IPv6 address', line({ client: '[2001:db8::1]:80 203.0.113.7' }), '203.0.113.7'],
  ['vhost_combined with %b of -', line({ client: 'a:80 203.0.113.8', rest: ' - "-" "-"' }), '203.0.113.8'],
  ["with the client's port", line({ client: '203.0.113.9:51234' }), '203.0.113.9'],
  ["with the client's port, IPv6", line({ client: '[2001:db8::9]:51234' }), '2001:db8::9'],
  [
    "vhost_combined with the client's port",
    line({ client: 'a.example:80 203.0.113.9:51234' }),
    '203.0.113.9',
  ],
]);

table('anything else is not', [
  ['a successful login: 302', line({ status: 302 }), null],
  [
    'a successful login with a query string',
    line({ ...login('/admin/login/?next=/admin/'), status: 302 }),
    null,
  ],
  ['looking at the form', line(login('/admin/login/', 'GET')), null],
  ['asking for a password: GET and 401', line({ ...login('/admin/login/', 'GET'), status: 401 }), null],
  ['POST and 401 elsewhere', line({ ...login('/api/token/'), status: 401 }), null],
  [
    'POST and 403 elsewhere in the admin',
    line({ ...login('/admin/auth/user/1/change/'), status: 403 }),
    null,
  ],
  ['a path that begins like it', line(login('/admin/login/help/')), null],
  ['a path that ends like it', line(login('/other/admin/login/')), null],
  ['another case', line(login('/Admin/Login/')), null],
  ['the path in a query string', line(login('/search/?q=/admin/login/')), null],
  [
    'the path in the referer',
    line({ ...login('/search/'), rest: ' 5 "https://a.example/admin/login/" "-"' }),
    null,
  ],
  ['a server error', line({ status: 500 }), null],
  ['a status that begins like one', line({ rest: '1 5' }), null],
  ['a hostname for a client', line({ client: 'client.example' }), null],
  ['a hostname that has an address', line({ client: 'localhost' }), null],
  ['a hostname that begins like an address', line({ client: '203.0.113.5.client.example' }), null],
  ['something with an address in it', line({ client: 'x203.0.113.5' }), null],
  ['a request that was none', line({ request: '-', status: 408 }), null],
  ['an empty request', line({ request: '', status: 401 }), null],
]);

// The time is asserted too: a line with a time of the client's choice would be dropped as too old.
const fakeLine = '198.51.100.1 - - [01/Jan/2020:00:00:00 +0000] \\"POST /admin/login/ HTTP/1.1\\" 401 5';
const fakeDate = '[01/Jan/2020:00:00:00 +0000]';
table('what a client writes bans no other client, and does not hide it', [
  ['a log line as user agent', line({ rest: ` 5 "-" "${fakeLine}"` }), '203.0.113.5'],
  ['a log line as referer', line({ rest: ` 5 "${fakeLine}" "-"` }), '203.0.113.5'],
  ['a log line as user agent, elsewhere', line({ ...login('/'), rest: ` 5 "-" "${fakeLine}"` }), null],
  ['a log line as referer, after success', line({ status: 302, rest: ` 5 "${fakeLine}" "-"` }), null],
  ['a log line as user name', line({ user: fakeLine, status: 401 }), '203.0.113.5'],
  ['a log line as user name, elsewhere', line({ ...login('/'), user: fakeLine, status: 401 }), null],
  ['a log line as user name, after success', line({ user: fakeLine, status: 302 }), null],
  ['a status of the client in the next fields', line({ status: 302, rest: ' 5 "x HTTP/1.1" 200 5' }), null],
  [
    'the same after a query string',
    line({ ...login('/admin/login/?next=/'), status: 302, rest: ' 5 "x HTTP/1.1" 200 5' }),
    null,
  ],
  ['a log line as query string', line({ ...login(`/admin/login/?${fakeLine}`), status: 401 }), '203.0.113.5'],
  ['a log line as request', line({ request: fakeLine, status: 400 }), null],
  ['a log line as path', line({ ...login(`/${fakeLine}`), status: 401 }), null],
  ['a date as user name', line({ user: fakeDate, status: 401 }), '203.0.113.5'],
  ['two dates as user name', line({ user: `x ${fakeDate} ${fakeDate}`, status: 401 }), '203.0.113.5'],
  ['a date and quote as user name', line({ user: `a ${fakeDate} \\"`, status: 401 }), '203.0.113.5'],
  ['brackets as user name', line({ user: '[] \\"POST /admin/login/ [', status: 401 }), '203.0.113.5'],
  ['spaces as user name', line({ user: ' a  b - ', status: 401 }), '203.0.113.5'],
  ['an address as user name', line({ user: '198.51.100.1 - -', status: 401 }), '203.0.113.5'],
  ['an address and port as user name', line({ user: 'x:1 198.51.100.1 - -', status: 401 }), '203.0.113.5'],
  [
    'an address as user name, IPv6 client',
    line({ client: '2001:db8::5', user: '198.51.100.1 - -' }),
    '2001:db8::5',
  ],
  ['backslashes as user name', line({ user: '\\\\\\\\', status: 401 }), '203.0.113.5'],
  ['an empty user name', line({ user: '""', status: 401 }), '203.0.113.5'],
  [
    'an empty request, the rest in the referer',
    line({ request: '', status: 400, rest: ` 5 "a ${fakeDate} \\"POST /admin/login/ HTTP/1.1\\" 401" "-"` }),
    null,
  ],
  [
    "an address as virtual host's name",
    line({ client: '198.51.100.1:80 203.0.113.5', user: 'a' }),
    '203.0.113.5',
  ],
  ['an address as ident', `203.0.113.5 198.51.100.1 - [${date}] "POST /admin/login/ HTTP/1.1" 401 5`, null],
  [
    'an address as ident of IPv6',
    `2001:db8::5 198.51.100.1 - - [${date}] "POST /admin/login/ HTTP/1.1" 401 5`,
    null,
  ],
]);

table('a login written in another way is found', [
  ['two slashes', line(login('//admin/login/')), '203.0.113.5'],
  ['slashes in between', line(login('/admin///login//')), '203.0.113.5'],
  ['dots', line(login('/./admin/././login/')), '203.0.113.5'],
  ['up and down', line(login('/static/../admin/login/')), '203.0.113.5'],
  ['encoded letters', line(login('/%61dmin/l%6F%67in/')), '203.0.113.5'],
  ['every letter encoded', line(login('/%61%64%6d%69%6e/%6c%6f%67%69%6e/')), '203.0.113.5'],
  ['encoded dots', line(login('/x/%2e%2E/admin/%2e/login/')), '203.0.113.5'],
  ['a whole URL', line(login('http://example.com/admin/login/?next=/')), '203.0.113.5'],
  ['a whole URL, elsewhere', line(login('http://example.com/x?/admin/login/')), null],
  ['Django takes the method in any case', line(login('/admin/login/', 'pOsT')), '203.0.113.5'],
  ['still another path: encoded', line(login('/%61pi/login/')), null],
  ['still another path: slashes', line(login('//api//login/')), null],
]);

table(
  'path and status can be given',
  [
    ['the path given', line({ ...login('/accounts/login/'), status: 401 }), '203.0.113.5'],
    ['the status given second', line({ ...login('/accounts/login/'), status: 422 }), '203.0.113.5'],
    ['a query string', line({ ...login('/accounts/login/?a'), status: 401 }), '203.0.113.5'],
    ['not a status that was not given', line(login('/accounts/login/')), null],
    ['not the default path', line({ status: 401 }), null],
    ['not another spelling of the default path', line({ ...login('//admin/login/'), status: 401 }), null],
  ],
  '[path="/accounts/login/", status="401|422"]',
);

table(
  'another path, as it is, is found with what stands around it',
  [
    ['slashes before it', line(login('//x/login/')), '203.0.113.5'],
    ['up and down before it', line(login('/a/b/../../x/login/')), '203.0.113.5'],
    ['dots behind it', line(login('/x/login/./.')), '203.0.113.5'],
    ['up and down behind it', line(login('/x/login/a/..?next=/')), '203.0.113.5'],
    ['without a host', line(login('http:/x/login/')), '203.0.113.5'],
    ['up from it', line(login('/x/login/..')), null],
    ['more behind it', line(login('/x/login/a')), null],
  ],
  '[path="/x/login/"]',
);

table(
  'both paths that Django has by itself are found in any spelling',
  [
    ['the one', line(login('/admin/%6Cogin')), '203.0.113.5'],
    ['the other', line(login('/accounts//x/../login/')), '203.0.113.5'],
    ['no third', line(login('/x/login/')), null],
  ],
  '[path="/admin/login/|/accounts/login/"]',
);

table(
  'the path is a regular expression',
  [
    ['the one', line(login('/en/admin/login/')), '203.0.113.5'],
    ['the other', line(login('/de/admin/login/')), '203.0.113.5'],
    ['the third', line(login('/accounts/login/')), '203.0.113.5'],
    ['no more', line(login('/fr/admin/login/')), null],
  ],
  '[path="/(?:en|de)/admin/login/|/accounts/login/"]',
);

test('a line made to be slow is not', async () => {
  const lines = [
    line({ user: '"" \\" '.repeat(1_300), status: 401 }),
    line({ ...login(`/admin/login/?${' HTTP/1.1\\"'.repeat(700)}`), status: 302 }),
    line({ client: 'a:1'.repeat(2_600) }),
  ];
  const from = performance.now();
  assert.equal((await find(lines)).size, 0);
  assert.ok(performance.now() - from < 10_000, `took ${performance.now() - from} ms`);
});

test('lines that Apache itself writes, in its formats', async () => {
  await using apache = await startApache({
    remoteip: true,
    modules: ['http2'],
    server: 'Protocols h2c http/1.1\nUseCanonicalName Off',
    site: (where) => `
CustomLog ${where}/common.log common
CustomLog ${where}/vhost.log vhost_combined
CustomLog ${where}/b.log "%h %l %u %t \\"%r\\" %>s %b"
CustomLog ${where}/port.log "%a:%{remote}p %l %u %t \\"%r\\" %>s %b"
<Location /admin/login/basic/>
  AuthType Basic
  AuthName private
  AuthUserFile /dev/null
  Require valid-user
</Location>`,
  });
  const basic = (user: string) => ({ Authorization: `Basic ${Buffer.from(`${user}:x`).toString('base64')}` });
  const path = '/admin/login/basic/'; // Basic authentication, so that Apache logs the user's name
  const fake = '198.51.100.1 - - [01/Jan/2020:00:00:00 +0000] "POST /admin/login/ HTTP/1.1" 401 5';

  assert.equal(await apache.login(200, { from: '203.0.113.1' }), 200);
  assert.equal(await apache.login(401, { from: '203.0.113.2' }), 401);
  assert.equal(await apache.login(403, { from: '2001:db8::3', v6: true }), 403);
  assert.equal(await apache.login(302, { from: '203.0.113.4' }), 302);
  const headers = { 'User-Agent': fake, Referer: `"${fake}` };
  assert.equal(await apache.login(200, { from: '203.0.113.5', headers }), 200);
  assert.equal(await apache.login(302, { from: '203.0.113.6', headers }), 302);
  const users = [
    '',
    fake,
    `x\\" ${fake}`,
    '[01/Jan/2020:00:00:00 +0000] "',
    'a b [] "POST',
    'é\t\\',
    '198.51.100.1 - -',
  ];
  for (const [i, user] of users.entries())
    assert.equal(
      await apache
        .request(path, { method: 'POST', from: `203.0.113.1${i}`, headers: basic(user) })
        .then((r) => r.status),
      401,
    );
  assert.equal(await apache.get('/', { method: 'POST', from: '203.0.113.30', headers: headers }), 200);
  for (const spelling of [
    '//admin/./login/',
    '/x/../admin/login/',
    '/%61dmin/login/',
    `http://localhost/admin/login/`,
  ])
    assert.equal(await apache.login(200, { from: '203.0.113.40', path: spelling }), 200, spelling);
  assert.equal(await http2Login(apache.port, '203.0.113.50'), 401);

  const expected = [
    ...['203.0.113.1', '203.0.113.2', '2001:db8::3', '203.0.113.5'],
    ...users.map((_, i) => `203.0.113.1${i}`),
    ...Array(4).fill('203.0.113.40'),
    '203.0.113.50',
  ];
  const withBasic = '[path="/admin/login/(?:basic/)?"]';
  const now = Date.now() / 1000;
  for (const log of ['access.log', 'common.log', 'vhost.log', 'b.log', 'port.log']) {
    const text = () => readFileSync(join(apache.dir, log), 'utf8').trimEnd().split('\n');
    await until(`all lines in ${log}`, () => text().length === expected.length + 3);
    const spelled = text().filter((one) => one.includes('203.0.113.40'));
    // Where the format has no brackets, an IPv6 address with a port behind it is ambiguous: left out here.
    const left = (one: string) =>
      !one.startsWith('203.0.113.40') && (log !== 'port.log' || !one.startsWith('2001:'));
    const plain = [
      ...(
        await find(
          text().filter((one) => !spelled.includes(one) && left(one)),
          withBasic,
        )
      ).values(),
    ];
    // Two children of Apache may log two requests in the other order.
    assert.deepEqual(plain.map(({ address }) => address).sort(), expected.filter(left).sort(), log);
    for (const { time } of plain) assert.ok(Math.abs(time - now) < 120, `${log}: time ${time}`);
    assert.equal((await find(spelled)).size, 4, `${log}: every spelling`);
  }
});

/** A failed login over HTTP/2 without TLS. */
function http2Login(port: number, from: string): Promise<number> {
  const session = connect(`http://127.0.0.1:${port}`);
  return new Promise<number>((resolve, reject) => {
    session.on('error', reject);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/admin/login/',
      'x-forwarded-for': from,
      'x-answer': '401',
    });
    stream.on('error', reject);
    stream.on('response', (headers) => resolve(Number(headers[':status'])));
    stream.resume();
    stream.end();
  }).finally(() => session.close());
}
