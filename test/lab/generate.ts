// Arbitrary addresses for property tests, of the documentation ranges.
import fc from 'fast-check';

const byte = fc.nat(255);
const word = fc.oneof(fc.constant(0), fc.nat(0xffff)).map((group) => group.toString(16));

/** Text of IPv4 addresses and ranges, not always canonical. */
export const ipv4 = fc
  .tuple(fc.constantFrom('203.0.113', '198.51.100'), byte)
  .map(([net, host]) => `${net}.${host}`);
export const ipv4Range = fc
  .tuple(ipv4, fc.integer({ min: 9, max: 31 }))
  .map(([host, bits]) => `${host}/${bits}`);
export const ipv6 = fc
  .array(word, { minLength: 6, maxLength: 6 })
  .map((groups) => `2001:db8:${groups.join(':')}`);
export const ipv6Range = fc
  .tuple(ipv6, fc.integer({ min: 20, max: 127 }))
  .map(([host, bits]) => `${host}/${bits}`);
export const anyAddress = fc.oneof(ipv4, ipv6, ipv4Range, ipv6Range);

/** Characters that are wrong in an address, a name or a line of Apache's configuration. */
export const nasty = fc.constantFrom(
  ...[
    '\0',
    '\n',
    '\r',
    '\r\n',
    '\t',
    '\v',
    '\f',
    '\b',
    '\x1b[31m',
    '\x7f',
    '\x9b',
    '\u0085',
    '\u2028',
    '\u2029',
  ],
  ...[' ', '\u00a0', '\u3000', '\u200b', '\ufeff', '\u202e', '\ufffd', '\ud800', '\udfff', '💣'],
  ...[
    '\\',
    '\\\n',
    '"',
    "'",
    '`',
    '$',
    '$(id)',
    '$HOME',
    '%',
    '%25',
    '%{REMOTE_ADDR}',
    '#',
    ' # x',
    '|',
    ' | ',
    ';',
    '&',
  ],
  ...[
    ',',
    '-',
    '--',
    '+',
    '/',
    '//',
    '../',
    '.',
    '..',
    ':',
    '::',
    '@',
    '*',
    '<',
    '>',
    '=',
    '[',
    ']',
    '{',
    '}',
    '~',
    '!',
  ],
  ...[
    '\nRequire all granted\n',
    '</RequireAll>',
    ' not',
    ' all',
    'NaN',
    'null',
    'undefined',
    '__proto__',
    '0x',
    '1e9',
  ],
);

/** Digits, dots and letters of other scripts that look, or count, like those of an address. */
const LOOKALIKES: Record<string, readonly string[]> = {
  '.': ['。', '．', '․', '·', ',', '..', ' .'],
  ':': ['：', '∶', '%3A', ';', ':::'],
  '/': ['∕', '／', '\\', '//', '/ '],
  '1': ['١', '１', '¹', 'l', '01', '001', '0x1', '+1', '-1', '1e0', '1.0'],
  '2': ['٢', '２', '²', '02', '0x2', '256', '2_'],
  '0': ['٠', '０', 'o', 'O', '00', '000', '0000', '00000', '-0'],
  a: ['а', 'ａ', 'A', 'ä', '\u0061\u0301', '0xa'],
  f: ['F', 'ｆ', 'g', 'ff', 'fffff'],
};

/** Suffixes of an address that a careless parser accepts. */
const TAILS = [
  ...[
    '%eth0',
    '%1',
    '%',
    ':80',
    ']:80',
    '/0',
    '/00',
    '/08',
    '/8',
    '/32',
    '/33',
    '/64',
    '/128',
    '/129',
    '/-1',
    '/+8',
    '/8/8',
  ],
  ...[
    '/ 8',
    '/8 ',
    '/',
    '/x',
    '/1e1',
    '/8.0',
    '/٨',
    '/255.255.255.0',
    '/ffff::',
    '/4294967297',
    '/99999999999999999999',
  ],
  ...[
    ',203.0.113.6',
    ' 203.0.113.6',
    '-203.0.113.6',
    ' # why',
    '\\',
    '\\\n10',
    '\nRequire not ip 10',
    '\0',
    '\0.1',
    '.',
    '.1',
  ],
  ...[
    '::',
    ':',
    ':0',
    '.0',
    '.in-addr.arpa',
    ' all',
    '"',
    "'",
    '\r',
    '\n',
    '\t',
    '\u00a0',
    '\ufeff',
    '\u200b',
  ],
];

