// Whatever text is given for an address: what glibc and Apache take it for is banned, and nothing else.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { applyEdits } from '../../src/banlist/ban-lines.ts';
import { changeList } from '../../src/banlist/change.ts';
import { isTooBroad, parseAddress, readAddress } from '../../src/bans/address.ts';
import type { Change } from '../../src/bans/change.ts';
import { cleanReason, isJailName } from '../../src/bans/hold.ts';
import { EXIT } from '../../src/system/errors.ts';
import { type Apache, startApache } from '../lab/apache.ts';
import { executable } from '../lab/banctl.ts';
import { casesOf } from '../lab/cases.ts';
import { addressLike, hostileText, mutated, nasty, spelledAddress, spelledRange } from '../lab/generate.ts';
import { type Network, networksOf, written } from '../lab/oracle.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute } from '../lab/wait.ts';

test('any text is taken for what glibc takes it for, or not at all', async (t) => {
  const texts = [...new Set(casesOf(t, 10_000, addressLike))];
  const networks = await networksOf(texts);
  texts.forEach((text, index) => {
    assert.equal(readAddress(text)?.text, networks[index]?.text, JSON.stringify(text));
  });
  const taken = networks.filter((network) => network !== undefined).length;
  t.diagnostic(`${texts.length} different texts, ${taken} of them addresses`);
  assert.ok(taken > texts.length / 5 && taken < texts.length / 2, 'many are addresses, and many are not');
});

test('a range is all that begins with its bits, to the first and the last address', async (t) => {
  const texts = casesOf(t, 2000, spelledRange);
  const networks = await networksOf(texts);
  texts.forEach((text, index) => {
    const network = networks[index];
    const range = readAddress(text);
    assert.equal(range === undefined, network === undefined, text);
    if (range === undefined || network === undefined) return;
    const bits = range.bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    const host = BigInt(range.bytes.length * 8 - range.prefix);
    assert.deepEqual([bits, bits + (1n << host) - 1n], [network.first, network.last], text);
  });
});

// Lists that are made of hostile words on top of what may stand there, and what Apache says of them.

const BASES = [
  ...[
    '',
    '# no end',
    '# banctl',
    '# swallows \\',
    '# swallows \\\n',
    '# swallows \\\r\n',
    'Require not ip 192.0.2.1',
  ],
  ...[
    'Require not ip 192.0.2.1\r\n',
    'Require not ip 192.0.2.1 \\\n 192.0.2.2',
    '\n\n\t\n',
    'Require \\\n not ip 192.0.2.1\n',
  ],
  ...[
    '# banctl | web 192.0.2.1 since 2026-01-01T00:00:00Z for ever\n',
    '<RequireAny>\nRequire all granted\n</RequireAny>',
  ],
];
const LAST = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;
const NOW = Date.UTC(2026, 0, 31, 12) / 1000;

const request = fc.record({
  text: mutated(fc.oneof(spelledAddress, spelledRange)),
  holder: fc.oneof(fc.constantFrom('web', 'manual'), mutated(fc.constantFrom('web', 'jail-1', 'a:b'))),
  reason: fc.oneof(
    hostileText,
    fc.tuple(hostileText, nasty).map((parts) => parts.join('')),
    fc.constant('\\'),
  ),
  since: fc.option(fc.nat(LAST), { nil: undefined }),
  duration: fc.option(fc.nat(LAST)),
});
const madeOf = fc.record({
  base: fc.constantFrom(...BASES),
  requests: fc.array(request, { minLength: 1, maxLength: 12 }),
});

/** What Apache makes of a text: its lines, continued ones joined, without comments. Not banctl's own reading. */
function directivesOf(text: string): string[] {
  const lines = text.replace(/\\\r?\n/g, '').split('\n');
  return lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
}

