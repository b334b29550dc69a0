// Makes one file of src/main.ts and its libraries, and one of what starts it: bundle.ts BUNDLE LAUNCHER
// The same sources give the same bytes, wherever the checkout is.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';

const root = path.dirname(import.meta.dirname);
const [bundle = '', launcher = ''] = process.argv.slice(2);

interface Replacement {
  module: string;
  importedBy?: string;
  by: string;
}

// Modules that libraries load at each start for things that banctl does not use, with the milliseconds that it saves to
// replace them. With all of these a ban takes 28 until it is on disk, an empty program 23.
const replacements: Replacement[] = [
  // It patches all of fs for programs with thousands of open files; proper-lockfile then copies every property, which
  // loads fs.promises and the streams: 4.
  { module: 'graceful-fs', by: 'src/startup/file-system.ts' },
  // All that OpenSSL can do, for a temporary file's name: 6.
  { module: 'node:crypto', importedBy: 'write-file-atomic', by: 'src/startup/temporary-name.ts' },
  // To ask whether it runs in a thread: 2.
  { module: 'worker_threads', importedBy: 'write-file-atomic', by: 'src/startup/stand-ins.ts' },
  // To check the type of one argument: 2.
  { module: 'assert', importedBy: 'signal-exit', by: 'src/startup/stand-ins.ts' },
  // It makes an Intl.Segmenter, for emoji in the help of yargs: 24.
  { module: 'string-width', by: 'src/startup/string-width.ts' },
];

const replace: Plugin = {
  name: 'replace',
  setup({ onResolve }) {
    for (const { module, importedBy, by } of replacements) {
      onResolve({ filter: new RegExp(`^${module}$`) }, ({ importer }) =>
        importedBy === undefined || importer.includes(`/node_modules/${importedBy}/`)
          ? { path: path.join(root, by) }
          : undefined,
      );
    }
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
  // A linked node_modules gives the same names as one of its own.
  preserveSymlinks: true,
  logLevel: 'warning',
} satisfies BuildOptions;

await Promise.all([
  build({
    ...common,
    entryPoints: ['src/main.ts'],
    outfile: bundle,
    // A function, for src/startup/launcher.ts to call.
    banner: { js: '(function (require) {' },
    footer: { js: '})' },
    // Not minified: it starts as fast, and an administrator can read what root is to run.
    // yargs looks for its translations beside its own file. There is none in an executable, and a place that depends on
    // where the executable lies could belong to somebody else.
    define: {
      'import.meta.url': '"file:///"',
      __filename: '"banctl"',
      'process.env.BANCTL_VERSION': JSON.stringify(version),
    },
  }),
  build({ ...common, entryPoints: ['src/startup/launcher.ts'], outfile: launcher }),
]).catch(() => process.exit(1)); // esbuild has printed the errors
