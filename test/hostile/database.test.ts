// Whatever stands in fail2ban's database, or in its place: the bans that it holds and that may be are taken over, or the
// call ends with 78 and one line and nothing has changed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { bansInDatabase } from '../../src/fail2ban/database.ts';
import { restoredBans } from '../../src/fail2ban/restore.ts';
import { EXIT } from '../../src/system/errors.ts';
import { executable } from '../lab/banctl.ts';
import { casesOf, holds } from '../lab/cases.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { addressLike, hostileText, spelledAddress } from '../lab/generate.ts';
import { networksOf } from '../lab/oracle.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, type Finished } from '../lab/wait.ts';

const NOW = Math.floor(Date.now() / 1000);
const LAST = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;
const JAIL = 'web';
const HELD = '203.0.113.5';
const TEXT = `# by hand\nRequire not ip 192.0.2.1\n# banctl | web 192.0.2.2 since 2026-01-01T00:00:00Z for ever\nRequire not ip 192.0.2.2\n`;

const directory = mkdtempSync(join(tmpdir(), 'banctl-database-'));
chmodSync(directory, 0o755);
after(() => rmSync(directory, { recursive: true }));
const at = (name: string) => join(directory, name);

/** The schema, and the client that knows the jails: a real fail2ban's, which has stopped. */
let schema = '';
let client = '';
const configuration = at('fail2ban');
before(async () => {
  mkdirSync(configuration);
  const jails = `[${JAIL}]\nenabled = true\nlogpath = DIR/access.log\nfilter = djangoapp-admin-login\nbantime = -1\n`;
  const fail2ban = await startFail2ban({ jails, dir: configuration });
  await fail2ban.stop();
  client = fail2ban.clientCommand;
  const database = new DatabaseSync(fail2ban.db, { readOnly: true });
  const made = database.prepare('SELECT sql FROM sqlite_master WHERE sql IS NOT NULL').all();
  schema = made.map(({ sql }) => `${sql};`).join('\n');
  database.close();
});

type Value = string | number | bigint | null | Uint8Array;
type Row = { ip: Value; timeofban: Value; bantime: Value };

function makeDatabase(path: string, rows: readonly Row[], { journal = 'delete' } = {}): string {
  for (const suffix of ['', '-journal', '-wal', '-shm']) rmSync(path + suffix, { force: true });
  const database = new DatabaseSync(path);
  database.exec(`PRAGMA journal_mode = ${journal}; PRAGMA synchronous = OFF;`);
  database.exec(`BEGIN; ${schema}`);
  database.prepare('INSERT INTO jails(name, enabled) VALUES (?, 1)').run(JAIL);
  const insert = database.prepare(
    "INSERT OR IGNORE INTO bips(ip, jail, timeofban, bantime, bancount, data) VALUES (?, 'web', ?, ?, 1, '{}')",
  );
  for (const { ip, timeofban, bantime } of rows) insert.run(ip, timeofban, bantime);
  database.exec('COMMIT');
  database.close();
  return path;
}

const held: Row = { ip: HELD, timeofban: NOW - 60, bantime: 3600 };

let lists = 0;
async function sync(database: string, { through = [] as string[] } = {}) {
  const folder = at(`list-${lists++}`);
  mkdirSync(folder, { mode: 0o777 });
  chmodSync(folder, 0o777);
  const banlist = join(folder, 'banlist.conf');
  writeFileSync(banlist, TEXT);
  const config = join(folder, 'banctl.json');
  writeFileSync(config, '{}');
  const options = [
    `--banlist=${banlist}`,
    `--config=${config}`,
    `--fail2ban-client=${client}`,
    '--no-reload',
  ];
  const [program = '', ...args] = [
    ...through,
    executable,
    'sync',
    `--jail=${JAIL}`,
    '--from-database',
    `--fail2ban-db=${database}`,
  ];
  return { finished: await execute(program, [...args, ...options]), text: readFileSync(banlist, 'utf8') };
}

