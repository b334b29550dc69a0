// Makes Debian packages; see scripts/package.
//
//   package.ts [--output DIRECTORY] [--version VERSION] [--compression xz|gzip|none] [EXECUTABLE]..
//
// The executable tells its architecture. All that a package has is put together in a directory of its own: what is
// generated (manual page, completions, changelog, copyright) and the kit.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { completionScript } from '../../src/cli/completion.ts';
import { copyright, debianChangelog, libraryDependencies, readElf } from './debian.ts';

const repository = join(import.meta.dirname, '..', '..');
const source = (name: string) => readFileSync(join(repository, name), 'utf8');
const { version }: { version: string } = JSON.parse(source('package.json'));
const { values, positionals } = parseArgs({
  options: {
    output: { type: 'string', default: join(repository, 'dist') },
    version: { type: 'string', default: version },
    compression: { type: 'string', default: 'xz' },
  },
  allowPositionals: true,
});
const epoch = Number(process.env.SOURCE_DATE_EPOCH);
if (!Number.isInteger(epoch) || epoch <= 0)
  throw new Error('SOURCE_DATE_EPOCH must tell the time of the files');

/** Whom Debian's tools name; the address is one that RFC 2606 keeps from ever being anybody's. */
const MAINTAINER = 'The banctl authors <banctl@authors.invalid>';

/** Everything below /etc is a configuration file: dpkg keeps what the administrator changes. */
function contents(executable: string): Map<string, { content: string | Buffer; mode?: number }> {
  const date = new Date(epoch * 1000).toISOString().slice(0, 10);
  const manual = execFileSync(process.execPath, [
    join(repository, 'tools', 'manual-page.ts'),
    `--date=${date}`,
  ]);
  const doc = 'usr/share/doc/banctl';
  const text = (path: string, content: string | Buffer) =>
    [path, { content }] as [string, { content: string | Buffer }];
  return new Map<string, { content: string | Buffer; mode?: number }>([
    ['usr/bin/banctl', { content: readFileSync(executable), mode: 0o755 }],
    text('usr/share/man/man8/banctl.8.gz', compressed(manual)),
    text('usr/share/bash-completion/completions/banctl', completionScript('bash')),
    text('usr/share/zsh/vendor-completions/_banctl', completionScript('zsh')),
    text('usr/share/fish/vendor_completions.d/banctl.fish', completionScript('fish')),
    text('usr/share/lintian/overrides/banctl', source('packaging/debian/lintian-overrides')),
    text(`${doc}/copyright`, copyright(repository)),
    text(
      `${doc}/changelog.gz`,
      compressed(
        debianChangelog(source('CHANGELOG.md'), { version: values.version, maintainer: MAINTAINER, epoch }),
      ),
    ),
    text(`${doc}/README.md.gz`, compressed(source('README.md'))),
    ...[
      'apache2/djangoapp-banned-page.conf',
      'apache2/remoteip-cloudfront.conf',
      'apache2/remoteip-loadbalancer.conf',
      'cron.d/banctl-ranges',
      'systemd/banctl-audit.service',
      'systemd/banctl-audit.timer',
      'systemd/banctl-ranges.service',
      'systemd/banctl-ranges.timer',
    ].map((name) => text(`${doc}/examples/${name}`, source(name))),
    text('etc/fail2ban/action.d/apache-banlist.conf', source('action.d/apache-banlist.conf')),
    text('etc/fail2ban/filter.d/djangoapp-admin-login.conf', source('filter.d/djangoapp-admin-login.conf')),
    text(
      'etc/fail2ban/jail.d/djangoapp-admin-login.conf',
      offUntilEnabled(source('jail.d/djangoapp-admin-login.local')),
    ),
    ...['djangoapp-banlist.conf', 'djangoapp-banlist-admin.conf'].map((name) =>
      text(`etc/apache2/conf-available/${name}`, source(`apache2/${name}`)),
    ),
    text('etc/cron.d/banctl', onceInUse(source('cron.d/banctl'))),
  ]);
}

/**
 * A jail that is on would ban the proxy of a server that stands behind one, and without a log it would keep fail2ban
 * from starting with any jail. So it waits for the administrator, as Debian's own jails do.
 */