/** IPv6 in any spelling: with zeros, capitals, `::` for zeros, an IPv4 address at the end. */
const spelledIpv6 = fc
  .tuple(
    fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(0xffff), fc.constant(0xffff)), {
      minLength: 8,
      maxLength: 8,
    }),
    fc.array(fc.nat(3), { minLength: 8, maxLength: 8 }),
    fc.nat(8),
    fc.nat(8),
    fc.boolean(),
    fc.constantFrom('lower', 'upper', 'both'),
    fc.constantFrom(...['any', 'any', 'mapped', 'compatible', 'translated', 'documentation']),
  )
  .map(([numbers, zeros, from, length, isDotted, letters, kind]) => {
    const groups = [...numbers];
    if (kind === 'mapped') groups.splice(0, 6, 0, 0, 0, 0, 0, 0xffff);
    if (kind === 'compatible') groups.splice(0, 6, 0, 0, 0, 0, 0, 0);
    if (kind === 'translated') groups.splice(0, 6, 0x64, 0xff9b, 0, 0, 0, 0);
    if (kind === 'documentation') groups.splice(0, 2, 0x2001, 0xdb8);
    const words = groups.map((group, index) => group.toString(16).padStart(zeros[index] ?? 0, '0'));
    const [high = 0, low = 0] = groups.slice(6);
    if (isDotted) words.splice(6, 2, [high >> 8, high & 255, low >> 8, low & 255].join('.'));
    const isZero = (word: string | undefined) => word !== undefined && /^0+$/.test(word);
    let end = from;
    while (end - from < length && isZero(words[end])) end += 1;
    const text =
      end === from ? words.join(':') : `${words.slice(0, from).join(':')}::${words.slice(end).join(':')}`;
    if (letters === 'lower') return text;
    return letters === 'upper'
      ? text.toUpperCase()
      : text.replace(/[a-f](?=.)/, (letter) => letter.toUpperCase());
  });

/** Text of single addresses of all kinds, in all spellings. */
export const spelledAddress = fc.oneof(fc.ipV4(), spelledIpv6, fc.ipV6());
export const spelledRange = fc
  .tuple(spelledAddress, fc.oneof(fc.integer({ min: 1, max: 32 }), fc.integer({ min: 1, max: 128 })))
  .map(([host, bits]) => `${host}/${bits}`);

/** A text with one thing wrong, or another thing right. */
function mutation(text: string): fc.Arbitrary<string> {
  const at = fc.nat(text.length);
  const put = (index: number, part: string, gone = 0) =>
    text.slice(0, index) + part + text.slice(index + gone);
  return fc.oneof(
    fc.tuple(at, nasty).map(([index, part]) => put(index, part)),
    at.map((index) => put(index, '', 1)),
    at.map((index) => put(index, text.charAt(index).repeat(2), 1)),
    fc.tuple(at, fc.nat(6)).map(([index, choice]) => {
      const others = LOOKALIKES[text.charAt(index).toLowerCase()] ?? [];
      return put(index, others[choice % Math.max(1, others.length)] ?? text.charAt(index), 1);
    }),
    fc
      .tuple(at, fc.string({ minLength: 1, maxLength: 2, unit: 'binary' }))
      .map(([index, part]) => put(index, part, 1)),
    fc.constantFrom(...TAILS).map((tail) => text + tail),
    fc
      .constantFrom(...['[', ' ', '-', '0', '::', ':', '::ffff:', '0x', '+', '@', '\ufeff', '\0', '#', '!'])
      .map((head) => head + text),
    fc.constantFrom(
      text.toUpperCase(),
      text.toLowerCase(),
      `[${text}]`,
      `"${text}"`,
      text.normalize('NFD'),
      `${text} ${text}`,
    ),
    fc.integer({ min: 2, max: 400 }).map((times) => text.repeat(times)),
  );
}

/** Of what is changed once more. */
const LONGEST = 200;

/** The text itself, or changed in up to three places. */
export function mutated(texts: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const once = texts.chain(mutation);
  const short = (text: string) => text.slice(0, LONGEST);
  const twice = once.map(short).chain(mutation);
  return fc.oneof(
    { weight: 2, arbitrary: texts },
    { weight: 4, arbitrary: once },
    twice,
    twice.map(short).chain(mutation),
  );
}

/** Addresses and what is nearly one. */
export const addressLike = mutated(fc.oneof(spelledAddress, spelledRange));

/** Any text, of nasty parts mostly; now and then a long one. */
export const hostileText = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .array(fc.oneof(nasty, fc.string({ unit: 'binary', maxLength: 4 }), fc.string({ maxLength: 6 })), {
        maxLength: 8,
      })
      .map((parts) => parts.join('')),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(nasty, fc.integer({ min: 100, max: 3000 }))
      .map(([part, times]) => part.repeat(times)),
  },
);
