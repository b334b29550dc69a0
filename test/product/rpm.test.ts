// The RPM: installed, upgraded and erased for real, in the root of a machine that is laid out as RHEL lays Apache out.
// SELinux itself does not run here: its policy module is compiled, and not loaded.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { type Machine, startMachine } from '../lab/machine.ts';
import { execute } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-rpm-test-'));
after(() => rmSync(directory, { recursive: true }));

/** Makes a package; gives its path. */
async function makeRpm(name: string, of: string, ...options: string[]): Promise<string> {
  const output = join(directory, name);
  const { exitCode, stderr } = await execute('env', [
    ...['SOURCE_DATE_EPOCH=1790000000', process.execPath, join(repository, 'tools', 'package.ts')],
    ...['--format=rpm', '--compression=none', `--output=${output}`, ...options, of],
  ]);
  assert.equal(exitCode, 0, stderr);
  const [rpm = ''] = readdirSync(output);
  return join(output, rpm);
}

const query = (rpm: string, ...options: string[]) =>
  execFileSync('rpm', ['--query', '--package', ...options, rpm], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });

/** The real one, and one around a small program, for what does not depend on it. */
let real = '';
let small = '';
let newer = '';
before(async () => {
  real = await makeRpm('real', executable);
  small = await makeRpm('small', '/bin/true');
  newer = await makeRpm('newer', '/bin/true', '--version=99.0');
});

suite('the RPM', () => {
  test('is the same, byte for byte, when it is made again', async () => {
    const again = await makeRpm('again', '/bin/true');
    assert.ok(readFileSync(again).equals(readFileSync(small)));
  });

  test('holds the executable, and requires the libraries that it asks for', () => {
    const packed = join(directory, 'packed');
    execFileSync('sh', [
      '-c',
      'mkdir "$1" && cd "$1" && rpm2cpio "$2" | cpio --extract --quiet --make-directories',
      'sh',
      packed,
      real,
    ]);
    assert.ok(readFileSync(join(packed, 'usr/bin/banctl')).equals(readFileSync(executable)));
    const requires = query(real, '--requires');
    for (const name of ['libc.so.6(GLIBC_2.28)(64bit)', 'libstdc++.so.6()(64bit)'])
      assert.ok(requires.includes(`${name}\n`), requires);
    assert.match(query(real, '--queryformat', '%{arch}'), /^x86_64$/);
  });

  test('names the processors that the executable is for, whatever machine packages it', async () => {
    const program = readFileSync('/bin/true');
    program.writeUInt16LE(183, 18); // e_machine of elf(5): EM_AARCH64
    const path = join(directory, 'for-arm64');
    writeFileSync(path, program);
    const made = await makeRpm('arm64', path);
    assert.match(made, /-1\.aarch64\.rpm$/);
    assert.equal(query(made, '--queryformat', '%{arch}'), 'aarch64');
  });

  test('marks everything below /etc as configuration that an upgrade does not replace', () => {
    const files = query(small, '--queryformat', '[%{filenames} %{fileflags:fflags}\n]').trim().split('\n');
    const below = files.filter((line) => /^\/etc\/.*\.(?:conf|local|py) /.test(line));
    assert.ok(below.length >= 5, files.join('\n'));
    for (const line of below) assert.match(line, / cn$/);
  });

  test('has nothing that rpmlint calls an error', async () => {
    const { stdout } = await execute(
      'rpmlint',
      ['--config', join(repository, 'packaging/rpm/rpmlint.toml'), small],
      '',
      240_000,
    );
    assert.doesNotMatch(stdout, /: E: /);
    assert.match(stdout, /1 packages .* checked; 0 errors/);
  });

  test('carries a policy module for SELinux that compiles', () => {
    const module = join(directory, 'banctl.mod');
    const source = join(repository, 'packaging/selinux/banctl.te');
    execFileSync('checkmodule', ['-M', '-m', '-o', module, source], { stdio: 'ignore' });
    execFileSync('semodule_package', ['-o', `${module}.pp`, '-m', module, '-f', source.replace(/te$/, 'fc')]);
    assert.ok(existsSync(`${module}.pp`));
  });
});

