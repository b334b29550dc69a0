// The Debian package: installed, upgraded, removed and purged for real, on the machine's own system seen through a layer
// that goes away.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { debianChangelog, libraryDependencies } from '../../tools/packaging/debian.ts';
import { readElf } from '../../tools/packaging/elf.ts';
import { executable } from '../lab/banctl.ts';
import { type PrivateRoot, startPrivateRoot } from '../lab/private-root.ts';
import { repeatSession } from '../lab/session.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-package-test-'));
after(() => rmSync(directory, { recursive: true }));
const { version }: { version: string } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
const jail = '/etc/fail2ban/jail.d/djangoapp-admin-login.conf';

/** Makes a package; gives its path. Packing costs a minute of time, and is left out here unless it is asked for. */
async function makePackage(name: string, of: string, ...options: string[]): Promise<string> {
  const output = join(directory, name);
  const { exitCode, stderr } = await execute('env', [
    'SOURCE_DATE_EPOCH=1790000000',
    process.execPath,
    join(repository, 'tools', 'package.ts'),
    '--format=deb',
    `--output=${output}`,
    ...(options.some((option) => option.startsWith('--compression')) ? [] : ['--compression=none']),
    ...options,
    of,
  ]);
  assert.equal(exitCode, 0, stderr);
  const [deb = ''] = readdirSync(output);
  return join(output, deb);
}

/** The real one. */
let deb = '';
/** The same around a small program, for what does not depend on it. */
let small = '';
/** It takes its time, while the other tests run; with the real executable, at which scripts/package looks, half a minute. */
let lintian: Promise<Finished>;
before(async () => {
  [deb, small] = await Promise.all([
    makePackage('real', executable),
    makePackage('small', '/bin/true', '--compression=fast'),
  ]);
  lintian = execute('lintian', ['--allow-root', '--fail-on=error,warning', small], '', 240_000);
  lintian.catch(() => {}); // its test tells
});

const fields = (path: string, ...names: string[]) =>
  execFileSync('dpkg-deb', ['--field', path, ...names], { encoding: 'utf8' });

suite('the package', () => {
  test('is the same, byte for byte, if another user builds it again', async () => {
    const mask = process.umask(0o077);
    const again = await makePackage('again', '/bin/true', '--compression=fast').finally(() =>
      process.umask(mask),
    );
    assert.ok(readFileSync(again).equals(readFileSync(small)));
  });

  test('holds the executable, and says for which processors it is', () => {
    assert.match(deb, new RegExp(`/banctl_${version}_amd64\\.deb$`));
    assert.equal(fields(deb, 'Architecture'), 'amd64\n');
    const packed = execFileSync('sh', [
      '-c',
      `dpkg-deb --fsys-tarfile "$1" | tar -xO ./usr/bin/banctl | cmp - "$2"`,
      'sh',
      deb,
      executable,
    ]);
    assert.equal(String(packed), '');
  });

  test('depends on no less than the libraries that the executable asks for', () => {
    const { libraries, versions } = readElf(executable);
    assert.ok(libraries.includes('libc.so.6') && versions.includes('GLIBC_2.28'));
    assert.equal(
      fields(deb, 'Depends').trim(),
      'libc6 (>= 2.28), libgcc-s1 (>= 3.4) | libgcc1 (>= 1:3.4), libstdc++6 (>= 7)',
    );
  });

  test('runs no program beside Apache and fail2ban that a Debian could lack', () => {
    const paths = ['setpriv', 'logger', 'grep', 'env'].map((program) =>
      execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim(),
    );
    // Where /bin is a link to /usr/bin, dpkg may know a program by either path.
    const places = paths.map((path) => path.replace(/^\/usr/, '')).flatMap((path) => [path, `/usr${path}`]);
    const { stdout } = spawnSync('dpkg-query', ['--search', ...places], { encoding: 'utf8' });
    const owners = paths.map(
      (path) => new RegExp(`^(\\S+): (?:/usr)?${path.replace(/^\/usr/, '')}$`, 'm').exec(stdout)?.[1] ?? path,
    );
    const format = `--showformat=${'$'}{Package} ${'$'}{Essential}\\n`;
    const { stdout: told } = spawnSync('dpkg-query', ['--show', format, ...owners], { encoding: 'utf8' });
    for (const owner of owners) assert.match(told, new RegExp(`^${owner} yes$`, 'm'));
  });

  test('marks everything below /etc as a configuration file', () => {
    const conffiles = execFileSync('dpkg-deb', ['--info', deb, 'conffiles'], { encoding: 'utf8' });
    const files = execFileSync('dpkg-deb', ['--contents', deb], { encoding: 'utf8' })
      .split('\n')
      .flatMap((line) => /^-.* \.(\/etc\/.*)$/.exec(line)?.[1] ?? []);
    assert.ok(files.includes('/etc/cron.d/banctl') && files.includes(jail));
    assert.deepEqual(conffiles.trim().split('\n').sort(), files.sort());
  });
});

