import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../src/bans/address.ts';
import { parseDuration } from '../../src/bans/duration.ts';
import {
  cleanId,
  cleanReason,
  formatHolds,
  formatTime,
  type Hold,
  holderOf,
  holdId,
  holdMark,
  isByHand,
  isOfOtherHost,
  isOver,
  jailOf,
  MANUAL,
  parseHolds,
  parseTime,
  untilOf,
} from '../../src/bans/hold.ts';
import { resolveSettings } from '../../src/cli/settings.ts';
import { BanctlError, EXIT } from '../../src/system/errors.ts';
import { anyAddress } from '../lab/generate.ts';

const A = '203.0.113.5';
const NOW = Date.UTC(2026, 0, 31, 12) / 1000;
const LAST = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;

const plain: Hold = { holder: 'web', address: A, since: NOW, until: null, reason: null };

/** True for what `--jail` takes. */
function isJailName(text: string): boolean {
  try {
    return resolveSettings({ jail: [text] }, { BANCTL_CONFIG: noConfiguration }).jail === text;
  } catch (error) {
    assert.ok(error instanceof BanctlError && error.exitCode === EXIT.usage, String(error));
    return false;
  }
}

const nasty = fc.constantFrom(
  '|',
  ' | ',
  '%',
  '%7C',
  '\\',
  '\n',
  '\r\n',
  '\u2028',
  ': ',
  ' since ',
  'until',
  '#',
  '\x1b[31m',
  '\u202e',
  '"',
  '💣',
  '\0',
);
const anyText = fc
  .array(fc.oneof(nasty, fc.string({ unit: 'binary' }), fc.string()), { maxLength: 8 })
  .map((parts) => parts.join(''));
const jail = fc
  .oneof(
    fc.constantFrom('web', 'manual', 'djangoapp-admin-login', 'a:b', '#', '\\', "it's", 'jail\u00e9'),
    anyText,
  )
  .filter((text) => /^[^\p{Cc}\p{Cs}]+$/u.test(text));
const holder = fc.oneof(fc.constant(MANUAL), jail.map(holderOf));
const seconds = fc.integer({ min: 0, max: LAST });
const hold: fc.Arbitrary<Hold> = fc.record(
  {
    holder,
    address: anyAddress.map((text) => parseAddress(text).text),
    since: seconds,
    until: fc.option(seconds),
    reason: anyText.map(cleanReason),
  },
  { noNullPrototype: true },
);
const holds = fc.array(hold, { minLength: 1, maxLength: 4 });

const directory = mkdtempSync(join(tmpdir(), 'banctl-hold-'));
const noConfiguration = join(directory, 'banctl.json');
writeFileSync(noConfiguration, '{}');
after(() => rmSync(directory, { recursive: true }));

