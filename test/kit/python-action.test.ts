// The Python action of the kit in each fail2ban that is in use, where nothing serves, or something else than banctl does.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { fail2banVersions, startFail2ban } from '../lab/fail2ban.ts';
import { read } from '../lab/site.ts';
import { tail, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '2001:db8::5';
const FALLBACK = /WARNING \[web\] banctl serve does not answer/g;

/** A jail `web` whose action asks `socket`. */
async function startJail(options: { version?: string; socket: string; parameters?: string; more?: string }) {
  const fail2ban = await startFail2ban({
    ...(options.version === undefined ? {} : { version: options.version }),
    actionFiles: ['apache-banlist.py'],
    jails: `[web]
enabled = true
filter = djangoapp-admin-login
logpath = DIR/access.log
action = apache-banlist.py[jail=%(__name__)s, banctl="${executable}", banlist="DIR/list.conf", apache_reload_cmd=true, dbfile="DIR/fail2ban.sqlite3", socket="${options.socket}"${options.parameters ?? ''}]
${options.more ?? ''}
`,
  });
  const list = () => read(join(fail2ban.dir, 'list.conf'));
  const detail = () => `${list()}\n${tail(fail2ban.log(), 20)}`;
  return {
    fail2ban,
    list,
    tells: async (...args: string[]) => {
      const { exitCode, stdout, stderr } = await fail2ban.client(...args);
      assert.equal(exitCode, 0, stdout + stderr);
      return stdout;
    },
    lists: (...addresses: string[]) =>
      until(
        `the list to ban ${addresses.join()}`,
        () => {
          const lines = [...list().matchAll(/^Require not ip (.*)$/gm)].map(([, address]) => address);
          return lines.sort().join() === [...addresses].sort().join();
        },
        { detail },
      ),
    count: (pattern: RegExp) => fail2ban.log().match(pattern)?.length ?? 0,
  };
}

type Jail = Awaited<ReturnType<typeof startJail>>;

/** The descriptors of a process that are sockets. */
function sockets(pid: number): number {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).filter((name) => {
    try {
      return readlinkSync(join(directory, name)).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;
}

for (const version of [undefined, ...fail2banVersions]) {
  suite(`fail2ban ${version ?? 'as installed'}, where nothing serves`, () => {
    let jail: Jail;
    before(async () => {
      jail = await startJail({
        socket: '/nowhere/socket',
        more: 'bantime.increment = true\nbantime = 1h',
        ...(version === undefined ? {} : { version }),
      });
    });
    after(() => jail.fail2ban[Symbol.asyncDispose]());

    test('bans and unbans by the executable, and says once that it does', async () => {
      await jail.tells('set', 'web', 'banip', A, B);
      await jail.lists(A, B);
      assert.match(
        jail.list(),
        new RegExp(`^# banctl \\| web ${A} since \\S+Z until \\S+Z: \\d failures$`, 'm'),
      );
      await jail.tells('set', 'web', 'unbanip', A);
      await jail.lists(B);
      assert.equal(jail.count(FALLBACK), 1, jail.fail2ban.log());
      assert.doesNotMatch(jail.fail2ban.log(), / ERROR /);
    });

    test('returns its parameters, as the .conf does', async () => {
      for (const [name, value] of [
        ['jail', 'web'],
        ['banlist', join(jail.fail2ban.dir, 'list.conf')],
        ['bandir', ''],
        ['socket', '/nowhere/socket'],
      ] as const)
        assert.equal((await jail.tells('get', 'web', 'action', 'apache-banlist', name)).trim(), value);
    });

    test('goes on after a reload of the jail', async () => {
      await jail.tells('reload', 'web');
      await jail.tells('set', 'web', 'banip', A);
      await jail.lists(A, B);
      assert.doesNotMatch(jail.fail2ban.log(), / ERROR /);
    });

    test('flushes at the stop, and restores at the start without a call for each', async () => {
      await jail.fail2ban.stop();
      await jail.lists();
      await jail.fail2ban.start();
      await jail.lists(A, B);
      await jail.tells('unban', '--all');
      await jail.lists();
      assert.doesNotMatch(jail.fail2ban.log(), / ERROR /);
    });

    test('a refused ban is an error in the log of fail2ban, with the reason', async () => {
      await jail.tells('set', 'web', 'banip', '127.0.0.1');
      await jail.fail2ban.awaitLog(/ERROR .*banctl ended with 77: banctl: 127\.0\.0\.1 is protected/);
      await jail.lists();
    });
  });
}

suite('where something else answers on the socket', () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-python-action-'));
  after(() => rmSync(dir, { recursive: true }));

  /** The jail bans and unbans A while `answer` has the connections, of which it gives the number. */
  async function banWith(name: string, answer: (connection: Socket) => void, why: RegExp) {
    const path = join(dir, name);
    let count = 0;
    const server = createServer((connection) => {
      count += 1;
      connection.on('error', () => {});
      answer(connection);
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const jail = await startJail({ socket: path });
    try {
      await jail.tells('set', 'web', 'banip', A);
      await jail.lists(A);
      const before = sockets(jail.fail2ban.pid());
      const logged = jail.fail2ban.log().length;
      await jail.tells('set', 'web', 'unbanip', A);
      await jail.lists();
      assert.doesNotMatch(jail.fail2ban.log().slice(logged), /does not answer/);
      assert.match(jail.fail2ban.log(), why);
      assert.equal(jail.count(FALLBACK), 1);
      assert.doesNotMatch(jail.fail2ban.log(), / ERROR /);
      assert.ok(sockets(jail.fail2ban.pid()) <= before, 'a connection is left open');
      return count;
    } finally {
      await jail.fail2ban[Symbol.asyncDispose]();
      server.close();
    }
  }

  test('another version: the executable is run', async () => {
    await banWith(
      'other',
      (connection) => connection.write('{"banctl": 999, "now": 1}\n'),
      /another version/,
    );
  });

  test('no JSON, another JSON, or an end: the executable is run', async () => {
    await banWith('text', (connection) => connection.write('220 mail.example\r\n'), /is not banctl/);
    await banWith('list', (connection) => connection.write('[1]\n'), /is not banctl/);
    await banWith('end', (connection) => connection.end(), /closed the connection/);
  });

  test('silence: after 5 s the executable is run, and for the next bans at once', async () => {
    assert.equal(await banWith('silent', () => {}, /silent for 5 s/), 1, 'connections');
  });

  test('an answer to something else, or one without end: the executable is run', async () => {
    const hello = '{"banctl": 1, "now": 1e9}\n';
    await banWith(
      'stale',
      (connection) => connection.write(`${hello}{"id": 77, "exit": 0}\n`),
      /is not banctl/,
    );
    await banWith('flood', (connection) => connection.write(hello + 'x'.repeat(2 ** 21)), /is not banctl/);
  });
});

test('what it needs of Python is in 3.9, and of libraries in its own', () => {
  const text = readFileSync(join(import.meta.dirname, '../../action.d/apache-banlist.py'), 'utf8');
  const imported = [...text.matchAll(/^(?:import|from) (\S+)/gm)].map(([, name]) => name);
  const own = ['json', 'os', 'signal', 'socket', 'struct', 'subprocess', 'threading', 'time'];
  assert.deepEqual(imported, [...own, 'fail2ban.server.action']);
});
