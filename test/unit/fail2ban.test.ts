// What fail2ban's client prints and its database has, as values: without fail2ban.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  parseBanned,
  parseConfiguration,
  parseDatabasePath,
  parseHeldBan,
  parseHolders,
  parseIgnored,
  parseNames,
  parseStatus,
} from '../../src/fail2ban/answers.ts';
import { parsePython } from '../../src/fail2ban/python.ts';
import { restoredBans } from '../../src/fail2ban/restore.ts';

suite('parsePython', () => {
  const values: [string, unknown][] = [
    ["''", ''],
    ["'a b'", 'a b'],
    [String.raw`'it\'s'`, "it's"],
    [`"it's"`, "it's"],
    [String.raw`'tab\tline\nback\\slash'`, 'tab\tline\nback\\slash'],
    [String.raw`'\x1b\u20ac\U0001f4a3'`, '\x1b€💣'],
    [String.raw`'\U7fffffff'`, '\ufffd'],
    ['12', 12],
    ['-1.5', -1.5],
    ['None', null],
    ['[True, False]', [true, false]],
    ['[]', []],
    ["['a', ['b'],]", ['a', ['b']]],
    ["('a', 1)", ['a', 1]],
    ["{'a': ['b']}", new Map([['a', ['b']]])],
    ['{}', new Map()],
  ];
  for (const [text, value] of values) test(`reads ${text}`, () => assert.deepEqual(parsePython(text), value));

  for (const text of [
    '',
    '[',
    "['a'",
    "'a",
    '[1 2]',
    '[,]',
    "{'a'}",
    '{1: 2}',
    'x',
    '[]]',
    '['.repeat(100_000),
    'toString',
    "'a' 'b'",
  ])
    test(`takes ${JSON.stringify(text.slice(0, 20))} for nothing`, () =>
      assert.equal(parsePython(text), undefined));

  test('reads any text that Python has quoted', () => {
    const quoted = (text: string) =>
      `'${[...text].map((one) => (/[\\']/.test(one) ? `\\${one}` : one < ' ' ? `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}` : one)).join('')}'`;
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => parsePython(quoted(text)) === text));
  });
});

suite('names of jails', () => {
  const status = (count: number, names: string) =>
    `Status\n|- Number of jail:\t${count}\n\`- Jail list:\t${names}`;

  const names: [string, string[], string][] = [
    ['none', [], ''],
    ['one', ['sshd'], 'sshd'],
    ['with blanks', ['my jail', ' lead'], 'my jail,  lead'],
    ['with a comma', ['a,b', 'c'], 'a,b, c'],
    ['with anything', [`it's "q" \\ | % \t <x>`, 'ü'], `it's "q" \\ | % \t <x>, ü`],
  ];
  for (const [what, expected, text] of names)
    test(`${what} are read`, () => assert.deepEqual(parseStatus(status(expected.length, text)), expected));

  test('with a comma and a blank are not guessed, but read of another answer', () => {
    assert.equal(parseStatus(status(2, 'a, b, c')), undefined);
    assert.deepEqual(parseBanned("[{'a, b': ['203.0.113.9']}, {'c': []}]"), ['a, b', 'c']);
  });

  test('of something else are nothing', () => {
    for (const text of ['', 'Jail list:', 'Number of jail: 2', 'pong'])
      assert.equal(parseStatus(text), undefined, text);
    for (const text of ['', "['a']", "{'a': []}"]) assert.equal(parseBanned(text), undefined, text);
  });
});