suite('the comment line', () => {
  test('reads as it looks', () => {
    const line = formatHolds([
      { ...plain, until: NOW + 600, reason: '5 failures' },
      { ...plain, holder: 'manual' },
    ]);
    const since = `${A} since 2026-01-31T12:00:00Z`;
    assert.equal(
      line,
      `# banctl | web ${since} until 2026-01-31T12:10:00Z: 5 failures | manual ${since} for ever`,
    );
  });

  test('gives back any holds that were written into it', () => {
    fc.assert(
      fc.property(holds, (written) => {
        const line = formatHolds(written);
        assert.deepEqual(parseHolds(line), written);
        // As it comes back from the file, where Apache's white space around it does not count.
        assert.deepEqual(parseHolds(Buffer.from(`${line}\n`).toString('utf8').trim()), written);
      }),
      { numRuns: 1000 },
    );
  });

  test('is one line that swallows nothing, and shows nothing but text', () => {
    fc.assert(
      fc.property(holds, (written) => {
        const line = formatHolds(written);
        assert.match(line, /^# banctl \| [^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*[^\\\s]$/u);
      }),
      { numRuns: 1000 },
    );
  });

  test("is found by a hold's mark if and only if that hold is in it, whatever the reasons say", () => {
    const few = fc.constantFrom('web', 'admin', 'x:web');
    const forged = fc.constantFrom(
      holdMark('web', A),
      `${holdMark('web', A)}2026-01-31T12:00:00Z for ever`,
      `x | web ${A} since `,
      `%7C web ${A} since`,
    );
    const reason = fc.oneof(
      forged,
      fc.tuple(anyText, forged, anyText).map((parts) => parts.join('')),
    );
    const some = fc.array(
      fc.record({
        holder: few,
        address: fc.constantFrom(A, `${A}0`, '203.0.113.6'),
        since: seconds,
        until: fc.option(seconds),
        reason: reason.map(cleanReason),
      }),
      { minLength: 1, maxLength: 3 },
    );
    fc.assert(
      fc.property(some, (written) => {
        const isThere = written.some((one) => one.holder === 'web' && one.address === A);
        assert.equal(formatHolds(written).includes(holdMark('web', A)), isThere);
        assert.equal(parseHolds(formatHolds(written))?.length, written.length);
      }),
      { numRuns: 1000 },
    );
  });

  const FULL = [
    ...[
      '',
      '#',
      '# banctl',
      '# banctl ',
      '# banctl |',
      '# banctl | ',
      '# a comment',
      '# banctl | web',
      '#banctl | web',
    ],
    ...['# banctl | not a hold', `# banctl | web ${A} since today for ever`, `Require not ip ${A}`],
    ...[
      `# banctl | web ${A} since 2026-01-31T12:00:00Z`,
      `# banctl | web ${A} since 2026-13-31T12:00:00Z for ever`,
    ],
    ...[
      `# banctl | web ${A} since 2026-01-31T12:00:00Z until never`,
      `${formatHolds([plain])} |`,
      `${formatHolds([plain])} | x`,
    ],
    ...[` ${formatHolds([plain])}`, formatHolds([plain]).replace('# b', '# B'), `#${formatHolds([plain])}`],
  ];
  for (const line of FULL) {
    test(`${JSON.stringify(line)} is foreign`, () => {
      assert.equal(parseHolds(line), undefined);
    });
  }
});

suite('a name for a jail', () => {
  const ODD = [
    'manual',
    'my jail',
    ' ',
    'a|b',
    '50%',
    '%6Danual',
    '%40',
    'a@b',
    '"q"',
    "it's",
    'jail\u00e9',
    '💣',
  ];

  test('is any that fail2ban takes, and comes back from a comment as it was', () => {
    fc.assert(
      fc.property(fc.oneof(jail, fc.constantFrom(...ODD)), (name) => {
        assert.ok(isJailName(name), name);
        const holder = holderOf(name);
        assert.match(holdMark(holder, A), /^\| [\x21-\x7b\x7d\x7e]+ 203\.0\.113\.5 since $/);
        const [read] = parseHolds(formatHolds([{ ...plain, holder }])) ?? [];
        assert.equal(read?.holder, holder);
        assert.equal(jailOf(holder), name);
        assert.deepEqual([isByHand(holder), isOfOtherHost(holder)], [false, false]);
      }),
    );
    const refused = ['', 'a\tb', '\x1b[31m', 'a\nb', '\0', '\ud800'];
    assert.deepEqual(refused.filter(isJailName), []);
  });

  test('cannot be mistaken for a ban by hand, or for the holder of another host', () => {
    const written = (holder: string) => formatHolds([{ ...plain, holder }]).split(' ')[3];
    assert.equal(written(MANUAL), 'manual');
    assert.equal(written(holderOf('manual')), '%6Danual');
    assert.equal(written('web@host-2'), 'web@host-2');
    assert.equal(written(holderOf('web@host-2')), 'web%40host-2');
    assert.ok(isByHand('manual@host-2') && isOfOtherHost('manual@host-2'));
  });

  test('is read from older lists as it was meant', () => {
    const read = (word: string) =>
      parseHolds(`# banctl | ${word} ${A} since 2026-01-31T12:00:00Z for ever`)?.[0];
    assert.equal(read('manual')?.holder, MANUAL);
    assert.equal(jailOf(read('jail%C3%A9')?.holder ?? ''), 'jail\u00e9');
    assert.equal(jailOf(read('a%40b')?.holder ?? ''), 'a@b');
    for (const bad of ['%', '%zz', 'a@', '@b', '%00', '%0A']) assert.equal(read(bad), undefined, bad);
  });
});

suite('a reason', () => {
  const CLEANED: [string, string | null][] = [
    ['', null],
    [' \t\n', null],
    ['\\', null],
    ['\\ \\ ', null],
    ['5 failures', '5 failures'],
    ['  two \t words \r\n', 'two words'],
    ['a\nRequire not ip 10', 'a Require not ip 10'],
    ['ends in \\', 'ends in'],
    ['ends in \\\\ \\', 'ends in'],
    ['in\\side', 'in\\side'],
    ['\x1b[31mred\x1b[0m', '[31mred [0m'],
    ['a\0b\x7fc\x9bd', 'a b c d'],
    ['a\u202eb\u200bc\ufeffd', 'a b c d'],
    ['a\u2028b\u2029c\u0085d', 'a b c d'],
    ['\ud800x', 'x'],
    ['50% | or so', '50% | or so'],
    ['x'.repeat(600), 'x'.repeat(500)],
    [`${'x'.repeat(499)}\\y`, 'x'.repeat(499)],
    ['💣'.repeat(600), '💣'.repeat(500)],
  ];
  for (const [given, kept] of CLEANED) {
    test(`${JSON.stringify(given).slice(0, 40)} is kept as ${JSON.stringify(kept)?.slice(0, 30)}`, () => {
      assert.equal(cleanReason(given), kept);
    });
  }

  test('that was cleaned stays as it is', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const kept = cleanReason(text);
        assert.equal(cleanReason(kept ?? ''), kept);
      }),
    );
  });
});

