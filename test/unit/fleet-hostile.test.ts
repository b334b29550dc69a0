// Entries by the hundred thousand that an attacker could write into the engine, read and decided on as the agent does it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { covers, isTooBroad, parseAddress, readAddress } from '../../src/bans/address.ts';
import { cleanReason } from '../../src/bans/hold.ts';
import type { LogEntry } from '../../src/fleet/engine.ts';
import { HostState } from '../../src/fleet/host-state.ts';
import { JailUnbans } from '../../src/fleet/jail-unbans.ts';
import { Mirror } from '../../src/fleet/mirror.ts';
import { decide } from '../../src/fleet/rules.ts';
import { TORTURE } from '../lab/torture.ts';

const AT_ONCE = 50_000;
/** A million with `--torture`. */
const MANY = AT_ONCE * Math.min(TORTURE, 20);
/** Another host's: nothing in it may be banned here. */
const PROTECTED = parseAddress('198.51.100.0/24');

/** Numbers that look random and are the same each time. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const JUNK = [
  '\n',
  '\u0000',
  '\u001b[2J',
  ' ',
  '@',
  '|',
  '\\',
  '"',
  '%',
  '\ud800',
  '٣',
  '/',
  'é',
  '\u2028',
  '# banctl | ',
];

function hostileField(below: (limit: number) => number): string {
  const byte = () => below(256);
  const address = [
    () => `${byte()}.${byte()}.${byte()}.${byte()}`,
    () => `198.51.100.${byte()}`,
    () => `${byte()}.${byte()}.0.0/${below(34)}`,
    () => `198.51.${byte()}.0/${below(33)}`,
    () => `2001:db8::${byte().toString(16)}${below(4) === 0 ? `/${below(129)}` : ''}`,
    () => `::ffff:198.51.100.${byte()}`,
    () => `0${byte()}.1.1.1`,
  ][below(7)]?.();
  const holder = ['j', 'manual', '%6Danual', 'jail one', '%40', 'a'.repeat(below(300) + 1)][below(6)];
  const host = ['evil', 'b', 'a', 'x'.repeat(64), '-', ''][below(6)];
  const field = `${address} ${holder}@${host}`;
  if (below(3) > 0) return field;
  const at = below(field.length);
  return field.slice(0, at) + JUNK[below(JUNK.length)] + field.slice(at);
}

function hostileValue(below: (limit: number) => number): string {
  const reason = `why ${JUNK[below(JUNK.length)]} Require all granted`;
  return [
    () => '[1000,null,null]',
    () => `[${below(2000)},${below(9000)},null]`,
    () => JSON.stringify([1000, null, reason]),
    () => JSON.stringify([1000, 5000, cleanReason(reason)]),
    () => `[1000,null,"${reason}"]`,
    () => '{"since":1}',
    () => `[${'9'.repeat(below(30) + 1)},null,null]`,
  ][below(7)]?.() as string;
}

function isProtected(text: string): boolean {
  const address = parseAddress(text);
  return isTooBroad(address) || covers(PROTECTED, address) || covers(address, PROTECTED);
}

suite('what an attacker writes', () => {
  test('bans nothing that is protected, and only what a list can keep', () => {
    let made = 0;
    for (let done = 0; done < MANY; done += AT_ONCE) {
      const below = numbers(done + 1);
      const mirror = new Mirror();
      const holds = new Map(
        Array.from({ length: AT_ONCE }, () => [hostileField(below), hostileValue(below)] as const),
      );
      mirror.take({ n: 1, id: '1', holds, lifts: new Map() });
      assert.equal(mirror.holds + mirror.odd, holds.size);
      for (const address of mirror.addresses()) made += checked(mirror, address);
    }
    assert.ok(made > MANY / 20, String(made));
  });

  /** How many bans the rules make of what is read of an address. */
  function checked(mirror: Mirror, address: string): number {
    assert.equal(readAddress(address)?.text, address);
    const steps = decide({
      self: 'a',
      address,
      here: [],
      there: mirror.at(address),
      lifts: new Map(),
      now: 4000,
      engineNow: 4000,
      wasInStep: true,
      isHeldByUnknown: false,
      isRefused: () => isProtected(address),
      isSpokenHere: () => false,
    });
    const bans = steps.flatMap((step) => ('here' in step && step.here === 'set' ? step.hold : []));
    for (const { holder, reason, address: banned } of bans) {
      assert.ok(!isProtected(banned), banned);
      assert.match(holder, /^[^\p{Cc}\p{Cs}@]+@[A-Za-z0-9._-]+$/u);
      assert.ok(reason === null || !/\p{Cc}|\p{Cs}/u.test(reason), String(reason));
    }
    return bans.length;
  }

  test('is counted, not kept', () => {
    const mirror = new Mirror();
    const entry = (n: number, field: string, value: string) =>
      mirror.apply({ id: String(n), n, by: 'evil/1', changes: [['h', field, value]] });
    mirror.take({ n: 0, id: '0', holds: new Map(), lifts: new Map() });
    entry(1, 'x'.repeat(1_000_000), '');
    entry(2, '203.0.113.5 j@evil', 'no value');
    assert.deepEqual([mirror.holds, mirror.odd], [0, 2]);
    entry(3, '203.0.113.5 j@evil', '[1000,null,null]');
    assert.deepEqual([mirror.holds, mirror.odd], [1, 1]);
    entry(4, '203.0.113.5 j@evil', '[1e3,null,null]');
    assert.deepEqual([mirror.holds, mirror.odd, [...mirror.addresses()]], [0, 2, []]);
  });
});