/** What Apache's own test says of each text as a list; empty if it takes them all. */
async function refusedByApache(texts: readonly string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-hostile-'));
  try {
    mkdirSync(join(directory, 'lists'));
    const modules = ['mpm_event', 'authz_core', 'authz_host'].map(
      (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
    );
    const sections = texts.map((text, index) => {
      const list = join(directory, 'lists', `${index}.conf`);
      writeFileSync(list, text);
      return `<Location "/${index}">\n<RequireAll>\nRequire all granted\nInclude ${list}\n</RequireAll>\n</Location>`;
    });
    const config = join(directory, 'httpd.conf');
    const lines = [`ErrorLog ${directory}/error.log`, `PidFile ${directory}/pid`, 'ServerName localhost'];
    writeFileSync(config, [...lines, ...modules, ...sections, ''].join('\n'));
    const { exitCode, stderr } = await execute('apache2', ['-t', '-f', config]);
    return exitCode === 0 ? '' : stderr;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('what is made of any words is a list that Apache takes, with the asked bans and no other', async (t) => {
  const made = casesOf(t, 300, madeOf);
  const networks = await networksOf(made.flatMap(({ requests }) => requests.map(({ text }) => text)));
  let next = 0;
  let bans = 0;
  const lists: string[] = [];
  for (const { base, requests } of made) {
    const asked = requests.map((one) => ({ ...one, network: networks[next++] }));
    const taken = asked.filter(({ network }) => network !== undefined);
    const changes = taken.map(
      ({ text, holder, reason, since, duration }): Change => ({
        verb: 'add',
        target: parseAddress(text).text,
        hold: {
          holder: isJailName(holder) ? holder : 'manual',
          address: parseAddress(text).text,
          since,
          duration,
          reason: cleanReason(reason),
        },
      }),
    );
    const before = Buffer.from(base);
    const after = Buffer.concat(applyEdits(before, changeList(before, changes, NOW).edits)).toString();
    const wanted = new Set([
      ...directivesOf(base),
      ...taken.map(({ network }) => `Require not ip ${network?.text}`),
    ]);
    assert.deepEqual(directivesOf(after).sort(), [...directivesOf(base), ...wanted].filter(isFirst).sort());
    bans += taken.length;
    lists.push(after);
  }
  // In portions of what one configuration can hold.
  for (let at = 0; at < lists.length; at += 300)
    assert.equal(await refusedByApache(lists.slice(at, at + 300)), '');
  t.diagnostic(`${lists.length} lists, ${bans} bans`);
  assert.ok(bans > lists.length, 'many words are addresses');
});

test('Apache does refuse a list with one bad line: the proof can fail', async () => {
  assert.match(
    await refusedByApache(['Require not ip 192.0.2.1\n', 'Require not ip 1.2.3\\.4\n']),
    /1\.conf/,
  );
});

test('a ban has no more holds than Apache can read in a line', async () => {
  const reason = '💣'.repeat(500);
  const holdOf = (index: number): Change => ({
    verb: 'add',
    target: '2001:db8::/64',
    hold: {
      holder: 'web',
      address: `2001:db8::${(index + 1).toString(16)}`,
      since: NOW,
      duration: null,
      reason,
    },
  });
  const one = Buffer.concat(applyEdits(Buffer.from(''), changeList(Buffer.from(''), [holdOf(0)], NOW).edits));
  const [comment = '', deny = ''] = one.toString().split('\n');
  const held = comment.replace(/^# banctl /, '');
  // Many holds that are alike, as short a way as there is to the longest line.
  const most = Math.floor((2 ** 24 - 2 ** 11) / Buffer.byteLength(`${held} `));
  const full = Buffer.from(`# banctl ${Array(most).fill(held).join(' ')}\n${deny}\n`);
  assert.equal(await refusedByApache([full.toString()]), '');
  assert.throws(() => changeList(full, [holdOf(1), holdOf(2)], NOW), {
    exitCode: EXIT.cannotWrite,
    message: /^2001:db8::\/64 would have more holds than fit into a line of Apache's$/,
  });
});

function isFirst<T>(one: T, index: number, all: readonly T[]): boolean {
  return all.indexOf(one) === index;
}

// A real Apache, and visitors at the edges of what was asked for.

const VISITORS_AT_ONCE = 20;
/** With broader ones, no address would be outside. */
const NARROWEST = { 4: 12n, 6: 20n };

const isInside = (network: Network, family: number, bits: bigint) =>
  network.family === family && network.first <= bits && bits <= network.last;

/** Not what mod_remoteip trusts here as a proxy, nor an IPv4 visitor in IPv6's clothes. */
function canVisit(family: number, bits: bigint): boolean {
  if (family === 4) return bits > 0n && bits < 0xffff_ffffn && bits >> 24n !== 127n;
  return bits > 1n && bits < 1n << 128n && bits >> 32n !== 0xffffn;
}

/** The first, the last and one in between, and the neighbours outside. */
function visitorsOf({ family, first, last }: Network): { family: 4 | 6; bits: bigint }[] {
  const between = first + ((last - first) * 5n) / 7n;
  return [first - 1n, first, between, last, last + 1n].flatMap((bits) =>
    canVisit(family, bits) ? [{ family, bits }] : [],
  );
}

async function statuses(
  apache: Apache,
  visitors: readonly { family: 4 | 6; bits: bigint }[],
): Promise<number[]> {
  const got: number[] = new Array(visitors.length).fill(0);
  let next = 0;
  const visit = async () => {
    for (;;) {
      const index = next++;
      const visitor = visitors[index];
      if (visitor === undefined) return;
      got[index] = await apache.get('/', { from: written(visitor.family, visitor.bits) });
    }
  };
  await Promise.all(Array.from({ length: VISITORS_AT_ONCE }, visit));
  return got;
}

suite('a real Apache refuses exactly what was asked for', () => {
  const ROUNDS = TORTURE;
  const TEXTS = 50;
  for (const place of ['the list', 'the directory']) {
    test(`in ${place}, in any spelling, and lets all in again`, async (t) => {
      const spelled = mutated(fc.oneof({ weight: 3, arbitrary: spelledAddress }, spelledRange));
      const texts = casesOf(t, TEXTS * 6, spelled);
      const networks = await networksOf(texts);
      const usable = networks.flatMap((network, index) => {
        const text = texts[index] ?? '';
        if (network === undefined || !canVisit(network.family, network.first)) return [];
        const size = network.last - network.first + 1n;
        const isNarrow = size <= 1n << ((network.family === 4 ? 32n : 128n) - NARROWEST[network.family]);
        return isNarrow && text.length < 100 ? [{ text, network }] : [];
      });
      assert.ok(usable.length > TEXTS * ROUNDS, `only ${usable.length} can be used`);
      await using apache = await startApache({ remoteip: true });
      const options = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
      if (place === 'the directory') options.push(`--bandir=${apache.bandir}`);
      const config = join(apache.dir, 'banctl.json');
      writeFileSync(config, '{}');
      const done = async (...args: string[]) => {
        const { exitCode, stderr } = await execute(executable, [
          ...args.slice(0, 1),
          `--config=${config}`,
          ...options,
          ...args.slice(1),
        ]);
        assert.deepEqual([exitCode, stderr], [0, '']);
      };
      let visits = 0;
      for (let round = 0; round < ROUNDS; round += 1) {
        const asked = usable.slice(round * TEXTS, (round + 1) * TEXTS);
        const visitors = asked.flatMap(({ network }) => visitorsOf(network));
        const told = (banned: readonly Network[]) =>
          visitors.map(({ family, bits }) => {
            const isBanned = banned.some((network) => isInside(network, family, bits));
            return `${written(family, bits)} ${isBanned ? 403 : 200}`;
          });
        const seen = async () => {
          const got = await statuses(apache, visitors);
          visits += got.length;
          return visitors.map(({ family, bits }, index) => `${written(family, bits)} ${got[index]}`);
        };
        await done('ban', '--force', '--', ...asked.map(({ text }) => text));
        assert.deepEqual(await seen(), told(asked.map(({ network }) => network)));
        // Every other one goes; what another ban covers stays refused.
        const [gone, left] = [
          asked.filter((_, index) => index % 2 === 0),
          asked.filter((_, index) => index % 2 === 1),
        ];
        const same = left.map(({ network }) => network.text);
        const freed = gone.filter(({ network }) => !same.includes(network.text));
        await done('unban', '--no-fail2ban', '--', ...freed.map(({ network }) => respelled(network)));
        const banned = asked.filter((one) => !freed.includes(one));
        assert.deepEqual(await seen(), told(banned.map(({ network }) => network)));
        await done('unban', '--no-fail2ban', '--', ...banned.map(({ text }) => text));
        assert.deepEqual(await seen(), told([]));
        assert.equal(readFileSync(apache.banlist, 'utf8'), '');
      }
      t.diagnostic(`${TEXTS * ROUNDS} bans, ${visits} requests`);
    });
  }
});

/** Another text for the same. */
function respelled({ family, first, text }: Network): string {
  const prefix = text.split('/')[1];
  return `${written(family, first).toUpperCase()}${prefix === undefined ? '' : `/${prefix}`}`;
}

test('what is too broad is so by the number of addresses in it', async (t) => {
  const texts = casesOf(t, 2000, spelledRange);
  const networks = await networksOf(texts);
  texts.forEach((text, index) => {
    const network = networks[index];
    if (network === undefined) return;
    const most = network.family === 4 ? 1n << 24n : 1n << 109n;
    assert.equal(isTooBroad(parseAddress(text)), network.last - network.first + 1n > most, text);
  });
});
