// Whatever options, environment, configuration file and standard input say: it is done as it was asked for, or refused
// by an exit code of the contract and one line, with the list as it was.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { bansOf, denyLines } from '../../src/banlist/ban-lines.ts';
import { cleanReason, holderOf, MANUAL } from '../../src/bans/hold.ts';
import { OPTION_NAMES, type OptionName, optionOf } from '../../src/cli/options.ts';
import { resolveSettings, type Settings } from '../../src/cli/settings.ts';
import { protectedRanges } from '../../src/protection/protection.ts';
import { BanctlError, EXIT } from '../../src/system/errors.ts';
import { executable } from '../lab/banctl.ts';
import { casesOf, holds } from '../lab/cases.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { addressLike, hostileText, mutated, spelledAddress } from '../lab/generate.ts';
import { networksOf } from '../lab/oracle.ts';
import { execute, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const TEXT = `# by hand\nRequire not ip 192.0.2.1\n# banctl | web 192.0.2.2 since 2026-01-01T00:00:00Z for ever\nRequire not ip 192.0.2.2\n`;
const LAST = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;
const directory = mkdtempSync(join(tmpdir(), 'banctl-options-'));
after(() => rmSync(directory, { recursive: true }));
const empty = file('empty.json', '{}');

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

// The settings, in this process.

const plausible: Partial<Record<OptionName, fc.Arbitrary<string>>> = {
  since: mutated(
    fc.constantFrom('1767225600', '2026-01-31T12:00:00Z', '2026-01-31 12:00:00+01:00', '0', '253402300799'),
  ),
  for: mutated(fc.constantFrom('600', '10m', '1h', '7d', '-1', '0', '1.5h', '99999999999999999999')),
  jail: mutated(fc.constantFrom('web', 'djangoapp-admin-login', 'a:b', 'ä')),
  to: mutated(fc.constantFrom('bandir', 'banlist')),
  protect: fc.oneof(
    addressLike,
    addressLike.map((text) => `@${text}`),
  ),
  'ipv4-prefix': mutated(fc.constantFrom('24', '32', '1', '0', '33')),
  'ipv6-prefix': mutated(fc.constantFrom('64', '128', '1', '0', '129')),
  'reload-interval': mutated(fc.constantFrom('2', '0', '0.5', '86400', '86401', '1e3')),
  'lock-timeout': mutated(fc.constantFrom('20', '0', '0.5', '86400', '-1')),
};
const path = mutated(fc.constantFrom('/nonexistent/banlist.conf', 'banlist.conf', '../x', '/', '.', '/tmp/'));
const option = fc
  .constantFrom(...OPTION_NAMES.filter((name) => name !== 'config'))
  .chain((name) =>
    fc.tuple(fc.constant(name), fc.oneof(plausible[name] ?? path, plausible[name] ?? path, hostileText)),
  );

function isSane({
  prefixes,
  reloadInterval,
  lockTimeout,
  since,
  duration,
  jail,
  reason,
  ...settings
}: Settings): void {
  const isIn = (number: number, least: number, most: number) => number >= least && number <= most;
  assert.ok(Number.isInteger(prefixes.ipv4) && isIn(prefixes.ipv4, 1, 32));
  assert.ok(Number.isInteger(prefixes.ipv6) && isIn(prefixes.ipv6, 1, 128));
  assert.ok(isIn(reloadInterval, 0, 86_400) && isIn(lockTimeout, 0, 86_400));
  assert.ok(
    since === undefined || typeof since === 'object' || (Number.isInteger(since) && isIn(since, 0, LAST)),
  );
  assert.ok(duration === null || duration >= 0);
  // Any name that fail2ban takes; what cannot stand in a line of text is refused.
  assert.ok(jail === undefined || /^[^\p{Cc}\p{Cs}\ufffd]+$/u.test(jail), jail);
  assert.ok(reason === null || /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]*[^\s\\]$/u.test(reason), reason ?? '');
  for (const name of [settings.banlist, settings.bandir, settings.fail2banDatabase, settings.fail2banClient])
    assert.ok(name === undefined || !/[\0\ufffd]/.test(name), name);
  assert.ok(settings.bandir === undefined || /^[^\s"'%\\$`\p{C}]+$/u.test(settings.bandir));
}

/** Undefined if they are refused, as they must be. */
function read(settings: () => Settings, codes: readonly number[]): Settings | undefined {
  try {
    return settings();
  } catch (error) {
    assert.ok(error instanceof BanctlError, String(error));
    assert.ok(codes.includes(error.exitCode), `${error.exitCode}: ${error.message}`);
    return undefined;
  }
}

function tellShare(t: TestContext, all: number, right: number): void {
  t.diagnostic(`${all} tried, ${right} taken`);
  assert.ok(right > all / 40 && right < all, `${right} of ${all} were taken`);
}

suite('any value', () => {
  const fields = { all: 0, right: 0 };
  const noFile = { BANCTL_CONFIG: empty };
  const textOf = (name: OptionName, text: string) => (optionOf(name).kind === 'flag' ? true : [text]);

  test('of an option gives settings that make sense, or is refused with 64, or 78 for a path', async (t) => {
    const count = { ...fields };
    await holds(t, 1000, option, ([name, text]) => {
      count.all += 1;
      const settings = read(
        () => resolveSettings({ [name]: textOf(name, text) }, noFile),
        [EXIT.usage, EXIT.notUnderstood],
      );
      if (settings === undefined) return;
      count.right += 1;
      isSane(settings);
      if (name === 'banlist' && text !== '') assert.ok(settings.banlist.startsWith('/'));
    });
    tellShare(t, count.all, count.right);
  });

  test('means the same in the environment, a comma apart, and in the file, where it is wrong with 78', async (t) => {
    const count = { ...fields };
    const config = join(directory, 'same.json');
    await holds(t, 500, option, ([name, text]) => {
      const { kind } = optionOf(name);
      // A root that the configuration names cannot move the configuration.
      if (name === 'root') return;
      // The environment has no NUL and no half a character, and divides lists.
      if (kind === 'flag' || /[\0,\ud800-\udfff]/u.test(text) || (kind === 'values' && text.trim() !== text))
        return;
      count.all += 1;
      const codes = [EXIT.usage, EXIT.notUnderstood];
      const byLine = read(() => resolveSettings({ [name]: [text] }, noFile), codes);
      const variable = `BANCTL_${name.toUpperCase().replaceAll('-', '_')}`;
      assert.deepEqual(
        read(() => resolveSettings({}, { ...noFile, [variable]: text }), codes),
        byLine,
      );
      writeFileSync(config, JSON.stringify({ [name]: text }));
      const byFile = read(() => resolveSettings({}, { BANCTL_CONFIG: config }), [EXIT.notUnderstood]);
      assert.deepEqual(byFile && { ...byFile, config: empty }, byLine);
      if (byLine !== undefined) count.right += 1;
    });
    tellShare(t, count.all, count.right);
  });
});

// Configuration files.

const json = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }),
  hostileText,
  fc.double(),
  fc.array(addressLike, { maxLength: 4 }),
  fc.boolean(),
);
const key = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom<string>(...OPTION_NAMES) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty', 'banList', '', '_'),
  },
);
/** Written by hand: a dictionary would swallow `__proto__` and what stands there twice. */
const document = fc
  .array(fc.tuple(key, json), { maxLength: 5 })
  .map(
    (pairs) =>
      `{${pairs.map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(', ')}}`,
  );