function offUntilEnabled(jail: string): string {
  return replaced(jail, /^enabled = true$/m, 'enabled = false').replace(
    /^# Notes: {3}whether fail2ban runs this jail\.$/m,
    `# Notes:   whether fail2ban runs this jail. Leave this file as it is, and write djangoapp-admin-login.local beside it:
#            [djangoapp-admin-login]
#            enabled = true`,
  );
}

/**
 * The job stays when the package is removed and not purged, and is there before anything is banned: it is silent then.
 */
function onceInUse(job: string): string {
  return replaced(
    job,
    /banctl audit --fix$/m,
    '[ ! -x /usr/bin/banctl ] || [ ! -e /etc/apache2/djangoapp/banlist.conf -a ! -e /etc/banctl.json ] || banctl audit --fix',
  ).replace(
    /^# Where systemd runs.*$/m,
    '# It begins with the first ban in the list, or with /etc/banctl.json.',
  );
}

function replaced(text: string, pattern: RegExp, by: string): string {
  if (!pattern.test(text)) throw new Error(`${pattern} is not there to be replaced`);
  return text.replace(pattern, by);
}

/** Without the time of its making. */
function compressed(text: string | Buffer): Buffer {
  return gzipSync(text, { level: 9 });
}

function control(executable: string, architecture: string, installedSize: number): string {
  return `Package: banctl
Version: ${values.version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${installedSize}
Depends: ${libraryDependencies(readElf(executable)).join(', ')}
Recommends: apache2 (>= 2.4), fail2ban (>= 0.11)
Suggests: cron | cron-daemon
Section: admin
Priority: optional
Description: bans attackers in Apache for fail2ban
 fail2ban calls banctl to ban addresses in Apache itself, where the visitor's
 address is known also behind CloudFront or a load balancer. No ban is lost and
 no unban undone, whoever runs at once or is killed; each ban says who holds it,
 until when and why; and Apache is reloaded as rarely as can be, or not at all.
`;
}

function makePackage(executable: string): string {
  const { architecture } = readElf(executable);
  const root = mkdtempSync(join(tmpdir(), 'banctl-package-'));
  try {
    chmodSync(root, 0o755);
    const files = contents(executable);
    const put = (path: string, content: string | Buffer, mode = 0o644) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), content);
      chmodSync(join(root, path), mode);
    };
    for (const [path, { content, mode }] of files) put(path, content, mode);
    // For the list: empty, it goes with the package; with a list it stays.
    mkdirSync(join(root, 'etc/apache2/djangoapp'), { recursive: true });
    const kilobytes = [...files.values()].map(({ content }) => Math.ceil(Buffer.byteLength(content) / 1024));
    const conffiles = [...files.keys()].filter((path) => path.startsWith('etc/'));
    put(
      'DEBIAN/control',
      control(
        executable,
        architecture,
        kilobytes.reduce((sum, size) => sum + size, 0),
      ),
    );
    put('DEBIAN/conffiles', conffiles.map((path) => `/${path}\n`).join(''));
    put('DEBIAN/postrm', source('packaging/debian/postrm'), 0o755);
    put(
      'DEBIAN/md5sums',
      [...files.keys()]
        .filter((path) => !path.startsWith('etc/'))
        .map((path) => execFileSync('md5sum', [path], { cwd: root, encoding: 'utf8' }))
        .join(''),
    );
    for (const path of ['.', ...(readdirSync(root, { recursive: true }) as string[])]) {
      if (statSync(join(root, path)).isDirectory()) chmodSync(join(root, path), 0o755);
      lutimesSync(join(root, path), epoch, epoch);
    }
    mkdirSync(values.output, { recursive: true });
    const deb = join(values.output, `banctl_${values.version}_${architecture}.deb`);
    execFileSync('dpkg-deb', ['--root-owner-group', `-Z${values.compression}`, '--build', root, deb], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return deb;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

const executables =
  positionals.length > 0
    ? positionals
    : ['banctl', 'banctl-arm64']
        .map((name) => join(repository, 'dist', name))
        .filter((path) => existsSync(path));
for (const executable of executables) {
  console.log(makePackage(executable));
}