function assertRefused({
  finished: { exitCode, stdout, stderr },
  text,
}: {
  finished: Finished;
  text: string;
}): void {
  assert.deepEqual([exitCode, stdout, text], [EXIT.notUnderstood, '', TEXT], stderr);
  assert.match(
    stderr,
    /^banctl: cannot read fail2ban's database [^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*; nothing was changed\n$/u,
  );
}

const bansOf = (text: string) => [...text.matchAll(/^Require not ip (\S+)$/gm)].map(([, address]) => address);

const forever = { usual: null, isGrowing: true, longest: null };

/** What is read from a database, undefined if it is refused as it must be. */
function read(path: string) {
  const rows = bansInDatabase(path, [JAIL], NOW);
  if (!rows.ok) {
    assert.match(rows.why, /^cannot read fail2ban's database /);
    return undefined;
  }
  const { rows: readable = [], odd = [] } = rows.value ?? {};
  return { bans: restoredBans(readable, forever, NOW), odd };
}

const time = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: NOW - 1000, max: NOW }) },
  fc.constantFrom<Value>(
    -1,
    0,
    1e300,
    -1e300,
    2 ** 53,
    9007199254740993n,
    2n ** 63n - 1n,
    -(2n ** 63n),
    Number.POSITIVE_INFINITY,
  ),
  fc.constantFrom<Value>(
    LAST,
    LAST + 1,
    LAST + 0.5,
    8.64e12,
    8.64e12 + 1,
    '',
    'abc',
    '1e9',
    '0x10',
    'NaN',
    '2026-01-31',
    null,
  ),
  fc.uint8Array({ maxLength: 9 }),
  fc.double({ min: -2e10, max: 3e11, noNaN: true }),
);
const lasting = fc.oneof({ weight: 6, arbitrary: fc.constantFrom<Value>(600, 3600, -1, 0.5, 2000.25) }, time);
const ip = fc.oneof(
  { weight: 5, arbitrary: spelledAddress },
  addressLike,
  hostileText,
  fc.constantFrom<Value>(
    '',
    null,
    10,
    3405803781,
    1.5,
    new Uint8Array([10]),
    Buffer.from(HELD),
    '10',
    '127.0.0.1',
    '::1',
    '0.0.0.0/0',
  ),
);
const usual: fc.Arbitrary<Row> = fc.record({
  ip,
  timeofban: fc.integer({ min: NOW - 100, max: NOW }),
  bantime: fc.constantFrom(600, -1),
});
const odd: fc.Arbitrary<Row> = fc.record({ ip, timeofban: time, bantime: lasting });

