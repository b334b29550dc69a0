import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { applyEdits, type Ban, bansOf, denyLines, formatBan } from '../../src/banlist/ban-lines.ts';
import { changeList, tidyOver } from '../../src/banlist/change.ts';
import { digestOf, EMPTY } from '../../src/banlist/digest.ts';
import { indexBans, searchBans } from '../../src/banlist/find.ts';
import { logicalLines } from '../../src/banlist/syntax.ts';
import { covers, parseAddress } from '../../src/bans/address.ts';
import type { Change } from '../../src/bans/change.ts';
import { formatHolds, type Hold } from '../../src/bans/hold.ts';
import { change as changeNow } from '../lab/call.ts';
import { anyAddress, ipv4, ipv6 } from '../lab/generate.ts';

const NOW = Date.UTC(2026, 0, 31, 12) / 1000;
const SINCE = NOW - 60;
const A = '203.0.113.5';
const B = '203.0.113.6';
const RANGE = '203.0.113.0/24';

const canonical = (text: string) => parseAddress(text).text;
const toBytes = (text: string | Buffer) => (typeof text === 'string' ? Buffer.from(text, 'latin1') : text);

function add(address: string, { holder = 'web', target = address, until = NOW + 600 } = {}): Change {
  const hold = { holder, address, since: SINCE, duration: until - SINCE, reason: null };
  return { verb: 'add', target, hold };
}

function held(holder: string, address: string, until: number | null = NOW + 600): Hold {
  return { holder, address, since: SINCE, until, reason: null };
}

/** Without a holder: by hand. */
function release(address: string, holder: string | null = null): Change {
  return { verb: 'release', address, holder };
}

function change(text: string | Buffer, changes: readonly Change[]) {
  const bytes = toBytes(text);
  const { edits, outcomes } = changeList(bytes, changes, NOW);
  const changed = Buffer.concat(applyEdits(bytes, edits));
  return { bytes: changed, text: changed.toString('latin1'), outcomes: [...outcomes.values()], edits };
}

const statuses = (text: string | Buffer, changes: readonly Change[]) =>
  change(text, changes).outcomes.map(({ status }) => status);

/** A ban as banctl writes it, held by `holders` (`web`, or `web ADDRESS` where the ban is a wider range). */
function ban(address: string, holders: readonly string[], until: number | null = NOW + 600): string {
  const holds = holders.map((text): Hold => {
    const [holder = '', asked = address] = text.split(' ');
    return { holder, address: asked, since: SINCE, until, reason: null };
  });
  return formatBan(address, holds);
}

// Arbitrary lists, in pieces: what banctl manages, and what it has to keep. None of them names 192.0.2.0/24.

const holder = fc.constantFrom('web', 'admin', 'manual');
const heldBan = fc
  .tuple(anyAddress.map(canonical), fc.uniqueArray(holder, { minLength: 1, maxLength: 3 }))
  .map(([address, holders]) =>
    ban(
      address,
      holders.map((name) => `${name} ${address.replace(/\/.*/, '')}`),
    ),
  );
const shellBan = anyAddress.map((address) => `Require not ip ${canonical(address)}\n`);
const managed = fc.oneof(heldBan, shellBan);

const garbage = fc
  .uint8Array({ maxLength: 30 })
  .map((bytes) =>
    Buffer.from(bytes.map((byte) => (byte === 0 || byte === 10 ? 63 : byte))).toString('latin1'),
  )
  .map((line) => `x${line}`)
  .filter((line) => !/\\\r?$/.test(line));
const foreignDeny = fc.oneof(
  anyAddress.map((address) => `  Require not ip ${address}`),
  anyAddress.map((address) => `require NOT Ip ${address}`),
  anyAddress.map((address) => `Require not ip ${address}\r`),
  fc.tuple(anyAddress, anyAddress).map((both) => `Require not ip ${both.join(' ')}`),
  fc.tuple(anyAddress, anyAddress).map((both) => `Require not ip \\\n ${both.join(' \\\r\n')}`),
  anyAddress.map((address) => `Require "not" 'ip' "${address}"`),
  fc.constantFrom('Require not ip 10', 'Require not ip 10.1.', 'Require not ip 198.51.100.0/255.255.255.0'),
);
const foreign = fc
  .oneof(
    garbage,
    foreignDeny,
    fc.constantFrom('', '# a comment', '<RequireAll>', 'Require all granted', '\t', '# banctl | not a hold'),
    // A comment that ends in a backslash swallows what follows, a ban too.
    anyAddress.map((address) => `# swallows \\\nRequire not ip ${canonical(address)}`),
  )
  .map((line) => `${line}\n`);