function refuses(read: (text: string) => unknown, what: string, texts: readonly string[]): void {
  for (const text of texts) {
    test(`${JSON.stringify(text)} is ${what}`, () => {
      assert.throws(
        () => read(text),
        (error) =>
          error instanceof BanctlError &&
          error.exitCode === EXIT.usage &&
          error.message.startsWith(`${what}: "`),
      );
    });
  }
}

suite('a time', () => {
  const TIMES: [string, number][] = [
    ['0', 0],
    [String(NOW), NOW],
    [`${NOW}.487`, NOW],
    [`${NOW}.5`, NOW + 1],
    ['2026-01-31T12:00:00Z', NOW],
    ['2026-01-31T12:00:00.499Z', NOW],
    ['2026-01-31T12:00Z', NOW],
    ['2026-01-31T12:00:00', NOW],
    ['2026-01-31 12:00:00', NOW],
    ['2026-01-31T13:00:00+01:00', NOW],
    ['2026-01-31T06:30:00-0530', NOW],
    ['2026-01-31', NOW - 43_200],
    ['2024-02-29', Date.UTC(2024, 1, 29) / 1000],
    ['9999-12-31T23:59:59Z', LAST],
  ];
  for (const [given, time] of TIMES) {
    test(`${given} is ${formatTime(time)}, whatever the time zone`, () => {
      const zone = process.env.TZ;
      process.env.TZ = 'America/New_York';
      try {
        assert.equal(parseTime(given), time);
      } finally {
        if (zone === undefined) delete process.env.TZ;
        else process.env.TZ = zone;
      }
    });
  }

  refuses(parseTime, 'not a time', [
    ...[
      '',
      ' ',
      'now',
      'yesterday',
      '-1',
      '1e9',
      '0x10',
      '12:00',
      '2026-1-31',
      '2026-13-01',
      '2026-01-32',
      '2026-02-30',
    ],
    ...[
      '2026-01-31T25:00:00Z',
      '2026-01-31T12',
      '2026-01-31T12:00:00Z ',
      '2026-01-31T12:00:00 Z',
      '31.01.2026',
      'Infinity',
      'NaN',
    ],
    ...['1969-12-31T23:59:59Z', '10000-01-01', '9'.repeat(30), '<time>'],
  ]);

  test('is written so that it reads back', () => {
    fc.assert(fc.property(seconds, (time) => assert.equal(parseTime(formatTime(time)), time)));
    const iso = (time: number) => `${new Date(time * 1000).toISOString().slice(0, 19)}Z`;
    fc.assert(fc.property(seconds, (time) => assert.equal(formatTime(time), iso(time))));
  });
});

test('a hold ends when its time is over, and at the end of time never', () => {
  assert.deepEqual(
    [isOver({ ...plain, until: NOW }, NOW), isOver({ ...plain, until: NOW + 1 }, NOW)],
    [true, false],
  );
  assert.equal(isOver(plain, LAST), false);
  assert.deepEqual(
    [untilOf(NOW, 600), untilOf(NOW, null), untilOf(LAST, 0), untilOf(LAST, 1)],
    [NOW + 600, null, LAST, null],
  );
  assert.equal(untilOf(NOW, parseDuration('9'.repeat(400))), null);
});

suite('an id', () => {
  test('is kept with its hold, whatever it is', () => {
    const reason = fc.option(fc.string().map(cleanReason));
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), reason, (text, why) => {
        const hold: Hold = { ...plain, id: cleanId(text), reason: why ?? null };
        const line = formatHolds([hold, plain]);
        assert.doesNotMatch(line, /[\r\n]/);
        assert.deepEqual(parseHolds(line), [hold, plain]);
      }),
    );
  });

  test('cannot be forged by a reason', () => {
    for (const reason of ['%id=alice', '%id=alice guessed', '%25id=alice']) {
      const hold = { ...plain, reason };
      assert.deepEqual(parseHolds(formatHolds([hold])), [hold]);
    }
  });

  test('is part of the reason for a version that knows none', () => {
    const line = formatHolds([{ ...plain, id: 'al ice', reason: '5 failures' }]);
    assert.match(line, / for ever: %id=al%20ice 5 failures$/);
  });

  test('that is the address is none', () => {
    assert.equal(holdId('2001:DB8:0::5', '2001:db8::5'), undefined);
    assert.equal(holdId('', A), undefined);
    assert.equal(holdId('203.0.113.6', A), '203.0.113.6');
  });

  test('of any length is bounded, and two long ones differ', () => {
    const [one, other] = ['a', 'b'].map((end) => cleanId('x'.repeat(1000) + end));
    assert.ok((one ?? '').length < 256);
    assert.notEqual(one, other);
    assert.equal(cleanId(one ?? ''), one);
  });
});
