// scripts/demo, without its build.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { processesNaming } from '../lab/processes.ts';
import { until } from '../lab/wait.ts';

const program = join(import.meta.dirname, '..', '..', 'tools', 'demo.ts');

/** Starts the demo in a directory of its own for temporary files, and checks that it leaves nothing there. */
async function demo(signalAfter?: string, ...options: string[]) {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-demo-test-'));
  chmodSync(directory, 0o755); // Apache's children run as www-data
  const env = { ...process.env, TMPDIR: directory };
  const child = spawn(process.execPath, [program, ...options], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
  }
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  try {
    if (signalAfter !== undefined) {
      await until(signalAfter, () => said.includes(signalAfter), { detail: () => said });
      child.kill('SIGINT');
    }
    const exitCode = await ended;
    assert.deepEqual(readdirSync(directory), []);
    assert.deepEqual(processesNaming(directory), []);
    return { exitCode, said };
  } finally {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

test('the demo shows failed logins, the ban, who is refused and who is not, and the end of the ban', async () => {
  const { exitCode, said } = await demo();
  assert.equal(exitCode, 0, said);
  const story = [
    /203\.0\.113\.55 +GET \/ +200\n/,
    / 401 401 401 401 401\n/,
    /\n +Require not ip 203\.0\.113\.55\n/,
    /203\.0\.113\.55 +GET \/ +403\n/,
    /198\.51\.100\.7 +GET \/ +200\n/,
    /\$ banctl ban 2001:db8::66 /,
    /2001:db8::66 +GET \/ +403\n/,
    /\$ banctl unban 2001:db8::66\n/,
    /203\.0\.113\.55 +GET \/ +200\n/,
  ];
  assert.match(said, new RegExp(story.map((part) => part.source).join('[^]*')));
  assert.ok(!said.includes('\u001b'), 'no colours where there is no terminal');
});

test('a demo that is interrupted leaves nothing behind', async () => {
  assert.equal((await demo('$ banctl ban ')).exitCode, 130);
});

test('the demo of a fleet shows one attack and two servers that refuse it, until one lifts the ban', async () => {
  const { exitCode, said } = await demo(undefined, '--fleet');
  assert.equal(exitCode, 0, said);
  const story = [
    /203\.0\.113\.55 +GET web1\/ +403\n/,
    /203\.0\.113\.55 +GET web2\/ +403\n/,
    /by djangoapp-admin-login@web1 since/,
    /web2 \$ banctl unban 203\.0\.113\.55\n/,
    /203\.0\.113\.55 +GET web1\/ +200\n/,
  ];
  assert.match(said, new RegExp(story.map((part) => part.source).join('[^]*')));
});