suite('on a server laid out as RHEL', () => {
  let machine: Machine;
  before(async () => {
    machine = await startMachine('redhat');
    machine.write(
      '/etc/httpd/conf.d/proxy.conf',
      'RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.1\n',
    );
    machine.write('/etc/fake/systemctl', '#!/bin/sh\necho "$*" >>/etc/fake/calls\n');
    await machine.done('chmod', '755', '/etc/fake/systemctl');
    await machine.done('mkdir', '-p', '/run/systemd/system');
    execFileSync('rpm', ['--root', machine.root, '--initdb'], { stdio: 'ignore' });
  });
  after(() => machine[Symbol.asyncDispose]());

  /** Only files: programs of the machine are this system's, so rpm cannot run scriptlets in it. */
  const rpm = (...args: string[]) =>
    execFileSync('rpm', ['--root', machine.root, '--nodeps', '--noscripts', '--ignoresize', ...args], {
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
    });
  /** Runs a scriptlet of the package as rpm does, with the number of packages that are left; gives what it asked of systemd. */
  const scriptlet = async (name: 'POSTIN' | 'PREUN' | 'POSTUN', left: number) => {
    machine.write('/etc/fake/calls', '');
    machine.write('/etc/fake/scriptlet', query(small, '--queryformat', `%{${name}}`));
    await machine.done(
      'env',
      'PATH=/etc/fake:/usr/sbin:/usr/bin:/bin:/usr/local/bin', // where the machine has banctl
      'sh',
      '-e',
      '/etc/fake/scriptlet',
      String(left),
    );
    return machine.read('/etc/fake/calls').trim().split('\n').filter(Boolean);
  };
  const jail = '/etc/fail2ban/jail.d/djangoapp-admin-login.conf';
  const snippet = '/etc/httpd/djangoapp/djangoapp-banlist.conf';
  const link = '/etc/httpd/conf.d/djangoapp-banlist.conf';

  const config = '/etc/banctl.json';
  const bans = '/etc/httpd/djangoapp/bans';

  test('an installation goes down to the first 403, with the directory', async () => {
    rpm('--install', small);
    assert.deepEqual(await scriptlet('POSTIN', 1), ['daemon-reload', 'enable --now banctl-audit.timer']);
    assert.match(machine.read(jail), /^enabled = false$/m);
    assert.match(machine.read(jail), /^logpath = \/var\/log\/httpd\/djangoapp-login\.log$/m);
    assert.equal(machine.read('/var/log/httpd/djangoapp-login.log'), '');
    assert.deepEqual(JSON.parse(machine.read(config)), { bandir: bans });
    assert.equal(machine.read(config), machine.read('/usr/share/banctl/banctl.json'));
    await machine.done('ln', '-s', snippet, link);
    await machine.startApache();
    await machine.done('banctl', 'ban', '203.0.113.55');
    assert.deepEqual(machine.files(bans), [`${bans}/203.0.113.55`]);
    assert.equal(await machine.get('203.0.113.55'), 403);
    assert.equal(await machine.get('203.0.113.56'), 200);
  });

  test('an upgrade keeps what the administrator changed, and the bans', async () => {
    machine.write(jail, '# mine\n');
    machine.write(config, '{}');
    rpm('--upgrade', newer);
    assert.deepEqual(await scriptlet('POSTIN', 2), []);
    assert.equal(machine.read(config), '{}');
    machine.write(config, machine.read('/usr/share/banctl/banctl.json'));
    assert.deepEqual(await scriptlet('PREUN', 1), []);
    assert.deepEqual(await scriptlet('POSTUN', 1), []);
    assert.equal(machine.read(jail), '# mine\n');
    assert.deepEqual(machine.files(bans), [`${bans}/203.0.113.55`]);
    assert.equal(await machine.get('203.0.113.55'), 403);
  });

  test('erasing it leaves the bans, what the administrator changed, and an Apache that starts', async () => {
    const before = new Set(machine.files('/etc'));
    assert.deepEqual(await scriptlet('PREUN', 0), [
      'disable --now banctl-audit.timer banctl.socket banctl.service',
    ]);
    rpm('--erase', 'banctl');
    assert.deepEqual(await scriptlet('POSTUN', 0), ['daemon-reload', 'try-reload-or-restart httpd']);
    await machine.done('httpd', '-t');
    const left = machine.files('/etc').filter((path) => /banctl|djangoapp|apache-banlist/.test(path));
    assert.deepEqual(left, [
      config,
      '/etc/fail2ban/jail.d/djangoapp-admin-login.conf.rpmsave',
      `${bans}/203.0.113.55`,
    ]);
    assert.ok(before.size > left.length);
  });
});
