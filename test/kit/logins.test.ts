// Failed logins in every spelling that a real Apache takes for the login: the kit's log for logins with its filter, and the
// filter for access logs, have to count the same requests, and these alone. A real Django admin is attacked with them.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
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
import { casesOf } from '../lab/cases.ts';
import { execute, until } from '../lab/wait.ts';

const filters = join(import.meta.dirname, '..', '..', 'filter.d');
const dir = mkdtempSync(join(tmpdir(), 'banctl-logins-'));
after(() => rmSync(dir, { recursive: true }));

/** The addresses that a filter finds in a log, by the real fail2ban. */
async function counted(log: string, filter: string): Promise<string[]> {
  const { exitCode, stdout, stderr } = await execute('fail2ban-regex', [
    '-o',
    '<ip>',
    log,
    join(filters, filter),
  ]);
  assert.ok(exitCode === 0 || stdout === '', stdout + stderr);
  assert.doesNotMatch(stdout + stderr, /ERROR|Traceback/);
  return stdout.split('\n').filter(Boolean);
}

/** With a path of its own for each test; the log is there as soon as Apache is. */
const loginLog = (path?: string) =>
  `${path === undefined ? '' : `Define DJANGOAPP_LOGIN "${path}"\n`}${kit('djangoapp-login-log.conf')}`;
const logOf = (apache: Apache) => join(apache.dir, 'djangoapp-login.log');
const linesOf = (log: string) => readFileSync(log, 'utf8').split('\n').filter(Boolean);
/** As the comments of the filter say: each character as <.x>, without the last slash. */
const tagged = (path: string) => path.replace(/\/$/, '').replace(/./g, '<.$&>');

// --- Spellings ------------------------------------------------------------------------------------------------------

const dots = fc.constantFrom('.', '%2e', '%2E');
const up = fc.constantFrom('..', '.%2e', '%2e.', '%2E%2e');
const name = fc.constantFrom(
  'x',
  'admin',
  'login',
  'a.b',
  '...',
  '..x',
  '%2e%2e%2e',
  'é',
  '%C3%A9',
  'x%20y',
  '%25',
  'a;b',
  '.x',
  '~',
  '\\',
  '"',
);
/** What stands before a slash of the path and leads nowhere, mostly. */
const noise: fc.Arbitrary<string> = fc.letrec<{ noise: string }>((tie) => ({
  noise: fc.oneof(
    { depthSize: 'small', maxDepth: 4 },
    { weight: 3, arbitrary: fc.constantFrom('', '', '/', '//') },
    { weight: 1, arbitrary: dots.map((dot) => `/${dot}`) },
    {
      weight: 2,
      arbitrary: fc.tuple(name, tie('noise'), up).map(([one, inner, back]) => `/${one}${inner}/${back}`),
    },
    { weight: 1, arbitrary: fc.tuple(tie('noise'), tie('noise')).map(([one, other]) => one + other) },
    // Elsewhere, unless something leads back.
    {
      weight: 1,
      arbitrary: fc.oneof(
        name.map((one) => `/${one}`),
        up.map((back) => `/${back}`),
      ),
    },
  ),
})).noise;
const escaped = (letter: string) => `%${Buffer.from(letter).toString('hex')}`;
const spelledLetter = (letter: string) =>
  fc.oneof(
    { weight: 12, arbitrary: fc.constant(letter) },
    { weight: 1, arbitrary: fc.constant(escaped(letter)) },
    {
      weight: 1,
      arbitrary: fc.constant(escaped(letter).toUpperCase()),
    },
  );
const spelledName = (text: string) =>
  fc.tuple(...[...text].map(spelledLetter)).map((letters) => letters.join(''));
const slash = fc.oneof(
  { weight: 12, arbitrary: fc.constant('/') },
  { weight: 1, arbitrary: fc.constantFrom('%2F', '%2f') },
);
const scheme = fc.oneof(
  { weight: 6, arbitrary: fc.constant('') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'http:',
      'HTTP:',
      'http://',
      'http://localhost',
      'hTTps://localhost:8443',
      'http://[::1]:80',
      'ftp:',
      '*',
    ),
  },
);
const query = fc.oneof(
  { weight: 3, arbitrary: fc.constant('') },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '?',
      '?next=/admin/',
      '?/../x',
      '?a b',
      '?"',
      '#x',
      '%3Fx',
      ';x',
      '%0a',
      '%20',
      '%00',
      '%',
    ),
  },
);
const end = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('/', '') },
  { weight: 1, arbitrary: fc.constantFrom('/.', '/..', '//', '/%2e', '/x', '/x/..') },
);

function spellings(path: string): fc.Arbitrary<string> {
  const parts = path.split('/').filter(Boolean);
  const segment = (text: string) => fc.tuple(noise, slash, spelledName(text)).map((some) => some.join(''));
  return fc.tuple(scheme, ...parts.map(segment), noise, end, query).map((some) => some.join(''));
}

