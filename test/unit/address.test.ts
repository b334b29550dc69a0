import assert from 'node:assert/strict';
import { isIP, isIPv6 } from 'node:net';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  type Address,
  covers,
  isIPv4,
  isPartial,
  isSingle,
  isTooBroad,
  overlaps,
  parseAddress,
  readAddress,
  readApacheArgument,
  widen,
} from '../../src/bans/address.ts';
import { BanctlError, EXIT } from '../../src/system/errors.ts';
import { anyAddress, ipv4, ipv4Range, ipv6, ipv6Range } from '../lab/generate.ts';

suite('taken, and written as Apache prints it', () => {
  const TAKEN: [string, string][] = [
    ['203.0.113.55', '203.0.113.55'],
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:ABCD:EF::1', '2001:db8:abcd:ef::1'],
    ['2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:0:1::1', '2001:db8::1:0:0:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:db8:1:1:1:1:1::', '2001:db8:1:1:1:1:1:0'],
    ['::2001:db8:1:1:1:1:1', '0:2001:db8:1:1:1:1:1'],
    ['1:0:0:2:0:0:3:0', '1::2:0:0:3:0'],
    ['fe80::', 'fe80::'],
    ['::', '::'],
    ['::1', '::1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::ffff', '::ffff'],
    // IPv4-mapped is IPv4, whatever its spelling.
    ['::ffff:203.0.113.55', '203.0.113.55'],
    ['::FFFF:cb00:7137', '203.0.113.55'],
    ['0:0:0:0:0:ffff:203.0.113.55', '203.0.113.55'],
    ['::ffff:0:0', '0.0.0.0'],
    // Others that carry an IPv4 address are IPv6. glibc writes the compatible ones in dotted decimal.
    ['::203.0.113.55', '::203.0.113.55'],
    ['::cb00:7137', '::203.0.113.55'],
    ['::1:0', '::0.1.0.0'],
    ['64:ff9b::203.0.113.55', '64:ff9b::cb00:7137'],
    ['2002:cb00:7137::1', '2002:cb00:7137::1'],
    ['::ffff:0:203.0.113.55', '::ffff:0:cb00:7137'],
    ['2001:db8:1:2:3:4:203.0.113.55', '2001:db8:1:2:3:4:cb00:7137'],
    ['2001:db8::203.0.113.55', '2001:db8::cb00:7137'],
    // Ranges.
    ['203.0.113.0/24', '203.0.113.0/24'],
    ['203.0.113.255/25', '203.0.113.128/25'],
    ['203.0.113.55/31', '203.0.113.54/31'],
    ['203.0.113.55/1', '128.0.0.0/1'],
    ['203.0.113.55/32', '203.0.113.55'],
    ['2001:db8::1/128', '2001:db8::1'],
    ['2001:db8:ffff::1/33', '2001:db8:8000::/33'],
    ['2001:DB8::1/64', '2001:db8::/64'],
    ['2001:db8::ffff/127', '2001:db8::fffe/127'],
    ['::ffff:203.0.113.55/120', '203.0.113.0/24'],
    ['::ffff:203.0.113.55/128', '203.0.113.55'],
    ['::ffff:cb00:7137/97', '128.0.0.0/1'],
    ['::203.0.113.55/120', '::203.0.113.0/120'],
    ['2001:db8::/9', '2000::/9'],
  ];
  for (const [given, canonical] of TAKEN) {
    test(`${given} is ${canonical}`, () => {
      assert.equal(parseAddress(given).text, canonical);
    });
  }
});