const deep = fc
  .tuple(fc.constantFrom('[', '{"a":', '[[],'), fc.integer({ min: 1, max: 50_000 }))
  .map(([part, times]) => `{"protect": ${part.repeat(times)}`);
const spoilt = fc.oneof(
  mutated(document),
  document.map((text) => `\ufeff${text}`),
  document.map((text) => text.replace(/: [^,}]+/, ': NaN')),
  document.map((text) => text.slice(0, -1)),
  document.map((text) => `${text}${text}`),
  document.map((text) => text.replace('}', ', }')),
  document.map((text) => `// why\n${text}`),
  document.map((text) => text.replaceAll('"', "'")),
  deep,
  fc.constantFrom('', ' ', 'null', 'true', '0', '"x"', '[]', '[{}]', '{}', '{', '\0', '{"a": 1}', '-'),
);

suite('any configuration file', () => {
  test('gives settings that make sense, or is exit 78', async (t) => {
    let all = 0;
    let right = 0;
    const config = join(directory, 'any.json');
    const one = fc.oneof(document, spoilt, fc.uint8Array({ maxLength: 50 }));
    await holds(t, 1000, one, (content) => {
      all += 1;
      writeFileSync(config, content);
      const settings = read(() => resolveSettings({}, { BANCTL_CONFIG: config }), [EXIT.notUnderstood]);
      if (settings === undefined) return;
      right += 1;
      isSane(settings);
      assert.ok(
        Object.keys(JSON.parse(Buffer.from(content).toString())).every((name) =>
          OPTION_NAMES.includes(name as OptionName),
        ),
      );
    });
    tellShare(t, all, right);
    assert.deepEqual(Object.keys({}.constructor.prototype), [], 'no prototype was changed');
  });
});

