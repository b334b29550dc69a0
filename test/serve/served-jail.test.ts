// fail2ban with the Python action and a server: each of its bans is enforced, whatever happens to the server.
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { banctl, executable } from '../lab/banctl.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { banNames, startServer } from '../lab/served.ts';
import { read } from '../lab/site.ts';
import { execute, tail, until } from '../lab/wait.ts';

const directories: string[] = [];
after(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

async function startServed(places: { bandir: boolean; program?: string }) {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-served-'));
  directories.push(dir);
  const [list, bandir] = [join(dir, 'list.conf'), join(dir, 'bans')];
  const options = [`--banlist=${list}`, ...(places.bandir ? [`--bandir=${bandir}`] : [])];
  const server = await startServer({
    dir,
    options: [...options, '--no-reload'],
    program: [places.program ?? executable],
  });
  const section = (name: string) => `[${name}]
enabled = true
filter = djangoapp-admin-login
logpath = DIR/access.log
bantime = 1d
action = apache-banlist.py[jail=%(__name__)s, banctl="${executable}", banlist="${list}"${places.bandir ? `, bandir="${bandir}"` : ''}, dbfile="DIR/fail2ban.sqlite3", socket="${server.socket}"]
`;
  const fail2ban = await startFail2ban({
    actionFiles: ['apache-banlist.py'],
    jails: section('one') + section('two'),
    env: { BANCTL_NO_RELOAD: '1' },
  });
  const banned = () =>
    places.bandir
      ? banNames(bandir)
      : [...read(list).matchAll(/^Require not ip (.*)$/gm)].map(([, address]) => address).sort();
  return {
    list,
    server,
    fail2ban,
    banned,
    detail: () => `${tail(fail2ban.log(), 15)}\n${server.daemon().output()}`,
    async metrics() {
      await using client = await server.connect();
      return (await client.ask('status', {})).said;
    },
    connections: () =>
      readdirSync(`/proc/${fail2ban.pid()}/fd`).filter((fd) => {
        try {
          return readlinkSync(`/proc/${fail2ban.pid()}/fd/${fd}`).startsWith('socket:');
        } catch {
          return false;
        }
      }).length,
    async [Symbol.asyncDispose]() {
      await fail2ban[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

for (const bandir of [true, false]) {
  suite(`in ${bandir ? 'the directory' : 'the list'}`, () => {
    test('bans, unbans, restores and flushes by the server alone', async () => {
      await using served = await startServed({ bandir });
      const { fail2ban, banned, detail } = served;
      const addresses = Array.from({ length: 20 }, (_, n) => `203.0.113.${n + 10}`).sort();
      await fail2ban.client('set', 'one', 'banip', ...addresses);
      await fail2ban.client('set', 'two', 'banip', '2001:db8::7');
      await until('the bans', () => banned().length === 21, { detail });
      await fail2ban.client('set', 'one', 'unbanip', '203.0.113.10');
      await until('the unban', () => !banned().includes('203.0.113.10'), { detail });
      await fail2ban.stop();
      assert.deepEqual(banned(), []);
      await fail2ban.start();
      await until('the restored bans', () => banned().length === 20, { detail });
      assert.doesNotMatch(fail2ban.log(), /ERROR|does not answer/);
      assert.match(await served.metrics(), /requests_total\{command="flush",exit="0"\} 2/);
      assert.match(await served.metrics(), /banctl_serve_fallbacks_total 0/);
      assert.doesNotMatch(served.server.daemon().output(), /./);
    });

    test('no ban is lost when the server is killed among 1,000, and fail2ban logs no error', async () => {
      await using served = await startServed({ bandir });
      const { fail2ban, server, banned, detail } = served;
      const addresses = Array.from({ length: 1000 }, (_, n) => `198.18.${n >> 8}.${n & 255}`).sort();
      await fail2ban.client('set', 'one', 'banip', ...addresses.slice(0, 500));
      await fail2ban.client('set', 'two', 'banip', ...addresses.slice(500));
      for (const count of [100, 400, 700]) {
        await until(`${count} bans`, () => banned().length >= count, { detail, limit: 120_000 });
        await server.daemon().end('SIGKILL');
        await server.start();
      }
      await until('all bans', () => banned().length === 1000, { detail, limit: 120_000 });
      assert.deepEqual(banned(), addresses);
      assert.doesNotMatch(fail2ban.log(), / ERROR /);
      await fail2ban.stop();
      assert.deepEqual(banned(), []);
      assert.doesNotMatch(fail2ban.log(), / ERROR /);
    });
  });
}

test('no ban is lost when the executable is replaced among 300, and fail2ban logs no error', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-served-'));
  directories.push(dir);
  const own = join(dir, 'banctl');
  copyFileSync(executable, own);
  await using served = await startServed({ bandir: true, program: own });
  const { fail2ban, server, banned, detail } = served;
  const addresses = Array.from({ length: 300 }, (_, n) => `198.18.${n >> 8}.${n & 255}`).sort();
  await fail2ban.client('set', 'one', 'banip', ...addresses);
  const { pid } = server.daemon();
  for (const count of [50, 150]) {
    await until(`${count} bans`, () => banned().length >= count, { detail, limit: 120_000 });
    copyFileSync(executable, `${own}.new`);
    renameSync(`${own}.new`, own);
    const { ino } = statSync(own);
    const isNew = async () => {
      // It looks at each request; fail2ban may have sent its last one.
      (await server.connect().catch(() => undefined))?.socket.destroy();
      return statSync(`/proc/${pid}/exe`).ino === ino;
    };
    await until('the new one', isNew, { detail, limit: 120_000 });
  }
  await until('all bans', () => banned().length === 300, { detail, limit: 120_000 });
  assert.deepEqual(banned(), addresses);
  assert.doesNotMatch(fail2ban.log(), / ERROR /);
  assert.ok(server.daemon().running());
});

test('a jail has one connection, which is closed at its stop', async () => {
  await using served = await startServed({ bandir: true });
  const { fail2ban, banned, detail } = served;
  const ban = async (n: number) => {
    await fail2ban.client('set', 'one', 'banip', `203.0.113.${n}`);
    await until('the ban', () => banned().includes(`203.0.113.${n}`), { detail });
  };
  await ban(10);
  const before = served.connections();
  await ban(11);
  await fail2ban.client('reload', 'one');
  await ban(12);
  assert.equal(served.connections(), before);
  await fail2ban.client('stop', 'one');
  await until('the connection to close', () => served.connections() < before, { detail });
});

test('audit hints at a jail that nothing serves, and adds the metrics of a server', async () => {
  await using served = await startServed({ bandir: false });
  const { fail2ban, server, list } = served;
  const metrics = join(server.socket, '..', 'banctl.prom');
  const audit = async () => {
    const options = [
      `--banlist=${list}`,
      `--fail2ban-client=${fail2ban.clientCommand}`,
      `--prometheus=${metrics}`,
    ];
    const { stdout } = await banctl(['audit', '--json', `--socket=${server.socket}`, ...options]);
    const { ok, findings } = JSON.parse(stdout) as {
      ok: boolean;
      findings: { code: string; severity: string }[];
    };
    const others = findings.filter(({ code }) => code !== 'not-served');
    assert.equal(ok, others.length === 0, stdout);
    return findings.filter(({ code }) => code === 'not-served');
  };
  assert.deepEqual(await audit(), []);
  assert.match(read(metrics), /^banctl_serve_requests_total\{command="sync",exit="0"\} 2$/m);
  assert.match(read(metrics), /^banctl_serve_request_seconds_bucket\{le="\+Inf"\} \d+$/m);
  await server.daemon().end('SIGKILL');
  const hints = await audit();
  assert.equal(hints.length, 2);
  assert.deepEqual(new Set(hints.map(({ severity }) => severity)), new Set(['info']));
  assert.doesNotMatch(read(metrics), /banctl_serve/);
});

/** Each Python from 3.9 on that is installed here, by its version: those in PATH, and those of pyenv. */
async function pythons(): Promise<Map<string, string>> {
  const own = join(homedir(), '.pyenv', 'versions');
  const kept = existsSync(own) ? readdirSync(own).map((name) => join(own, name, 'bin', 'python3')) : [];
  const names = ['python3', ...[9, 10, 11, 12, 13, 14].map((minor) => `python3.${minor}`), ...kept];
  const found = new Map<string, string>();
  for (const name of names) {
    // By a shell: a program that does not exist would keep the timer of its own call.
    const { exitCode, stdout } = await execute('sh', ['-c', '"$0" --version', name]);
    const [, version, minor] = /^Python (3\.(\d+))/.exec(stdout) ?? [];
    if (exitCode === 0 && version !== undefined && Number(minor) >= 9) found.set(version, name);
  }
  return found;
}

test('the action works in each Python from 3.9 on that is here, served and by the executable', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-served-'));
  directories.push(dir);
  const list = join(dir, 'list.conf');
  await using server = await startServer({ dir, options: [`--banlist=${list}`, '--no-reload'] });
  const found = await pythons();
  t.diagnostic([...found.keys()].join());
  assert.ok(found.size > 0);
  const action = join(import.meta.dirname, '../../action.d/apache-banlist.py');
  const harness = join(import.meta.dirname, '../lab/run-action.py');
  const parameters = [`banctl=${executable}`, `banlist=${list}`, 'apache_reload_cmd=true', 'apachectl=true'];
  // The executable is slow, and is run in the same way by each.
  const oldest = found.get(
    [...found.keys()].sort((a, b) => Number(a.slice(2)) - Number(b.slice(2)))[0] ?? '',
  );
  for (const python of found.values())
    for (const [socket, said] of [
      [server.socket, ''],
      ...(python === oldest ? ([['/nowhere/socket', 'does not answer']] as const) : []),
    ] as const) {
      const database = `dbfile=${join(dir, 'none.sqlite3')}`;
      const ran = await execute(python, [harness, action, ...parameters, database, `socket=${socket}`]);
      assert.equal(ran.exitCode, 0, `${python}: ${ran.stdout}${ran.stderr}`);
      assert.match(ran.stdout, said === '' ? /^$/ : new RegExp(said));
      assert.doesNotMatch(read(list), /Require/);
    }
});
