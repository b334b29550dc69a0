// Bundles what scripts/build puts into the executable: bundle.ts DIRECTORY
//
//   banctl.cjs             src/main.ts and the libraries that a ban needs
//   full.cjs     all commands but ban and unban, with copies of what they share with these
//   page.cjs     the page of banctl report, with echarts and eta
//   serve.cjs              the resident, in the same way
//   execa.cjs, yargs.cjs   libraries that most calls do without
//   launcher.cjs           what starts it
//   kit.json               the files that banctl setup installs, by their paths in the repository
//
// The same sources give the same bytes, wherever the checkout is.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { FULL, LIBRARIES, MAIN, PAGE, SERVE } from '../src/executable/parts.ts';
import { KIT_ASSET, KIT_DIRECTORIES } from '../src/setup/kit.ts';

const root = path.dirname(import.meta.dirname);
const [directory = ''] = process.argv.slice(2);

interface Replacement {
  module: string;
  importedBy?: string;
  by: string;
}

// Modules that are loaded at each start for what banctl, or most of its calls, does not use. The comments give the milliseconds
// that each replacement saves, if that is the reason. With all of these, a ban takes 28 until it is on disk, an empty program 23.
const replacements: Replacement[] = [
  // It patches all of fs for programs with thousands of open files; proper-lockfile then copies every property, which
  // loads fs.promises and the streams: 4.
  { module: 'graceful-fs', by: 'src/executable/stand-ins/graceful-fs.ts' },
  // All of OpenSSL, for a temporary file's name: 6.
  { module: 'node:crypto', importedBy: 'write-file-atomic', by: 'src/executable/stand-ins/node-crypto.ts' },
  // Not for speed: it would follow links that another user puts in the way.
  { module: 'fs', importedBy: 'write-file-atomic', by: 'src/executable/stand-ins/fs.ts' },
  // To ask whether it runs in a thread: 2.
  {
    module: 'worker_threads',
    importedBy: 'write-file-atomic',
    by: 'src/executable/stand-ins/worker-threads.ts',
  },
  // To read configuration files, which banctl reads itself: 1.
  {
    module: 'node:module',
    importedBy: 'yargs-parser',
    by: 'src/executable/stand-ins/node-module.ts',
  },
  // Not for good, but until the first IPv6 address: 0.2.
  { module: 'ipaddr.js', by: 'src/executable/stand-ins/ipaddr.cts' },
  // Two versions of it, each with handlers for thirty signals.
  { module: 'signal-exit', importedBy: 'write-file-atomic', by: 'src/executable/stand-ins/signal-exit.cts' },
  { module: 'signal-exit', importedBy: 'proper-lockfile', by: 'src/executable/stand-ins/signal-exit.cts' },
  // It makes an Intl.Segmenter, for emoji in the help of yargs: 24. The list needs the real one for names with wide characters.
  ...['yargs', 'cliui', 'wrap-ansi', 'cli-progress'].map((importedBy) => ({
    module: 'string-width',
    importedBy,
    by: 'src/executable/stand-ins/string-width.cts',
  })),
];

const replace: Plugin = {
  name: 'replace',
  setup({ onResolve }) {
    for (const { module, importedBy, by } of replacements) {
      const standIn = path.join(root, by);
      onResolve({ filter: new RegExp(`^${module}$`) }, ({ importer }) => {
        const isReplaced = importedBy === undefined || importer.includes(`/node_modules/${importedBy}/`);
        return isReplaced && importer !== standIn ? { path: standIn } : undefined;
      });
    }
  },
};

/** The other commands are a separate part, because everything in the bundle costs each ban time, even unused code. */
const apart: Plugin = {
  name: 'apart',
  setup({ onResolve }) {
    for (const [source, name] of [
      [`/${FULL}\\.ts$`, FULL],
      [`/${PAGE}\\.ts$`, PAGE],
      ['/commands/serve\\.ts$', SERVE],
    ] as const)
      onResolve({ filter: new RegExp(source) }, ({ kind }) =>
        kind === 'entry-point' ? undefined : { path: name, external: true },
      );
  },
};

/** Bundles files with the module's name as texts. */
const assets: Plugin = {
  name: 'assets',
  setup({ onLoad }) {
    onLoad({ filter: /\/report\/assets\.ts$/ }, ({ path: module }) => {
      const text = (name: string) =>
        JSON.stringify(readFileSync(path.join(path.dirname(module), name), 'utf8'));
      const contents = `export const TEMPLATE = ${text('page.eta')}, STYLE = ${text('page.css')}, SCRIPT = ${text('page.js')};`;
      return { contents, loader: 'js' };
    });
  },
};

const { version }: { version: string } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  plugins: [replace],
  // Gives a linked node_modules the same names as a local one.
  preserveSymlinks: true,
  logLevel: 'warning',
  metafile: true,
} satisfies BuildOptions;

const output = (name: string) => path.join(directory, `${name}.cjs`);

/** A function for src/executable/parts.ts to call. */
const part = {
  ...common,
  banner: { js: '(function (require, module) {' },
  footer: { js: '})' },
  // yargs looks for its translations beside its own file. An executable has none, and a path that depends on the executable's
  // own place could belong to another user.
  define: {
    'import.meta.url': '"file:///"',
    __filename: '"banctl"',
    'process.env.BANCTL_VERSION': JSON.stringify(version),
  },
} satisfies BuildOptions;

const kit = KIT_DIRECTORIES.flatMap((folder) =>
  readdirSync(path.join(root, folder))
    .sort()
    .map((name) => [`${folder}/${name}`, readFileSync(path.join(root, folder, name), 'utf8')]),
);

const builds = await Promise.all([
  ...[
    ['src/main.ts', MAIN],
    [`src/${FULL}.ts`, FULL],
    ['src/commands/serve.ts', SERVE],
  ].map(([source = '', name = '']) =>
    build({
      ...part,
      entryPoints: [source],
      outfile: output(name),
      external: LIBRARIES,
      plugins: [replace, apart],
      // With short names and half the text, a ban is 2 % faster. The other parts show their names in errors.
      minify: name === MAIN,
      // import() of a part must load it on demand.
      supported: { 'dynamic-import': false },
    }),
  ),
  // echarts has 1.2 MB as source, and 0.5 MB minified, and is no part of what root runs for a ban.
  build({
    ...part,
    entryPoints: ['src/report/page.ts'],
    outfile: output(PAGE),
    plugins: [replace, assets],
    minify: true,
    legalComments: 'inline',
  }),
  ...LIBRARIES.map((name) =>
    build({
      ...part,
      // import() of a Node module gets it as the default export, whether the module has one or not.
      stdin: {
        contents: `const all = require('${name}'); module.exports = all.default ?? all;`,
        resolveDir: root,
      },
      outfile: output(name),
    }),
  ),
  build({ ...common, entryPoints: ['src/executable/launcher.ts'], outfile: output('launcher') }),
]).catch(() => process.exit(1)); // esbuild has printed the errors
writeFileSync(path.join(directory, KIT_ASSET), JSON.stringify(Object.fromEntries(kit)));
// The contents of the bundle, for tools/sbom.ts.
const inputs = new Set(builds.flatMap(({ metafile }) => Object.keys(metafile.inputs)));
const packages = [...inputs].flatMap(
  (input) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0] ?? [],
);
writeFileSync(
  path.join(path.dirname(directory), 'libraries.json'),
  `${JSON.stringify([...new Set(packages)].sort(), null, 2)}\n`,
);
