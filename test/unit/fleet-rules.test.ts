// The rules of the fleet, row by row, and what hosts say to each other.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Hold } from '../../src/bans/hold.ts';
import { fieldOf, formatValue, isHostName, isLiftKey, readField, readValue } from '../../src/fleet/entry.ts';
import { decide, missingLifts, type Step, type View } from '../../src/fleet/rules.ts';

const X = '203.0.113.5';
const hold = (holder: string, more: Partial<Hold> = {}): Hold => ({
  holder,
  address: X,
  since: 1000,
  until: 5000,
  reason: 'why',
  ...more,
});

function view(more: Partial<View> = {}): View {
  return {
    self: 'a',
    address: X,
    here: [],
    there: new Map(),
    lifts: new Map(),
    now: 2000,
    engineNow: 2000,
    wasInStep: true,
    isHeldByUnknown: false,
    isRefused: () => false,
    isSpokenHere: () => false,
    ...more,
  };
}

/** The steps in short: `set j@b`, `release j`, `tell j`, `push X j@a`, `new X j@a`, `drop X j@a`, `lift X`. */
function short(steps: readonly Step[]): string[] {
  return steps.map((step) => {
    if ('here' in step) {
      if (step.here === 'refuse') return `refuse ${step.field}`;
      if (step.here === 'set') return `set ${step.hold.holder} ${formatValue(step.hold)}`;
      return `${step.isJails ? 'tell' : 'release'} ${step.hold.holder}`;
    }
    if (step.push === 'hold')
      return `${step.over === undefined ? 'push' : step.over === '' ? 'new' : 'again'} ${step.field} ${formatValue(step.value)}`;
    return step.push === 'drop' ? `drop ${step.field}` : `lift ${step.key} ${step.time}`;
  });
}

const there = (holder: string, more: Partial<Hold> = {}) => {
  const { since, until, reason } = hold(holder, more);
  return new Map([[holder, { since, until, reason }]]);
};
const VALUE = '[1000,5000,"why"]';

suite('a hold of this host', () => {
  test('is pushed where the engine has none, or another', () => {
    assert.deepEqual(short(decide(view({ here: [hold('j')] }))), [`push ${X} j@a ${VALUE}`]);
    const other = there('j@a', { since: 900 });
    assert.deepEqual(short(decide(view({ here: [hold('j')], there: other }))), [`push ${X} j@a ${VALUE}`]);
    const newer = there('j@a', { since: 1100, until: 4000 });
    assert.deepEqual(short(decide(view({ here: [hold('j')], there: newer }))), [
      'set j [1100,5000,"why"]',
      `push ${X} j@a [1100,5000,"why"]`,
    ]);
    assert.deepEqual(decide(view({ here: [hold('j')], there: there('j@a') })), []);
  });

  test('for each of several ids is one hold for the other hosts, which ends with the last', () => {
    const here = [hold('j', { id: 'one', until: 6000 }), hold('j', { id: 'two', since: 1500 })];
    const last = '[1000,6000,"why"]';
    assert.deepEqual(short(decide(view({ here }))), [`push ${X} j@a ${last}`]);
    assert.deepEqual(short(decide(view({ here, there: there('j@a', { until: 6000 }) }))), []);
    // The end of one id lifts nothing that another one holds.
    const [, left = hold('j')] = here;
    assert.deepEqual(short(decide(view({ here: [left], there: there('j@a', { until: 6000 }) }))), [
      `push ${X} j@a [1500,5000,"why"]`,
    ]);
    const lifts = new Map([[X, 1600]]);
    assert.deepEqual(short(decide(view({ here, lifts }))), ['tell j', 'tell j']);
  });

  test('is no news as fail2ban restores it: without a reason, and a second later than the engine then allowed', () => {
    const restored = view({ here: [hold('j', { reason: null })], there: there('j@a', { since: 999 }) });
    assert.deepEqual(short(decide(restored)), []);
    const future = view({ here: [hold('j')], engineNow: 999 });
    assert.deepEqual(short(decide(future)), ['set j [999,5000,"why"]', `push ${X} j@a [999,5000,"why"]`]);
  });

  test('waits for the engine, and for its own end', () => {
    assert.deepEqual(decide(view({ here: [hold('j')], there: undefined })), []);
    assert.deepEqual(decide(view({ here: [hold('j', { until: 1500 })] })), []);
  });

  test('goes when it was lifted, and fail2ban forgets it unless it spoke the lift', () => {
    for (const key of ['*', X, `${X} j@a`]) {
      const lifts = new Map([[key, 1000]]);
      assert.deepEqual(short(decide(view({ here: [hold('j')], lifts, there: undefined }))), ['tell j'], key);
    }
    const lifts = new Map([[`${X} j@a`, 1000]]);
    assert.deepEqual(short(decide(view({ here: [hold('j')], lifts, isSpokenHere: () => true }))), [
      'release j',
    ]);
    assert.deepEqual(
      short(decide(view({ here: [hold('j')], lifts: new Map([[X, 999]]), there: there('j@a') }))),
      [],
    );
  });

  test('that ends earlier than before lifts the older one', () => {
    const before = there('j@a', { since: 900, until: null });
    assert.deepEqual(short(decide(view({ here: [hold('j')], there: before }))), [
      `lift ${X} j@a 900`,
      `push ${X} j@a ${VALUE}`,
    ]);
  });

  test('from a fast clock begins now', () => {
    assert.deepEqual(short(decide(view({ here: [hold('j', { since: 3000 })] }))), [
      'set j [2000,5000,"why"]',
      `push ${X} j@a [2000,5000,"why"]`,
    ]);
  });

  test('that fail2ban has restored without its reason changes nothing elsewhere', () => {
    assert.deepEqual(decide(view({ here: [hold('j', { reason: null })], there: there('j@a') })), []);
  });
});

