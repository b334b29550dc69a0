// jail.d/djangoapp-admin-login.local in a real fail2ban, over Debian's own jail.conf, with the kit's filter and action.
// In place of banctl a script writes down how it is called.
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { kit, startApache } from '../lab/apache.ts';
import { type Fail2ban, startFail2ban } from '../lab/fail2ban.ts';
import { until } from '../lab/wait.ts';

const name = 'djangoapp-admin-login';
const repository = join(import.meta.dirname, '..', '..');
const text = readFileSync(join(repository, 'jail.d', `${name}.local`), 'utf8');
const logpath = '/var/log/apache2/djangoapp-login.log';

/** Stands for banctl: writes down how it is called, a line each call. */
const banctl = `#!/bin/sh\nprintf '%s ' "$@" >> "\${0%/*}/calls"\necho >> "\${0%/*}/calls"\n`;

/** The kit's jail as it stands, but for the place of the logs. */
function start(logs = 'DIR/djangoapp-login.log', own = '', jail = text, program = banctl): Promise<Fail2ban> {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-jail-'));
  directories.push(dir);
  writeFileSync(join(dir, 'banctl'), program, { mode: 0o755 });
  writeFileSync(join(dir, 'djangoapp-login.log'), ''); // made by setup and the packages
  return startFail2ban({
    stock: true,
    dir,
    jails: '',
    jailFiles: [
      [`${name}.local`, jail.replace(logpath, logs)],
      ['djangoapp-own.local', own],
    ],
    actionFiles: ['apache-banlist.conf', ['apache-banlist.local', '[Init]\nbanctl = DIR/banctl\n']],
  });
}
const directories: string[] = [];
after(() => {
  for (const dir of directories) rmSync(dir, { recursive: true });
});

/** The bans in banctl's calls: holder, address, seconds. */
function calls(fail2ban: Fail2ban): string[] {
  const file = join(fail2ban.dir, 'calls');
  return (existsSync(file) ? readFileSync(file, 'utf8') : '')
    .split('\n')
    .filter((line) => line.startsWith('ban '))
    .map(
      (line) =>
        `${/--jail=(\S*)/.exec(line)?.[1]} ${/ -- (\S*)/.exec(line)?.[1]} ${/--for=(\S*)/.exec(line)?.[1]}`,
    );
}

/** A line of a failed login, some seconds ago, as Apache logs it. */
function failure(address: string, { ago = 0, status = 200 } = {}): string {
  const [day = '', time = ''] = new Date(Date.now() - ago * 1000).toISOString().slice(0, 19).split('T');
  return `${address} [${day} ${time} +0000] POST ${status} /admin/login/\n`;
}

