// Hardened hosts: root without all of root's powers, and limits that V8 cannot live with.
import assert from 'node:assert/strict';
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'banctl-hardened-'));
after(() => rmSync(directory, { recursive: true }));
const empty = join(directory, 'empty.json');
writeFileSync(empty, '{}');
const isRoot = process.getuid?.() === 0;

function listOf(uid: number): string {
  const banlist = join(mkdtempSync(join(directory, 'list-')), 'banlist.conf');
  writeFileSync(banlist, '# kept\n');
  chownSync(banlist, uid, uid);
  return banlist;
}

const ban = (banlist: string, ...through: string[]) => {
  const [program = '', ...words] = [...through, executable, 'ban', '203.0.113.5', '--no-reload'];
  return execute(program, [...words, `--banlist=${banlist}`, `--config=${empty}`]);
};

test('without CAP_CHOWN banctl names it, and leaves the list as it was', { skip: !isRoot }, async () => {
  const banlist = listOf(1234);
  const { exitCode, stderr } = await ban(banlist, 'setpriv', '--bounding-set=-chown', '--inh-caps=-chown');
  assert.equal(exitCode, 73, stderr);
  assert.match(stderr, /^banctl: cannot write \S+: CAP_CHOWN is missing, .*CapabilityBoundingSet=.*\n$/);
  assert.doesNotMatch(stderr, /immutable/);
  assert.deepEqual([readFileSync(banlist, 'utf8'), statSync(banlist).uid], ['# kept\n', 1234]);
});

test("without CAP_CHOWN a ban in root's own list works", { skip: !isRoot }, async () => {
  const { exitCode, stderr } = await ban(listOf(0), 'setpriv', '--bounding-set=-chown', '--inh-caps=-chown');
  assert.equal(exitCode, 0, stderr);
});

test('an address space of 1.5 GB is enough', async () => {
  const { exitCode, stderr } = await ban(listOf(process.getuid?.() ?? 0), 'prlimit', '--as=1536000000');
  assert.equal(exitCode, 0, stderr);
});