suite('refused with exit 64', () => {
  const REFUSED = [
    ...['', ' ', '-', 'localhost', 'example.org', 'all', 'unknown', '<HOST>', 'not', '$(id)'],
    // Partial, and other ways to write a number.
    ...[
      '10',
      '10.',
      '10.1',
      '10.1.',
      '10.1.2',
      '10.1.2.',
      '10.1.2.3.',
      '.10.1.2.3',
      '10.1.2.3.4',
      '10..2.3',
      '...',
    ],
    ...[
      '0177.0.0.1',
      '0x7f.0.0.1',
      '0x7f000001',
      '2130706433',
      '203.0.113.055',
      '203.0.113.05',
      '00.0.0.0',
      '1e1.0.0.1',
    ],
    ...[
      '203.0.113.256',
      '1.2.3.999',
      '203.0.113.-5',
      '+1.2.3.4',
      '203,0,113,5',
      '203.0.113.5x',
      '²03.0.113.5',
      '٢٠٣.0.113.5',
    ],
    // Texts that are not IPv6.
    ...[
      ':',
      ':::',
      '::1::',
      '1::2::3',
      '2001:db8',
      '2001:db8:::1',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      ':1:2:3:4:5:6:7',
    ],
    ...[
      '1:2:3:4:5:6:7:',
      '::12345',
      '2001:db8::g',
      '2001:db8::00001',
      '1:2:3:4:5:6:7::8',
      '::1:2:3:4:5:6:7:8',
    ],
    ...[
      '2002:203.0.113.55::',
      '203.0.113.55::',
      '::203.0.113',
      '::203.0.113.055',
      '::203.0.113.256',
      '::0x7f.0.0.1',
    ],
    ...[
      '1:2:3:4:5:6:7:203.0.113.55',
      '::ffff:203.0.113.55.1',
      '::203.0.113.55:1',
      '::.1.2.3',
      '-1::',
      '::-1',
    ],
    // Zone ids, brackets, ports, netmasks, lists.
    ...[
      'fe80::1%eth0',
      'fe80::1%1',
      'fe80::1%',
      '[2001:db8::1]',
      '[2001:db8::1]:443',
      '203.0.113.5:80',
      '203.0.113.5:',
    ],
    ...[
      '203.0.113.0/255.255.255.0',
      '2001:db8::/ffff::',
      '203.0.113.5,203.0.113.6',
      '203.0.113.5-203.0.113.9',
      '203.0.113.*',
    ],
    // Prefixes.
    ...[
      '203.0.113.5/',
      '203.0.113.5/33',
      '203.0.113.5/08',
      '203.0.113.5/024',
      '203.0.113.5/-1',
      '203.0.113.5/+8',
      '203.0.113.5/8.0',
    ],
    ...[
      '203.0.113.5/ 8',
      '203.0.113.5/8/8',
      '203.0.113.5/1e1',
      '203.0.113.5/0x8',
      '203.0.113.5/٨',
      '203.0.113.5/a',
      '/24',
      '/',
    ],
    ...['2001:db8::/129', '2001:db8::/064'],
    ...['203.0.113.5/99999999999999999999', '10.1/16', '10/8'],
    // White space, control characters, what looks alike.
    ...[
      ' 203.0.113.5',
      '203.0.113.5 ',
      '203.0.113.5\n',
      '\t203.0.113.5',
      '203.0.113.5\r',
      '203.0.113.5\0',
      '203.0.113.5/24\n',
      '2001:db8::1\n',
    ],
    ...[
      '203.0.113.5 # x',
      '203.0.113.5\nRequire all granted',
      '203。0。113。5',
      '203.0.113.5\u200b',
      '\ufeff203.0.113.5',
      '２０３.0.113.5',
    ],
    ...[`${'1'.repeat(10_000)}.1.1.1`, `${'0:'.repeat(10_000)}1`, '1'.repeat(100_000), '.'.repeat(1000)],
  ];
  const EVERYTHING = [
    '0.0.0.0/0',
    '203.0.113.5/0',
    '::/0',
    '2001:db8::1/0',
    '::ffff:0:0/96',
    '::ffff:203.0.113.5/96',
  ];
  for (const given of EVERYTHING) {
    test(`${given} is too broad`, () => {
      const message = `"${given}" is too broad: it covers every address`;
      assert.throws(() => parseAddress(given), { exitCode: EXIT.notPermitted, message });
    });
  }

  const HINTS: readonly [given: string, hint: RegExp][] = [
    ['203.0.113.5/33', /IPv4 range is a whole number from 1 to 32/],
    ['203.0.113.5/024', /IPv4 range is a whole number from 1 to 32/],
    ['2001:db8::/129', /IPv6 range is a whole number from 1 to 128/],
    ['2001:db8::/x', /IPv6 range is a whole number from 1 to 128/],
    ['203.0.113.0/255.255.255.0', /instead of the netmask, such as \/24/],
    ['10.1/16', /give one IPv4 or IPv6 address or CIDR range/],
  ];
  for (const [given, hint] of HINTS)
    test(`the hint for ${given} says what is wrong`, () =>
      assert.throws(() => parseAddress(given), { hint }));

  for (const given of new Set(REFUSED)) {
    test(`${JSON.stringify(given).slice(0, 60)}`, () => {
      assert.throws(
        () => parseAddress(given),
        (error) => {
          assert.ok(error instanceof BanctlError);
          assert.equal(error.exitCode, EXIT.usage);
          assert.match(error.message, /^not an address: ".{0,900}"$/);
          const named = JSON.stringify(given).slice(1, 20).replace(/"$/, '');
          if (/^[\x20-\x7e]*$/.test(given)) assert.ok(error.message.includes(named), error.message);
          // biome-ignore lint/suspicious/noControlCharactersInRegex: it is these that must not come through
          assert.doesNotMatch(error.message, /[\x00-\x1f\x7f-\x9f\u200b\ufeff]/);
          return true;
        },
      );
    });
  }
});

/** Another reading of the same address: all bits as one number, and its text back by the rules of glibc's inet_ntop. */
const model = {
  bits: (text: string): bigint => {
    const [host = ''] = text.split('/');
    if (isIP(host) === 4) return host.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
    const url = new URL(`http://[${host}]/`).hostname.slice(1, -1);
    const [left = [], right = []] = url.split('::').map((half) => half.split(':').filter(Boolean));
    const groups = [...left, ...Array(8 - left.length - right.length).fill('0'), ...right];
    return groups.reduce((sum: bigint, group: string) => (sum << 16n) | BigInt(`0x${group}`), 0n);
  },
  size: (text: string) => (text.includes(':') ? 128 : 32),
  prefix: (text: string) => Number(text.split('/')[1] ?? model.size(text)),
  network: (text: string) => model.bits(text) >> BigInt(model.size(text) - model.prefix(text)),
  covers: (outer: string, inner: string) =>
    model.size(outer) === model.size(inner) &&
    model.prefix(outer) <= model.prefix(inner) &&
    model.bits(inner) >> BigInt(model.size(outer) - model.prefix(outer)) === model.network(outer),
};

const bitsOf = (address: Address) => address.bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

suite('any address', () => {
  test('is taken if and only if the system takes it', () => {
    const part = fc.oneof(
      fc.nat(300).map(String),
      fc.nat(0x1ffff).map((group) => group.toString(16)),
      fc.constantFrom('', '0', '00', '01', '::', '::1', '1.2.3.4', '255', 'ffff', 'FFFF'),
    );
    const almost = fc
      .array(fc.tuple(part, fc.constantFrom('.', ':', ':', '::')), { maxLength: 9 })
      .map((parts) => parts.flat().join('').replace(/[.:]$/, ''));
    const groups = fc
      .tuple(fc.array(fc.nat(0xffff), { minLength: 5, maxLength: 9 }), fc.nat(9), fc.option(ipv4))
      .map(([numbers, at, tail]) => {
        const words = numbers.map((number) => number.toString(16));
        if (at < words.length) words.splice(at, 2, at === 0 || at >= words.length - 2 ? ':' : '');
        return [...words, ...(tail === null ? [] : [tail])].join(':');
      });
    const any = fc.oneof(almost, groups, fc.ipV4(), fc.ipV6(), fc.string());
    fc.assert(
      fc.property(any, (text) => {
        fc.pre(!/[%/]/.test(text));
        assert.equal(readAddress(text) !== undefined, isIP(text) !== 0, text);
      }),
      { numRuns: 5000 },
    );
  });

  test('is the same address as before, with its host bits cut', () => {
    fc.assert(
      fc.property(fc.oneof(anyAddress, fc.ipV6(), fc.ipV4()), (text) => {
        const address = parseAddress(text);
        const size = BigInt(address.bytes.length * 8);
        const host = size - BigInt(address.prefix);
        if (isIPv6(text.replace(/\/.*/, '')) && isIPv4(address)) {
          assert.equal(bitsOf(address) | 0xffff_0000_0000n, model.bits(text), 'mapped');
        } else {
          assert.equal(bitsOf(address), (model.bits(text) >> host) << host);
          assert.equal(address.prefix, model.prefix(text));
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('has a text that reads back as itself, as short as it can be', () => {
    fc.assert(
      fc.property(fc.oneof(anyAddress, fc.ipV6(), fc.ipV4()), (given) => {
        const address = parseAddress(given);
        assert.deepEqual(parseAddress(address.text), address);
        assert.match(address.text, /^[\da-f.:]+(?:\/[1-9]\d*)?$/);
        assert.equal(address.text.includes('/'), !isSingle(address));
        // WHATWG's text of an IPv6 address differs from glibc's in the compatible ones alone.
        const [host = ''] = address.text.split('/');
        if (isIP(host) === 6 && !host.includes('.'))
          assert.equal(new URL(`http://[${host}]/`).hostname, `[${host}]`);
      }),
      { numRuns: 2000 },
    );
  });

  const near = fc.oneof(
    fc.tuple(anyAddress, anyAddress),
    fc
      .tuple(fc.oneof(ipv4, ipv4Range), fc.integer({ min: 1, max: 32 }))
      .map(([a, n]) => [a, `${a.replace(/\/.*/, '')}/${n}`]),
    fc
      .tuple(fc.oneof(ipv6, ipv6Range), fc.integer({ min: 1, max: 128 }))
      .map(([a, n]) => [a, `${a.replace(/\/.*/, '')}/${n}`]),
  ) as fc.Arbitrary<[string, string]>;

  test('is covered by the ranges that its bits begin with', () => {
    fc.assert(
      fc.property(near, ([first, second]) => {
        const [one, other] = [parseAddress(first), parseAddress(second)];
        assert.equal(covers(one, other), model.covers(one.text, other.text));
        assert.equal(covers(other, one), model.covers(other.text, one.text));
        assert.equal(overlaps(one, other), covers(one, other) || covers(other, one));
        assert.equal(overlaps(one, other), overlaps(other, one));
      }),
      { numRuns: 2000 },
    );
  });

  test('is widened to the range around it; a range stays as it is', () => {
    const prefixes = fc.record({
      ipv4: fc.integer({ min: 1, max: 32 }),
      ipv6: fc.integer({ min: 1, max: 128 }),
    });
    fc.assert(
      fc.property(anyAddress, prefixes, (text, wanted) => {
        const address = parseAddress(text);
        const wide = widen(address, wanted);
        const isWidened = isSingle(address);
        const prefix = isIPv4(address) ? wanted.ipv4 : wanted.ipv6;
        assert.equal(wide.text, isWidened ? parseAddress(`${address.text}/${prefix}`).text : address.text);
        assert.ok(covers(wide, address));
      }),
    );
  });
});

test('no address of one family covers one of the other', () => {
  assert.equal(overlaps(parseAddress('::/1'), parseAddress('0.0.0.0/1')), false);
});

test('ranges wider than /8 and /19 are too broad', () => {
  const told = ['10.0.0.0/8', '10.0.0.0/7', '203.0.113.5', '2000::/19', '2000::/18', '2001:db8::1'].map(
    (text) => isTooBroad(parseAddress(text)),
  );
  assert.deepEqual(told, [false, true, false, false, true, false]);
});

suite('an argument of Require ip, as Apache reads it', () => {
  const READ: [string, string | undefined][] = [
    ['203.0.113.5', '203.0.113.5'],
    ['203.000.113.05', '203.0.113.5'],
    ['10', '10.0.0.0/8'],
    ['10.', '10.0.0.0/8'],
    ['10.1', '10.1.0.0/16'],
    ['10.1.', '10.1.0.0/16'],
    ['203.0.113', '203.0.113.0/24'],
    ['203.0.113.', '203.0.113.0/24'],
    ['203.0.113.5.', undefined],
    ['203.0.113.256', undefined],
    ['256', undefined],
    ['203.0.113.5/24', '203.0.113.0/24'],
    ['203.0.113.5/255.255.255.0', '203.0.113.0/24'],
    ['203.0.113.5/255.255.255.255', '203.0.113.5'],
    ['203.0.113.5/255.0.255.0', undefined],
    ['203.0.113/24', undefined],
    ['203.0.113.5/', undefined],
    ['203.0.113.5/24/24', undefined],
    ['2001:DB8::1/64', '2001:db8::/64'],
    ['2001:db8::1/255.255.255.0', undefined],
    ['203.0.113.5,', undefined],
    ['example.org', undefined],
    ['', undefined],
    ['.', undefined],
  ];
  for (const [argument, text] of READ) {
    test(`${JSON.stringify(argument)} is ${text ?? 'refused'}`, () => {
      assert.equal(readApacheArgument(argument)?.text, text);
    });
  }

  test('is partial if Apache reads it as a range that was not written', () => {
    const partial = ['10', '10.', '10.1', '10.1.2', '10.1.2.', '0'];
    const whole = ['10.1.2.3', '10.0.0.0/8', '2001:db8::', '10.0.0.0/255.0.0.0', 'x', '', '256', '1000'];
    assert.deepEqual(partial.filter(isPartial), partial);
    assert.deepEqual(whole.filter(isPartial), []);
  });
});
