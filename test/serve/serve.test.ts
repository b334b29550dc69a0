// banctl serve: its socket, its protocol, what it shares with calls by hand, and how it ends.
import assert from 'node:assert/strict';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { childrenOf } from '../../src/system/process.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { banNames, type Client, connectTo, startServer } from '../lab/served.ts';
import { read } from '../lab/site.ts';
import { daemon, execute, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';

const directories: string[] = [];
after(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

function makePlace() {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-serve-'));
  directories.push(dir);
  const list = join(dir, 'list.conf');
  const bandir = join(dir, 'bans');
  return {
    dir,
    list,
    bandir,
    options: [`--banlist=${list}`, '--reload-command=true'],
    /** As a jail's action gives them. */
    given: { jail: 'web', banlist: list, 'reload-command': 'true' },
    filed: { jail: 'web', banlist: list, bandir, 'reload-command': 'true' },
    listed: () => [...read(list).matchAll(/^Require not ip (.*)$/gm)].map(([, address]) => address),
    names: () => banNames(bandir),
  };
}

suite('the socket', { concurrency: 2 }, () => {
  test('is for its owner alone, in a directory that was made for it', async () => {
    const { dir, options } = makePlace();
    await using server = await startServer({ dir: join(dir, 'run', 'deep'), options });
    assert.equal(statSync(server.socket).mode & 0o777, 0o600);
    assert.equal(statSync(join(dir, 'run')).mode & 0o777, 0o700);
  });

  test('of a killed server is replaced, that of a living one is not', async () => {
    const { dir, options } = makePlace();
    await using server = await startServer({ dir, options });
    const second = await banctl(['serve', `--socket=${server.socket}`, ...options]);
    assert.equal(second.exitCode, 75);
    assert.match(second.stderr, /^banctl: another banctl serves at .*; stop it, or give another --socket\n$/);
    await server.daemon().end('SIGKILL');
    assert.ok(existsSync(server.socket));
    await server.start();
    await using client = await server.connect();
    assert.equal((await client.ask('status', {})).exit, 0);
  });

  test('is refused in place of something else, and where others may write', async () => {
    const { dir, options } = makePlace();
    const file = join(dir, 'file');
    writeFileSync(file, 'mine');
    const inPlace = await banctl(['serve', `--socket=${file}`, ...options]);
    assert.equal(inPlace.exitCode, 73);
    assert.match(inPlace.stderr, /something else is in its place/);
    assert.equal(read(file), 'mine');
    mkdirSync(join(dir, 'open'));
    chmodSync(join(dir, 'open'), 0o777);
    const open = await banctl(['serve', `--socket=${join(dir, 'open', 'socket')}`, ...options]);
    assert.equal(open.exitCode, 73);
    assert.match(open.stderr, /other users could replace the socket/);
  });

  test('of systemd is taken over, and kept', async () => {
    const { dir, options, given } = makePlace();
    const path = join(dir, 'systemd');
    // What systemd does: the socket is descriptor 3, and LISTEN_PID is who gets it.
    const script = `import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(${JSON.stringify(path)}); s.listen(8)
for turn in range(2):
    pid = os.fork()
    if pid == 0:
        s.fileno() == 3 or os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execv(sys.argv[1], sys.argv[1:])
    os.waitpid(pid, 0)
`;
    const parent = daemon('python3', ['-c', script, executable, 'serve', ...options]);
    try {
      const connected = () => connectTo(path).catch(() => undefined);
      const client = await until('an answer', connected, { detail: () => parent.output() });
      assert.equal((await client.ask('ban', { address: A, options: given })).exit, 0);
      const [server = 0] = childrenOf(parent.pid);
      process.kill(server, 'SIGTERM');
      await client.closed;
      // The queue of the socket waits for the next server.
      const next = await connectTo(path);
      assert.match((await next.ask('ban', { address: A, options: given })).said, /already banned/);
      next.socket.destroy();
    } finally {
      for (const child of childrenOf(parent.pid)) process.kill(child, 'SIGKILL');
      await parent.end('SIGKILL');
    }
  });
});

suite('a request', { concurrency: 2 }, () => {
  test('does what the call does, and says what it says', async () => {
    const { dir, options, given, listed, list } = makePlace();
    await using server = await startServer({ dir, options });
    await using client = await server.connect();
    assert.equal(client.greeting.banctl, 1);
    const ban = {
      address: '2001:DB8::5',
      options: { ...given, since: '1767225600', for: '365d', reason: '5 failures' },
    };
    assert.match((await client.ask('ban', ban)).said, /^2001:db8::5 banned$/m);
    assert.match(
      read(list),
      /^# banctl \| web 2001:db8::5 since 2026-01-01T00:00:00Z until .*: 5 failures$/m,
    );
    assert.match((await client.ask('ban', ban)).said, /^2001:db8::5 already banned/m);
    assert.equal((await banctl(['ban', A, '--jail=other', ...options])).exitCode, 0);
    assert.match((await client.ask('unban', { address: A, options: given })).said, /still held by other/);
    assert.equal((await client.ask('flush', { options: given })).exit, 0);
    assert.deepEqual(listed(), [A]);
  });

  test('that a call would refuse is refused with its exit code, and changes nothing', async () => {
    const { dir, options, given, listed } = makePlace();
    await using server = await startServer({ dir, options });
    await using client = await server.connect();
    for (const [request, exit] of [
      [{ address: '127.0.0.1', options: given }, 77],
      [{ address: '10.1', options: given }, 64],
      [{ address: '-', options: given }, 64],
      [{ address: A, options: { ...given, for: 'soon' } }, 64],
      [{ address: A, options: { ...given, banlist: '/dev/null' } }, 78],
      [{ address: A, options: { banlist: given.banlist } }, 64],
      [{ options: given }, 64],
    ] as const) {
      const answer = await client.ask('ban', request);
      assert.equal(answer.exit, exit, JSON.stringify([request, answer]));
      assert.match(answer.said, /^banctl: /);
    }
    assert.deepEqual(listed(), []);
  });

  test('takes the variables of the client, not those of the server', async () => {
    const { dir, options, listed, list } = makePlace();
    await using server = await startServer({ dir, options, env: { BANCTL_IPV4_PREFIX: '8' } });
    const env = { BANCTL_BANLIST: list, BANCTL_IPV4_PREFIX: '24', BANCTL_NO_RELOAD: '1', HOME: '/' };
    await using client = await server.connect({ banctl: 1, env });
    assert.equal((await client.ask('ban', { address: A, options: { jail: 'web' } })).exit, 0);
    assert.deepEqual(listed(), ['203.0.113.0/24']);
  });

  test('of many clients at once is one write, and answered to each', async () => {
    const { dir, options, given, listed, list } = makePlace();
    await using server = await startServer({ dir, options });
    const clients = await Promise.all(Array.from({ length: 20 }, () => server.connect()));
    const inode = () => statSync(list).ino;
    await clients[0]?.ask('ban', { address: B, options: given });
    const before = inode();
    const answers = await Promise.all(
      clients.map((client, n) =>
        client.ask('ban', { address: `198.51.100.${n}`, options: { ...given, jail: `j${n}` } }),
      ),
    );
    answers.forEach(({ exit, said }, n) => {
      assert.equal(exit, 0);
      assert.match(said, new RegExp(`^198\\.51\\.100\\.${n} banned$`, 'm'));
    });
    assert.notEqual(inode(), before);
    assert.equal(listed().length, 21);
    // One that is wrong is its own client's alone.
    const mixed = await Promise.all(
      clients.map((client, n) =>
        client.ask('ban', { address: n === 3 ? '127.0.0.1' : `203.0.113.${n}`, options: given }),
      ),
    );
    assert.deepEqual(
      mixed.map(({ exit }) => exit),
      clients.map((_, n) => (n === 3 ? 77 : 0)),
    );
    for (const client of clients) client.socket.destroy();
  });

  test('that its client has given up changes nothing', async () => {
    const { dir, options, filed, names } = makePlace();
    await using server = await startServer({ dir, options });
    await using client = await server.connect();
    const { now } = client.greeting;
    await client.ask('ban', { address: A, options: filed, before: now + 1000 });
    await client.ask('ban', { address: B, options: filed, before: now - 1 });
    assert.deepEqual(names(), [A]);
  });

  test('in a stopped server is not made up for when it goes on', async () => {
    const { dir, options, filed, names } = makePlace();
    await using server = await startServer({ dir, options });
    const client: Client = await server.connect();
    const began = performance.now();
    await client.ask('ban', { address: B, options: filed });
    process.kill(server.daemon().pid, 'SIGSTOP');
    void client.ask('ban', { address: A, options: filed, before: client.greeting.now + 2 }).catch(() => {});
    await new Promise((resolve) => client.socket.write('', resolve));
    client.socket.destroySoon();
    await client.closed;
    await until('no client to wait for it', () => performance.now() - began > 2000);
    process.kill(server.daemon().pid, 'SIGCONT');
    await using next = await server.connect();
    assert.equal((await next.ask('unban', { address: B, options: filed })).exit, 0);
    assert.deepEqual(names(), []);
  });

  test('that is invalid ends its connection, and no other', async () => {
    const { dir, options, given } = makePlace();
    await using server = await startServer({ dir, options });
    await using good = await server.connect();
    for (const line of [
      '220 mail',
      '[]',
      '{"id":1,"do":"setup"}',
      '{"id":1,"do":"ban","options":{"fix":true}}',
      '{"do":"ban"}',
      'x'.repeat(2 ** 21),
    ]) {
      const bad = await server.connect();
      bad.socket.on('error', () => {});
      bad.send(line);
      await bad.closed;
    }
    const old = await server.connect({ banctl: 0 });
    await old.closed;
    assert.equal((await good.ask('ban', { address: A, options: given })).exit, 0);
  });
});

suite('without a request', { concurrency: 2 }, () => {
  test('holds by hand end on time, in the list and in the directory, and others stay', async () => {
    const { dir, options, bandir, list, listed, names } = makePlace();
    await using server = await startServer({ dir, options: [...options, `--bandir=${bandir}`] });
    const calls = [
      ['ban', A, '--for=2', `--bandir=${bandir}`],
      ['ban', B, '--for=1h', `--bandir=${bandir}`],
      ['ban', '198.51.100.0/24', '--for=2'],
      ['ban', '198.51.101.0/24', '--for=2', '--jail=web'],
    ];
    for (const call of calls) assert.equal((await banctl([...call, ...options])).exitCode, 0);
    await until('the bans to end', () => !names().includes(A) && !listed().includes('198.51.100.0/24'), {
      detail: () => read(list) + server.daemon().output(),
    });
    assert.ok(names().includes(B));
    assert.deepEqual(listed(), ['198.51.101.0/24']);
  });

  test('a hold by hand ends on time in a directory that is made later, and in one that replaces it', async () => {
    const { dir, options, names } = makePlace();
    const bandir = join(dir, 'later');
    await using server = await startServer({ dir, options: [...options, `--bandir=${bandir}`] });
    for (const address of [A, B]) {
      const began = performance.now();
      const ban = ['ban', address, '--for=2', `--bandir=${bandir}`, ...options];
      assert.equal((await banctl(ban)).exitCode, 0);
      const detail = () => server.daemon().output();
      await until('the ban to end', () => !banNames(bandir).includes(address), { detail });
      // Without the kernel's report, the check each minute would find it.
      assert.ok(performance.now() - began < 40_000);
      rmSync(bandir, { recursive: true });
    }
    assert.deepEqual(names(), []);
  });

  test('a put-off reload comes, and no process waits for it', async () => {
    const { dir, given, list } = makePlace();
    const script = join(dir, 'reload');
    writeFileSync(script, `#!/bin/sh\ngrep -c Require ${list} >> ${dir}/reloads\n`, { mode: 0o755 });
    const options = {
      ...given,
      'reload-command': script,
      apachectl: '/nowhere/apachectl',
      'reload-interval': '2',
    };
    await using server = await startServer({
      dir,
      options: [`--banlist=${list}`, `--reload-command=${script}`],
    });
    await using client = await server.connect();
    await client.ask('ban', { address: A, options });
    await until('the first reload', () => read(join(dir, 'reloads')) === '1\n');
    await client.ask('ban', { address: B, options });
    await client.ask('ban', { address: '203.0.113.7', options });
    const children = await execute('pgrep', ['-f', `when-due.*${list}`]);
    assert.equal(children.stdout, '');
    await until('the second reload', () => read(join(dir, 'reloads')) === '1\n3\n');
  });
});

test('bans, unbans, refusals and ends are in the record, as those of calls', async () => {
  const { dir, options, given, list } = makePlace();
  const record = join(dir, 'record');
  await using server = await startServer({ dir, options, env: { BANCTL_RECORD: record } });
  await using client = await server.connect();
  const recorded = { ...given, record };
  await client.ask('ban', { address: A, options: recorded });
  await client.ask('ban', { address: A, options: recorded });
  await client.ask('ban', { address: '127.0.0.1', options: recorded });
  await client.ask('unban', { address: A, options: recorded });
  const happened = () =>
    read(record)
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
      .filter(({ did }) => did !== 'reload');
  assert.deepEqual(
    happened().map(({ did, by, how, why, count }) => [did, by, how ?? why, count]),
    [
      ['ban', 'web', undefined, 1],
      ['refuse', 'web', 'protected', 1],
      ['unban', 'web', 'unban', 1],
    ],
  );
  const call = ['ban', B, '--for=1', '--no-reload', `--banlist=${list}`, `--record=${join(dir, 'other')}`];
  assert.equal((await banctl(call)).exitCode, 0);
  await until('the end of the ban', () => happened().some(({ how }) => how === 'audit'));
  const { addresses } = happened().at(-1);
  assert.deepEqual(addresses, [B]);
});

suite('at its end', { concurrency: 2 }, () => {
  test('by SIGTERM it answers what it has begun, reloads what was put off, and takes its socket away', async () => {
    const { dir, given, list, listed } = makePlace();
    const script = join(dir, 'reload');
    writeFileSync(script, `#!/bin/sh\ngrep -c Require ${list} >> ${dir}/reloads\n`, { mode: 0o755 });
    const options = {
      ...given,
      'reload-command': script,
      apachectl: '/nowhere/apachectl',
      'reload-interval': '60',
    };
    await using server = await startServer({ dir, options: [`--banlist=${list}`] });
    const clients = await Promise.all(Array.from({ length: 8 }, () => server.connect()));
    await clients[0]?.ask('ban', { address: B, options });
    await until('the first reload', () => read(join(dir, 'reloads')) === '1\n');
    const answers = clients.map((client, n) => client.ask('ban', { address: `198.51.100.${n}`, options }));
    await answers[0];
    process.kill(server.daemon().pid, 'SIGTERM');
    const told = (await Promise.allSettled(answers)).filter(({ status }) => status === 'fulfilled').length;
    await until('its end', () => !server.daemon().running());
    assert.ok(listed().length >= told + 1);
    assert.equal(read(join(dir, 'reloads')), `1\n${listed().length}\n`);
    assert.ok(!existsSync(server.socket));
  });

  test('by a new executable it goes on as that, and no request is lost', async () => {
    const { dir, options, given, listed } = makePlace();
    const own = join(dir, 'banctl');
    copyFileSync(executable, own);
    await using server = await startServer({ dir, options, program: [own] });
    const inode = statSync(own).ino;
    const before = server.daemon().pid;
    await using client = await server.connect();
    await client.ask('ban', { address: A, options: given });
    copyFileSync(executable, `${own}.new`);
    renameSync(`${own}.new`, own);
    assert.equal((await client.ask('ban', { address: B, options: given })).exit, 0);
    await client.closed;
    await until('the new one', () => statSync(`/proc/${before}/exe`).ino !== inode);
    const next = await until('its answer', () => connectTo(server.socket).catch(() => undefined));
    assert.match((await next.ask('ban', { address: A, options: given })).said, /already banned/);
    next.socket.destroy();
    assert.deepEqual(listed(), [A, B]);
  });

  test('by executables that replace each other while it starts, it goes on as the last one', async () => {
    const { dir, options } = makePlace();
    const own = join(dir, 'banctl');
    copyFileSync(executable, own);
    await using server = await startServer({ dir, options, program: [own] });
    const { pid } = server.daemon();
    const line = read(`/proc/${pid}/cmdline`);
    for (let round = 0; round < 3; round += 1) {
      copyFileSync(executable, `${own}.new`);
      renameSync(`${own}.new`, own);
      const { ino } = statSync(own);
      const isNew = async () => {
        (await server.connect().catch(() => undefined))?.socket.destroy();
        return statSync(`/proc/${pid}/exe`).ino === ino;
      };
      await until('the new one', isNew, { detail: () => server.daemon().output() });
    }
    // The kernel shows the new executable some time before its command line.
    assert.equal(await until('its command line', () => read(`/proc/${pid}/cmdline`) || undefined), line);
  });
});

test('a server at the socket that hangs is no server that is gone', async () => {
  const { dir, options } = makePlace();
  const socket = join(dir, 'socket');
  const hanging = createServer(() => {});
  await new Promise<void>((resolve) => hanging.listen(socket, resolve));
  const { exitCode } = await banctl(['serve', `--socket=${socket}`, ...options]);
  hanging.close();
  assert.equal(exitCode, 75);
});
