// Makes one CommonJS file of src/main.ts and its libraries: bundle.ts OUTPUT
// The same sources give the same bytes, wherever the checkout is.
import path from 'node:path';
import { build, type Plugin } from 'esbuild';

const root = path.dirname(import.meta.dirname);

interface Replacement {
  module: string;
  importedBy?: string;
  by: string;
}

// Modules that a library loads at each start for things banctl does not use. Milliseconds are of a start of 40, of which
// an empty program takes 28.
const replacements: Replacement[] = [
  // It patches every function of fs, for programs with thousands of open files, and proper-lockfile copies it with all
  // properties, which loads fs.promises and the streams: 5 ms.
  { module: 'graceful-fs', by: 'src/startup/file-system.ts' },
  // All of OpenSSL's functions, to make a temporary name: 4 ms.
  { module: 'node:crypto', importedBy: 'write-file-atomic', by: 'src/startup/temporary-name.ts' },
  // To ask whether it runs in a thread: 1 ms.
  { module: 'worker_threads', importedBy: 'write-file-atomic', by: 'src/startup/stand-ins.ts' },
  // To check the type of one argument: 2 ms.
  { module: 'assert', importedBy: 'signal-exit', by: 'src/startup/stand-ins.ts' },
  // For configuration files written in JavaScript, which banctl has not: 1 ms.
  { module: 'node:module', importedBy: 'yargs-parser', by: 'src/startup/stand-ins.ts' },
  // It makes an Intl.Segmenter, for emoji in help texts: 40 ms.
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

await build({
  absWorkingDir: root,
  entryPoints: ['src/main.ts'],
  outfile: process.argv[2] ?? 'dist/banctl.cjs',
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  // Not minified: it starts as fast, and an administrator can read what root is to run.
  // yargs looks for its translations beside its own file. There is none in an executable, and a place that depends on
  // where the executable lies could belong to somebody else.
  define: { 'import.meta.url': '"file:///"' },
  plugins: [replace],
  logLevel: 'warning',
});