suite('the jail as it stands', () => {
  let fail2ban: Fail2ban;
  before(async () => {
    fail2ban = await start();
  });
  after(() => fail2ban[Symbol.asyncDispose]());
  const log = (lines: string) => appendFileSync(join(fail2ban.dir, 'djangoapp-login.log'), lines);
  const value = async (option: string) => (await fail2ban.client('get', name, option)).stdout.trim();

  test('is read, with its filter and action by the same names, and no complaints', async () => {
    assert.match((await fail2ban.client('status')).stdout, /Jail list:\s+djangoapp-admin-login$/m);
    assert.match((await fail2ban.client('get', name, 'actions')).stdout, /apache-banlist$/m);
    assert.doesNotMatch(fail2ban.log(), /ERROR|Unable to read|skipped/i);
    const { exitCode, stdout, stderr } = await fail2ban.client('-t');
    assert.equal(exitCode, 0, stdout + stderr);
  });

  test('has the values that its comments name', async () => {
    assert.equal(await value('maxretry'), '5');
    assert.match(text, /# Notes: +the fifth failed login/);
    assert.equal(await value('findtime'), `${10 * 60}`);
    assert.match(text, /# Notes: +failures older than ten minutes/);
    assert.equal(await value('bantime'), `${60 * 60}`);
    assert.match(text, /# Notes: +how long a ban lasts: one hour/);
    assert.equal(await value('usedns'), 'no');
  });

  test('the fifth failure bans for an hour, under the name of the jail', async () => {
    log(failure('203.0.113.5').repeat(4) + failure('2001:db8::5', { status: 401 }).repeat(4));
    log(failure('client.example').repeat(9));
    log(failure('203.0.113.9').repeat(5)); // the mark that everything before was read
    await until('the first ban', () => calls(fail2ban).length > 0);
    assert.deepEqual(calls(fail2ban), [`${name} 203.0.113.9 3600`]);
    log(failure('203.0.113.5') + failure('2001:db8::5', { status: 403 }));
    await until('two more', () => calls(fail2ban).length >= 3);
    assert.deepEqual(calls(fail2ban).slice(1).sort(), [
      `${name} 2001:db8::5 3600`,
      `${name} 203.0.113.5 3600`,
    ]);
    assert.doesNotMatch(fail2ban.log(), /client\.example/);
  });
});

test('an action with much output still ends', async () => {
  // As a sync of thousands of bans does; fail2ban reads its pipe when it has ended, and a pipe holds 64 KiB.
  const talkative = `${banctl}head -c 300000 /dev/zero | tr '\\0' x\n`;
  await using fail2ban = await start(undefined, undefined, undefined, talkative);
  await fail2ban.client('set', name, 'banip', '203.0.113.5');
  await until('the ban after a long actionstart', () => calls(fail2ban).length > 0);
  assert.doesNotMatch(fail2ban.log(), /timed out/);
});

test('failures older than ten minutes do not count', async () => {
  await using fail2ban = await start();
  const log = join(fail2ban.dir, 'djangoapp-login.log');
  await fail2ban.stop();
  // Read at the start, where fail2ban goes by the time in the line.
  appendFileSync(
    log,
    failure('203.0.113.5', { ago: 660 }).repeat(5) + failure('203.0.113.6', { ago: 500 }).repeat(5),
  );
  await fail2ban.start();
  await until('the ban', () => calls(fail2ban).length > 0);
  assert.deepEqual(calls(fail2ban), [`${name} 203.0.113.6 3600`]);
  assert.deepEqual(await fail2ban.banned(name), ['203.0.113.6']);
});

test("behind a proxy the client is banned that failed, by Apache's log", async () => {
  await using apache = await startApache({
    remoteip: true,
    site: '',
    server: kit('djangoapp-login-log.conf'),
  });
  const log = join(apache.dir, 'djangoapp-login.log');
  await using fail2ban = await start(log);
  const { stdout } = await fail2ban.client('get', name, 'logpath');
  assert.ok(stdout.includes(log));
  for (let i = 0; i < 5; i++)
    for (const from of ['203.0.113.5', '2001:db8::5']) assert.equal(await apache.login(200, { from }), 200);
  for (let i = 0; i < 9; i++) await apache.login(302, { from: '203.0.113.6' });
  await until('two bans', () => calls(fail2ban).length >= 2);
  assert.deepEqual(await fail2ban.banned(name), ['2001:db8::5', '203.0.113.5']);
});

test('reads the access logs by the other filter, as the comments say', async () => {
  const lines = /# {2,}(filter = djangoapp-admin-login\[.*\])\n# {2,}(logpath = .*access\.log)$/m.exec(text);
  assert.ok(lines, 'the example in the comments');
  const own = `[${name}]\nenabled = true\n${lines[1]}\n${lines[2]?.replace('/var/log/apache2', 'DIR')}\nmaxretry = 1\n`;
  await using fail2ban = await start(undefined, own);
  const stamp = `${new Date().toUTCString().slice(5, 16).replaceAll(' ', '/')}:${new Date().toISOString().slice(11, 19)} +0000`;
  const line = (address: string, path: string, status: number) =>
    `${address} - - [${stamp}] "POST ${path} HTTP/1.1" ${status} 2131 "-" "-"\n`;
  appendFileSync(join(fail2ban.dir, 'djangoapp-login.log'), failure('203.0.113.4').repeat(5));
  appendFileSync(
    join(fail2ban.dir, 'access.log'),
    line('203.0.113.1', '/admin/login/', 401) +
      line('203.0.113.2', '/accounts/login/', 200) +
      line('203.0.113.3', '/accounts/login/', 401),
  );
  await until('the ban', () => calls(fail2ban).length > 0);
  assert.deepEqual(calls(fail2ban), [`${name} 203.0.113.3 3600`]);
});

test('the log it names is the one that Apache writes on Debian', () => {
  assert.ok(text.includes(`\nlogpath = ${logpath}\n`));
  assert.ok(kit('djangoapp-login-log.conf').includes('djangoapp-login.log'));
});