/** Each kind alone, and what has been forgotten before. */
function listed(path: string): string[] {
  const [, first = '', rest = ''] = /^\/([^/]+)(\/.*)\/$/.exec(path) ?? [];
  const bare = `/${first}${rest}`;
  return [
    path,
    bare,
    ...[
      '.',
      '%2e',
      '/',
      './/',
      'x/..',
      'x/../',
      'x/y/../..',
      '?next=/',
      '?',
      '..',
      'x',
      '...',
      '%2e%2E',
      ';x',
      '%0a',
      '%00',
      '#x',
    ].map((tail) => path + tail),
    ...[
      '/',
      '/.',
      '/x/..',
      '/a/b/../..',
      '/%2e',
      '/..',
      '/x',
      '/a/b/c/d/e/../../../../..',
      `${'/a'.repeat(10)}${'/..'.repeat(10)}`,
      `${'/a'.repeat(20)}${'/..'.repeat(20)}`,
    ].map((front) => front + path),
    ...['/', '/.', '/x/..', '/x/.%2e', `${rest}/..`, '/..', `/../${first}`].map(
      (middle) => `/${first}${middle}${rest}/`,
    ),
    ...['http:', 'http://', 'http://h', 'HTTPS://h:1', 'http:/', 'ftp:', 'ftp://h'].map(
      (front) => front + path,
    ),
    `/${escaped(first[0] ?? '')}${first.slice(1)}${rest}/`,
    path.toUpperCase(),
    path.replaceAll('/', '//'),
    path.replaceAll('/', '%2f'),
    `/${path.slice(1).replaceAll('/', '%2F')}`,
    [...path].map((letter) => (letter === '/' ? '/' : escaped(letter))).join(''),
    `/%25${path.slice(1)}`,
    `http:${path.slice(1)}`,
    `//h${path}`,
    `/${path.slice(1)}.${path}`,
    `${path}x/..%2Fy/%2e./..`,
    `/x%2f..${path.slice(0, -1)}%2Fz/../../../${path.slice(1)}`,
  ];
}

/** With these, the filter for access logs counts a request wherever it leads, as its comments say. */
const MANY_UPS = /(?:\/(?:\.|%2e){2}.*){11}|%2f.*\/(?:\.|%2e){2}(?:\/|\?|$)/i;

// A target of HTTP has neither blanks nor control characters, and is not all the world's letters.
const sendable = (target: string) =>
  Buffer.from(target, 'utf8')
    .toString('latin1')
    .replace(/[\s\0]/g, '');

for (const { path, parameter, more = '' } of [
  { path: '/admin/login/', parameter: '/admin/login/' },
  { path: '/accounts/login/', parameter: '/accounts/login/', more: 'AllowEncodedSlashes On\n' },
  { path: '/other/login/', parameter: tagged('/other/login/') },
  { path: '/en/2-b_c/log-in~1/', parameter: tagged('/en/2-b_c/log-in~1/') },
])
  test(`every spelling of ${path} that reaches it is counted by both filters, and no other: ${more}`, async (t) => {
    await using apache = await startApache(
      underWsgi(answering, { remoteip: true, after: loginLog(path.slice(0, -1)), site: more }),
    );
    const random = casesOf(t, 600, spellings(path));
    const targets = [...new Set([...listed(path), ...random].map(sendable).filter(Boolean))];
    const expected: string[] = [];
    let at = 0;
    const next = async (): Promise<void> => {
      const n = at++;
      const target = targets[n];
      if (target === undefined) return;
      const from = `198.18.${n >> 8}.${n & 255}`;
      const { headers } = await rawRequest(apache, target, { from });
      if ([path, path.slice(0, -1)].some((one) => headers['x-path'] === `'${one}'`)) expected.push(from);
      return next();
    };
    await Promise.all(Array.from({ length: 8 }, next));
    await until('the access log', () => linesOf(apache.accessLog).length === targets.length);
    t.diagnostic(`${targets.length} spellings, ${expected.length} of them the login`);
    const of = (addresses: string[]) =>
      addresses.map((address) => {
        const [, , high, low] = address.split('.').map(Number);
        return targets[(high ?? 0) * 256 + (low ?? 0)];
      });
    const same = (what: string, addresses: string[], excepted = /$^/) => {
      const missing = of(expected.filter((address) => !addresses.includes(address)));
      const others = of(addresses.filter((address) => !expected.includes(address))).filter(
        (target) => !excepted.test(target ?? ''),
      );
      assert.deepEqual({ missing, others }, { missing: [], others: [] }, what);
      assert.equal(addresses.length, new Set(addresses).size, `${what}: each once`);
    };
    same('the log for logins', await counted(logOf(apache), 'djangoapp-login.conf'));
    same(
      'the access log',
      await counted(apache.accessLog, `djangoapp-admin-login.conf[path="${parameter}"]`),
      MANY_UPS,
    );
  });