const piece = fc.oneof(
  managed.map((text) => ({ text, isForeign: false })),
  foreign.map((text) => ({ text, isForeign: true })),
);
const unendedLine = fc.oneof(
  fc.constant(''),
  garbage,
  foreignDeny,
  fc.constantFrom('# no end \\', 'Require not ip \\\n', 'continued \\\r\n', '</RequireAll>'),
);
const pieces = fc
  .tuple(fc.array(piece, { maxLength: 12 }), unendedLine)
  .map(([some, last]) => [...some, { text: last, isForeign: true }]);
const list = pieces.map((some) => toBytes(some.map(({ text }) => text).join('')));
const newAddress = fc.nat(255).map((host) => `192.0.2.${host}`);

suite('any list', () => {
  test('adding and then removing bans gives the text back byte for byte', () => {
    const removedBy = fc.constantFrom(null, 'web');
    fc.assert(
      fc.property(
        list,
        fc.uniqueArray(newAddress, { minLength: 1, maxLength: 12 }),
        removedBy,
        (text, added, by) => {
          const banned = change(
            text,
            added.map((address) => add(address)),
          ).bytes;
          assert.notDeepEqual(banned, text);
          const back = change(
            banned,
            added.map((address) => release(address, by)),
          ).bytes;
          assert.equal(back.toString('latin1'), text.toString('latin1'));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('what banctl did not write survives any change byte for byte and in order', () => {
    const changes = fc.array(
      fc
        .tuple(fc.boolean(), anyAddress.map(canonical), holder)
        .map(([isAdded, address, by]) => (isAdded ? add(address, { holder: by }) : release(address, by))),
      { maxLength: 10 },
    );
    fc.assert(
      fc.property(pieces, changes, (some, made) => {
        const written = /^(?:# banctl \| .*\n)?Require not ip [\da-f.:/]+\n/;
        let rest = change(some.map(({ text }) => text).join(''), made).text;
        for (const { text } of some.filter(({ isForeign }) => isForeign)) {
          while (!rest.startsWith(text) || text === '') {
            const [block] = written.exec(rest) ?? [];
            if (block === undefined && text === '') break;
            assert.ok(block, `lost ${JSON.stringify(text)} before ${JSON.stringify(rest)}`);
            rest = rest.slice(block.length);
          }
          rest = rest.slice(text.length);
        }
        assert.equal(rest, '');
      }),
      { numRuns: 500 },
    );
  });

  test('an edit takes away whole logical lines and puts whole lines in', () => {
    fc.assert(
      fc.property(list, fc.array(anyAddress.map(canonical), { maxLength: 4 }), (text, addresses) => {
        const starts = new Set([...logicalLines(text)].map(({ start }) => start).concat(text.length));
        const changes = addresses.flatMap((address) => [add(address), release(address), add(address)]);
        for (const { start, end, insert } of change(text, changes).edits) {
          assert.ok(starts.has(start) && starts.has(end), `${start} to ${end}`);
          assert.match(insert, /^(?:.+\n)*$/);
        }
      }),
    );
  });

  test('each address written reads back as itself, in one line of its own', () => {
    fc.assert(
      fc.property(list, fc.array(fc.oneof(ipv4, ipv6), { minLength: 1, maxLength: 12 }), (text, given) => {
        const addresses = [...new Set(given.map(canonical))];
        const { bytes } = change(
          text,
          addresses.map((address) => add(address, { holder: 'manual' })),
        );
        const bans = bansOf(denyLines(bytes));
        for (const address of addresses) {
          const [found, ...more] = bans.filter((one) => one.address === address);
          assert.ok(found && more.length === 0, `${address} has one line`);
          assert.ok(found.holds.some((hold) => hold.holder === 'manual' && hold.address === address));
          assert.ok(
            bytes.toString('latin1', found.start, found.end).endsWith(`\nRequire not ip ${address}\n`),
          );
        }
      }),
    );
  });

  test('searching the text finds the same as reading every line', () => {
    const byPosition = (bans: readonly Ban[]) =>
      bans
        .map(({ joined, ...ban }) => ({ ...ban, isJoined: joined !== undefined }))
        .sort((one, other) => one.start - other.start || (one.address < other.address ? -1 : 1));
    const asked = fc.oneof(
      anyAddress.map(canonical),
      fc.constantFrom('10.1.2.3', '198.51.100.7', '203.0.113.0/25'),
    );
    // A ban of banctl that was edited since.
    const edited = fc
      .tuple(heldBan, fc.constantFrom('  Require', 'Require\t', '\nRequire', 'x\\\n: y\n  Require'))
      .map(([text, require]) => text.replace('Require', require));
    const joined = fc
      .tuple(heldBan, anyAddress.map(canonical), fc.boolean())
      .map(([text, other, isFirst]) =>
        text.replace(/ip (.*)\n$/, isFirst ? `ip ${other} $1\n` : `ip $1 ${other}\n`),
      );
    const someList = fc
      .tuple(fc.array(fc.oneof(edited, joined), { maxLength: 3 }), list)
      .map(([some, text]) => Buffer.concat([...some.map(toBytes), text]));
    fc.assert(
      fc.property(someList, fc.array(asked, { maxLength: 3 }), (text, more) => {
        // A partial address has no slash to find it by; audit reports it.
        fc.pre(!/ip 10\b/.test(text.toString('latin1')));
        const searched = searchBans(text);
        const indexed = indexBans(denyLines(text));
        const named = denyLines(text).flatMap((line) => [
          ...line.arguments.map((argument) => argument.address?.text),
          ...line.holds.map((hold) => hold.address),
        ]);
        for (const address of [...more, ...named].filter((name) => name !== undefined)) {
          assert.deepEqual(
            byPosition(searched.naming(address)),
            byPosition(indexed.naming(address)),
            address,
          );
          const wider = (finder: typeof searched) =>
            [...new Set(finder.covering(parseAddress(address)))].sort();
          assert.deepEqual(wider(searched), wider(indexed), address);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('lines are numbered as an editor does', () => {
    fc.assert(
      fc.property(list, (text) => {
        for (const { start, number } of logicalLines(text)) {
          assert.equal(number, text.toString('latin1', 0, start).split('\n').length);
        }
      }),
    );
  });
});

suite('any course of calls', () => {
  interface Step {
    readonly verb: 'add' | 'release';
    readonly address: string;
    readonly target: string;
    readonly holder: string | null;
  }
  const addresses = ['203.0.113.1', '203.0.113.2', '203.0.113.200', '203.0.113.0/24', '203.0.113.0/25'];
  const step: fc.Arbitrary<Step> = fc
    .record({
      verb: fc.constantFrom('add' as const, 'release' as const),
      address: fc.constantFrom(...addresses),
      isWidened: fc.boolean(),
      holder: fc.option(fc.constantFrom('web', 'admin', 'manual')),
    })
    .map(({ isWidened, ...made }) => ({
      ...made,
      target: isWidened && !made.address.includes('/') ? RANGE : made.address,
    }));

  /** What is banned, said in another way: targets by holder and address asked for, and targets of unknown holders. */
  class Model {
    readonly held = new Map<string, string>();
    readonly unknown: Set<string>;

    constructor(unknown: readonly string[]) {
      this.unknown = new Set(unknown);
    }

    bans(): string[] {
      return [...new Set([...this.held.values(), ...this.unknown])].sort();
    }

    apply({ verb, address, target, holder: by }: Step): string {
      const before = this.bans();
      if (verb === 'add') {
        this.held.set(`${by ?? 'manual'} ${address}`, target);
        this.unknown.delete(target);
        return before.includes(target) ? 'already-banned' : 'banned';
      }
      const wasNamed =
        before.includes(address) || [...this.held.keys()].some((key) => key.endsWith(` ${address}`));
      for (const [key, banned] of this.held) {
        const [keeper, asked] = key.split(' ');
        const isAsked = asked === address || (by === null && banned === address);
        if (isAsked && (by === null || by === keeper)) this.held.delete(key);
      }
      this.unknown.delete(address);
      const isCovered = this.bans().some((one) => covers(parseAddress(one), parseAddress(address)));
      if (isCovered) return 'still-held';
      return wasNamed ? 'unbanned' : 'not-banned';
    }
  }

  const toChange = ({ verb, address, target, holder: by }: Step) =>
    verb === 'add' ? add(address, { target, holder: by ?? 'manual' }) : release(address, by);
  const course = fc.tuple(fc.uniqueArray(fc.constantFrom(...addresses)), fc.array(step, { maxLength: 12 }));

  test('one line a ban, as long as it is held; each answer says what was done', () => {
    fc.assert(
      fc.property(course, ([byTheShell, steps]) => {
        const model = new Model(byTheShell);
        let text = byTheShell.map((address) => `Require not ip ${address}\n`).join('');
        for (const made of steps) {
          const changed = change(text, [toChange(made)]);
          assert.deepEqual(
            changed.outcomes.map(({ status }) => status),
            [model.apply(made)],
          );
          text = changed.text;
          const lines = denyLines(changed.bytes);
          assert.deepEqual(lines.map((line) => line.arguments[0]?.address?.text).sort(), model.bans());
          const holds = lines.flatMap((line) => line.holds.map((hold) => `${hold.holder} ${hold.address}`));
          assert.deepEqual(holds.sort(), [...model.held.keys()].sort());
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('many changes in one call do what they do one by one', () => {
    const told = (text: string) => new Set(text.split(/(?<=Require not ip .*\n)/));
    fc.assert(
      fc.property(course, ([byTheShell, steps]) => {
        const text = byTheShell.map((address) => `Require not ip ${address}\n`).join('');
        const changes = [...new Map(steps.map((made) => [made.address, toChange(made)])).values()];
        const oneByOne = changes.reduce((before, made) => change(before, [made]).text, text);
        assert.deepEqual(told(change(text, changes).text), told(oneByOne));
      }),
      { numRuns: 500 },
    );
  });
});

suite('a list that the shell wrote', () => {
  const LINE = `Require not ip ${A}\n`;
  const cases: [string, { text: string; changes: Change[]; status: string; after: string }][] = [
    [
      'a ban of what it bans already adds the hold',
      { text: LINE, changes: [add(A)], status: 'already-banned', after: ban(A, ['web']) },
    ],
    [
      "a jail's unban removes the exact line",
      { text: LINE, changes: [release(A, 'web')], status: 'unbanned', after: '' },
    ],
    ['an unban by hand removes it', { text: LINE, changes: [release(A)], status: 'unbanned', after: '' }],
    [
      'without its final newline it is taken over too',
      { text: LINE.trimEnd(), changes: [add(A)], status: 'already-banned', after: ban(A, ['web']) },
    ],
    [
      'the line before a new one is ended',
      {
        text: `Require not ip ${B}`,
        changes: [add(A)],
        status: 'banned',
        after: `${ban(A, ['web'])}Require not ip ${B}`,
      },
    ],
    [
      'duplicates become one line',
      { text: LINE + LINE, changes: [add(A)], status: 'already-banned', after: ban(A, ['web']) },
    ],
    [
      'duplicates go together',
      { text: LINE + LINE, changes: [release(A, 'web')], status: 'unbanned', after: '' },
    ],
    [
      'a longer address is another one',
      {
        text: `${LINE}0`.replace('\n0', '0\n'),
        changes: [release(A)],
        status: 'not-banned',
        after: `Require not ip ${A}0\n`,
      },
    ],
  ];
  for (const [name, { text, changes, status, after }] of cases) {
    test(name, () => {
      const changed = change(text, changes);
      assert.deepEqual([changed.text, changed.outcomes[0]?.status], [after, status]);
    });
  }
});

suite('lines in another spelling', () => {
  const FULL: [string, string, string][] = [
    ['indented', `  Require not ip ${A}\n`, ''],
    ['in another case', `rEQUIRE NOT IP ${A}\n`, ''],
    ['with more spaces and tabs', `Require \t not  ip\t${A}  \n`, ''],
    ['with a carriage return', `Require not ip ${A}\r\n`, ''],
    ['continued', `Require not \\\n  ip \\\r\n ${A}\n`, ''],
    ['quoted', `Require 'not' "ip" "${A}"\n`, ''],
    ['with leading zeros', 'Require not ip 203.000.113.05\n', ''],
    ['as a full prefix', `Require not ip ${A}/32\n`, ''],
    ['as a netmask', `Require not ip ${A}/255.255.255.255\n`, ''],
    [
      'with others on the line',
      `Require not ip ${B} ${A} 2001:db8::1\n`,
      `Require not ip ${B} 2001:db8::1\n`,
    ],
    ['twice on the line', `Require not ip ${A} ${A}\n`, ''],
    ['with others, continued', `Require not ip ${B} \\\n  ${A}\n# after\n`, `Require not ip ${B}\n# after\n`],
    ['without an end', `# before\n\tRequire not ip ${A}`, '# before\n'],
  ];
  for (const [how, line, after] of FULL) {
    test(`${how}: released by hand, kept by a jail`, () => {
      assert.deepEqual(
        [change(line, [release(A)]).text, ...statuses(line, [release(A)])],
        [after, 'unbanned'],
      );
      assert.equal(change(line, [release(A, 'web')]).text, line);
    });
  }

  test('IPv6 in any spelling is released by hand', () => {
    assert.equal(change('Require not ip 2001:0DB8:0:0::0001\n', [release('2001:db8::1')]).text, '');
  });

  const KEPT: [string, string][] = [
    ['a line that a comment swallows', `# told \\\nRequire not ip ${A}\n`],
    ['a comment that names it', `# Require not ip ${A}\n`],
    ['a line that allows it', `Require ip ${A}\n`],
    ['a range that it is in', `Require not ip ${RANGE}\n`],
    ['an address that begins the same', `Require not ip ${A}5\n`],
    ['an end of another address', `Require not ip 2001:db8::${A}\n`],
  ];
  for (const [what, text] of KEPT) {
    test(`${what} is not touched`, () => {
      for (const by of [null, 'web']) assert.equal(change(text, [release(A, by)]).text, text);
    });
  }
});

suite('holds', () => {
  test('a ban stays until its last holder lets go', () => {
    const both = ban(A, ['web', 'admin']);
    const one = change(both, [release(A, 'web')]);
    assert.deepEqual(one.outcomes, [
      { address: A, status: 'still-held', heldBy: ['admin'], isChanged: true },
    ]);
    assert.equal(one.text, ban(A, ['admin']));
    const none = change(one.text, [release(A, 'admin')]);
    assert.deepEqual([none.text, none.outcomes[0]?.status], ['', 'unbanned']);
  });

  test('a jail does not let go what another holds', () => {
    const held = ban(A, ['admin']);
    assert.deepEqual(
      [change(held, [release(A, 'web')]).text, statuses(held, [release(A, 'web')])],
      [held, ['still-held']],
    );
  });

  test('an unban by hand releases every hold', () => {
    assert.equal(change(ban(A, ['web', 'admin', 'manual']), [release(A)]).text, '');
  });

  test('a holder that bans again has one hold, the last', () => {
    const twice = change(ban(A, ['web'], NOW + 5), [add(A, { until: NOW + 600 })]);
    assert.equal(twice.text, ban(A, ['web'], NOW + 600));
  });

  test('a hold is found by the address asked for, whatever the prefix is now', () => {
    const widened = ban(RANGE, [`web ${A}`]);
    assert.equal(change(widened, [release(A, 'web')]).text, '');
    assert.equal(change(widened, [add(A)]).text, ban(A, ['web']), 'and moves with it');
  });

  test('a range stays while another address holds it, and the answer says so', () => {
    const widened = ban(RANGE, [`web ${A}`, `web ${B}`]);
    const changed = change(widened, [release(A, 'web')]);
    assert.equal(changed.text, ban(RANGE, [`web ${B}`]));
    assert.equal(changed.outcomes[0]?.status, 'still-held');
  });

  test('an unban by hand of the range frees all who hold it', () => {
    assert.equal(change(ban(RANGE, [`web ${A}`, `admin ${B}`]), [release(RANGE)]).text, '');
  });

  const WIDER: [string, string][] = [
    ['a range with a hold', ban('203.0.112.0/22', ['admin'])],
    ["a range of the shell's", 'Require not ip 203.0.112.0/22\n'],
    ['a range in another spelling', '  require not ip 203.0.113.77/22\n'],
    ['a netmask', 'Require not ip 203.0.112.0/255.255.252.0\n'],
    ['a range among other arguments', 'Require not ip 198.51.100.1 203.0.112.0/22\n'],
    ['a range on a continued line', 'Require not ip 198.51.100.1 \\\n203.0.112.0/22\n'],
  ];
  for (const [what, text] of WIDER) {
    for (const by of [null, 'web']) {
      test(`released by ${by ?? 'hand'}: ${what} still covers it, and is named`, () => {
        const changed = change(ban(A, ['web']) + text, [release(A, by)]);
        assert.equal(changed.text, text);
        assert.deepEqual(changed.outcomes, [
          { address: A, status: 'still-held', heldBy: ['203.0.112.0/22'], isChanged: true },
        ]);
      });
    }
  }

  test('a range that a comment swallows covers nothing', () => {
    for (const by of [null, 'web'])
      assert.deepEqual(statuses(`# told \\\nRequire not ip ${RANGE}\n${ban(A, ['web'])}`, [release(A, by)]), [
        'unbanned',
      ]);
  });

  test('an address and the range around it are freed by one call', () => {
    for (const range of [ban(RANGE, ['web']), `  Require not ip ${RANGE}\n`]) {
      for (const order of [
        [A, RANGE],
        [RANGE, A],
      ]) {
        const changed = change(
          range + ban(A, ['web']),
          order.map((address) => release(address)),
        );
        assert.equal(changed.text, '');
        assert.deepEqual(
          changed.outcomes.map(({ status }) => status),
          ['unbanned', 'unbanned'],
        );
      }
    }
  });

  test('a call that names the address drops manual holds that are over, not those of a jail', () => {
    const over = ban(A, ['manual', 'web'], NOW - 1);
    assert.equal(
      change(over, [add(A, { holder: 'admin', until: NOW + 9 })]).text,
      formatBan(A, [
        { holder: 'web', address: A, since: SINCE, until: NOW - 1, reason: null },
        { holder: 'admin', address: A, since: SINCE, until: NOW + 9, reason: null },
      ]),
    );
    assert.deepEqual(statuses(over, [release(A, 'admin')]), ['still-held']);
    const alone = ban(A, ['manual'], NOW);
    assert.equal(change(alone, [release(A, 'admin')]).text, '');
    assert.equal(
      change(alone, [release(B), add(B)]).text,
      alone + ban(B, ['web']),
      'another call does not look',
    );
  });

  test('only the holds that were seen are released', () => {
    const [seen] = bansOf(denyLines(toBytes(ban(A, ['web'])))).flatMap(({ holds }) => holds);
    assert.ok(seen);
    const text = ban(A, ['web', 'admin']);
    const changed = change(text, [{ verb: 'release', address: A, holder: null, seen: [seen] }]);
    assert.equal(changed.text, ban(A, ['admin']));
  });

  test('however many duplicates there are, one ban leaves one line', () => {
    const { text } = change('Require not ip 203.0.113.5\n'.repeat(200_000), [add('203.0.113.5')]);
    assert.equal(text.match(/^Require not ip 203\.0\.113\.5$/gm)?.length, 1);
  });

  test('a duplicate with holds of its own keeps them all', () => {
    const text = `${ban(A, ['web'])}# between\n${ban(A, ['admin'])}`;
    assert.equal(
      change(text, [add(A, { holder: 'manual' })]).text,
      `${ban(A, ['web', 'admin', 'manual'])}# between\n`,
    );
  });

  test('a comment that banctl cannot read is kept, and its line is a ban of an unknown holder', () => {
    const damaged = `# banctl | web ${A} since yesterday\n`;
    assert.equal(change(`${damaged}Require not ip ${A}\n`, [release(A, 'web')]).text, damaged);
  });

  test('a comment without its line below passes its holds on to no other line', () => {
    const orphan = `${formatHolds([{ holder: 'admin', address: B, since: SINCE, until: null, reason: null }])}\n`;
    const text = `${orphan}${ban(A, ['web'])}Require not ip 203.0.113.7\n`;
    const left = change(text, [release(A, 'web')]).bytes;
    assert.deepEqual(
      bansOf(denyLines(left)).map(({ address, holds }) => [address, holds.length]),
      [['203.0.113.7', 0]],
    );
  });

  test('nothing that stands in a comment by hand gets out of it', () => {
    for (const reason of ['%5C', 'x%0ARequire not ip 10', '%0D%5C'])
      assert.equal(
        change(ban(A, ['web']).replace('\n', `: ${reason}\n`), [add(A, { holder: 'admin' })]).text.split('\n')
          .length,
        3,
        reason,
      );
    const after = change(ban(A, ['web']).replace('\n', ': %5C\n'), [
      add(A, { holder: 'admin' }),
      release(A, 'web'),
      add(A, { holder: 'web' }),
      release(A, 'admin'),
    ]);
    assert.doesNotMatch(after.text, /\\\n/);
  });
});

suite('digest', () => {
  const key = '0001020304050607';
  const of = (text: string) => digestOf(toBytes(text), key);

  test('of two lists is the same if they differ in comments, holds and order alone', () => {
    const one = `# x\n${ban(A, ['web'])}  Require not ip ${B}\n`;
    assert.deepEqual(of(one), of(`Require not ip ${B}\n\nRequire not ip ${A}\n`));
  });

  test('is another one for each line that differs', () => {
    const texts = [
      '',
      `Require not ip ${A}`,
      `Require not ip ${A}\n`.repeat(2),
      `Require not ip ${B}`,
      'Require not ip',
      'Require ip not',
    ];
    assert.equal(new Set(texts.map(of)).size, texts.length);
  });

  test('depends on the key', () => {
    const sum = (line: string) => of(line).slice(0, 16);
    // An empty text has no line; the vector of no byte is that of the function itself.
    assert.equal(of(''), EMPTY);
    assert.notEqual(sum('Require not ip 192.0.2.1'), sum('Require not ip 192.0.2.2'));
    assert.notEqual(digestOf(toBytes('a'), key), digestOf(toBytes('a'), '0001020304050608'));
  });

  test('counts the order where it matters to Apache', () => {
    const [open, close, line] = ['<RequireAny>', '</RequireAny>', `Require not ip ${A}`];
    const orders = [
      [open, close, line],
      [open, line, close],
      [line, open, close],
      [close, open, line],
    ].map((lines) => of(`${lines.join('\n')}\n`));
    assert.equal(new Set(orders).size, orders.length);
    assert.equal(
      of(`${open}\n${line}\nRequire not ip ${B}\n${close}\n`),
      of(`${open}\nRequire not ip ${B}\n${line}\n${close}\n`),
    );
  });

  test('cannot be cancelled out by addresses that were chosen without the key', () => {
    // Found for the sum of FNV hashes that was the digest once: their sum was 0.
    const chosen = ['1111:10fe:18b7', '2222:13ab:1547', '3333:10aa:13da', '4444:1197:19f8'];
    const lines = chosen.map((part) => `Require not ip 2001:db8:0:7:${part}:1001\n`).join('');
    for (const one of [key, 'ffffffffffffffff', '0000000000000000'])
      assert.notEqual(digestOf(toBytes(lines), one), EMPTY);
  });

  test('corrected for each change is that of the list', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'banctl-digest-'));
    const banlist = join(directory, 'banlist.conf');
    const addresses = fc.constantFrom(A, B, RANGE, '192.0.2.1');
    const calls = fc.array(
      fc.array(
        fc
          .tuple(fc.boolean(), addresses, fc.option(holder))
          .map(([isAdded, address, by]) => (isAdded ? add(address) : release(address, by))),
        { minLength: 1, maxLength: 4 },
      ),
      { minLength: 1, maxLength: 4 },
    );
    try {
      await fc.assert(
        fc.asyncProperty(list, calls, async (text, some) => {
          writeFileSync(banlist, text);
          // The first is for a state that knows the list as it is.
          for (const made of [[add('192.0.2.1')], ...some]) {
            await changeNow(banlist, made);
            const state = JSON.parse(readFileSync(`${banlist}.state`, 'utf8').slice(2));
            assert.deepEqual(state.digest, digestOf(readFileSync(banlist), state.key));
          }
        }),
        { numRuns: 40 },
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

suite('a section of the administrator', () => {
  const OTHER = [
    ['<IfDefine NEVER>', '</IfDefine>'],
    ['<IfModule none>', '</IfModule>'],
    ['  <requireany>', '  </requireany>'],
    ['<RequireNone>', '</RequireNone>'],
    ['<If "%{HTTP_HOST} == \'x\'">', '</If>'],
    ['<Files secret>', '</Files>'],
    ['<RequireAll>\n<IfDefine \\\nNEVER>', '</IfDefine>\n</RequireAll>'],
    ['<IfDefine NEVER>\n<RequireAll>', '</RequireAll>\n</IfDefine>'],
    ['"<IfDefine" NEVER>', '</IfDefine>'],
    [`<IfDefine NEVER>\n'<IfDefine' X>\n</IfDefine>`, '</IfDefine>'],
  ] as const;
  for (const [open, close] of OTHER) {
    for (const count of [1, 9]) {
      test(`${open.trim()}: its lines are no bans, and stay, for ${count} of them`, () => {
        const asked = addressesFrom(count);
        const inside = `${open}\n${asked.map((address) => ban(address, ['web'])).join('')}Require not ip 198.51.100.0/24\n${close}\n`;
        const banned = change(
          inside,
          asked.map((address) => add(address)),
        );
        assert.deepEqual(new Set(banned.outcomes.map(({ status }) => status)), new Set(['banned']));
        assert.equal(banned.text, inside + asked.map((address) => ban(address, ['web'])).join(''));
        const lifted = change(
          banned.text,
          asked.map((address) => release(address)),
        );
        assert.deepEqual(new Set(lifted.outcomes.map(({ status }) => status)), new Set(['unbanned']));
        assert.equal(lifted.text, inside);
        const none = change(
          inside,
          [...asked, '198.51.100.7'].map((address) => release(address, 'web')),
        );
        assert.deepEqual(new Set(none.outcomes.map(({ status }) => status)), new Set(['not-banned']));
        assert.deepEqual(denyLines(Buffer.from(inside)), []);
      });
    }
  }

  test('<RequireAll> counts like the list itself', () => {
    const inside = `<RequireAll>\nRequire all granted\n${ban(A, ['web'])}</RequireAll>\n`;
    assert.deepEqual(statuses(inside, [add(A)]), ['already-banned']);
    assert.deepEqual(statuses(`<IfDefine X>\n</IfDefine>\n${ban(A, ['web'])}`, [add(A)]), ['already-banned']);
  });
});

test('what one call bans in a range and releases again is released', () => {
  const ranged = add(A, { target: '203.0.113.0/24' });
  assert.equal(change('', [ranged, release(A, 'web')]).text, '');
  assert.equal(change('', [ranged, add(A)]).text, ban(A, ['web']));
});

suite('a range in another spelling', () => {
  const SPELLINGS = ['203.0.113.0/255.255.255.0', '203.0.113', '203.0.113.', '203.0.113.77/24'];
  for (const spelling of SPELLINGS) {
    for (const count of [1, 9]) {
      test(`${spelling} below banctl's comment goes with its last hold, for ${count} of them`, () => {
        const asked = addressesFrom(count).map((address) => address.replace('198.51.100', '203.0.113'));
        const comment = ban(
          '203.0.113.0/24',
          asked.map((address) => `web ${address}`),
        ).split('\n')[0];
        const text = `# mine\n${comment}\nRequire not ip ${spelling}\n`;
        const lifted = change(
          text,
          asked.map((address) => release(address, 'web')),
        );
        assert.equal(lifted.text, '# mine\n');
        assert.deepEqual(new Set(lifted.outcomes.map(({ status }) => status)), new Set(['unbanned']));
      });
    }
  }
});

suite("a line of several addresses below banctl's comment", () => {
  const comment = (...holders: string[]) => ban(A, holders).split('\n')[0];
  const joined = (args: string, ...holders: string[]) =>
    `# mine\n${comment(...holders)}\nRequire not ip ${args}\n`;
  for (const count of [1, 9]) {
    const others = addressesFrom(count - 1).map((address) => release(address, 'web'));
    const lift = (text: string, holder: string | null = 'web') =>
      change(text, [release(A, holder), ...others]);
    test(`loses what was held, and keeps the rest, for ${count} of them`, () => {
      for (const args of [`${A} ${B}`, `${B} ${A}`]) {
        const { text, outcomes } = lift(joined(args, `web ${A}`));
        assert.equal(text, `# mine\nRequire not ip ${B}\n`);
        assert.equal(outcomes[0]?.status, 'unbanned');
      }
    });
    test(`loses a range with its last hold, for ${count} of them`, () => {
      const { text, outcomes } = lift(joined('203.0.113.0/24 2001:db8::1', `web ${A}`));
      assert.equal(text, '# mine\nRequire not ip 2001:db8::1\n');
      assert.equal(outcomes[0]?.status, 'unbanned');
    });
    test(`keeps what another holds, for ${count} of them`, () => {
      const { text, outcomes } = lift(joined(`${A} ${B}`, `web ${A}`, `ssh ${A}`));
      assert.equal(text, `# mine\n${ban(A, ['ssh'])}Require not ip ${B}\n`);
      assert.deepEqual([outcomes[0]?.status, outcomes[0]?.heldBy], ['still-held', ['ssh']]);
    });
    test(`is as before after another jail's release, for ${count} of them`, () => {
      const text = joined(`${A} ${B}`, `ssh ${A}`);
      assert.equal(lift(text).text, text);
    });
    test(`loses the comment too when it is released by hand, for ${count} of them`, () => {
      assert.equal(lift(joined(`${A} ${B}`, `web ${A}`), null).text, `# mine\nRequire not ip ${B}\n`);
    });
  }

  const C = '198.51.100.7';
  const three = joined(`${A} ${B} ${C}`, `web ${A}`, `ssh ${B}`);
  const alone = `Require not ip ${C}\n`;

  test('is one ban for each address with a hold, and its holds are those for it', () => {
    const bans = bansOf(denyLines(Buffer.from(three)));
    assert.deepEqual(
      bans.map(({ address, holds }) => [address, ...holds.map(({ holder }) => holder)]),
      [
        [A, 'web'],
        [B, 'ssh'],
      ],
    );
  });
  test('is taken apart by a change of one, and the others stay banned', () => {
    const over = { verb: 'set', target: A, hold: { ...held('web', A), until: NOW + 60 } } as const;
    for (const changes of [[over], [over, ...addressesFrom(9).map((address) => release(address, 'x'))]])
      assert.equal(
        change(three, changes).text,
        `# mine\n${ban(A, ['web'], NOW + 60)}${ban(B, ['ssh'])}${alone}`,
      );
  });
  test('has no second line for an address that is banned again', () => {
    const { text, outcomes } = change(three, [add(A, { holder: 'ssh' })]);
    assert.equal(text, `# mine\n${ban(A, ['web', 'ssh'])}${ban(B, ['ssh'])}${alone}`);
    assert.equal(outcomes[0]?.status, 'already-banned');
    const range = change(joined(`${RANGE} ${C}`, `web ${A}`), [add(B, { target: RANGE })]);
    assert.equal(range.text, `# mine\n${ban(RANGE, [`web ${A}`, `web ${B}`])}${alone}`);
  });
  test('loses what is over, all at once or one by one', () => {
    const old = `${ban(A, ['manual'], NOW - 1)}`.split('\n')[0];
    const text = `${old}\nRequire not ip ${A} ${C}\n`;
    const bans = bansOf(denyLines(Buffer.from(text)));
    assert.equal(change(text, tidyOver(bans, NOW)).text, alone);
  });
  test('loses what a migration has moved, and keeps a hold that is newer', () => {
    const cede = (address: string, holder: string) =>
      ({ verb: 'cede', address, holds: [held(holder, address)] }) as const;
    assert.equal(change(three, [cede(A, 'web'), cede(B, 'ssh')]).text, `# mine\n${alone}`);
    assert.equal(change(three, [cede(A, 'ssh'), cede(B, 'ssh')]).text, `# mine\n${ban(A, ['web'])}${alone}`);
  });
  test('loses what a jail and a person release at once', () => {
    assert.equal(change(three, [release(A, 'web'), release(C), release(B, 'ssh')]).text, '# mine\n');
    assert.equal(change(three, [release(C)]).text, `# mine\n${ban(A, ['web'])}${ban(B, ['ssh'])}`);
  });
  test('does not keep an address that has a line of its own too', () => {
    const { text } = change(`${ban(A, ['ssh'])}${three}`, [add(A)]);
    assert.equal(text, `${ban(A, ['ssh', 'web'])}# mine\n${ban(B, ['ssh'])}${alone}`);
  });
});

suite('a list as large as banctl reads', () => {
  const full = Buffer.concat([
    Buffer.alloc(2 ** 26 - 200, `${'#'.repeat(99)}\n`),
    Buffer.from(`\n${ban(A, ['web'])}`),
  ]);

  test('does not grow: exit 73, and nothing has changed', () => {
    const many = addressesFrom(9).map((address) => add(address));
    assert.throws(() => change(full, many), { exitCode: 73, message: /beyond 64 MiB/ });
  });

  test('shrinks', () => {
    assert.ok(change(full, [release(A, 'web')]).bytes.length < full.length);
    assert.doesNotThrow(() => change(full, [release(A), add('198.51.100.1')]));
  });
});

function addressesFrom(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `198.51.100.${index + 1}`);
}