suite('any file of protected ranges', () => {
  const CLOUDFRONT = 'CLOUDFRONT_ORIGIN_FACING';
  const entry = fc.tuple(
    fc.constantFrom(CLOUDFRONT, CLOUDFRONT, 'EC2'),
    addressLike,
    fc.constantFrom('ip_prefix', 'ipv6_prefix', 'ip'),
  );
  const amazon = fc.array(entry, { maxLength: 3 }).map((entries) =>
    JSON.stringify({
      prefixes: entries.map(([service, text, name]) => ({ service, [name]: text })),
      ipv6_prefixes: [],
    }),
  );
  const lines = fc.array(fc.oneof(addressLike, fc.constantFrom('# why', '', '192.0.2.0/24 # office')), {
    maxLength: 3,
  });

  test('protects all that it names, or is exit 78', async (t) => {
    const path = join(directory, 'ranges');
    const texts = casesOf(
      t,
      400,
      fc.oneof(
        lines.map((some) => some.join('\n')),
        lines.map((some) => some.join('\r\n')),
        amazon,
        mutated(amazon),
        hostileText,
      ),
    );
    let right = 0;
    for (const text of texts) {
      writeFileSync(path, text);
      try {
        const ranges = protectedRanges({ protect: [`@${path}`] }).map((range) => range.text);
        right += 1;
        const named = text.trimStart().startsWith('{')
          ? [...JSON.parse(text).prefixes]
              .filter(({ service }) => service === CLOUDFRONT)
              .map((one) => one.ip_prefix ?? one.ipv6_prefix)
          : text
              .split('\n')
              .map((line) => line.replace(/#.*/, '').trim())
              .filter(Boolean);
        // Against glibc in one go below would be slower than all the rest: the texts are what the oracle has been asked.
        for (const one of named) seen.push([one, ranges]);
      } catch (error) {
        assert.ok(error instanceof BanctlError && error.exitCode === EXIT.notUnderstood, String(error));
      }
    }
    const networks = await networksOf(seen.map(([one]) => one));
    seen.forEach(([one, ranges], index) => {
      assert.ok(ranges.includes(networks[index]?.text ?? ''), JSON.stringify(one));
    });
    tellShare(t, texts.length, right);
  });
  const seen: [string, string[]][] = [];
});

// The executable.

type Called = { exitCode: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string };
type How = { env?: NodeJS.ProcessEnv; input?: string | Uint8Array; stdin?: number; through?: string[] };

async function call(
  args: readonly string[],
  { env = {}, input = '', stdin, through = [] }: How = {},
): Promise<Called> {
  const [program = '', ...rest] = [...through, executable, ...args];
  const child = spawn(program, rest, {
    env: {
      PATH: process.env.PATH,
      BANCTL_CONFIG: empty,
      BANCTL_NO_RELOAD: '1',
      BANCTL_NO_FAIL2BAN: '1',
      ...env,
    },
    stdio: [stdin ?? 'pipe', 'pipe', 'pipe'],
    timeout: 120_000,
  });
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text) => (stderr += text));
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  const [exitCode, signal] = await once(child, 'close');
  return { exitCode, signal, stdout, stderr };
}

function temporaryList() {
  const folder = mkdtempSync(join(directory, 'list-'));
  const banlist = join(folder, 'banlist.conf');
  writeFileSync(banlist, TEXT);
  return {
    folder,
    banlist,
    text: () => readFileSync(banlist, 'utf8'),
    files: () => readdirSync(folder).sort(),
  };
}

