// Durations: fail2ban's own answers (server/mytime.py, str2seconds) for all that it takes.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseDuration } from '../../src/bans/duration.ts';
import { EXIT } from '../../src/system/errors.ts';

const DURATIONS: readonly [given: string, seconds: number | null][] = [
  ['0', 0],
  ['600', 600],
  ['600.0', 600],
  ['0.1', 1],
  ['90s', 90],
  ['10m', 600],
  ['1.5h', 5400],
  ['1.1h', 3960],
  ['1h', 3600],
  ['1H', 3600],
  ['7d', 604_800],
  ['2w', 1_209_600],
  ['1mo', 2_629_800],
  ['6 months', 15_778_800],
  ['1y', 31_557_600],
  ['1h30m', 5400],
  ['1h30', 3630],
  ['1d 12h', 129_600],
  ['1d12h', 129_600],
  ['0d 1h\t30m', 5400],
  ['1hour30minutes', 5400],
  ['1w2d', 777_600],
  ['1hour+30min', 5400],
  ['1year-6mo', 15_778_800],
  ['1d-1h', 82_800],
  ['60*60', 3600],
  ['2*1h', 7200],
  ['1d 24*1h', 172_800],
  ['30 5', 35],
  ['+5', 5],
  [' 5 m ', 300],
  ['-1', null],
];

suite('a duration', () => {
  for (const [given, seconds] of DURATIONS)
    test(`${given} is ${seconds ?? 'for ever'}`, () => assert.equal(parseDuration(given), seconds));

  const REFUSED = [
    ...['', ' ', '-2', '-1m', '1h-2h', 'm', 'h1', '1h m', '*5', '5*', '5+', '--5', '1h--5', '5**2', '5/2'],
    ...['1x', '1hm', '1moo', '1e3', '0x10', '1_000', '1.5.5', '1,5', '.', 'ever', '5\n', '5\u00a0m', '٥'],
    ...['Infinity', 'NaN', '(5)', '<bantime>', '__import__("os")', '5; ls'],
  ];
  for (const given of REFUSED) {
    test(`${JSON.stringify(given)} is none`, () => {
      const hint = 'give seconds, or 10m, 1h30m, "1d 12h", 1y, or -1 for ever';
      assert.throws(() => parseDuration(given), { exitCode: EXIT.usage, hint });
    });
  }

  test('is the sum of its parts, whatever stands between them', () => {
    const part = fc.tuple(fc.nat(1000), fc.constantFrom(['s', 1], ['m', 60], ['h', 3600], ['d', 86_400]));
    fc.assert(
      fc.property(
        fc.array(part, { minLength: 1, maxLength: 5 }),
        fc.constantFrom('', ' ', '+', ' + '),
        (parts, between) => {
          const text = parts.map(([number, [unit]]) => `${number}${unit}`).join(between);
          const sum = parts.reduce((all, [number, [, seconds]]) => all + number * Number(seconds), 0);
          assert.equal(parseDuration(text), sum);
        },
      ),
    );
  });

  test('of any text ends in time', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          const seconds = parseDuration(text);
          assert.ok(seconds === null || seconds >= 0);
        } catch (error) {
          assert.ok(error instanceof Error && 'exitCode' in error, String(error));
        }
      }),
    );
    assert.throws(() => parseDuration(`${'1h '.repeat(100_000)}x`), { exitCode: EXIT.usage });
  });
});