// --- Which requests -------------------------------------------------------------------------------------------------

suite('the log for logins', () => {
  let apache: Apache;
  const crossSite = { 'Sec-Fetch-Site': 'cross-site' };
  const answer = (status: number, headers: Record<string, string> = {}): RawRequest => ({
    headers: { ...(status === 200 ? {} : { 'X-Answer': `${status}` }), ...headers },
  });
  const rows: [behaviour: string, request: RawRequest & { target?: string }, counts: boolean][] = [
    ['the form again', answer(200), true],
    ['401', answer(401), true],
    ['403', answer(403), true],
    ['a method in another case', { method: 'pOsT' }, true],
    ['a part of the answer', answer(206), true],
    ['no part of the answer', answer(416), true],
    ['another path of the list', { target: '/en/accounts/login/?x' }, true],
    ['another path of the list, without its slash', { target: '/de/accounts/login' }, true],
    ['not one that is not in the list', { target: '/fr/accounts/login/' }, false],
    ['not the answer to a successful login', answer(302), false],
    ["not the server's own fault", answer(500), false],
    ['not a look at the form', { method: 'GET' }, false],
    ['not a look at it that is refused', { method: 'GET', ...answer(403) }, false],
    ['not a path in the query', { target: '/?/admin/login/' }, false],
    ['not what another site makes a browser send', answer(403, crossSite), false],
    [
      'not what another host of this site makes a browser send',
      answer(403, { 'Sec-Fetch-Site': 'same-site' }),
      false,
    ],
    [
      'not that of a browser that only tells the origin',
      answer(403, { Origin: 'http://other.example' }),
      false,
    ],
    ['not that of a page without an origin', answer(403, { Origin: 'null' }), false],
    [
      '403 to a page of this site',
      answer(403, { 'Sec-Fetch-Site': 'same-origin', Origin: 'https://localhost' }),
      true,
    ],
    ['403 to a page of this site, without Sec-Fetch-Site', answer(403, { Origin: 'http://localhost' }), true],
    ['403 to a person', answer(403, { 'Sec-Fetch-Site': 'none' }), true],
    [
      '403 with a header that is no answer',
      answer(403, { 'Sec-Fetch-Site': 'cross-site, cross-site' }),
      true,
    ],
    ['401, whatever the client says', answer(401, crossSite), true],
    ['the form again, whatever the client says', answer(200, { ...crossSite, Origin: 'null' }), true],
    ['206, whatever the client says', answer(206, crossSite), true],
    ['416, whatever the client says', answer(416, { Origin: 'null' }), true],
  ];
  let found: string[] = [];
  before(async () => {
    apache = await startApache(
      underWsgi(answering, { remoteip: true, after: loginLog('/admin/login|/(?:en|de)/accounts/login') }),
    );
    for (const [n, [, { target = '/admin/login/', ...request }]] of rows.entries())
      await rawRequest(apache, target, { from: `198.18.0.${n}`, ...request });
    await until('the access log', () => linesOf(apache.accessLog).length === rows.length);
    found = await counted(logOf(apache), 'djangoapp-login.conf');
  });
  after(() => apache[Symbol.asyncDispose]());
  for (const [n, [behaviour, , counts]] of rows.entries())
    test(`has ${behaviour}`.replace('has not', 'does not have'), () => {
      assert.equal(found.filter((address) => address === `198.18.0.${n}`).length, counts ? 1 : 0);
    });

  test('has a line in which nothing but the method is the client’s before the path', () => {
    for (const line of linesOf(logOf(apache)))
      assert.match(
        line,
        /^198\.18\.0\.\d+ \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000\] (?:POST|pOsT) \d{3} \/\S+$/,
      );
  });

  test('knows the path by default, and any site has it, whatever it logs itself', async () => {
    await using one = await startApache(
      underWsgi(answering, { remoteip: true, server: loginLog(), logFormat: '%v' }),
    );
    for (const target of ['/admin/login/', '/admin/login', '/x/login/'])
      await rawRequest(one, target, { from: '2001:db8::5' });
    await until('the access log', () => linesOf(one.accessLog).length === 3);
    assert.deepEqual(await counted(logOf(one), 'djangoapp-login.conf'), ['2001:db8::5', '2001:db8::5']);
  });

  test('has the time at which a request ended, so that a slow one counts like any other', async () => {
    const from = '198.18.1.1';
    const begun = Date.now();
    const rest = until('two seconds', () => Date.now() - begun > 2_000).then(() => 'late');
    const { status } = await rawRequest(apache, '/admin/login/', {
      from,
      headers: { 'Content-Length': '4' },
      rest,
    });
    assert.equal(status, 200);
    const line = await until('its line', () =>
      linesOf(logOf(apache)).find((one) => one.startsWith(`${from} `)),
    );
    const logged = Date.parse(/\[(.*?)\]/.exec(line)?.[1] ?? '');
    assert.ok(logged >= begun + 1_000, `${line} begun at ${begun}`);
  });
});

