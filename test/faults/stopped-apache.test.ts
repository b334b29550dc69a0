// Apache ends while it is asked to reload: by an administrator's stop, or because it cannot read its configuration.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Apache, startApache } from '../lab/apache.ts';
import { banctl } from '../lab/banctl.ts';
import { type Finished, until } from '../lab/wait.ts';

const ADDRESS = '203.0.113.5';
/** SIGUSR1 among the pending signals of a process, proc(5). */
const GRACEFUL = 1n << 9n;

/** Bans while Apache's main process sleeps, so that `meanwhile` comes before the reload whose signal it has. */
async function banDuring(apache: Apache, meanwhile: () => void): Promise<Finished> {
  const pid = apache.pid();
  const options = [
    `--banlist=${apache.banlist}`,
    `--apachectl=${apache.ctl}`,
    `--config=${configIn(apache)}`,
  ];
  process.kill(pid, 'SIGSTOP');
  const ban = banctl(['ban', ADDRESS, '--reload-interval=0', ...options]);
  await until('the signal of the reload', () => isPending(pid));
  meanwhile();
  process.kill(pid, 'SIGCONT');
  return ban;
}

function configIn({ dir }: Apache): string {
  const path = join(dir, 'banctl.json');
  writeFileSync(path, '{}');
  return path;
}

function isPending(pid: number): boolean {
  const [, mask = '0'] = /^ShdPnd:\s*([\da-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (BigInt(`0x${mask}`) & GRACEFUL) !== 0n;
}

test('a ban whose reload meets a stop of Apache succeeds, and the next start enforces it', async () => {
  await using apache = await startApache({ remoteip: true });
  const ban = await banDuring(apache, () => process.kill(apache.pid(), 'SIGTERM'));
  const said = `${ADDRESS} banned\napache was stopped; it reads the list when it starts\n`;
  assert.deepEqual(ban, { exitCode: 0, stdout: said, stderr: '' });
  assert.equal(apache.running(), false);
  await apache.start();
  assert.equal(await apache.get('/', { from: ADDRESS }), 403);
});

test('a reload that ends Apache is a failure', async () => {
  await using apache = await startApache();
  const { exitCode, stderr } = await banDuring(apache, () => writeFileSync(apache.config, 'Broken'));
  assert.equal(exitCode, 69, stderr);
  assert.match(
    stderr,
    /^banctl: apache was not reloaded: apache ended while it was reloading; see its error log\n$/,
  );
});
