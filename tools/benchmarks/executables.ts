// Executables to compare with, each built from the same Node in the same way as dist/banctl (see scripts/build).
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { executable } from '../../test/lab/banctl.ts';
import { execute } from '../../test/lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
/** The assets of dist/banctl. */
const bundles = join(repository, 'dist', 'bundle');

/** The Node options of dist/banctl. */
const nodeOptions = [
  ...readFileSync(join(repository, 'scripts', 'build'), 'utf8').matchAll(/^ {2}(--\S+)$/gm),
].map(([, option = '']) => option);

export interface Executables {
  /** dist/banctl, copied like the others: the kernel's caching of a file decides how fast it starts. */
  readonly banctl: string;
  /** Does nothing. */
  readonly empty: string;
  /** A ban with bare node:fs. */
  readonly bare: string;
  /** banctl that records when it does what. */
  readonly marked: string;
}

export async function makeExecutables(directory: string): Promise<Executables> {
  const banctl = join(directory, 'banctl');
  copyFileSync(executable, banctl);
  return {
    banctl,
    empty: await make(directory, 'empty', ''),
    bare: await make(directory, 'bare', await bundled('bare.ts')),
    marked: await make(directory, 'marked', await bundled('marked-launcher.ts'), bundleAssets()),
  };
}

function bundleAssets(): Record<string, string> {
  return Object.fromEntries(readdirSync(bundles).map((name) => [name, join(bundles, name)]));
}

async function bundled(name: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, name)],
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    write: false,
    logLevel: 'warning',
  });
  return outputFiles[0]?.text ?? '';
}

async function make(
  directory: string,
  name: string,
  main: string,
  assets: Record<string, string> = {},
): Promise<string> {
  const path = join(directory, name);
  const [source, blob, config] = [`${path}.cjs`, `${path}.blob`, `${path}.json`];
  writeFileSync(source, main);
  writeFileSync(
    config,
    JSON.stringify({
      main: source,
      output: blob,
      assets,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      execArgv: nodeOptions,
      execArgvExtension: 'none',
    }),
  );
  await run(process.execPath, [...nodeOptions, '--experimental-sea-config', config]);
  const made = `${path}.made`;
  copyFileSync(join(repository, 'node_modules', '.cache', 'banctl', 'x64', 'node'), made);
  const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
  await run('postject', [made, 'NODE_SEA_BLOB', blob, '--sentinel-fuse', fuse]);
  copyFileSync(made, path);
  for (const file of [blob, made]) rmSync(file);
  return path;
}

async function run(program: string, args: string[]): Promise<void> {
  const { exitCode, stdout, stderr } = await execute(program, args);
  if (exitCode !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${exitCode}\n${stdout}${stderr}`);
}
