// The executable for arm64, run by qemu's emulation of that processor. What it calls (Apache, fail2ban-client) is of
// this machine. Emulation takes a second to start Node; and qemu makes up /proc/PID/stat for the process that asks for
// its own, with a start time that others do not see, so that two emulated calls take each other for dead.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { acquireLock } from '../../src/system/lock.ts';
import { startApache } from '../lab/apache.ts';
import { banctl, emulated, emulatedCommand } from '../lab/banctl.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { writeScript } from '../lab/site.ts';
import { execute, until } from '../lab/wait.ts';

const arm64 = join(import.meta.dirname, '..', '..', 'dist', 'banctl-arm64');
const directory = mkdtempSync(join(tmpdir(), 'banctl-arm64-'));
after(() => rmSync(directory, { recursive: true }));
const newList = () => join(mkdtempSync(join(directory, 'list-')), 'banlist.conf');
const A = '203.0.113.5';
const B = '2001:db8::5';

suite('the executable for arm64', () => {
  test('is one for that processor, stripped', async () => {
    const header = readFileSync(arm64).subarray(0, 20);
    assert.equal(header.toString('latin1', 1, 4), 'ELF');
    assert.equal(header.readUInt16LE(18), 183); // EM_AARCH64, elf.h
    const { stdout, stderr } = await execute('aarch64-linux-gnu-nm', [arm64]);
    assert.match(stdout + stderr, /no symbols/);
  });

  test('needs no libraries but those of glibc 2.28 and the C++ runtime', async () => {
    const { stdout } = await execute('aarch64-linux-gnu-objdump', ['-p', '-T', arm64]);
    const libraries = [...stdout.matchAll(/^ +NEEDED +(\S+?)\.so/gm)].map((match) => match[1] ?? '');
    const known = /^(?:lib(?:c|m|dl|pthread|stdc\+\+|gcc_s)|ld-linux-aarch64)$/;
    assert.ok(libraries.includes('libc'), stdout.slice(0, 2000));
    assert.deepEqual(
      libraries.filter((name) => !known.test(name)),
      [],
    );
    const versions = [...stdout.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
    assert.ok(Math.max(...versions) <= 28, String(Math.max(...versions)));
  });

  test('carries the same Node and the same program as the one for x64', async () => {
    const bundle = readFileSync(join(import.meta.dirname, '..', '..', 'dist', 'bundle', 'banctl.cjs'));
    const version = Buffer.from(`node-v${process.versions.node}`);
    const contents = readFileSync(arm64);
    assert.ok(contents.includes(bundle));
    assert.ok(contents.includes(version));
  });

  test('bans, reports it and unbans, and Apache enforces each', async () => {
    await using apache = await startApache({
      remoteip: true,
      list: '# by hand\nRequire not ip 198.51.100.0/24\n',
    });
    const options = [`--banlist=${apache.banlist}`];
    const reloading = [...options, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
    const run = async (command: string, ...args: string[]) => {
      const { exitCode, stdout, stderr } = await emulated([command, ...args]);
      assert.equal(exitCode, 0, `${command}: ${stdout}${stderr}`);
      return stdout;
    };

    assert.match(
      await run('ban', A, '2001:DB8:0::5', '--for=1h', '--reason=tries', ...reloading),
      /^203\.0\.113\.5 banned\n2001:db8::5 banned\n/,
    );
    assert.equal(await apache.get('/', { from: A }), 403);
    assert.equal(await apache.get('/', { from: B }), 403);
    const { bans, reload } = JSON.parse(await run('list', '--json', ...options));
    assert.deepEqual(
      bans.map((ban: { address: string }) => ban.address),
      ['198.51.100.0/24', A, B],
    );
    assert.equal(reload.pending, false);
    assert.match(
      await run('explain', B, ...options),
      /^2001:db8::5 is banned\n.* line 6\n +by manual since .*: tries\n/,
    );
    const audit = JSON.parse(await run('audit', '--json', '--no-fail2ban', ...reloading));
    assert.deepEqual(audit, { ok: true, findings: [] });

    assert.match(await run('unban', A, B, '--no-fail2ban', ...reloading), /^203\.0\.113\.5 unbanned\n/);
    assert.equal(await apache.get('/', { from: A }), 200);
    assert.equal(readFileSync(apache.banlist, 'utf8'), '# by hand\nRequire not ip 198.51.100.0/24\n');
    assert.equal(apache.reloads(), 2);
  });

  test('bans in the directory without a reload', async () => {
    await using apache = await startApache({ remoteip: true });
    const options = [`--banlist=${apache.banlist}`, `--bandir=${apache.bandir}`];
    const { exitCode, stderr } = await emulated(['ban', A, ...options, `--apachectl=${apache.ctl}`]);
    assert.equal(exitCode, 0, stderr);
    assert.equal(await apache.get('/', { from: A }), 403);
    assert.equal(apache.reloads(), 0);
  });

  test('refuses what is no address, and what is protected', async () => {
    const banlist = newList();
    const refused = await emulated(['ban', '203.0.113.005', '--no-reload', `--banlist=${banlist}`]);
    assert.equal(refused.exitCode, 64);
    assert.match(refused.stderr, /^banctl: .*203\.0\.113\.005.*\n$/);
    const isProtected = await emulated(['ban', '127.0.0.1', '--no-reload', `--banlist=${banlist}`]);
    assert.equal(isProtected.exitCode, 77);
    assert.match(isProtected.stderr, /^banctl: .*\n$/);
  });

  test('waits for a lock that a living process holds, and takes that of a dead one', async () => {
    const banlist = newList();
    const options = ['--no-reload', `--banlist=${banlist}`];
    const lock = acquireLock(banlist, { timeout: 0 });
    const late = await emulated(['ban', A, ...options, '--lock-timeout=0.5']);
    assert.equal(late.exitCode, 75, late.stderr);
    lock.release();
    // This process's pid, but another start: whoever held it has ended.
    mkdirSync(`${banlist}.lock`);
    writeFileSync(join(`${banlist}.lock`, `${process.pid}-1.1`), '');
    const { exitCode, stderr } = await emulated(['ban', A, ...options]);
    assert.equal(exitCode, 0, stderr);
  });

  test('loses no ban among calls at once, whatever they are built for', async () => {
    const banlist = newList();
    const addresses = Array.from({ length: 6 }, (_, index) => `203.0.113.${index + 1}`);
    const calls = addresses.map((address, index) =>
      (index % 2 === 0 ? emulated : banctl)(['ban', address, '--no-reload', `--banlist=${banlist}`]),
    );
    for (const { exitCode, stderr } of await Promise.all(calls)) assert.equal(exitCode, 0, stderr);
    const banned = [...readFileSync(banlist, 'utf8').matchAll(/^Require not ip (.*)$/gm)].map(
      (match) => match[1],
    );
    assert.deepEqual(banned.sort(), addresses);
  });

  test('does what fail2ban asks', async () => {
    await using apache = await startApache({ remoteip: true });
    const script = writeScript(apache.dir, 'banctl', `exec ${emulatedCommand.join(' ')} "$@"`);
    await using fail2ban = await startFail2ban({
      jails: `[web]
enabled = true
filter = djangoapp-admin-login
logpath = DIR/access.log
action = apache-banlist[jail=%(__name__)s, banctl="${script}", banlist="${apache.banlist}", apachectl="${apache.ctl}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3"]
`,
    });
    for (const [command, status] of [
      ['banip', 403],
      ['unbanip', 200],
    ] as const) {
      await fail2ban.client('set', 'web', command, A);
      await until(`${status} after ${command}`, async () => (await apache.get('/', { from: A })) === status, {
        detail: fail2ban.log,
      });
    }
  });
});

test('the program runs also where V8 refuses the code cache, as a processor may make it do', async () => {
  const script = join(directory, 'start.mjs');
  const repository = join(import.meta.dirname, '..', '..');
  writeFileSync(
    script,
    `import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { codeIn } from ${JSON.stringify(join(repository, 'src', 'executable', 'cache-asset.ts'))};
import { startProgram } from ${JSON.stringify(join(repository, 'src', 'executable', 'parts.ts'))};
const scripts = new Map();
const read = (name) => {
  const bundle = ${JSON.stringify(join(repository, 'dist', 'bundle'))};
  const cachedData = codeIn(readFileSync(\`\${bundle}/\${name}.cache\`));
  cachedData[12] ^= 1; // V8's flags, which it compares
  return { source: readFileSync(\`\${bundle}/\${name}.cjs\`, 'latin1'), cachedData };
};
startProgram(read, createRequire(import.meta.url), scripts);
process.on('exit', () => console.error([...scripts.values()].map((script) => script.cachedDataRejected).join()));
`,
  );
  const banlist = newList();
  const { exitCode, stdout, stderr } = await execute(process.execPath, [
    script,
    'ban',
    A,
    '--no-reload',
    `--banlist=${banlist}`,
  ]);
  assert.equal(exitCode, 0, stderr);
  assert.match(stdout, /^203\.0\.113\.5 banned\n/);
  assert.equal(stderr, 'true\n');
});
