// What the one file is to be, whatever it does.
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { COMMANDS, OPTION_NAMES, optionOf } from '../../src/cli/options.ts';
import { ALIGNMENT, codeIn } from '../../src/executable/cache-asset.ts';
import { KIT_DIRECTORIES } from '../../src/setup/kit.ts';
import { assetsOf } from '../../tools/executable-parts.ts';
import { executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-executable-'));
after(() => rmSync(directory, { recursive: true }));

suite('the executable', () => {
  test('needs no libraries but those of glibc and the C++ runtime', async () => {
    const { stdout } = await execute('ldd', [executable]);
    const names = stdout.split('\n').flatMap((line) => /^\s*(\S+?)\.so/.exec(line)?.[1] ?? []);
    const known = /^(?:linux-vdso|lib(?:c|m|dl|pthread|stdc\+\+|gcc_s)|\/lib64\/ld-linux-x86-64)$/;
    assert.ok(names.includes('libc'), stdout);
    assert.deepEqual(
      names.filter((name) => !known.test(name)),
      [],
    );
  });

  test('asks for no symbol that is younger than glibc 2.28', async () => {
    const { stdout } = await execute('objdump', ['-T', executable]);
    const versions = [...stdout.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
    assert.ok(versions.length > 100);
    assert.ok(Math.max(...versions) <= 28, String(Math.max(...versions)));
  });

  test('has no symbols that only a debugger needs', async () => {
    const { stdout, stderr } = await execute('nm', [executable]);
    assert.match(stdout + stderr, /no symbols/);
  });

  test('holds compiled code where V8 takes it without a copy', () => {
    const caches = assetsOf(executable).filter(({ name }) => name.endsWith('.cache'));
    assert.ok(caches.length >= 5);
    for (const { name, content } of caches) {
      const code = codeIn(content);
      assert.equal(code.byteOffset % ALIGNMENT, 0, name);
      assert.ok(codeIn(readFileSync(join(repository, 'dist', 'bundle', name))).equals(code), name);
    }
  });

  for (const command of ['ban', 'unban']) {
    test(`loads none of Node's modules for ${command} that an empty program does not load`, async () => {
      const script = `
        const source = require('node:fs').readFileSync('dist/bundle/banctl.cjs', 'utf8');
        const { runInThisContext } = require('node:vm');
        const before = new Set(process.moduleLoadList);
        process.on('exit', () => console.error(process.moduleLoadList.filter((name) => !before.has(name)).join()));
        runInThisContext(source)(require, {});`;
      const line = [
        command,
        '--jail=web',
        `--banlist=${join(directory, 'list')}`,
        '--no-reload',
        '203.0.113.5',
      ];
      const called = await execute(process.execPath, ['-e', script, 'banctl', ...line]);
      assert.equal(called.exitCode, 0, called.stderr);
      assert.match(called.stdout, /^203\.0\.113\.5 /);
      const loaded = called.stderr.match(/NativeModule [^,\n]+/g) ?? [];
      // Without this file, node:os asks the kernel.
      const asks = command === 'ban' && !existsSync('/proc/self/net/fib_trie');
      assert.deepEqual(loaded, asks ? ['NativeModule os'] : []);
    });
  }

  for (const [address, times] of [
    ['203.0.113.6', 0],
    ['2001:db8::6', 1],
  ] as const)
    test(`runs ipaddr.js ${times === 0 ? 'not at all' : 'once'} for a ban of ${address}`, async () => {
      const script = `
        const { Session } = require('node:inspector');
        const source = require('node:fs').readFileSync('dist/bundle/banctl.cjs', 'utf8');
        const session = new Session();
        session.connect();
        session.post('Profiler.enable');
        session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
        process.exit = () => session.post('Profiler.takePreciseCoverage', (_, { result }) => {
          const { functions } = result.find(({ url }) => url === 'banctl.cjs');
          const about = functions.map(({ ranges: [all] }) => all).filter(({ startOffset, endOffset }) =>
            source.slice(startOffset, endOffset).includes('ipaddr: the address has neither'));
          // Those around it are longer: the program, and the functions in it.
          const [module] = about.filter(({ endOffset, startOffset }) => endOffset - startOffset < source.length / 2)
            .sort((one, other) => (other.endOffset - other.startOffset) - (one.endOffset - one.startOffset));
          console.error(module.count);
        });
        process.uptime = () => 0;
        new (require('node:vm').Script)(source, { filename: 'banctl.cjs' }).runInThisContext()(require, {});`;
      const line = ['ban', `--banlist=${join(directory, 'list')}`, '--no-reload', address];
      const called = await execute(process.execPath, ['-e', script, 'banctl', ...line]);
      assert.match(called.stdout, /banned/, called.stderr);
      assert.equal(called.stderr.trim().split('\n').at(-1), String(times));
    });

  for (const [what, open, ending] of [
    ['by itself', '', ''],
    ['by process.exit() where something stays open', 'setInterval(() => {}, 1000);', 'process.exit()\n'],
  ] as const)
    test(`ends a call that has taken long ${what}, with its exit code`, async () => {
      const script = `
        const { exit } = process;
        process.exit = (code) => {
          console.log('process.exit()');
          exit(code);
        };
        process.uptime = () => 60;
        ${open}
        new (require('node:vm').Script)(require('node:fs').readFileSync('dist/bundle/banctl.cjs', 'utf8')).runInThisContext()(require, {});`;
      const { exitCode, stdout } = await execute(process.execPath, ['-e', script, 'banctl', 'ban', 'nobody']);
      assert.deepEqual([exitCode, stdout], [64, ending]);
    });

  test('is of the same bundle wherever it is built', async () => {
    // Copied, not linked: a build in a linked tree would write into this one. Libraries are only read.
    const elsewhere = join(directory, 'another place');
    for (const name of ['src', 'tools', 'package.json', 'tsconfig.json', ...KIT_DIRECTORIES]) {
      cpSync(join(repository, name), join(elsewhere, name), { recursive: true });
    }
    symlinkSync(join(repository, 'node_modules'), join(elsewhere, 'node_modules'));
    const bundles = join(directory, 'bundle');
    const { exitCode, stderr } = await execute(process.execPath, [
      join(elsewhere, 'tools', 'bundle.ts'),
      bundles,
    ]);
    assert.equal(exitCode, 0, stderr);
    const names = readdirSync(bundles);
    assert.ok(names.includes('banctl.cjs') && names.includes('launcher.cjs'), names.join());
    for (const name of names) {
      const built = readFileSync(join(repository, 'dist', 'bundle', name));
      assert.ok(readFileSync(join(bundles, name)).equals(built), name);
    }
  });
});

test('the help lists each command and option on lines of its own', async () => {
  const { stdout } = await execute(executable, ['--help']);
  const lines = stdout.split('\n').map((line) => line.trim());
  for (const command of Object.keys(COMMANDS))
    assert.ok(lines.some((line) => line.startsWith(`banctl ${command} `)));
  for (const name of OPTION_NAMES.filter((option) => optionOf(option).isHidden !== true)) {
    assert.ok(
      lines.some((line) => line.startsWith(`--${name} `)),
      name,
    );
  }
});
