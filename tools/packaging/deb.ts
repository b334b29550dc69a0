// A Debian package: its control files, and the places of its files.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN } from '../../src/apache/layout.ts';
import { completionScript } from '../../src/cli/completion.ts';
import { isInstalled, isOfResident } from '../../src/setup/kit.ts';
import {
  auditIfInUse,
  type Contents,
  commonContents,
  compressed,
  fail2banFile,
  kitFiles,
  replaced,
  repository,
  script,
  source,
  text,
  unitIfInUse,
} from './contents.ts';
import { debianChangelog, libraryDependencies } from './debian.ts';
import { readElf } from './elf.ts';
import { copyright } from './licences.ts';
import { MAINTAINER, type PackageOptions, SUMMARY, withTree } from './package.ts';

const DOC = 'usr/share/doc/banctl';
/** Snippets for a2enconf; the others are examples to adapt. */
const TO_CHOOSE = /^djangoapp-(?:banlist|.*-log\.)/;

/** Everything below /etc is a configuration file: dpkg keeps what the administrator changes. */
export function debContents(executable: string, { version, epochSeconds }: PackageOptions): Contents {
  const contents = commonContents(executable, epochSeconds, DEBIAN);
  const changelog = debianChangelog(source('CHANGELOG.md'), {
    version,
    maintainer: MAINTAINER,
    epoch: epochSeconds,
  });
  contents.set('usr/share/zsh/vendor-completions/_banctl', text(completionScript('zsh')));
  contents.set('usr/share/lintian/overrides/banctl', text(source('packaging/debian/lintian-overrides')));
  contents.set(`${DOC}/copyright`, text(copyright(repository)));
  contents.set(`${DOC}/changelog.gz`, text(compressed(changelog)));
  contents.set(`${DOC}/README.md.gz`, text(compressed(source('README.md'))));
  for (const { file, text: rendered } of kitFiles(DEBIAN)) {
    const name = `${file.directory}/${file.file}`;
    const ofFail2ban = fail2banFile(file, rendered);
    if (ofFail2ban !== undefined) contents.set(...ofFail2ban);
    else if (file.directory === 'apache2' && TO_CHOOSE.test(file.file))
      contents.set(`etc/apache2/conf-available/${file.file}`, text(rendered));
    else if (file.directory === 'cron.d' && isInstalled(file))
      contents.set(`etc/${name}`, text(onceInUse(rendered)));
    else if (isOfResident(file)) contents.set(`usr/lib/systemd/system/${file.file}`, text(rendered));
    else if (file.directory === 'systemd' && isInstalled(file))
      contents.set(`usr/lib/systemd/system/${file.file}`, text(unitIfInUse(rendered, file.file, DEBIAN)));
    else contents.set(`${DOC}/examples/${name}`, text(rendered));
  }
  return contents;
}

/** The job stays if the package is removed but not purged, and exists before the first ban: it prints nothing then. */
function onceInUse(job: string): string {
  return replaced(
    job,
    /banctl audit --fix$/m,
    `[ -d /run/systemd/system ] || [ ! -x /usr/bin/banctl ] || ${auditIfInUse(DEBIAN)}`,
  ).replace(
    /^# Where systemd runs.*$/m,
    '# It does nothing where systemd runs, because banctl-audit.timer replaces it. It starts with the first ban.',
  );
}

function control(executable: string, version: string, installedKilobytes: number): string {
  const elf = readElf(executable);
  return `Package: banctl
Version: ${version}
Architecture: ${elf.architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${installedKilobytes}
Depends: ${libraryDependencies(elf).join(', ')}
Recommends: apache2 (>= 2.4), fail2ban (>= 0.11)
Suggests: cron | cron-daemon
Section: admin
Priority: optional
Description: ${SUMMARY}
 fail2ban calls banctl to ban addresses in Apache itself, where the visitor's
 address is known even behind CloudFront or a load balancer. No ban is lost
 when calls run at once or are killed. Each ban records who holds it, until
 when and why. banctl reloads Apache as rarely as possible, or never.
`;
}

/** Builds the package, and returns its path. */
export function makeDeb(executable: string, options: PackageOptions): string {
  const contents = debContents(executable, options);
  const { version, output, compression } = options;
  const kilobytes = [...contents.values()].map(({ content }) => Math.ceil(Buffer.byteLength(content) / 1024));
  const deb = join(output, `banctl_${version}_${readElf(executable).architecture}.deb`);
  return withTree(contents, options, (root, touch) => {
    // For the list: an empty directory goes with the package, one with a list stays.
    mkdirSync(join(root, 'etc/apache2/djangoapp'), { recursive: true });
    const put = (name: string, content: string, mode = 0o644) => {
      writeFileSync(join(root, 'DEBIAN', name), content);
      chmodSync(join(root, 'DEBIAN', name), mode);
    };
    mkdirSync(join(root, 'DEBIAN'));
    put(
      'control',
      control(
        executable,
        version,
        kilobytes.reduce((sum, size) => sum + size, 0),
      ),
    );
    const paths = [...contents.keys()];
    put(
      'conffiles',
      paths
        .filter((path) => path.startsWith('etc/'))
        .map((path) => `/${path}\n`)
        .join(''),
    );
    for (const name of ['postinst', 'prerm', 'postrm']) put(name, script(`packaging/debian/${name}`), 0o755);
    const others = paths.filter((path) => !path.startsWith('etc/'));
    put('md5sums', execFileSync('md5sum', others, { cwd: root, encoding: 'utf8' }));
    touch();
    rmSync(deb, { force: true });
    execFileSync('dpkg-deb', ['--root-owner-group', ...compressionOf(compression), '--build', root, deb], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return deb;
  });
}

/** xz, which every dpkg reads. Its level 1 takes a seventh of the default's time, for 5 % of size. */
function compressionOf(compression: PackageOptions['compression']): string[] {
  return { best: ['-Zxz', '-z9'], fast: ['-Zxz', '-z1'], none: ['-Znone'] }[compression];
}