/** Refused as the contract says, by one line that can be shown, and the list is as it was. */
function assertRefused(
  list: ReturnType<typeof temporaryList>,
  { exitCode, signal, stdout, stderr }: Called,
  codes: readonly number[],
): void {
  assert.equal(signal, null, stderr);
  assert.ok(codes.includes(exitCode ?? -1), `exit ${exitCode}: ${stderr}`);
  assert.equal(stdout, '');
  assert.match(stderr, /^banctl: [^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]+\n$/u);
  assert.doesNotMatch(stderr, /bug in banctl| at .*:\d+:\d+/);
  assert.equal(list.text(), TEXT);
  assert.deepEqual(list.files(), ['banlist.conf']);
}

/** The bans that are there beyond those that were. */
function added(list: ReturnType<typeof temporaryList>) {
  const text = list.text();
  assert.ok(text.startsWith(TEXT), text);
  return bansOf(denyLines(Buffer.from(text.slice(TEXT.length))));
}

/** Some at a time, in the order given. */
async function inTurn<T>(cases: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = [...cases];
  const next = async () => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one);
  };
  await Promise.all([next(), next()]);
}

const argument = (texts: fc.Arbitrary<string>) =>
  texts.map((text) => text.replaceAll('\0', '')).filter((text) => text.isWellFormed());

suite('any call of ban', () => {
  /** Right ones mostly, or a call with one right option in six would be rare. */
  const mostly = (right: fc.Arbitrary<string>, any: fc.Arbitrary<string> | undefined) =>
    argument(fc.oneof({ weight: 9, arbitrary: right }, any ?? hostileText));
  const called = fc.record(
    {
      address: mostly(spelledAddress, addressLike),
      reason: argument(hostileText),
      jail: mostly(fc.constantFrom('web', 'a-b', 'ä'), plausible.jail),
      for: mostly(fc.constantFrom('600', '-1', '1.5h', ''), plausible.for),
      since: mostly(fc.constantFrom('1767225600', '2026-01-31', ''), plausible.since),
      protect: mostly(fc.constantFrom('192.0.2.0/24', `@${file('nobody', '')}`), plausible.protect),
      'ipv6-prefix': mostly(fc.constantFrom('64', '128'), plausible['ipv6-prefix']),
    },
    { requiredKeys: ['address'] },
  );

  for (const way of ['on the line', 'in the environment', 'in the file'] as const) {
    test(`with its options ${way} bans the one address, by that holder and for that reason, or nothing`, async (t) => {
      const cases = casesOf(t, 12, called);
      const networks = await networksOf(cases.map(({ address }) => address));
      const tried = cases.map((one, index) => ({
        one,
        network: networks[index],
        config: join(directory, `${way}-${index}.json`),
      }));
      let right = 0;
      await inTurn(tried, async ({ one: { address, ...options }, network, config }) => {
        const list = temporaryList();
        const given = Object.entries(options);
        const env: NodeJS.ProcessEnv = { BANCTL_BANLIST: list.banlist };
        const line: string[] = [];
        if (way === 'on the line') for (const [name, value] of given) line.push(`--${name}=${value}`);
        if (way === 'in the environment')
          for (const [name, value] of given) env[`BANCTL_${name.toUpperCase().replace('-', '_')}`] = value;
        if (way === 'in the file') {
          writeFileSync(config, JSON.stringify(options));
          env.BANCTL_CONFIG = config;
        }
        const answer = await call(['ban', ...line, '--', address], { env });
        if (answer.exitCode !== 0) {
          assertRefused(list, answer, [EXIT.usage, EXIT.notPermitted, EXIT.notUnderstood]);
          return;
        }
        right += 1;
        const [ban, ...others] = added(list);
        assert.deepEqual(others, []);
        const prefix = Number(options['ipv6-prefix'] || 128);
        const [hold, ...more] = ban?.holds ?? [];
        assert.deepEqual(more, []);
        assert.equal(hold?.address, network?.text, address);
        if (network?.family === 4 || network?.text.includes('/') || prefix === 128)
          assert.equal(ban?.address, network?.text);
        else assert.match(ban?.address ?? '', new RegExp(`/${prefix}$`));
        assert.equal(hold?.holder, options.jail ? holderOf(options.jail) : MANUAL);
        assert.equal(hold?.reason, cleanReason(options.reason ?? ''));
      });
      t.diagnostic(`${cases.length} calls, ${right} done`);
      assert.ok(right > 0);
    });
  }
});