suite('a time far in the future', () => {
  const [LATE, X, FIELD] = [4_000_000_000, '203.0.113.5', '203.0.113.5 j@evil'];

  test('is no ban and no lift of another host', () => {
    const mirror = new Mirror();
    const holds = new Map([[FIELD, `[${LATE},null,null]`]]);
    mirror.take({ n: 0, id: '0', holds, lifts: new Map([['*', LATE]]) });
    const changes: LogEntry['changes'] = [
      ['l', X, Number.POSITIVE_INFINITY],
      ['l', FIELD, Number.NaN],
      ['h', `${X} k@evil`, `[${LATE},null,null]`],
    ];
    mirror.apply({ id: '1', n: 1, by: 'evil/1', changes });
    assert.deepEqual([mirror.holds, mirror.odd, mirror.lifts.size], [0, 2, 0]);
    mirror.apply({ id: '2', n: 2, by: 'b/1', changes: [['l', X, 1000]] });
    assert.deepEqual([...mirror.lifts], [[X, 1000]]);
  });

  test('that a wrong clock of the engine left in the memory of a host becomes now', () => {
    const state = mkdtempSync(join(tmpdir(), 'banctl-memory-'));
    try {
      const hostState = new HostState(state, 'a');
      hostState.remember('*', LATE);
      hostState.remember(X, 1000);
      hostState.clamp(3000, 2000);
      hostState.save();
      const lifts = [...new HostState(state, 'a').lifts];
      assert.deepEqual(lifts, [
        ['*', 2000],
        [X, 1000],
      ]);
    } finally {
      rmSync(state, { recursive: true });
    }
  });
});

test('what fail2ban has to forget survives a restart of the agent, whatever its file says', () => {
  const state = mkdtempSync(join(tmpdir(), 'banctl-telling-'));
  try {
    const jailUnbans = new JailUnbans('fail2ban-client', state);
    jailUnbans.add('web', '203.0.113.5', 1000);
    jailUnbans.add('%6Danual', '2001:db8::1', 1000);
    jailUnbans.save();
    assert.equal(new JailUnbans('fail2ban-client', state).waiting, 2);
    assert.equal(new JailUnbans(undefined, state).waiting, 0);
    for (const text of ['', '[]', '{"web":{"x":1,"203.0.113.5":"y"},"a\\u0000":{"203.0.113.5":1}}']) {
      writeFileSync(join(state, 'telling.json'), text);
      assert.equal(new JailUnbans('fail2ban-client', state).waiting, 0, text);
    }
  } finally {
    rmSync(state, { recursive: true });
  }
});
