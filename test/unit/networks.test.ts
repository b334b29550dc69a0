// --widen-after: several addresses of one network that are held at once become a ban of the network, and back.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { applyEdits, bansOf, denyLines, formatBan } from '../../src/banlist/ban-lines.ts';
import { changeList } from '../../src/banlist/change.ts';
import type { Widening } from '../../src/banlist/networks.ts';
import type { Change } from '../../src/bans/change.ts';
import type { Hold } from '../../src/bans/hold.ts';

const NOW = 1_770_000_000;
const AFTER_3: Widening = { after: 3, protect: [], allows: () => true };
const A = (last: number) => `203.0.113.${last}`;
const V6 = (last: number) => `2001:db8:0:7::${last.toString(16)}`;

const held = (address: string, holder = 'web'): Hold => ({
  holder,
  address,
  since: NOW,
  until: null,
  reason: null,
});
const add = (address: string, holder = 'web'): Change => ({
  verb: 'add',
  target: address,
  hold: { holder, address, since: NOW, duration: null, reason: null },
});
const release = (address: string, holder: string | null = 'web'): Change => ({
  verb: 'release',
  address,
  holder,
});

function change(text: string, changes: readonly Change[], widening?: Widening) {
  const bytes = Buffer.from(text);
  const { edits, outcomes } = changeList(bytes, changes, NOW, { widening });
  return {
    text: Buffer.concat(applyEdits(bytes, edits)).toString(),
    statuses: [...outcomes.values()].map(({ status }) => status),
    outcomes: [...outcomes.values()],
  };
}

const bansIn = (text: string) => bansOf(denyLines(Buffer.from(text)));
const banned = (text: string) => bansIn(text).map(({ address }) => address);
const asked = (text: string) =>
  bansIn(text)
    .flatMap(({ holds }) => holds.map(({ holder, address }) => `${holder} ${address}`))
    .sort();

/** One call after the other. */
function inTurn(changes: readonly Change[], widening?: Widening, text = ''): string {
  return changes.reduce((before, one) => change(before, [one], widening).text, text);
}