suite('bytes that are not UTF-8', () => {
  const names: OptionName[] = ['banlist', 'bandir', 'jail', 'fail2ban-client', 'apachectl', 'reload-command'];
  for (const way of ['on the line', 'in the environment'])
    test(`${way} name no other file, program or jail: exit 64`, async () => {
      await inTurn(names, async (name) => {
        const list = temporaryList();
        // A shell makes the byte: Node would write it as UTF-8.
        const spoilt = `$(printf '${list.folder.replaceAll('-', '\\055')}/x\\377')`;
        const variable = `BANCTL_${name.toUpperCase().replaceAll('-', '_')}`;
        const script =
          way === 'on the line' ? `exec "$@" "--${name}=${spoilt}"` : `${variable}="${spoilt}" exec "$@"`;
        const command = name === 'fail2ban-client' ? 'unban' : 'ban';
        const answer = await call([command, A], {
          env: { BANCTL_BANLIST: list.banlist },
          through: ['sh', '-c', script, 'sh'],
        });
        assertRefused(list, answer, [EXIT.usage]);
        assert.ok(answer.stderr.includes(`--${name}`), answer.stderr);
      });
    });

  test('in a reason become one that can be read', async () => {
    const list = temporaryList();
    const script = `exec "$@" "--reason=$(printf 'a\\377b\\300\\200')"`;
    const { exitCode } = await call(['ban', A], {
      env: { BANCTL_BANLIST: list.banlist },
      through: ['sh', '-c', script, 'sh'],
    });
    assert.equal(exitCode, 0);
    assert.match(added(list)[0]?.holds[0]?.reason ?? '', /^a\ufffdb\ufffd+$/);
  });
});

suite('a path', () => {
  const long = (length: number) => join(directory, 'a'.repeat(length));
  const levels = join(directory, 'a/'.repeat(3000));
  const lists: [string, number[]][] = [
    ...[215, 225, 240, 250, 255, 256, 5000].map((length): [string, number[]] => [
      long(length),
      [EXIT.done, EXIT.cannotWrite, EXIT.notUnderstood],
    ]),
    ...[
      levels,
      '/proc/self/x',
      '/proc/self/cmdline',
      '/proc/self/mem',
      '/proc/self/fd/0',
      '/dev/null',
      '/dev/zero',
      '/dev/null/x',
      '/',
      '.',
      '/nonexistent/x',
    ].map((name): [string, number[]] => [name, [EXIT.cannotWrite, EXIT.notUnderstood]]),
  ];
  test('of an impossible list is reported at once, whatever it is', async () => {
    await inTurn(lists, async ([banlist, codes]) => {
      const list = temporaryList();
      const answer = await call(['ban', A, `--banlist=${banlist}`]);
      assert.ok(
        codes.includes(answer.exitCode ?? -1),
        `${banlist.slice(0, 80)}: ${answer.exitCode} ${answer.stderr.slice(0, 200)}`,
      );
      if (answer.exitCode === 0)
        assert.match(readFileSync(banlist, 'utf8'), /^Require not ip 203\.0\.113\.5$/m);
      else assertRefused(list, answer, codes);
    });
  });

  test('of a ban directory too, and what a line of Apache cannot name is refused', async () => {
    const deepest = join(directory, 'b/'.repeat(Math.floor((4060 - directory.length) / 2)));
    const places: [string, number[]][] = [
      ...[deepest, levels, long(256), '/dev/null', '/dev/null/x', '/proc/self/x', list0()].map(
        (name): [string, number[]] => [name, [EXIT.cannotWrite, EXIT.notUnderstood]],
      ),
      ...[
        '/tmp/a b',
        '/tmp/a"b',
        "/tmp/a'b",
        '/tmp/%{x}',
        '/tmp/a\nb',
        '/tmp/$x',
        '/tmp/a\\',
        '/tmp/a\u2028b',
        '/tmp/a`b',
      ].map((name): [string, number[]] => [name, [EXIT.usage]]),
    ];
    await inTurn(places, async ([bandir, codes]) => {
      const list = temporaryList();
      const answer = await call(['ban', A, `--bandir=${bandir}`], { env: { BANCTL_BANLIST: list.banlist } });
      assertRefused(list, answer, codes);
    });
  });
  const list0 = () => file('no-directory', '');
});