// --- Lines made to be slow -------------------------------------------------------------------------------------------

test('the time that a line takes grows with its length, and not faster', async (t) => {
  const line = (target: string) =>
    `203.0.113.5 - - [22/Nov/2026:10:20:30 +0100] "POST ${target} HTTP/1.1" 404 5 "-" "-"\n`;
  const hostile: ((size: number) => string)[] = [
    (size) => '/a'.repeat(size / 2),
    (size) => '/.'.repeat(size / 2),
    (size) => '/'.repeat(size),
    (size) => '/..'.repeat(size / 3),
    (size) => '/a/..'.repeat(size / 5),
    (size) => `/a${'/b/..'.repeat(size / 5)}`,
    (size) => `/a/a/a/a/a/a${'/b/..'.repeat(size / 5)}/a`,
    (size) => `${'/a/a/a/a/a'.repeat(size / 20)}${'/..'.repeat(size / 6)}`,
    (size) => '/a/b/c/d/e/../../../..'.repeat(size / 22),
    (size) => '/admin'.repeat(size / 6),
    (size) => '/admin/login/..'.repeat(size / 15),
    (size) => `/admin${'/x/..'.repeat(size / 5)}/logi`,
    (size) => `/admin/login/${'/./a/..'.repeat(size / 7)}x`,
    (size) => `/admin/login/?${' HTTP/1.1'.repeat(size / 9)}`,
    (size) => `http://${'a'.repeat(size)}`,
    (size) => `/${'%2e'.repeat(size / 3)}`,
    (size) => `/${'\\"'.repeat(size / 2)}`,
  ];
  const seconds = async (path: string, size: number) => {
    const log = join(dir, 'slow.log');
    writeFileSync(log, hostile.map((make) => line(make(size)).repeat(20)).join(''));
    const filter = `${join(filters, 'djangoapp-admin-login.conf')}[path="${path}"]`;
    const { stdout } = await execute('fail2ban-regex', [log, filter]);
    return Number(/processed in ([\d.]+) sec/.exec(stdout)?.[1]);
  };
  for (const path of ['/admin/login/', '/other/login/', tagged('/other/login/')]) {
    const [short, long] = [await seconds(path, 1_000), await seconds(path, 8_000)];
    t.diagnostic(`${path}: ${short} s, ${long} s`);
    // Eight times as long; with the square of the length it would be 64 times.
    assert.ok(long < 30 * Math.max(short, 0.2), `${path}: ${short} s, ${long} s`);
  }
});

// --- A real Django ---------------------------------------------------------------------------------------------------

test("Django's own admin: a try in any spelling is counted, and one with the right password is not", async (t) => {
  await using apache = await startApache(
    underWsgi(django, { remoteip: true, after: loginLog('/admin/login|/other/login') }),
  );
  await makeDjango(apache);
  const paths = ['/admin/login/', '/other/login/'];
  const targets = paths
    .flatMap((path) => [...listed(path), ...casesOf(t, 40, spellings(path))])
    .map(sendable);
  const [tried, loggedIn]: [string[], string[]] = [[], []];
  for (const [n, target] of targets.entries()) {
    const from = `198.18.${n >> 8}.${n & 255}`;
    const form = await openForm(apache, from);
    // What logs in with the right password is a try with a wrong one.
    if ((await form.tries(target, 'correct')).loggedIn) {
      loggedIn.push(target);
      assert.equal((await form.tries(target, 'wrong')).status, 200, target);
      tried.push(from);
    }
  }
  t.diagnostic(`${targets.length} spellings, ${loggedIn.length} of them log in`);
  assert.ok(loggedIn.length > 20);
  // Neither another method nor a part of the answer gets past it.
  const form = await openForm(apache, '198.19.0.1');
  assert.equal(
    (await form.tries('/admin/login/', 'wrong', { headers: { Range: 'bytes=0-9' } })).loggedIn,
    false,
  );
  for (const method of ['PUT', 'PATCH', 'GET', 'DELETE'])
    assert.equal((await form.tries('/admin/login/', 'correct', { method })).loggedIn, false, method);
  const found = await counted(logOf(apache), 'djangoapp-login.conf');
  for (const from of tried) assert.ok(found.includes(from), from);
  const byAccessLog = await counted(
    apache.accessLog,
    `djangoapp-admin-login.conf[path="${paths.map(tagged).join('|')}"]`,
  );
  for (const from of tried) assert.ok(byAccessLog.includes(from), from);
});