suite('--widen-after', () => {
  for (const [family, address, network] of [
    ['IPv4', A, '203.0.113.0/24'],
    ['IPv6', V6, '2001:db8:0:7::/64'],
  ] as const) {
    test(`${family}: the network is banned at the third address, with the holds of each`, () => {
      const two = inTurn([add(address(1)), add(address(2), 'ssh')], AFTER_3);
      assert.deepEqual(banned(two), [address(1), address(2)]);
      const three = change(two, [add(address(3))], AFTER_3);
      assert.deepEqual(three.statuses, ['banned']);
      assert.equal(
        three.text,
        formatBan(network, [held(address(1)), held(address(2), 'ssh'), held(address(3))], 3),
      );
      assert.match(three.text, /^# banctl widened after 3 \| web /);
    });

    test(`${family}: it goes when fewer are held, also by a call without the option`, () => {
      const four = inTurn(
        [1, 2, 3, 4].map((last) => add(address(last))),
        AFTER_3,
      );
      const three = change(four, [release(address(4))]);
      assert.deepEqual(banned(three.text), [network]);
      assert.equal(three.outcomes[0]?.status, 'still-held');
      assert.ok(three.outcomes[0]?.heldBy.includes(network));
      const two = change(three.text, [release(address(2))]);
      assert.deepEqual(two.statuses, ['unbanned']);
      assert.equal(
        two.text,
        formatBan(address(1), [held(address(1))]) + formatBan(address(3), [held(address(3))]),
      );
    });
  }

  test('counts addresses, not holds: two jails on one address are one', () => {
    const two = inTurn([add(A(1)), add(A(1), 'ssh'), add(A(2)), add(A(2), 'ssh')], AFTER_3);
    assert.deepEqual(banned(two), [A(1), A(2)]);
    const three = inTurn([add(A(3))], AFTER_3, two);
    assert.deepEqual(banned(three), ['203.0.113.0/24']);
    const one = change(three, [release(A(1))]);
    assert.deepEqual(banned(one.text), ['203.0.113.0/24']);
    const none = change(one.text, [release(A(1), 'ssh')]);
    assert.deepEqual(banned(none.text), [A(2), A(3)]);
  });

  test('a released address that another jail holds is still held by that jail alone', () => {
    const three = inTurn([add(A(1)), add(A(1), 'ssh'), add(A(2)), add(A(3))], AFTER_3);
    const all = change(three, [release(A(1)), release(A(2)), release(A(3))]);
    assert.deepEqual(all.statuses, ['still-held', 'unbanned', 'unbanned']);
    assert.deepEqual(all.outcomes[0]?.heldBy, ['ssh']);
    assert.equal(all.text, formatBan(A(1), [held(A(1), 'ssh')]));
  });

  test('an address of a banned network is banned already, and counts', () => {
    const three = inTurn(
      [1, 2, 3].map((last) => add(A(last))),
      AFTER_3,
    );
    const more = change(three, [add(A(9), 'ssh'), add(A(1))], AFTER_3);
    assert.deepEqual(more.statuses, ['already-banned', 'already-banned']);
    assert.deepEqual(asked(more.text), [`ssh ${A(9)}`, `web ${A(1)}`, `web ${A(2)}`, `web ${A(3)}`]);
  });

  test('a network with a protected address in it stays in single bans', () => {
    const never: Widening = { after: 2, protect: [], allows: ({ text }) => text !== '203.0.113.0/24' };
    const text = inTurn([add(A(1)), add(A(2)), add('198.51.100.1'), add('198.51.100.2')], never);
    assert.deepEqual(banned(text), [A(1), A(2), '198.51.100.0/24']);
  });

  test('a network that is protected since is narrowed by the next call about it', () => {
    const three = inTurn(
      [1, 2, 3].map((last) => add(A(last))),
      AFTER_3,
    );
    const narrowed = change(three, [add(A(4))], { after: 3, protect: [], allows: () => false });
    assert.deepEqual(banned(narrowed.text).sort(), [A(1), A(2), A(3), A(4)]);
  });

  test('a network that was banned as such stays as it is', () => {
    const own = formatBan('203.0.113.0/24', [held('203.0.113.0/24', 'manual')]);
    const text = inTurn([add(A(1)), add(A(2)), add(A(3))], AFTER_3, own);
    assert.deepEqual(banned(text), ['203.0.113.0/24', A(1), A(2), A(3)]);
    const both = inTurn(
      [add('203.0.113.0/24', 'ssh')],
      AFTER_3,
      inTurn(
        [1, 2, 3].map((last) => add(A(last))),
        AFTER_3,
      ),
    );
    const left = inTurn([release(A(1)), release(A(2)), release(A(3))], undefined, both);
    assert.equal(left, formatBan('203.0.113.0/24', [held('203.0.113.0/24', 'ssh')]));
  });

  test('an unban by hand of the network lifts all of it', () => {
    const three = inTurn(
      [1, 2, 3].map((last) => add(A(last))),
      AFTER_3,
    );
    assert.equal(change(three, [release('203.0.113.0/24', null)]).text, '');
  });

  test('a network in which an address has become protected gives way, however many are held', () => {
    const three = inTurn([add(A(1)), add(A(2), 'ssh'), add(A(3))], AFTER_3);
    assert.deepEqual(banned(three), ['203.0.113.0/24']);
    const count = { verb: 'count', address: '203.0.113.0/24', holds: [] } as const;
    // A caller that is not given --widen-after, as cron's audit.
    assert.equal(change(three, [count]).text, three);
    const { text } = change(three, [{ ...count, isProtected: true }]);
    assert.deepEqual(banned(text), [A(1), A(2), A(3)]);
    assert.deepEqual(asked(text), asked(three));
  });

  test('lines of others stay, whatever is widened', () => {
    const foreign = `# mine\nRequire not ip ${A(200)}\n`;
    const three = inTurn(
      [1, 2, 3].map((last) => add(A(last))),
      AFTER_3,
      foreign,
    );
    assert.ok(three.startsWith(foreign));
    assert.equal(
      inTurn(
        [1, 2, 3].map((last) => release(A(last))),
        undefined,
        three,
      ),
      foreign,
    );
  });

  test('whatever is banned and released: no hold is lost, and the network is banned exactly while enough are held', () => {
    const step = fc.record({
      isAdd: fc.boolean(),
      last: fc.integer({ min: 1, max: 5 }),
      holder: fc.constantFrom('web', 'ssh'),
    });
    fc.assert(
      fc.property(fc.array(fc.array(step, { minLength: 1, maxLength: 12 }), { maxLength: 12 }), (calls) => {
        const model = new Set<string>();
        let text = '';
        for (const call of calls) {
          for (const { isAdd, last, holder } of call) {
            if (isAdd) model.add(`${holder} ${V6(last)}`);
            else model.delete(`${holder} ${V6(last)}`);
          }
          const changes = call.map(({ isAdd, last, holder }) => (isAdd ? add : release)(V6(last), holder));
          text = change(text, changes, AFTER_3).text;
          assert.deepEqual(asked(text), [...model].sort());
          const addresses = new Set([...model].map((one) => one.split(' ')[1]));
          assert.equal(banned(text).includes('2001:db8:0:7::/64'), addresses.size >= 3, text);
          assert.equal(new Set(banned(text)).size, banned(text).length);
        }
      }),
    );
  });
});