suite('what is too large, or has no end', () => {
  const big = join(directory, 'sparse');
  const fifo = join(directory, 'fifo');
  const sources = async () => {
    writeFileSync(big, '');
    truncateSync(big, 5 * 2 ** 30);
    await execute('mkfifo', [fifo]);
    return [big, '/dev/zero', '/dev/full', fifo, '/', directory, '/nonexistent'];
  };
  test('as configuration or protected ranges is exit 78', async () => {
    const calls = (await sources()).flatMap((source) => [`--config=${source}`, `--protect=@${source}`]);
    await inTurn(calls, async (line) => {
      const list = temporaryList();
      assertRefused(list, await call(['ban', A, line], { env: { BANCTL_BANLIST: list.banlist } }), [
        EXIT.notUnderstood,
      ]);
    });
  });

  test('a configuration that is nested deeply, or a pipe with one, is read as any other', async () => {
    for (const [content, code] of [
      [`{"protect": ${'['.repeat(400_000)}${']'.repeat(400_000)}}`, EXIT.notUnderstood],
      ['['.repeat(1_000_000), EXIT.notUnderstood],
      [`{"reason": "${'x'.repeat(1_000_000)}"}`, EXIT.done],
      [`{"reason": "${'x'.repeat(1_100_000)}"}`, EXIT.notUnderstood],
    ] as const) {
      const list = temporaryList();
      const answer = await call(['ban', A, '--config=/dev/stdin'], {
        env: { BANCTL_BANLIST: list.banlist },
        through: ['sh', '-c', 'cat | "$@"', 'sh'],
        input: content,
      });
      if (code === EXIT.done)
        assert.deepEqual([answer.exitCode, added(list)[0]?.holds[0]?.reason], [0, 'x'.repeat(500)]);
      else assertRefused(list, answer, [code]);
    }
  });

  test('LC_ALL names no file for the texts of the help', async () => {
    const texts = file('texts.json', '{"Commands:": "Befehle:", "Options:": 5}');
    const answers = await Promise.all(
      [texts.replace('.json', ''), 'de_DE.UTF-8', directory].map((LC_ALL) =>
        call(['--help'], { env: { LC_ALL } }),
      ),
    );
    const plain = await call(['--help']);
    for (const answer of answers) assert.deepEqual(answer, plain);
  });
});

