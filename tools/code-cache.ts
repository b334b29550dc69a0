// Runs the bundle as fail2ban and administrators do, and writes V8's code cache of everything compiled on the way: NAME.cache
// beside each NAME.cjs.
//
//   code-cache.ts DIRECTORY
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { assetOf } from '../src/executable/cache-asset.ts';
import { FULL, LIBRARIES, MAIN, PAGE, SERVE, startProgram } from '../src/executable/parts.ts';

const [bundles = ''] = process.argv.slice(2);
const directory = mkdtempSync(join(tmpdir(), 'banctl-code-cache-'));
const list = `--banlist=${join(directory, 'list')}`;
const address = '203.0.113.1';
const asAction = ['--jail=web', list, '--apachectl=', '--reload-interval='];
const asBan = [
  ...asAction,
  '--protect=',
  '--ipv6-prefix=',
  '--since=1767225600.5',
  '--for=600',
  '--reason=5 failures',
];
const silently = ['--reload-command=', '--no-reload', '--'];

/** Answers like a fail2ban that has one jail and holds nothing. */
const fail2banClient = join(directory, 'fail2ban-client');
writeFileSync(
  fail2banClient,
  `#!/bin/sh
case "$*" in
  status) printf '|- Number of jail:\\t1\\n\`- Jail list:\\tweb\\n' ;;
  *actions) printf 'The jail web has the following actions:\\nnone\\n' ;;
  *ignoreip) echo 'No IP address/network is ignored' ;;
esac
`,
  { mode: 0o755 },
);

/** The lines to run, and the parts whose cache is written afterwards. */
const runs: { line: string[]; parts?: string[] }[] = [
  { line: ['ban', ...asBan, ...silently, address] },
  { line: ['ban', ...asBan, ...silently, address] },
  { line: ['ban', ...asBan, ...silently, '2001:db8::1'] },
  // Omits the functions of a reload, because each function in the cache costs every other call time.
  { line: ['unban', ...asAction, ...silently, address], parts: [MAIN] },
  { line: ['unban', list, '--fail2ban-client=true', ...silently, '2001:db8::1'], parts: ['execa'] },
  { line: ['sync', '--jail=web', list, `--fail2ban-client=${fail2banClient}`, '--no-reload'] },
  { line: ['list', list], parts: [FULL] },
  { line: ['--help'], parts: ['yargs'] },
];

const read = (name: string) => ({ source: readFileSync(join(bundles, `${name}.cjs`), 'latin1') });
const writeCache = (name: string, script: Script) =>
  writeFileSync(join(bundles, `${name}.cache`), assetOf(script.createCachedData()));
const require = createRequire(import.meta.url);
const scripts = new Map<string, Script>();

// The program ends its process, always as a quick call does, but this process continues with the next line.
process.uptime = () => 0;
const exit: (exitCode: number) => never = process.exit;
process.exit = ((exitCode: number) => {
  process.exitCode = exitCode;
}) as typeof exit;

let parts: string[] = [];
// A program has ended when no work remains; only then may the next one begin.
process.on('beforeExit', () => {
  if (process.exitCode) throw new Error(`the bundle ended with ${process.exitCode}`);
  for (const name of parts) {
    const script = scripts.get(name);
    if (script === undefined) throw new Error(`${name} was not called for`);
    writeCache(name, script);
  }
  const next = runs.shift();
  if (next === undefined) {
    // A resident does not end by itself, and starts once.
    for (const name of [...LIBRARIES, PAGE, SERVE].filter((name) => !scripts.has(name)))
      writeCache(name, new Script(read(name).source, { filename: `${name}.cjs` }));
    rmSync(directory, { recursive: true });
    exit(0);
  }
  parts = next.parts ?? [];
  process.argv = [process.execPath, process.execPath, ...next.line];
  startProgram(read, require, scripts);
  // Without work there would be no further beforeExit.
  setImmediate(() => {});
});