suite('any rows', () => {
  test('give bans with times that can be written; of the others the addresses are known', async (t) => {
    const path = at('rows.sqlite3');
    let unreadable = 0;
    await holds(t, 150, fc.array(odd, { maxLength: 4 }), (rows) => {
      const found = read(makeDatabase(path, rows));
      assert.ok(found !== undefined);
      unreadable += found.odd.length;
      for (const { since, until } of found.bans) {
        assert.ok(Number.isInteger(since) && since >= 0 && since <= LAST, `since ${since}`);
        assert.ok(until === null || until > NOW, `until ${until}`);
      }
    });
    t.diagnostic(`${unreadable} have times that cannot be read`);
    assert.ok(unreadable > 0);
  });

  const strange: Row[] = [
    { ip: '203.0.113.20', timeofban: -5, bantime: -1 },
    { ip: '203.0.113.21', timeofban: 'abc', bantime: -1 },
    { ip: '203.0.113.22', timeofban: 2n ** 62n, bantime: 600 },
    { ip: '203.0.113.23', timeofban: NOW, bantime: new Uint8Array([1, 2]) },
  ];

  test('that cannot be read keep no other ban out, and lift none', async () => {
    const database = makeDatabase(at('strange.sqlite3'), [
      ...strange,
      held,
      { ...strange[0], ip: '192.0.2.2' } as Row,
    ]);
    const { finished, text } = await sync(database);
    assert.deepEqual([finished.exitCode, finished.stderr], [0, '']);
    assert.deepEqual(bansOf(text), ['192.0.2.1', '192.0.2.2', HELD]);
    assert.match(finished.stdout, /^203\.0\.113\.20 skipped$/m);
  });

  test('that last longer than a number can say are for ever', async () => {
    const endless: Value[] = [2 ** 53, 2n ** 53n + 1n, 2n ** 63n - 1n, 1e300, -1, -1.5];
    const rows = endless.map(
      (bantime, index): Row => ({ ip: `203.0.113.${30 + index}`, timeofban: NOW - 60, bantime }),
    );
    const { finished, text } = await sync(makeDatabase(at('lasting.sqlite3'), rows));
    assert.deepEqual([finished.exitCode, finished.stderr], [0, '']);
    for (const { ip } of rows)
      assert.match(text, new RegExp(`\\| web ${ip} since \\S+ for ever\nRequire not ip ${ip}\n`));
  });

  test('are banned if they are addresses that may be, skipped and named if not', async (t) => {
    const cases = casesOf(t, 6, fc.array(usual, { minLength: 1, maxLength: 8 }));
    for (const [index, rows] of cases.entries()) {
      const texts = rows.map((row) => row.ip).filter((one) => typeof one === 'string');
      const networks = await networksOf(texts);
      const { finished, text } = await sync(makeDatabase(at(`usual-${index % 3}.sqlite3`), rows));
      assert.deepEqual([finished.exitCode, finished.stderr], [0, '']);
      const wanted = networks.flatMap((network) =>
        network !== undefined && mayBeBanned(network) ? network.text : [],
      );
      assert.deepEqual(new Set(bansOf(text)), new Set(['192.0.2.1', ...wanted]));
      // One line for each, whatever its address is.
      assert.doesNotMatch(finished.stdout.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      for (const line of text.split('\n'))
        assert.match(
          line,
          /^(?:|# by hand|# banctl \| web \S+ since \S+Z (?:for ever|until \S+Z)|Require not ip [\da-f.:/]+)$/,
        );
    }
  });

  test('of 20,000 bans are taken over by one call', async () => {
    const many = Array.from(
      { length: 20_000 },
      (_, index): Row => ({ ...held, ip: `2001:db8::${index.toString(16)}` }),
    );
    const { finished, text } = await sync(
      makeDatabase(at('huge.sqlite3'), [...many, { ...held, ip: 'x'.repeat(1_000_000) }]),
    );
    assert.deepEqual([finished.exitCode, finished.stderr, bansOf(text).length], [0, '', 20_001]);
  });
});

/** Not loopback, not too broad; the host's own addresses are not met by chance. */
function mayBeBanned({ family, first, last }: { family: 4 | 6; first: bigint; last: bigint }): boolean {
  const size = last - first + 1n;
  if (size > (family === 4 ? 1n << 24n : 1n << 109n)) return false;
  if (family === 6) return !(first <= 1n && last >= 1n);
  return !(first >> 24n === 127n || (first <= 127n << 24n && last >= 127n << 24n));
}

suite('a damaged database', () => {
  /** Some pages long, so that there is something to damage. */
  const whole = () => {
    const rows = Array.from(
      { length: 300 },
      (_, index): Row => ({ ...held, ip: `198.51.100.${index % 256}` }),
    );
    return readFileSync(makeDatabase(at('whole.sqlite3'), [...rows, held]));
  };
  const damage = fc.oneof(
    fc
      .double({ min: 0, max: 1, noNaN: true })
      .map((share) => (bytes: Buffer) => bytes.subarray(0, Math.floor(bytes.length * share))),
    fc
      .array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255)), {
        minLength: 1,
        maxLength: 40,
      })
      .map((spots) => (bytes: Buffer) => {
        for (const [share, byte] of spots) bytes[Math.floor(bytes.length * share)] = byte;
        return bytes;
      }),
    fc.tuple(fc.nat(99), fc.nat(255)).map(([index, byte]) => (bytes: Buffer) => {
      bytes[index] = byte;
      return bytes;
    }),
    fc.tuple(fc.nat(20), fc.nat(255)).map(
      ([page, byte]) =>
        (bytes: Buffer) =>
          bytes.fill(byte, page * 4096, (page + 1) * 4096),
    ),
    fc
      .uint8Array({ minLength: 1, maxLength: 5000 })
      .map((tail) => (bytes: Buffer) => Buffer.concat([bytes, tail])),
    fc.uint8Array({ maxLength: 300 }).map((content) => () => Buffer.from(content)),
  );

  test('in any place gives what can still be read, or exit 78', async (t) => {
    const bytes = whole();
    const path = at('damaged.sqlite3');
    let refused = 0;
    await holds(t, 300, damage, (spoil) => {
      writeFileSync(path, spoil(Buffer.from(bytes)));
      const found = read(path);
      if (found === undefined) refused += 1;
      for (const { since } of found?.bans ?? []) assert.ok(since >= 0 && since <= LAST);
    });
    t.diagnostic(`${refused} were refused`);
    assert.ok(refused > 0);
  });

  test('changes the list as it should, or not at all', async (t) => {
    const bytes = whole();
    const path = at('damaged-too.sqlite3');
    let refused = 0;
    for (const spoil of casesOf(t, 8, damage)) {
      writeFileSync(path, spoil(Buffer.from(bytes)));
      const done = await sync(path);
      if (done.finished.exitCode === 0) {
        // A damaged text is not an address, or another one: the list has what was reported.
        assert.match(
          done.text,
          /^# by hand\nRequire not ip 192\.0\.2\.1\n(?:# banctl \| web [^\n]*\nRequire not ip [\da-f.:/]+\n)*$/,
        );
      } else {
        assertRefused(done);
        refused += 1;
      }
    }
    t.diagnostic(`${refused} of ${8 * TORTURE} calls were refused`);
  });
});