suite('what a package says of itself', () => {
  const elf = (libraries: string[], versions: string[]) => ({ architecture: 'amd64', libraries, versions });

  test('names the first version of a library that has all symbols', () => {
    const versions = ['GLIBC_2.9', 'GLIBC_2.17', 'GLIBCXX_3.4.9', 'GLIBCXX_3.4.26', 'CXXABI_1.3.11'];
    assert.deepEqual(libraryDependencies(elf(['libm.so.6', 'libc.so.6', 'libstdc++.so.6'], versions)), [
      'libc6 (>= 2.17)',
      'libstdc++6 (>= 9)',
    ]);
  });

  test('names the processors that the executable is for, whatever machine packages it', async () => {
    const program = readFileSync('/bin/true');
    program.writeUInt16LE(183, 18); // e_machine of elf(5): EM_AARCH64
    const path = join(directory, 'for-arm64');
    writeFileSync(path, program);
    const made = await makePackage('arm64', path);
    assert.match(made, /_arm64\.deb$/);
    assert.equal(fields(made, 'Architecture'), 'arm64\n');
  });

  test('is not guessed', () => {
    assert.throws(() => libraryDependencies(elf(['libatomic.so.1'], [])), /libatomic\.so\.1/);
    assert.throws(() => libraryDependencies(elf(['libstdc++.so.6'], ['GLIBCXX_3.4.99'])), /GLIBCXX_3\.4\.99/);
    assert.throws(() => readElf(import.meta.filename), /cannot be packaged/);
  });

  test('has the changes of every version, in lines that Debian reads', () => {
    const markdown =
      '# Changelog\n\nWords.\n\n## Unreleased\n\n### Added\n\n- One thing.\n- A long one of many words, so long that\n  it goes on.\n\n## 0.1.0 - 2026-01-02\n\n- The first.\n';
    assert.equal(
      debianChangelog(markdown, { version: '0.2.0', maintainer: 'A <a@b.invalid>', epoch: 1790000000 }),
      `banctl (0.2.0) unstable; urgency=medium

  * One thing.
  * A long one of many words, so long that it goes on.

 -- A <a@b.invalid>  Mon, 21 Sep 2026 14:13:20 +0000

banctl (0.1.0) unstable; urgency=medium

  * The first.

 -- A <a@b.invalid>  Fri, 02 Jan 2026 00:00:00 +0000
`,
    );
  });
});