suite('answers', () => {
  test('of who holds an address', () => {
    assert.deepEqual(parseHolders(`[['my jail', "it's"], []]`, 2), [['my jail', "it's"], []]);
    assert.equal(parseHolders("[['a']]", 2), undefined);
  });

  test('of a ban, under whatever id', () => {
    const line = (id: string, lasts: string) =>
      `${id} \t2026-11-25 17:13:45 + ${lasts} = 2026-11-25 17:23:45`;
    const since = new Date('2026-11-25T17:13:45').getTime() / 1000;
    for (const id of ['203.0.113.9', 'weird id', '', 'a + b'])
      assert.deepEqual(parseHeldBan(line(id, '600')), { id, address: id, since, until: since + 600 });
    for (const lasts of ['-1', '9007199254740993', '99999999999999999999999'])
      assert.equal(parseHeldBan(line('203.0.113.9', lasts))?.until, null, lasts);
    assert.equal(parseHeldBan('Sorry'), undefined);
  });

  test('of what is ignored, of actions, and of the database', () => {
    assert.deepEqual(parseIgnored('These IP addresses/networks are ignored:\n|- 10.0.0.0/8\n`- host'), [
      '10.0.0.0/8',
      'host',
    ]);
    assert.deepEqual(parseIgnored('No IP address/network is ignored'), []);
    assert.equal(parseIgnored('Sorry'), undefined);
    assert.deepEqual(parseNames('The jail a has the following actions:\nx, apache-banlist-my jail'), [
      'x',
      'apache-banlist-my jail',
    ]);
    assert.equal(
      parseDatabasePath('Current database file is:\n`- /var/lib/f b.sqlite3'),
      '/var/lib/f b.sqlite3',
    );
    assert.equal(parseDatabasePath('Database currently disabled'), null);
    assert.equal(parseDatabasePath('pong'), undefined);
  });
});

test('configuration: jails with their ban times, what they ignore, and their actions', () => {
  const { jails, database } = parseConfiguration(
    [
      "['set', 'loglevel', 'INFO']",
      "['set', 'dbfile', '/srv/own.sqlite3']",
      "['add', 'a, b', 'polling']",
      "['set', 'a, b', 'bantime', '1d 12h']",
      "['set', 'a, b', 'bantime.increment', True]",
      "['set', 'a, b', 'bantime.maxtime', '5w']",
      "['set', 'a, b', 'addignoreip', '10.0.0.0/8', 'host']",
      "['set', 'a, b', 'addaction', 'apache-banlist-x']",
      "['multi-set', 'a, b', 'action', 'apache-banlist-x', [['actionban', 'x'], ['jail', '<name>'], ['name', 'x']]]",
      "['add', 'c', 'auto']",
      "['set', 'c', 'bantime', -1]",
      "['add', 'dbfile', 'auto']",
      "['set', 'dbfile', 'bantime', '5']",
      'something else',
    ].join('\n'),
  );
  const [one, two] = jails;
  assert.equal(database, '/srv/own.sqlite3');
  assert.equal(parseConfiguration("['set', 'dbfile', 'None']").database, null);
  assert.equal(parseConfiguration('').database, undefined);
  assert.equal(one?.name, 'a, b');
  assert.deepEqual(one?.banTimes, { usual: '1d 12h', isGrowing: true, longest: '5w' });
  assert.deepEqual(one?.ignored, ['10.0.0.0/8', 'host']);
  assert.equal(one?.actions.get('apache-banlist-x')?.get('name'), 'x');
  assert.deepEqual(two?.banTimes, { usual: '-1', isGrowing: false, longest: undefined });
});

suite('what a jail restores', () => {
  const NOW = 1_800_000_000;
  const row = (lasts: number, age = 100) => ({ id: 'i', address: 'a', since: NOW - age, lasts });
  const until = (lasts: number, times: Parameters<typeof restoredBans>[1], age = 100) =>
    restoredBans([row(lasts, age)], times, NOW).map((ban) => ban.until);
  const hour = { usual: 3600, isGrowing: false, longest: null };

  test('lasts no longer than its bans last now', () => {
    assert.deepEqual(until(600, hour), [NOW + 500]);
    assert.deepEqual(until(86_400, hour), [NOW + 3500]);
    assert.deepEqual(until(-1, hour), [NOW + 3500]);
    assert.deepEqual(until(86_400, hour, 3700), [], 'that would have ended by now');
    assert.deepEqual(until(-1, { ...hour, usual: null }), [null]);
    assert.deepEqual(until(600, { ...hour, usual: null }), [NOW + 500]);
  });

  test('lasts no longer than the longest of bans that grow', () => {
    assert.deepEqual(until(86_400, { ...hour, isGrowing: true }), [NOW + 86_300]);
    assert.deepEqual(until(86_400, { ...hour, isGrowing: true, longest: 7200 }), [NOW + 7100]);
  });

  test('has the ban time of the jail where the database does not know it', () => {
    assert.deepEqual(until(-2, hour), [NOW + 3500]);
  });
});
