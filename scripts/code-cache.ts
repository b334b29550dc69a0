// Runs the bundle as fail2ban and administrators do, and writes V8's code cache of what that has compiled.
//
//   code-cache.ts BUNDLE OUTPUT
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';

const [bundle = '', output = ''] = process.argv.slice(2);
const directory = mkdtempSync(join(tmpdir(), 'banctl-code-cache-'));
const list = `--banlist=${join(directory, 'list')}`;
const address = '203.0.113.1';
const asAction = ['--jail=web', list, '--reload-command=', '--apachectl=', '--reload-interval='];
const asBan = [
  ...asAction,
  '--protect=',
  '--ipv6-prefix=',
  '--since=1767225600.5',
  '--for=600',
  '--reason=5 failures',
];

/** The lines to run. What a reload compiles is left out: each function in the cache costs every other call time. */
const lines = [
  ['ban', ...asBan, '--no-reload', '--', address],
  ['ban', ...asBan, '--no-reload', '--', address],
  ['ban', ...asBan, '--no-reload', '--', '2001:db8::1'],
  ['unban', ...asAction, '--no-reload', '--', address],
];

const script = new Script(readFileSync(bundle, 'latin1'), { filename: 'banctl.cjs' });
const program = script.runInThisContext();
const require = createRequire(import.meta.url);

// A program has ended when nothing is left to do, which is when the next may begin.
process.on('beforeExit', () => {
  if (process.exitCode) throw new Error(`the bundle ended with ${process.exitCode}`);
  const next = lines.shift();
  if (next === undefined) return finish();
  process.argv = [process.execPath, process.execPath, ...next];
  program(require);
  // Without anything to do there would be no further beforeExit.
  setImmediate(() => {});
});

function finish(): void {
  rmSync(directory, { recursive: true });
  writeFileSync(output, script.createCachedData());
  process.exit(0);
}
