// An RPM for RHEL, Amazon Linux and Fedora: its spec, and the places of its files.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { RED_HAT } from '../../src/apache/layout.ts';
import { completionScript } from '../../src/cli/completion.ts';
import { isInstalled } from '../../src/setup/kit.ts';
import {
  type Contents,
  commonContents,
  fail2banFile,
  kitFiles,
  repository,
  script,
  source,
  text,
  unitIfInUse,
} from './contents.ts';
import { rpmChangelog } from './debian.ts';
import { type Elf, readElf, soRequirements } from './elf.ts';
import { copyright } from './licences.ts';
import { MAINTAINER, type PackageOptions, SUMMARY, withTree } from './package.ts';

const DOC = 'usr/share/doc/banctl';
const UNITS = 'usr/lib/systemd/system';
/** The directory of the list and its snippets, which httpd does not read by default. */
const OWN = 'etc/httpd/djangoapp';
const ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'x86_64', arm64: 'aarch64' };

export function rpmContents(executable: string, { epochSeconds }: PackageOptions): Contents {
  const contents = commonContents(executable, epochSeconds, RED_HAT);
  contents.set('usr/share/zsh/site-functions/_banctl', text(completionScript('zsh')));
  contents.set('usr/share/licenses/banctl/LICENSES', text(copyright(repository)));
  contents.set(`${DOC}/README.md`, text(source('README.md')));
  for (const name of ['banctl.te', 'banctl.fc'])
    contents.set(`${DOC}/selinux/${name}`, text(source(`packaging/selinux/${name}`)));
  for (const { file, text: rendered } of kitFiles(RED_HAT)) {
    const name = `${file.directory}/${file.file}`;
    const ofFail2ban = fail2banFile(file, rendered);
    if (ofFail2ban !== undefined) contents.set(...ofFail2ban);
    else if (file.directory === 'apache2') contents.set(`${OWN}/${file.file}`, text(rendered));
    // systemd runs on every system with this package, so the timer replaces the cron job.
    else if (file.directory === 'systemd' && isInstalled(file))
      contents.set(`${UNITS}/${file.file}`, text(unitIfInUse(rendered, file.file, RED_HAT)));
    else contents.set(`${DOC}/examples/${name}`, text(rendered));
  }
  return contents;
}

function spec(tree: string, contents: Contents, elf: Elf, { version, epochSeconds }: PackageOptions): string {
  const files = [...contents.keys()].map((path) => `${attributeOf(path)}/${path}`);
  return `Name: banctl
Version: ${version}
Release: 1
Summary: ${SUMMARY.charAt(0).toUpperCase()}${SUMMARY.slice(1)}
Group: System Environment/Daemons
License: MIT
URL: https://github.com/banctl/banctl
Packager: ${MAINTAINER}
AutoReqProv: no
Requires: ${soRequirements(elf).join(', ')}
Recommends: httpd >= 2.4, fail2ban-server >= 0.11

%global debug_package %{nil}
%global __os_install_post %{nil}

%description
fail2ban calls banctl to ban addresses in Apache itself, where the visitor's
address is known even behind CloudFront or a load balancer. No ban is lost
when calls run at once or are killed. Each ban records who holds it, until
when and why. banctl reloads Apache as rarely as possible, or never.

%install
cp -a '${tree}/.' '%{buildroot}/'
mkdir -p '%{buildroot}/${OWN}'

%post
${script('packaging/rpm/post').trim()}

%preun
${source('packaging/rpm/preun').trim()}

%postun
${script('packaging/rpm/postun').trim()}

%files
%dir /${OWN}
%dir /usr/share/banctl
%dir /usr/share/licenses/banctl
%dir /${DOC}
${files.join('\n')}

%changelog
${rpmChangelog(source('CHANGELOG.md'), { version, maintainer: MAINTAINER, epoch: epochSeconds })}`;
}

function attributeOf(path: string): string {
  if (path.startsWith('etc/')) return '%config(noreplace) ';
  if (path.startsWith('usr/share/licenses/')) return '%license ';
  return path.startsWith(`${DOC}/`) || path.startsWith('usr/share/man/') ? '%doc ' : '';
}

/** Builds the package, and returns its path. */
export function makeRpm(executable: string, options: PackageOptions): string {
  const { version, output, epochSeconds, compression } = options;
  const elf = readElf(executable);
  const architecture = ARCHITECTURES[elf.architecture] ?? '';
  const contents = rpmContents(executable, options);
  const name = `banctl-${version}-1.${architecture}.rpm`;
  return withTree(contents, options, (tree, touch) => {
    touch();
    const top = mkdtempSync(join(tmpdir(), 'banctl-rpm-'));
    try {
      const specFile = join(top, 'banctl.spec');
      writeFileSync(specFile, spec(tree, contents, elf, options));
      execFileSync(
        'rpmbuild',
        ['-bb', '--quiet', '--target', `${architecture}-linux`, ...definitions(top, compression), specFile],
        {
          env: { ...process.env, SOURCE_DATE_EPOCH: String(epochSeconds), LC_ALL: 'C.UTF-8' },
          stdio: ['ignore', 'ignore', 'pipe'],
        },
      );
      const made = join(output, name);
      copyFileSync(join(top, 'RPMS', architecture, basename(name)), made);
      return made;
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  });
}

/** Keeps this machine's settings and the current time out of the package. */
function definitions(top: string, compression: PackageOptions['compression']): string[] {
  const macros = {
    _topdir: top,
    _buildhost: 'banctl.invalid',
    _build_id_links: 'none',
    use_source_date_epoch_as_buildtime: '1',
    clamp_mtime_to_source_date_epoch: '1',
    source_date_epoch_from_changelog: '0',
    _binary_payload: { best: 'w19.zstdio', fast: 'w3.zstdio', none: 'w.ufdio' }[compression],
  };
  return Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`]);
}