suite('in the place of the database', () => {
  const refused: [string, () => string | Promise<string>][] = [
    ['an empty file', () => written('empty', '')],
    ['a text', () => written('text', 'SQLite format 3\n')],
    ['its header alone', () => written('header', 'SQLite format 3\0')],
    ['NUL bytes', () => written('zeros', Buffer.alloc(8192))],
    ['a file of 5 GiB without anything in it', () => sparse('sparse')],
    ['a directory', () => directory],
    ['a named pipe without a writer', () => fifo('fifo')],
    ['/dev/zero', () => '/dev/zero'],
    ['/dev/null', () => '/dev/null'],
    ['a file of the kernel', () => '/proc/self/mem'],
    ['a name that is too long', () => at('x'.repeat(300))],
    ['a path that is too long', () => at('x/'.repeat(3000))],
    ['a loop of links', () => link('loop', at('loop'))],
    ['a database without tables', () => tables('tables', 'CREATE TABLE x(y)')],
    [
      'a database with other columns',
      () => tables('columns', 'CREATE TABLE jails(title); CREATE TABLE bips(ip)'),
    ],
    ['a database whose tables are views of nothing', () => tables('views', VIEWS)],
    ['the journal of a change that was cut off', () => interrupted('hot', 'delete')],
  ];
  for (const [what, make] of refused) {
    test(`${what} is exit 78, and nothing is changed`, async () => {
      assertRefused(await sync(await make()));
    });
  }

  test('a file that may not be read, or not be reached, is exit 78', async () => {
    const unreadable = makeDatabase(at('secret.sqlite3'), [held]);
    chmodSync(unreadable, 0);
    const hidden = join(directory, 'hidden', 'fail2ban.sqlite3');
    mkdirSync(dirname(hidden), { recursive: true });
    makeDatabase(hidden, [held]);
    chmodSync(dirname(hidden), 0);
    // For root only without what lets it read everything.
    const through = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : [];
    for (const path of [unreadable, hidden]) assertRefused(await sync(path, { through }));
    chmodSync(dirname(hidden), 0o700);
  });

  const nothing: [string, () => string][] = [
    ['nothing', () => at('nothing')],
    ['a link to nothing', () => link('dangling', at('nothing'))],
    ['something below a file', () => join(written('above', ''), 'fail2ban.sqlite3')],
  ];
  for (const [what, make] of nothing) {
    test(`${what} is a fail2ban without a database: reported, exit 0, and nothing is changed`, async () => {
      const { finished, text } = await sync(make());
      assert.deepEqual([finished.exitCode, finished.stderr, text], [0, '', TEXT]);
      assert.match(finished.stdout, /^fail2ban's database \(.*\) has no jail web; nothing was changed\n$/);
    });
  }

  const good: [string, () => string | Promise<string>][] = [
    ['a link', () => link('link', makeDatabase(at('target'), [held]))],
    ['a database in WAL mode', () => makeDatabase(at('wal'), [held], { journal: 'wal' })],
    ['one whose last changes are in a WAL that was left', () => interrupted('left', 'wal')],
    [
      'one whose WAL was left without its index',
      async () => {
        const path = await interrupted('no-index', 'wal');
        rmSync(`${path}-shm`);
        return path;
      },
    ],
  ];
  for (const [what, make] of good) {
    test(`${what} is read`, async () => {
      const { finished, text } = await sync(await make());
      assert.deepEqual([finished.exitCode, finished.stderr], [0, '']);
      assert.deepEqual(bansOf(text), ['192.0.2.1', HELD]);
    });
  }
});

const VIEWS = 'CREATE VIEW jails(name) AS SELECT y FROM void; CREATE VIEW bips AS SELECT * FROM bips';

function written(name: string, content: string | Uint8Array): string {
  writeFileSync(at(name), content);
  return at(name);
}

function sparse(name: string): string {
  truncateSync(written(name, ''), 5 * 2 ** 30);
  return at(name);
}

async function fifo(name: string): Promise<string> {
  assert.equal((await execute('mkfifo', [at(name)])).exitCode, 0);
  return at(name);
}

function link(name: string, target: string): string {
  symlinkSync(target, at(name));
  return at(name);
}

function tables(name: string, sql: string): string {
  const database = new DatabaseSync(at(name));
  database.exec(sql);
  database.close();
  return at(name);
}

/** A database whose writer was killed: in WAL mode after its change, else in the middle of one. */
async function interrupted(name: string, journal: 'wal' | 'delete'): Promise<string> {
  const path = makeDatabase(at(name), journal === 'wal' ? [] : [held], { journal });
  const writer = `
import { DatabaseSync } from 'node:sqlite';
const database = new DatabaseSync(${JSON.stringify(path)});
database.exec('PRAGMA cache_size = 1; PRAGMA wal_autocheckpoint = 0; BEGIN');
const insert = database.prepare("INSERT INTO bips(ip, jail, timeofban, bantime, bancount, data) VALUES (?, 'web', ?, 3600, 1, ?)");
if (${journal === 'wal'}) insert.run('${HELD}', ${NOW}, '{}');
else for (let index = 0; index < 2000; index += 1) insert.run('198.51.100.' + index, ${NOW}, 'x'.repeat(200));
if (${journal === 'wal'}) database.exec('COMMIT');
process.kill(process.pid, 'SIGKILL');
`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', writer], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGKILL');
  assert.ok(existsSync(path + (journal === 'wal' ? '-wal' : '-journal')));
  return path;
}