suite('a hold of another host', () => {
  test('follows the engine', () => {
    const other = there('j@b', { since: 1100 });
    assert.deepEqual(short(decide(view({ here: [hold('j@b')], there: other }))), [
      'set j@b [1100,5000,"why"]',
    ]);
    const over = there('j@b', { until: 1900 });
    assert.deepEqual(short(decide(view({ here: [hold('j@b')], there: over }))), ['release j@b']);
  });

  test('is newer than what an older copy of the engine has', () => {
    const older = there('j@b', { since: 900, until: 1900 });
    assert.deepEqual(short(decide(view({ here: [hold('j@b')], there: older }))), [`again ${X} j@b ${VALUE}`]);
    const never = view({ here: [hold('j@b')], there: older, wasInStep: false });
    assert.deepEqual(short(decide(never)), ['release j@b']);
  });

  test('that the engine has lost comes back from every host that was in step within 30 days', () => {
    assert.deepEqual(short(decide(view({ here: [hold('j@b')] }))), [`new ${X} j@b ${VALUE}`]);
    assert.deepEqual(short(decide(view({ here: [hold('j@b')], wasInStep: false }))), ['release j@b']);
    assert.deepEqual(decide(view({ here: [hold('j@b')], wasInStep: false, there: undefined })), []);
  });

  test('goes when it is over or lifted', () => {
    assert.deepEqual(short(decide(view({ here: [hold('j@b', { until: 1999 })], there: undefined }))), [
      'release j@b',
    ]);
    const lifts = new Map([[X, 1000]]);
    assert.deepEqual(short(decide(view({ here: [hold('j@b')], there: undefined, lifts }))), ['release j@b']);
  });

  test('comes, unless it may not be banned here', () => {
    assert.deepEqual(short(decide(view({ there: there('j@b') }))), [`set j@b ${VALUE}`]);
    assert.deepEqual(short(decide(view({ there: there('j@b'), isRefused: () => true }))), [
      `refuse ${X} j@b`,
    ]);
    assert.deepEqual(decide(view({ there: there('j@b'), isHeldByUnknown: true })), []);
    assert.deepEqual(decide(view({ there: there('j@b', { until: 1900 }) })), []);
  });
});

suite("this host's own, after a flush", () => {
  test('stands as JAIL@self', () => {
    assert.deepEqual(short(decide(view({ there: there('j@a') }))), [`set j@a ${VALUE}`]);
  });

  test('is no double once it is back', () => {
    assert.deepEqual(short(decide(view({ here: [hold('j'), hold('j@a')], there: there('j@a') }))), [
      'release j@a',
    ]);
  });
});

suite('the engine', () => {
  test('loses what was lifted together with the lift, and what has been over for five minutes', () => {
    const lifts = new Map([['*', 1000]]);
    assert.deepEqual(short(decide(view({ there: there('j@b'), lifts }))), ['lift * 1000', `drop ${X} j@b`]);
    assert.deepEqual(short(decide(view({ there: there('j@b', { until: 1700 }) }))), [`drop ${X} j@b`]);
  });

  test('gets the lifts that it lacks', () => {
    const lifts = new Map([
      ['*', 5],
      [X, 7],
    ]);
    assert.deepEqual(
      short(
        missingLifts(
          lifts,
          new Map([
            [X, 6],
            ['*', 5],
          ]),
        ),
      ),
      [`lift ${X} 7`],
    );
  });
});

suite('entries', () => {
  test('are read only if a host would have written them so', () => {
    for (const field of [`${X} j@b`, '2001:db8::/64 manual@web-1.example', `${X} %6Danual@b`, `${X} a b@c`]) {
      assert.ok(readField(field), field);
      assert.equal(fieldOf(readField(field) ?? hold(''), 'self'), field);
    }
    for (const field of [
      '',
      X,
      `${X} j`,
      `${X} @b`,
      `${X} j@`,
      `${X} j@b@c`,
      `${X}  j\n@b`,
      `010.1.1.1 j@b`,
      '10.1 j@b',
      '2001:DB8::1 j@b',
      '10.1.1.1/8 j@b',
      `${X} j@b/c`,
      `${X} %zz@b`,
      `${X} ${'j'.repeat(500)}@b`,
      `${X} j@-b`,
    ])
      assert.equal(readField(field), undefined, field);
  });

  test('have canonical values', () => {
    for (const value of ['[1,null,null]', '[1,2,"why"]', '[0,0,null]']) assert.ok(readValue(value), value);
    for (const value of [
      '',
      '[]',
      '[1,2]',
      '[1,2,3]',
      '[1, 2,null]',
      '[1.5,null,null]',
      '[-1,null,null]',
      '[1,null,""]',
      '[1,null,"a\\nb"]',
      '[1,null,"a  b"]',
      '[1,1e99,null]',
      '[1,null,null,null]',
      '{"since":1}',
      `[1,null,"${'a'.repeat(600)}"]`,
      '[1,null,"a\\\\"]',
    ])
      assert.equal(readValue(value), undefined, value);
  });

  test('and lifts have keys of three kinds', () => {
    for (const key of ['*', X, `${X} j@b`]) assert.ok(isLiftKey(key), key);
    for (const key of ['', '**', 'x', `${X} j`, '10.1']) assert.ok(!isLiftKey(key), key);
  });

  test('name hosts in a word', () => {
    for (const name of ['a', 'web-1', 'ip-10-0-0-1.eu.internal']) assert.ok(isHostName(name), name);
    for (const name of ['', '-a', 'a b', 'a@b', 'ä', 'a%b', 'x'.repeat(65)])
      assert.ok(!isHostName(name), name);
  });
});
