import { spawnSync } from 'node:child_process';

export interface Elf {
  /** Debian's name for it. */
  readonly architecture: string;
  readonly libraries: readonly string[];
  /** The needed symbol versions: `GLIBC_2.28`. */
  readonly versions: readonly string[];
}

const ARCHITECTURES: Record<string, string> = {
  'Advanced Micro Devices X86-64': 'amd64',
  AArch64: 'arm64',
};

/** readelf reads executables of every architecture; dpkg-shlibdeps needs that architecture's libraries. */
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

/** What rpm would find on the processor's own machine: libraries, and the newest symbols of each. */
export function soRequirements({ libraries, versions }: Elf): string[] {
  const highest = (prefix: string) =>
    versions
      .filter((name) => name.startsWith(`${prefix}_`))
      .sort((one, other) => one.localeCompare(other, 'en', { numeric: true }))
      .slice(-1);
  const families: Readonly<Record<string, readonly string[]>> = {
    'libc.so.6': ['GLIBC'],
    'libstdc++.so.6': ['GLIBCXX', 'CXXABI'],
    'libgcc_s.so.1': ['GCC'],
  };
  return libraries
    .filter((library) => !library.startsWith('ld-linux'))
    .flatMap((library) =>
      ['', ...(families[library] ?? []).flatMap(highest)].map((version) => `${library}(${version})(64bit)`),
    );
}
