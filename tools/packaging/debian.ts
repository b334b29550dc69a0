/** What a Debian package says of banctl: pure, but for reading the executable and the licences. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Elf {
  /** As Debian calls it. */
  readonly architecture: string;
  readonly libraries: readonly string[];
  /** Versions of symbols that are asked for: `GLIBC_2.28`. */
  readonly versions: readonly string[];
}

const ARCHITECTURES: Record<string, string> = {
  'Advanced Micro Devices X86-64': 'amd64',
  AArch64: 'arm64',
};

/** readelf reads executables of every architecture, which dpkg-shlibdeps does only with that one's libraries at hand. */
export function readElf(executable: string): Elf {
  const { stdout: said } = spawnSync('readelf', ['--wide', '-h', '-d', '-V', executable], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  const machine = /^\s*Machine:\s*(.*?)\s*$/m.exec(said)?.[1] ?? 'no processor';
  const architecture = ARCHITECTURES[machine];
  if (architecture === undefined) throw new Error(`${executable}: cannot be packaged, it is for ${machine}`);
  const all = (pattern: RegExp) => [...new Set([...said.matchAll(pattern)].map(([, name = '']) => name))];
  return {
    architecture,
    libraries: all(/\(NEEDED\).*\[(.*)\]/g),
    versions: all(/Name: (\w+_[\d.]+)/g),
  };
}

/** The first GCC whose libstdc++ has a version of symbols, by its manual ("ABI Policy and Guidelines"). */
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

/** What dpkg-shlibdeps would say: packages with the first version that has what is asked for. */
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

/**
 * The changelog in Debian's form (deb-changelog(5)). The newest section gets this version, whatever its heading says:
 * what is unreleased is what is packaged.
 */
export function debianChangelog(
  markdown: string,
  { version, maintainer, epoch }: { version: string; maintainer: string; epoch: number },
): string {
  const [, ...sections] = markdown.split(/^## /m);
  return sections
    .map((section, index) => {
      const [heading = '', ...lines] = section.split('\n');
      const [, named, dated] = /^\[?([\d.]+)\]?(?: - (\d{4}-\d\d-\d\d))?/.exec(heading) ?? [];
      const released = dated === undefined ? epoch : Date.parse(dated) / 1000;
      const items = lines
        .filter((line) => !/^(?:### |$)/.test(line))
        .join('\n')
        .replaceAll(/\n {2}/g, ' ')
        .split('\n')
        .map((item) => wrapped(item.replace(/^- /, ''), { first: '  * ', other: '    ' }));
      return `banctl (${index === 0 ? version : (named ?? version)}) unstable; urgency=medium

${items.join('\n')}

 -- ${maintainer}  ${rfc5322(released)}
`;
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

/** Node's packages, one for each processor: of the others than x64 npm installs none. */
const NODE = 'node_modules/node-linux-';

/** The licences of all that is in the executable: banctl's own, its libraries' and Node's, in their own words. */
export function copyright(repository: string): string {
  const lock: { packages: Record<string, { dev?: boolean; version: string; license?: string }> } = JSON.parse(
    readFileSync(join(repository, 'package-lock.json'), 'utf8'),
  );
  const libraries = Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true && !path.startsWith(NODE))
    .map(([path, { version, license }]) => ({
      title: `${path.replace(/^.*node_modules\//, '')} ${version} (${license})`,
      text: licenceIn(join(repository, path)),
    }));
  const node = `${NODE}x64`;
  const parts = [
    { title: 'banctl', text: licenceIn(repository) },
    ...libraries,
    { title: `Node.js ${lock.packages[node]?.version}`, text: licenceIn(join(repository, node)) },
  ];
  return `The executable banctl holds, in one file, banctl itself, the libraries that it uses, and Node.js. This is what each of
them comes under.

${parts.map(({ title, text }) => `${'='.repeat(78)}\n${title}\n${'='.repeat(78)}\n\n${text.trim()}\n`).join('\n')}`;
}

function licenceIn(directory: string): string {
  const name = readdirSync(directory)
    .sort()
    .find((file) => /^licen[cs]e/i.test(file));
  if (name === undefined) throw new Error(`${directory}: no licence is there`);
  return readFileSync(join(directory, name), 'utf8').replaceAll('\r\n', '\n');
}