suite('on a server', () => {
  let root: PrivateRoot;
  before(async () => {
    root = await startPrivateRoot();
    await root.done('service apache2 start && service fail2ban start');
    cpSync(deb, root.path(`/root/banctl_${version}_amd64.deb`));
    cpSync(small, root.path('/root/small.deb'));
  });
  after(() => root[Symbol.asyncDispose]());

  const has = (path: string) => existsSync(root.path(path));
  const text = (path: string) => readFileSync(root.path(path), 'utf8');
  /** Apache answers by its old configuration for a moment after a reload. */
  const gets = async (from: string, status: string) => {
    let said = '';
    const ask = async () => {
      const line = "curl -s -o /dev/null -w '%{http_code}' http://www.example.org/";
      said = (await root.run(line, from)).stdout;
      return said === status;
    };
    await until(`${from} to get ${status}`, ask, { limit: 10_000, detail: () => `it got ${said}` });
  };
  /** Files that are new or changed since the mark, but for what Debian and the servers keep of what they did. */
  const changed = async () =>
    (await root.done('find /etc /usr /var /opt -xdev ! -type d -newerct "$(cat /root/mark)"'))
      .split('\n')
      .filter((path) => path !== '' && !/^\/var\/(?:log|cache|lib\/dpkg|lib\/fail2ban)\//.test(path));
  const job = () => {
    const [, line = ''] = /^\*\/5 \* \* \* \* root (.*)$/m.exec(text('/etc/cron.d/banctl')) ?? [];
    assert.notEqual(line, '');
    return line;
  };

  test('the recorded session is what happens, and purging leaves no trace but the list', async () => {
    await root.done("sleep 0.01; date '+%F %T.%N' > /root/mark");
    await repeatSession(join(repository, 'docs', 'tutorial.md'), root, {
      server: undefined,
      attacker: '203.0.113.55',
      visitor: '198.51.100.200',
    });
    assert.deepEqual(await changed(), ['/etc/apache2/djangoapp/banlist.conf']);
    assert.match(text('/etc/apache2/djangoapp/banlist.conf'), /^Require not ip 203\.0\.113\.0\/24$/m);
    await root.done('rm -r /etc/apache2/djangoapp');
  });

  test('the job of cron is silent before banctl is in use, and when it has been removed', async () => {
    await root.done('dpkg --install small.deb');
    assert.equal(await root.done(job()), '');
    // Whoever looks into it now finds that cron calls it.
    writeFileSync(root.path('/etc/banctl.json'), '{}');
    await root.done('printf "#!/bin/sh\\necho called \\$*\\n" > /usr/bin/banctl');
    assert.equal(await root.done(job()), 'called audit --fix\n');
    await root.done('dpkg --remove banctl');
    assert.ok(has('/etc/cron.d/banctl'));
    assert.equal(await root.done(job()), '');
  });

  test('a removed package refuses no visitor any more, keeps the configuration, and comes back', async () => {
    await root.done(
      `dpkg --install banctl_${version}_amd64.deb && a2enconf djangoapp-banlist && service apache2 reload`,
    );
    await root.done('banctl ban 203.0.113.77');
    await gets('203.0.113.77', '403');
    const list = text('/etc/apache2/djangoapp/banlist.conf');
    writeFileSync(root.path('/etc/banctl.json'), '{"reload-interval": 1}');
    await root.done('dpkg --remove banctl');
    assert.ok(!has('/usr/bin/banctl') && !has('/usr/share/man/man8/banctl.8.gz'));
    assert.ok(!has('/etc/apache2/conf-enabled/djangoapp-banlist.conf'));
    assert.ok(has(jail) && has('/etc/banctl.json'));
    await root.done('apache2ctl configtest');
    await gets('203.0.113.77', '200');
    assert.equal(text('/etc/apache2/djangoapp/banlist.conf'), list);
    await root.done(
      `dpkg --install banctl_${version}_amd64.deb && a2enconf djangoapp-banlist && service apache2 reload`,
    );
    await gets('203.0.113.77', '403');
    assert.equal(text('/etc/banctl.json'), '{"reload-interval": 1}');
  });

  test('a snippet that is still in use when the package is purged does not stop Apache', async () => {
    await root.done('dpkg --purge banctl && apache2ctl configtest && service apache2 restart');
    await gets('203.0.113.77', '200');
    assert.deepEqual(readdirSync(root.path('/etc/apache2/djangoapp')), ['banlist.conf']);
    assert.ok(!has('/etc/banctl.json'));
    await root.done('rm -r /etc/apache2/djangoapp');
  });

  test('an upgrade keeps what the administrator has changed, and lays the new file beside it', async () => {
    const old = join(directory, 'old');
    mkdirSync(old);
    execFileSync('dpkg-deb', ['--raw-extract', small, join(old, 'files')]);
    const filter = '/etc/fail2ban/filter.d/djangoapp-admin-login.conf';
    for (const name of [jail, filter]) writeFileSync(join(old, 'files', name), '# as it was\n');
    const control = join(old, 'files', 'DEBIAN', 'control');
    writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, 'Version: 0.0.9'));
    execFileSync('dpkg-deb', [
      '-Znone',
      '--root-owner-group',
      '--build',
      join(old, 'files'),
      root.path('/root/old.deb'),
    ]);
    await root.done('dpkg --install old.deb');
    const action = '/etc/fail2ban/action.d/apache-banlist.conf';
    const kept = `${text(action)}# mine\n`;
    writeFileSync(root.path(jail), '# mine\n');
    writeFileSync(root.path(action), kept);
    mkdirSync(root.path('/etc/apache2/djangoapp'), { recursive: true });
    writeFileSync(root.path('/etc/apache2/djangoapp/banlist.conf'), 'Require not ip 203.0.113.9\n');

    writeFileSync(root.path(jail.replace('.conf', '.local')), '[djangoapp-admin-login]\nenabled = true\n');
    assert.match(
      await root.done(`dpkg --force-confdef --force-confold --install small.deb`),
      /^banctl: the jail djangoapp-admin-login reads djangoapp-login\.log, .*; enable its snippet djangoapp-login-log, /m,
    );
    await root.done(`rm ${jail.replace('.conf', '.local')}`);
    assert.equal(fieldsOf(await root.done('dpkg --status banctl'), 'Version'), version);
    assert.equal(text(jail), '# mine\n');
    assert.match(text(`${jail}.dpkg-dist`), /^enabled = false$/m);
    // What only one of the two has changed is nothing to ask about.
    assert.equal(text(action), kept);
    assert.ok(!has(`${action}.dpkg-dist`));
    assert.match(text(filter), /^failregex = /m);
    assert.equal(text('/etc/apache2/djangoapp/banlist.conf'), 'Require not ip 203.0.113.9\n');

    await root.done('dpkg --purge banctl');
    assert.ok(!has(jail) && !has(`${jail}.dpkg-dist`) && !has(action));
  });

  test('purging also removes what banctl setup has written, but not what was changed', async () => {
    await root.done(`rm -rf /etc/apache2/djangoapp && dpkg --install banctl_${version}_amd64.deb`);
    await root.done("sleep 0.01; date '+%F %T.%N' > /root/mark");
    await root.done('rm /etc/apache2/conf-available/djangoapp-banlist-admin.conf && banctl setup');
    const written = (await changed()).filter((path) => !path.endsWith('/banlist.conf'));
    assert.ok(written.length > 0, 'setup writes something');
    const [mine = ''] = written.filter((path) => path.endsWith('.conf'));
    writeFileSync(root.path(mine), '# mine\n');
    writeFileSync(root.path(`${written.at(-1)}.banctl-new~`), 'newer\n');
    await root.done('dpkg --purge banctl');
    const left = (
      await root.done('find /etc /usr/share /var/lib ! -type d -newerct "$(cat /root/mark)"')
    ).split('\n');
    assert.deepEqual(
      left.filter(
        (path) => /banctl|djangoapp|apache-banlist|remoteip-/.test(path) && !path.includes('/dpkg/'),
      ),
      [mine, '/etc/apache2/djangoapp/banlist.conf'].sort(),
    );
    await root.done(`rm -rf ${mine} /etc/apache2/djangoapp`);
  });

  test('a server with a list keeps it, and its administrator learns of the directory', async () => {
    const list = '/etc/apache2/djangoapp/banlist.conf';
    mkdirSync(root.path('/etc/apache2/djangoapp'), { recursive: true });
    writeFileSync(root.path(list), 'Require not ip 203.0.113.9\n');
    const told = await root.done(`dpkg --install banctl_${version}_amd64.deb`);
    assert.match(told, /^banctl: 1 ban stands in the list, .* banctl migrate --to bandir$/m);
    assert.ok(!has('/etc/banctl.json'));
    assert.equal(text(list), 'Require not ip 203.0.113.9\n');
    await root.done('dpkg --purge banctl && rm -r /etc/apache2/djangoapp');
  });

  test('a package without a list takes its directory with it', async () => {
    await root.done('rm -rf /etc/apache2/djangoapp && dpkg --install small.deb');
    assert.ok(has('/etc/apache2/djangoapp'));
    await root.done('dpkg --purge banctl');
    assert.ok(!has('/etc/apache2/djangoapp'));
  });

  test('fail2ban starts with the package as it is, also where Apache has no log yet', async () => {
    await root.done('rm -f /var/log/apache2/*.log && dpkg --install small.deb');
    await root.done('service fail2ban restart && fail2ban-client ping');
    const own = jail.replace('.conf', '.local');
    writeFileSync(root.path(own), '[djangoapp-admin-login]\nenabled = true\naction =\n');
    await root.done('fail2ban-client reload && fail2ban-client status djangoapp-admin-login');
    const log = await root.done("stat -c '%U:%G %a' /var/log/apache2/djangoapp-login.log");
    assert.equal(log, 'root:adm 640\n');
    await root.done(`rm ${own}`);
  });

  test('purging it removes the log, unless a jail of the administrator reads it', async () => {
    const log = '/var/log/apache2/djangoapp-login.log';
    writeFileSync(root.path('/etc/fail2ban/jail.d/mine.local'), `[mine]\nlogpath = ${log}\n`);
    await root.done('dpkg --purge banctl');
    assert.ok(has(log));
    await root.done('rm /etc/fail2ban/jail.d/mine.local && dpkg --install small.deb && dpkg --purge banctl');
    assert.ok(!has(log));
  });

  test('rotates the log of failed logins as Debian rotates those of Apache', async () => {
    const rules = readFileSync('/etc/logrotate.d/apache2', 'utf8');
    assert.match(rules, /^\/var\/log\/apache2\/\*\.log \{/m);
    assert.match(rules, /^\s*create 640 root adm$/m);
  });
});

test('the package has nothing that lintian finds wrong', async () => {
  const { exitCode, stdout, stderr } = await lintian;
  assert.equal(exitCode, 0, stdout + stderr);
  assert.doesNotMatch(stdout, /^[EW]:/m);
});

test('dist/SHA256SUMS has the sum and the size of each built file', async () => {
  const sums = readFileSync(join(repository, 'dist', 'SHA256SUMS'), 'utf8');
  assert.match(sums, /^# \d{9} {2}banctl$/m);
  assert.match(sums, /^[0-9a-f]{64} {2}bundle\/banctl\.cjs$/m);
  const { exitCode, stdout } = await execute('sh', [
    '-c',
    'cd "$1" && sha256sum --check SHA256SUMS',
    'sh',
    join(repository, 'dist'),
  ]);
  assert.equal(exitCode, 0, stdout);
});

function fieldsOf(status: string, name: string): string | undefined {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(status)?.[1];
}
