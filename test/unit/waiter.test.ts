// How long the call that starts the waiting process waits for it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { untilItRuns } from '../../src/reload/waiter.ts';

const program = process.execPath;
const idle = ['-e', 'setTimeout(() => {}, 60_000)'];

/** Runs a script that gets the program and its arguments, as reload/waiter.ts does. */
async function started(script: string): Promise<boolean> {
  const args = ['-c', script, 'sh', program, ...idle];
  const shell = spawn('/bin/sh', args, { detached: true, stdio: 'ignore' });
  const { pid } = shell;
  assert.ok(pid !== undefined);
  const ended = new Promise((resolve) => shell.once('exit', resolve));
  try {
    return await untilItRuns(pid, program);
  } finally {
    if (shell.exitCode === null) process.kill(-pid, 'SIGKILL');
    await ended;
  }
}

// A shell stays as the parent of a command that has an alternative.
const scripts = [
  ['below a shell that stays', '"$@" || exec "$@"', true],
  ['below a program that becomes it', `/bin/sh -c 'sleep 0.1; exec "$@"' sh "$@" || exec "$@"`, true],
  ['in place of the shell', 'false || exec "$@"', true],
  ['never', 'exit 1', false],
] as const;

for (const [where, script, runs] of scripts)
  test(`the program is ${runs ? 'found' : 'missed'} that runs ${where}`, async () => {
    assert.equal(await started(script), runs);
  });
