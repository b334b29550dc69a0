// What an unban by a jail says to the other servers: the hold that it was asked for, and no other.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { formatBan } from '../../src/banlist/ban-lines.ts';
import { parseAddress } from '../../src/bans/address.ts';
import { noteRelease } from '../../src/commands/unban.ts';

const SINCE = 1_700_000_000;
const [X, Y, RANGE] = ['203.0.113.5', '203.0.113.6', '198.51.100.0/24'] as const;
const WIDENED = '198.51.100.7';
const held = (address: string, holder = 'web') => ({
  holder,
  address,
  since: SINCE,
  until: null,
  reason: null,
});

suite('an unban by a jail says', () => {
  let dir: string;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'banctl-saying-'));
    writeFileSync(
      join(dir, 'list.conf'),
      [formatBan(X, [held(X), held(X, 'ssh')]), formatBan(RANGE, [held(WIDENED)])].join(''),
    );
    mkdirSync(join(dir, 'bans'));
    writeFileSync(join(dir, 'bans', Y), formatBan(Y, [held(Y)]));
  });
  after(() => rmSync(dir, { recursive: true }));

  async function said(bandir: boolean, ...addresses: string[]): Promise<{ keys: string[]; held: boolean[] }> {
    const fleetState = mkdtempSync(join(dir, 'fleet-'));
    const places = { banlist: join(dir, 'list.conf'), bandir: bandir ? join(dir, 'bans') : undefined };
    const wasHeld = await noteRelease(
      { ...places, dryRun: false, fleetState, id: undefined },
      'web',
      addresses.map(parseAddress),
    );
    const notes = join(fleetState, 'said');
    const names = readdirSync(fleetState).includes('said') ? readdirSync(notes) : [];
    const keys = names.flatMap((name) => JSON.parse(readFileSync(join(notes, name), 'utf8')).keys);
    return { keys, held: addresses.map(wasHeld) };
  }

  test('its hold on an address, in the list or in the directory', async () => {
    assert.deepEqual(await said(true, X, Y), { keys: [`${X} web`, `${Y} web`], held: [true, true] });
    assert.deepEqual(await said(false, X, Y), { keys: [`${X} web`], held: [true, false] });
  });

  test('its hold on an address that a range bans', async () => {
    assert.deepEqual(await said(true, WIDENED), { keys: [`${WIDENED} web`], held: [true] });
  });

  test('nothing of a range that is banned for an address in it: the unban does not lift that', async () => {
    assert.deepEqual(await said(true, RANGE), { keys: [], held: [false] });
  });

  test('the same for many addresses', async () => {
    const many = Array.from({ length: 20 }, (_, last) => `192.0.2.${last}`);
    const { keys } = await said(true, RANGE, X, ...many, WIDENED);
    assert.deepEqual(keys, [`${X} web`, `${WIDENED} web`]);
  });
});
