// A power cut while many bans of other hosts arrive can leave files without text. The next start writes them again.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir, uptime } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Engine, startEngine, startHost } from '../lab/fleet.ts';
import { until } from '../lab/wait.ts';

const BOOT = Math.floor(Date.now() / 1000 - uptime());
/** Bulk changes: too many for a sync of each. */
const MANY = Array.from({ length: 20 }, (_, last) => `198.51.100.${last}`);
const [HELD, GONE, TOUCHED_BEFORE, TOUCHED_AFTER] = [
  '203.0.113.1',
  '203.0.113.2',
  '203.0.113.3',
  '203.0.113.4',
] as const;

suite('a host', () => {
  let engine: Engine;
  let dir: string;
  before(async () => {
    engine = await startEngine();
    dir = mkdtempSync(join(tmpdir(), 'banctl-power-cut-'));
    await using other = await startHost({ name: 'b', engine });
    await other.connected();
    await other.done('ban', HELD, TOUCHED_BEFORE, TOUCHED_AFTER, ...MANY);
    await until('the bans', async () => (await engine.ask('hlen', '{banctl}:holds')) === '23');
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  const file = (address: string) => join(dir, 'bans', address);
  const empty = (address: string, seconds: number, text = '') => {
    writeFileSync(file(address), text);
    utimesSync(file(address), seconds, seconds);
  };
  const note = () => join(dir, 'fleet', 'filling.json');

  test('writes again what the engine has, frees what it does not have, and leaves what was touched', async () => {
    mkdirSync(join(dir, 'bans'));
    mkdirSync(join(dir, 'fleet'));
    writeFileSync(note(), JSON.stringify({ boot: 'an earlier one', since: BOOT - 60 }));
    empty(HELD, BOOT - 30, '\0'.repeat(100));
    empty(GONE, BOOT - 30);
    empty(TOUCHED_BEFORE, BOOT - 90);
    empty(TOUCHED_AFTER, BOOT + 30);
    await using host = await startHost({ name: 'a', engine, dir });
    await host.connected();
    await host.seen(`${HELD} manual@b`, ...MANY.map((address) => `${address} manual@b`));
    await until('the ban to go', () => !existsSync(file(GONE)));
    for (const address of [TOUCHED_BEFORE, TOUCHED_AFTER]) assert.equal(statSync(file(address)).size, 0);
  });

  test('leaves no note once all is on the disk', async () => {
    await using host = await startHost({ name: 'c', engine });
    await until('all bans', () => host.holds().length === MANY.length + 3);
    await until('no note', () => !existsSync(join(host.state, 'filling.json')));
  });
});
