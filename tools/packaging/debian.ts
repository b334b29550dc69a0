/** Debian's metadata of a package: dependencies and changelog. */
import type { Elf } from './elf.ts';

/** The first GCC whose libstdc++ has a symbol version, from its manual ("ABI Policy and Guidelines"). */
const LIBSTDCXX: Record<string, Record<number, string>> = {
  'GLIBCXX_3.4': {
    18: '4.8',
    19: '4.8.3',
    20: '4.9',
    21: '5',
    22: '6',
    23: '7',
    24: '7.2',
    25: '8',
    26: '9',
    27: '9.2',
    28: '9.3',
    29: '11',
    30: '12',
    31: '13',
    32: '13.2',
    33: '14',
  },
  'CXXABI_1.3': { 8: '4.9', 9: '5', 10: '6', 11: '7', 12: '9', 13: '11', 14: '13', 15: '14' },
};

/** The result of dpkg-shlibdeps: packages with the first version that has the needed symbols. */
export function libraryDependencies({ libraries, versions }: Elf): string[] {
  const highest = (prefix: string) =>
    versions
      .filter((name) => name.startsWith(`${prefix}_`))
      .map((name) => name.slice(prefix.length + 1))
      .sort((one, other) => one.localeCompare(other, 'en', { numeric: true }))
      .at(-1);
  const packages = new Set<string>();
  for (const library of libraries) {
    if (/^(?:ld-linux.*|lib(?:c|m|dl|pthread|rt))\.so\.\d+$/.test(library))
      packages.add(`libc6 (>= ${highest('GLIBC')})`);
    else if (library === 'libgcc_s.so.1')
      packages.add(`libgcc-s1 (>= ${highest('GCC')}) | libgcc1 (>= 1:${highest('GCC')})`);
    else if (library === 'libstdc++.so.6') packages.add(`libstdc++6 (>= ${libstdcxx(versions)})`);
    else throw new Error(`no Debian package is known for ${library}`);
  }
  return [...packages].sort();
}

function libstdcxx(versions: readonly string[]): string {
  const needed = versions.flatMap((name) => {
    const [, family = '', minor = ''] = /^(GLIBCXX_3\.4|CXXABI_1\.3)\.(\d+)$/.exec(name) ?? [];
    if (family === '') return [];
    const releases = LIBSTDCXX[family] ?? {};
    if (Number(minor) > Math.max(...Object.keys(releases).map(Number)))
      throw new Error(`no release of libstdc++ is known for ${name}`);
    return releases[Number(minor)] ?? [];
  });
  return needed.sort((one, other) => one.localeCompare(other, 'en', { numeric: true })).at(-1) ?? '4.8';
}

interface Release {
  readonly version: string;
  /** Seconds since the epoch. */
  readonly epoch: number;
  readonly changes: readonly string[];
}

interface ChangelogOptions {
  readonly version: string;
  readonly maintainer: string;
  readonly epoch: number;
}

/** The sections of CHANGELOG.md. The newest gets the packaged version, whatever its heading says. */
function releases(markdown: string, { version, epoch }: ChangelogOptions): Release[] {
  const [, ...sections] = markdown.split(/^## /m);
  return sections.map((section, index) => {
    const [heading = '', ...lines] = section.split('\n');
    const [, named, dated] = /^\[?([\d.]+)\]?(?: - (\d{4}-\d\d-\d\d))?/.exec(heading) ?? [];
    const changes = lines
      .filter((line) => !/^(?:### |$)/.test(line))
      .join('\n')
      .replaceAll(/\n {2}/g, ' ')
      .split('\n')
      .map((item) => item.replace(/^- /, ''));
    return {
      version: index === 0 ? version : (named ?? version),
      epoch: dated === undefined ? epoch : Date.parse(dated) / 1000,
      changes,
    };
  });
}

/** The changelog in Debian's form (deb-changelog(5)). */
export function debianChangelog(markdown: string, options: ChangelogOptions): string {
  return releases(markdown, options)
    .map(({ version, epoch, changes }) => {
      const items = changes.map((item) => wrapped(item, { first: '  * ', other: '    ' }));
      return `banctl (${version}) unstable; urgency=medium

${items.join('\n')}

 -- ${options.maintainer}  ${rfc5322(epoch)}
`;
    })
    .join('\n');
}

/** The changelog in a spec's form: https://rpm-software-management.github.io/rpm/manual/spec.html */
export function rpmChangelog(markdown: string, options: ChangelogOptions): string {
  return releases(markdown, options)
    .map(({ version, epoch, changes }) => {
      const [weekday = '', day = '', month = '', year = ''] = new Date(epoch * 1000)
        .toUTCString()
        .replace(',', '')
        .split(' ');
      const items = changes.map((item) => wrapped(item.replaceAll('%', '%%'), { first: '- ', other: '  ' }));
      return `* ${weekday} ${month} ${day} ${year} ${options.maintainer} - ${version}-1\n${items.join('\n')}\n`;
    })
    .join('\n');
}

function wrapped(text: string, { first, other }: { first: string; other: string }): string {
  const lines = [first.trimEnd()];
  for (const word of text.split(' ')) {
    const line = `${lines.at(-1)} ${word}`;
    if (line.length <= 79) lines[lines.length - 1] = line;
    else lines.push(`${other}${word}`);
  }
  return lines.join('\n');
}

function rfc5322(epoch: number): string {
  return new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
}