suite('standard input', () => {
  const bans = async (input: string | Uint8Array, how: How = {}) => {
    const list = temporaryList();
    const answer = await call(['ban', '-'], { env: { BANCTL_BANLIST: list.banlist }, input, ...how });
    return { list, answer };
  };

  test('of any lines bans all of them, or nothing if one is bad', async (t) => {
    const lines = fc.array(
      fc.oneof({ weight: 12, arbitrary: spelledAddress }, { weight: 1, arbitrary: addressLike }),
      { minLength: 1, maxLength: 12 },
    );
    const end = fc.constantFrom('\n', '\r\n', '\n\n', ' \n', '\t\r\n');
    const cases = casesOf(t, 12, fc.record({ lines, end, isEnded: fc.boolean() }));
    const inputs = cases.map(({ lines, end, isEnded }) => {
      const input = Buffer.from(lines.join(end) + (isEnded ? end : ''));
      // As block lists are written, with comments and commas.
      const words = input
        .toString()
        .split('\n')
        .flatMap((line) => line.slice(0, `${line}#`.search(/[#;]/)).split(','));
      return { input, asked: words.map((word) => word.trim()).filter(Boolean) };
    });
    const all = await networksOf(inputs.flatMap(({ asked }) => asked));
    const tried = inputs.map(({ input, asked }) => ({ input, networks: all.splice(0, asked.length) }));
    let right = 0;
    await inTurn(tried, async ({ input, networks }) => {
      const { list, answer } = await bans(input);
      if (answer.exitCode !== 0) {
        assertRefused(list, answer, [EXIT.usage, EXIT.notPermitted]);
        assert.equal(
          answer.exitCode === EXIT.usage,
          networks.includes(undefined) || networks.length === 0,
          answer.stderr,
        );
        return;
      }
      right += 1;
      const wanted = new Set(networks.map((network) => network?.text));
      assert.deepEqual(new Set(added(list).map((ban) => ban.address)), wanted);
    });
    t.diagnostic(`${cases.length} calls, ${right} done`);
    assert.ok(right > 0);
  });

  test('that is binary, one huge line or without end is exit 64, and nothing is changed', async () => {
    const random = Buffer.from(Array.from({ length: 100_000 }, () => Math.random() * 256));
    const inputs = [
      random,
      Buffer.alloc(100_000),
      '1'.repeat(30_000_000),
      Buffer.from([0xff, 0xfe, 0x31]),
      `${A}\0\n`,
      '\r'.repeat(1000),
      '',
    ];
    for (const input of inputs) {
      const { list, answer } = await bans(input);
      assertRefused(list, answer, [EXIT.usage]);
      assert.ok(answer.stderr.length < 2000);
    }
    for (const [path, flags] of [
      ['/dev/zero', 'r'],
      ['/', 'r'],
      [join(directory, 'written'), 'w'],
    ] as const) {
      const { list, answer } = await bans('', { stdin: openSync(path, flags) });
      assertRefused(list, answer, [EXIT.usage]);
    }
  });

  test('is waited for, even if another program made the pipe non-blocking', async () => {
    const nonBlocking = 'import os, sys; os.set_blocking(0, False); os.execv(sys.argv[1], sys.argv[1:])';
    const list = temporaryList();
    const script = `{ sleep 0.3; echo ${A}; } | /usr/bin/python3 -I -c "$0" "$@"`;
    const answer = await call(['ban', '-'], {
      env: { BANCTL_BANLIST: list.banlist },
      through: ['sh', '-c', script, nonBlocking],
    });
    assert.deepEqual([answer.exitCode, added(list).map((ban) => ban.address)], [0, [A]], answer.stderr);
  });

  test('of 100,000 lines is done in one change, and 20,000 of it undone in one; with one bad line nothing is', async () => {
    const many = Array.from(
      { length: 100_000 },
      (_, index) => `2001:DB8:0:0:${(index >> 8).toString(16)}::${(index & 255).toString(16)}`,
    );
    const spoilt = [...many.slice(0, 50_000), 'localhost', ...many.slice(50_000)];
    const wrong = await bans(spoilt.join('\n'));
    assertRefused(wrong.list, wrong.answer, [EXIT.usage]);
    assert.match(wrong.answer.stderr, /not an address: "localhost"/);
    const { list, answer } = await bans(many.join('\r\n'));
    assert.deepEqual([answer.exitCode, added(list).length], [0, 100_000]);
    const input = many.slice(0, 20_000).join('\n');
    const gone = await call(['unban', '-'], { env: { BANCTL_BANLIST: list.banlist }, input });
    assert.deepEqual([gone.exitCode, gone.stderr, added(list).length], [0, '', 80_000]);
  });
});

test('thousands of unbans all reach fail2ban', async () => {
  await using fail2ban = await startFail2ban({
    jails: '[web]\nenabled = true\nlogpath = DIR/access.log\nfilter = djangoapp-admin-login\n',
  });
  const many = Array.from(
    { length: 60_000 },
    (_, index) => `2001:db8:aaaa:bbbb:cccc:dddd:${(index >> 8).toString(16)}:${(index & 255).toString(16)}`,
  );
  const held = [many[0] ?? '', many[30_000] ?? '', many.at(-1) ?? ''];
  await fail2ban.client('set', 'web', 'banip', ...held);
  await until('the bans', async () => (await fail2ban.banned('web')).length === held.length);
  const list = temporaryList();
  const env = {
    BANCTL_BANLIST: list.banlist,
    BANCTL_NO_FAIL2BAN: '0',
    BANCTL_FAIL2BAN_CLIENT: fail2ban.clientCommand,
  };
  const { exitCode, stderr } = await call(['unban', '-'], { env, input: many.join('\n') });
  assert.deepEqual([exitCode, stderr], [0, '']);
  assert.deepEqual(await fail2ban.banned('web'), []);
});
