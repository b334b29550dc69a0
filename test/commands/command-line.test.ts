import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import fc from 'fast-check';
import { type Given, readArguments } from '../../src/cli/arguments.ts';
import { COMMANDS, OPTION_NAMES, type OptionName, optionOf } from '../../src/cli/options.ts';
import { parseCommandLine } from '../../src/cli/parse.ts';
import { resolveSettings } from '../../src/cli/settings.ts';
import { BanctlError, EXIT, lineOf } from '../../src/system/errors.ts';
import { executable } from '../lab/banctl.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const directory = mkdtempSync(join(tmpdir(), 'banctl-line-'));
const empty = join(directory, 'empty.json');
writeFileSync(empty, '{}');
after(() => rmSync(directory, { recursive: true }));

type Called = { exitCode: number | null; stdout: string; stderr: string };

/** Runs banctl in an environment of its own; `env` may name more, `through` a program that starts it. */
async function call(
  args: readonly string[],
  {
    env = {},
    input = '',
    through = [],
  }: { env?: NodeJS.ProcessEnv; input?: string; through?: string[] } = {},
): Promise<Called> {
  const [program = '', ...rest] = [...through, executable, ...args];
  const child = spawn(program, rest, { env: { PATH: process.env.PATH, BANCTL_CONFIG: empty, ...env } });
  const called = { exitCode: null as number | null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => (called.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (called.stderr += text));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  [called.exitCode] = await once(child, 'close');
  return called;
}

function temporaryList(text?: string) {
  const folder = mkdtempSync(join(directory, 'list-'));
  const banlist = join(folder, 'banlist.conf');
  if (text !== undefined) writeFileSync(banlist, text);
  const env = { BANCTL_BANLIST: banlist, BANCTL_NO_RELOAD: '1', BANCTL_NO_FAIL2BAN: '1' };
  return {
    folder,
    banlist,
    env,
    text: () => readFileSync(banlist, 'utf8'),
    files: () => readdirSync(folder).sort(),
    call: (...args: string[]) => call(args, { env }),
  };
}

suite('a line', () => {
  const READ: [string[], object][] = [
    [['ban', A], { command: 'ban', operands: [A], given: {} }],
    [['ban', '--jail', 'web', A, B], { command: 'ban', operands: [A, B], given: { jail: ['web'] } }],
    [['--jail=web', 'unban', A], { command: 'unban', operands: [A], given: { jail: ['web'] } }],
    [
      ['ban', '2001', '010', '1e3', '0x10'],
      { command: 'ban', operands: ['2001', '010', '1e3', '0x10'], given: {} },
    ],
    [['ban', '-'], { command: 'ban', operands: ['-'], given: {} }],
    [['ban', '--', '--jail', '-x', A], { command: 'ban', operands: ['--jail', '-x', A], given: {} }],
    [['ban', '--for', '-1', A], { command: 'ban', operands: [A], given: { for: ['-1'] } }],
    [['ban', '--for=-1', A], { command: 'ban', operands: [A], given: { for: ['-1'] } }],
    [['ban', '--for=', '--jail=', A], { command: 'ban', operands: [A], given: { for: [''], jail: [''] } }],
    [['ban', '--for', '', A], { command: 'ban', operands: [A], given: { for: [''] } }],
    [['ban', '--jail', '2001', A], { command: 'ban', operands: [A], given: { jail: ['2001'] } }],
    [
      ['ban', '--since', '1767225600.50', A],
      { command: 'ban', operands: [A], given: { since: ['1767225600.50'] } },
    ],
    [
      ['ban', '--no-reload', '--json', A],
      { command: 'ban', operands: [A], given: { 'no-reload': true, json: true } },
    ],
    [
      ['ban', '--protect', '10.0.0.0/8', A, '--protect=::1'],
      { command: 'ban', operands: [A], given: { protect: ['10.0.0.0/8', '::1'] } },
    ],
    [
      ['ban', '--reason=a=b --jail=x', A],
      { command: 'ban', operands: [A], given: { reason: ['a=b --jail=x'] } },
    ],
    [
      ['ban', '--reason', 'two words', A],
      { command: 'ban', operands: [A], given: { reason: ['two words'] } },
    ],
    [['ban', '--reason="quoted"', A], { command: 'ban', operands: [A], given: { reason: ['"quoted"'] } }],
    [['flush', '--all'], { command: 'flush', operands: [], given: { all: true } }],
  ];
  for (const [line, invocation] of READ) {
    test(`banctl ${line.join(' ')}`, () => {
      assert.deepEqual(readArguments(line), invocation);
      assert.deepEqual(parseCommandLine(line), invocation);
    });
  }

  for (const line of [
    ['reload', '--no-reload=false'],
    ['reload', '--no-reload', 'false'],
  ]) {
    test(`banctl ${line.join(' ')} needs yargs`, () => {
      assert.equal(readArguments(line), undefined);
      const invocation = { command: 'reload', operands: [], given: { 'no-reload': false } };
      assert.deepEqual(parseCommandLine(line), invocation);
    });
  }

  const WRONG: [string[], RegExp][] = [
    [['--json'], /^no command; see banctl --help$/],
    [['frobnicate'], /^no such command: "frobnicate"; see/],
    [[A], /^no such command: "203\.0\.113\.5"; see/],
    [['ban', A, '--frobnicate'], /^no such option: "--frobnicate"; see/],
    [['bann', A], /^no such command: "bann"; did you mean ban\? see banctl --help$/],
    [['lsit'], /^no such command: "lsit"; did you mean list\? see banctl --help$/],
    [['ban', A, '--jial', 'x'], /^no such option: "--jial"; did you mean --jail\? see banctl --help$/],
    [
      ['audit', '--fail2ban-clinet=x'],
      /^no such option: "--fail2ban-clinet"; did you mean --fail2ban-client\?/,
    ],
    [['ban', A, '--hepl'], /^no such option: "--hepl"; did you mean --help\?/],
    [['--hepl'], /^no such option: "--hepl"; did you mean --help\?/],
    [['ban', A, '-x'], /^no such option: "-+x"; see/],
    [['ban', A, '--banList=x'], /^no such option: "--banList"; did you mean --banlist\?/],
    [['ban', A, '--all'], /^--all is not an option of ban; see banctl ban --help$/],
    [['unban', A, '--for', '10'], /^--for is not an option of unban; see banctl unban --help$/],
    [['ban', A, '--jail'], /^not enough arguments following: jail; see/],
    [['ban', A, '--for'], /^not enough arguments following: for; see/],
  ];
  for (const [line, message] of WRONG) {
    test(`banctl ${line.join(' ')} is wrong`, () => {
      assert.equal(readArguments(line), undefined);
      assert.throws(
        () => parseCommandLine(line),
        (error) => {
          assert.ok(error instanceof BanctlError && error.exitCode === EXIT.usage);
          assert.match(lineOf(error), message);
          return true;
        },
      );
    });
  }

  test('that is read without yargs is read alike with it', () => {
    const value = fc.oneof(
      fc.constantFrom(
        '',
        '-',
        '--',
        '-1',
        '2001',
        '010',
        '1e3',
        A,
        'true',
        'false',
        'a b',
        '=',
        '"',
        "'x'",
        '--jail',
        '-v',
        '__proto__',
        '1.0',
        '٣',
        '<ip>',
      ),
      fc.string(),
    );
    const name = fc.oneof(
      fc.constantFrom(...OPTION_NAMES),
      fc.constantFrom('reload', 'fail2ban', 'x', 'Jail', 'dryRun', '_', 'no-json', 'constructor'),
    );
    const word = fc.oneof(
      value.map((text) => [text]),
      name.map((option) => [`--${option}`]),
      fc.tuple(name, value).map(([option, text]) => [`--${option}`, text]),
      fc.tuple(name, value).map(([option, text]) => [`--${option}=${text}`]),
    );
    const line = fc
      .tuple(
        fc.constantFrom(...Object.keys(COMMANDS), 'frobnicate', ''),
        fc.array(word, { maxLength: 5 }),
        fc.boolean(),
      )
      .map(([command, words, isFirst]) => (isFirst ? [command, ...words.flat()] : [...words.flat(), command]))
      .filter((words) => !words.some((text) => /^--?(?:help|version)/.test(text)));
    const judged = (words: string[]) => {
      try {
        return parseCommandLine(words);
      } catch (error) {
        assert.ok(error instanceof BanctlError && error.exitCode === EXIT.usage, String(error));
        return undefined;
      }
    };
    let read = 0;
    fc.assert(
      fc.property(line, (words) => {
        const invocation = readArguments(words);
        if (invocation === undefined) return;
        read += 1;
        assert.deepEqual(judged(words), invocation);
      }),
      { numRuns: 3000 },
    );
    // A fifth of them, give or take: the property is not about wrong lines alone.
    assert.ok(read > 150, `only ${read} lines were right`);
  });
});

suite('settings', () => {
  const config = (document: unknown) => {
    const path = join(mkdtempSync(join(directory, 'config-')), 'banctl.json');
    writeFileSync(path, typeof document === 'string' ? document : JSON.stringify(document));
    return path;
  };
  const settings = (given: Given = {}, env: NodeJS.ProcessEnv = {}, document: unknown = {}) =>
    resolveSettings(given, { BANCTL_CONFIG: config(document), ...env });

  test('the line wins over the environment, that over the file', () => {
    const file = { jail: 'file', 'lock-timeout': 7, protect: ['192.0.2.1'] };
    const env = { BANCTL_JAIL: 'env', BANCTL_PROTECT: '192.0.2.2, 192.0.2.3' };
    const line = { jail: ['first', 'line'], protect: ['192.0.2.4'] };
    const told = ({ jail, lockTimeout, protect }: ReturnType<typeof settings>) => [
      jail,
      lockTimeout,
      protect,
    ];
    assert.deepEqual(told(settings()), [undefined, 20, []]);
    assert.deepEqual(told(settings({}, {}, file)), ['file', 7, ['192.0.2.1']]);
    assert.deepEqual(told(settings({}, env, file)), ['env', 7, ['192.0.2.2', '192.0.2.3']]);
    assert.deepEqual(told(settings(line, env, file)), ['line', 7, ['192.0.2.4']]);
  });

  test('an empty value is not given, everywhere', () => {
    const blank = {
      jail: [''],
      for: [''],
      since: [''],
      'lock-timeout': [''],
      protect: ['', ''],
      'ipv6-prefix': [''],
      banlist: [''],
    };
    const env = { BANCTL_JAIL: 'env', BANCTL_LOCK_TIMEOUT: '', BANCTL_PROTECT: '' };
    const { jail, duration, since, lockTimeout, protect, prefixes, banlist } = settings(blank, env, {
      jail: 'file',
      'lock-timeout': 7,
    });
    assert.deepEqual(
      [jail, duration, since, lockTimeout, protect, prefixes.ipv6],
      ['env', null, undefined, 7, [], 128],
    );
    assert.match(banlist, /banlist\.conf$/);
    assert.deepEqual(settings({ jail: ['web', ''] }).jail, 'web');
  });

  test('a flag comes from anywhere, and the environment can take it back', () => {
    const reloads = (value?: string, document: unknown = {}) =>
      settings({}, value === undefined ? {} : { BANCTL_NO_RELOAD: value }, document).reloads;
    assert.deepEqual(
      ['1', 'true', 'YES', 'on'].map((value) => reloads(value)),
      [false, false, false, false],
    );
    assert.deepEqual(
      ['0', 'false', 'No', 'off', ''].map((value) => reloads(value)),
      [true, true, true, true, true],
    );
    assert.equal(reloads(undefined, { 'no-reload': true }), false);
    assert.equal(reloads('', { 'no-reload': true }), false);
    assert.equal(reloads('0', { 'no-reload': true }), true);
    assert.throws(() => reloads('perhaps'), {
      exitCode: EXIT.usage,
      message: /BANCTL_NO_RELOAD: "perhaps"$/,
      hint: 'give 1 or 0',
    });
  });

  test('every option is heard in the environment and in the file', () => {
    const defaults = settings();
    for (const name of OPTION_NAMES.filter((option) => option !== 'config')) {
      const { kind } = optionOf(name);
      const special: Partial<Record<OptionName, string>> = {
        jail: 'x',
        to: 'bandir',
        network: '192.0.2.0/24',
        sort: 'since',
        fleet: 'redis://127.0.0.1',
        'fleet-name': 'x',
        'fleet-host': 'x',
        // The configuration of this test is there too.
        root: tmpdir(),
      };
      const ofNumbers = /prefix|interval|timeout|since|for|after/.test(name) ? '17' : '/x';
      const value = {
        flag: '1',
        value: special[name] ?? ofNumbers,
        values: '192.0.2.1',
      }[kind];
      const variable = `BANCTL_${name.toUpperCase().replaceAll('-', '_')}`;
      const { config: _one, ...byVariable } = settings({}, { [variable]: value });
      const { config: _other, ...byFile } = settings(
        {},
        {},
        { [name]: kind === 'flag' ? true : kind === 'values' ? [value] : value },
      );
      assert.deepEqual(byVariable, byFile, name);
      assert.notDeepEqual({ ...byVariable, config: defaults.config }, defaults, name);
    }
  });

  const WRONG_NUMBERS: [string, string][] = [
    ...['0', '33', '-1', '24.5', 'x', ' 24', '1e1'].map((value): [string, string] => ['ipv4-prefix', value]),
    ...['0', '129', '64 '].map((value): [string, string] => ['ipv6-prefix', value]),
    ...['-1', 'x', '1s', '86401', 'Infinity', '0x1'].map((value): [string, string] => [
      'lock-timeout',
      value,
    ]),
    ...['-1', 'NaN', '1,5'].map((value): [string, string] => ['reload-interval', value]),
  ];
  for (const [name, value] of WRONG_NUMBERS) {
    test(`--${name}=${value} is refused`, () => {
      const message = new RegExp(`^not a value for --${name}: "${value.replace('.', '\\.')}"$`);
      assert.throws(() => settings({ [name]: [value] }), { exitCode: EXIT.usage, message });
    });
  }

  const WRONG_FILES: [string, unknown][] = [
    ['not JSON', 'banlist = /x'],
    ['not JSON', ''],
    ['not a JSON object', [1]],
    ['not a JSON object', 'null'],
    ['no such option: "banList"', { banList: 'x' }],
    ['no such option: "__proto__"', '{"__proto__": "x"}'],
    ['no such option: "constructor"', { constructor: 'x' }],
    ['no-reload must be true or false', { 'no-reload': 'yes' }],
    ['jail must be a text or a number', { jail: ['web'] }],
    ['jail must be a text or a number', { jail: null }],
    ['protect must be a list of texts', { protect: [{}] }],
  ];
  for (const [message, document] of WRONG_FILES) {
    test(`a file with ${JSON.stringify(document)} is exit 78: ${message}`, () => {
      assert.throws(
        () => settings({}, {}, document),
        (error) => {
          assert.ok(error instanceof BanctlError && error.exitCode === EXIT.notUnderstood);
          assert.ok(lineOf(error).includes(message), lineOf(error));
          return true;
        },
      );
    });
  }

  test('a file that is named has to be there', () => {
    for (const path of [join(directory, 'none.json'), directory])
      assert.throws(() => resolveSettings({ config: [path] }, {}), {
        exitCode: EXIT.notUnderstood,
        message: /^cannot read the configuration /,
      });
  });
});

suite('exit codes and messages', () => {
  const MANY = 'x'.repeat(5000);
  const CALLS: [number, string[], RegExp, string?][] = [
    [64, ['--json'], /no command/],
    [64, ['frobnicate'], /no such command: "frobnicate"/],
    [64, ['ban'], /no address given/],
    [64, ['ban', '-'], /no address given/],
    [64, ['ban', ''], /not an address: ""/],
    [64, ['ban', A, 'localhost'], /not an address: "localhost"/],
    [64, ['ban', A, MANY], /not an address: "x+…"/],
    [64, ['ban', '\x1b[31mred\x07\r\n\u202e\u009b'], /not an address: ".*red/],
    [64, ['ban', A, '--jail', '\x1b]0;x\x07'], /not a name for a jail/],
    [64, ['ban', A, '--for', 'soon'], /not a duration: "soon"/],
    [64, ['ban', A, '--since', 'then'], /not a time: "then"/],
    [64, ['ban', A, '--protect', 'x'], /not an address: "x"/],
    [64, ['ban', A, '--\x1b[31m'], /no such option/],
    [64, ['flush'], /flush needs either --jail NAME or --all/],
    [64, ['flush', '--all', '--jail', 'web'], /flush needs either/],
    [77, ['ban', A, '127.0.0.1'], /127\.0\.0\.1 is protected by 127\.0\.0\.0\/8/],
    [77, ['ban', '::1'], /::1 is protected/],
    [77, ['ban', '::ffff:127.1.2.3'], /127\.1\.2\.3 is protected/],
    [77, ['ban', A, '--protect', '203.0.113.0/24'], /203\.0\.113\.5 is protected by 203\.0\.113\.0\/24/],
    [
      77,
      ['ban', A, '--ipv4-prefix', '24', '--protect', B],
      /203\.0\.113\.0\/24 is protected by 203\.0\.113\.6/,
    ],
    [77, ['ban', '10.0.0.0/7'], /10\.0\.0\.0\/7 is too broad/],
    [77, ['ban', '0.0.0.0/0'], /"0\.0\.0\.0\/0" is too broad: it covers every address/],
    [77, ['ban', '--force', A, '::/0'], /"::\/0" is too broad: it covers every address/],
    [64, ['ban', `${A}/33`], /the prefix of an IPv4 range is a whole number from 1 to 32/],
    [64, ['ban', A, '--protect', '0.0.0.0/0'], /not an address: "0\.0\.0\.0\/0"/],
    [77, ['ban', '2000::/18'], /2000::\/18 is too broad/],
    [78, ['ban', A, '--protect', '@/nonexistent/list'], /cannot read the ranges in \/nonexistent\/list/],
    [78, ['ban', A, '--config', '/nonexistent/banctl.json'], /cannot read the configuration/],
    [78, ['ban', A], /NUL bytes/, 'x\0'],
  ];
  for (const [code, args, message, text = '# as it was\n'] of CALLS) {
    test(`banctl ${JSON.stringify(args).slice(1, 80)} is exit ${code}, nothing is changed`, async () => {
      const list = temporaryList(text);
      const { exitCode, stdout, stderr } = await list.call(...args);
      assert.deepEqual([exitCode, stdout], [code, ''], stderr);
      assert.match(stderr, message);
      // One line of text that starts in lower case, or with what it is about.
      assert.match(stderr, /^banctl: [^\p{Lu}][^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*\n$/u);
      assert.ok(stderr.length < 600);
      assert.deepEqual([list.text(), list.files()], [text, ['banlist.conf']]);
    });
  }

  test('--force bans what is protected or too broad', async () => {
    const list = temporaryList();
    assert.equal((await list.call('ban', '--force', '127.0.0.1', '10.0.0.0/7')).exitCode, 0);
    assert.match(list.text(), /^Require not ip 127\.0\.0\.1$/m);
    assert.match(list.text(), /^Require not ip 10\.0\.0\.0\/7$/m);
  });

  test('--protect @FILE reads a list, the ip-ranges.json of AWS, or the ranges of a search engine', async () => {
    const list = temporaryList();
    const plain = join(list.folder, 'plain');
    writeFileSync(plain, '# ours\n192.0.2.0/24 # office\n\n');
    const aws = join(list.folder, 'ip-ranges.json');
    const service = 'CLOUDFRONT_ORIGIN_FACING';
    writeFileSync(
      aws,
      JSON.stringify({
        prefixes: [
          { ip_prefix: '198.51.100.0/24', service },
          { ip_prefix: '203.0.113.0/24', service: 'EC2' },
        ],
        ipv6_prefixes: [{ ipv6_prefix: '2001:db8::/32', service }],
      }),
    );
    const crawlers = join(list.folder, 'crawlers.json');
    const prefixes = [{ ipv6Prefix: '2001:dba:4801:10::/64' }, { ipv4Prefix: '192.0.0.0/27' }];
    writeFileSync(crawlers, JSON.stringify({ creationTime: '2026-11-25T00:00:00.000000', prefixes }));
    const protect = [plain, aws, crawlers].flatMap((path) => ['--protect', `@${path}`]);
    for (const [address, code] of [
      ['192.0.2.9', 77],
      ['198.51.100.7', 77],
      ['2001:db8::7', 77],
      ['2001:dba:4801:10::7', 77],
      ['192.0.0.7', 77],
      ['2001:dba:4801:11::7', 0],
      [A, 0],
    ] as const)
      assert.equal((await list.call('ban', address, ...protect)).exitCode, code, address);
    writeFileSync(plain, 'x\n');
    assert.equal((await list.call('ban', A, ...protect)).exitCode, 78);
  });
});

suite('answers', () => {
  test('each address has its line', async () => {
    const list = temporaryList();
    const said = async (...args: string[]) =>
      (await list.call(...args)).stdout
        .split('\n')
        .slice(0, -1)
        .filter((line) => /^[\d.:a-f/]+ /.test(line));
    assert.deepEqual(await said('ban', A, B, '::ffff:203.0.113.5'), [`${A} banned`, `${B} banned`]);
    const again = `${A} already banned`;
    assert.deepEqual(await said('ban', A), [again]);
    assert.deepEqual(await said('ban', A, '--jail', 'web', '--dry-run'), [
      `${again}; its holds would change`,
    ]);
    assert.deepEqual(await said('ban', A, '--jail', 'web'), [`${again}; its holds have changed`]);
    assert.deepEqual(await said('ban', A, '--for', '1h'), [`${again}; its holds have changed`]);
    assert.deepEqual(await said('unban', A, '--jail', 'web'), [`${A} still held by manual`]);
    assert.deepEqual(await said('unban', A, '192.0.2.1'), [`${A} unbanned`, '192.0.2.1 not banned']);
  });

  test('--json is one document as in the contract, and nothing else', async () => {
    const list = temporaryList();
    const answers = async (...args: string[]) => {
      const { stdout, stderr } = await list.call(...args, '--json');
      assert.equal(stderr, '');
      assert.match(stdout, /^[^\n]+\n$/);
      return JSON.parse(stdout);
    };
    const results = (...pairs: [string, string][]) => pairs.map(([address, status]) => ({ address, status }));
    const skipped = { reload: 'skipped' };
    assert.deepEqual(await answers('ban', A, '2001:DB8::1'), {
      changed: true,
      results: results([A, 'banned'], ['2001:db8::1', 'banned']),
      ...skipped,
    });
    assert.deepEqual(await answers('ban', A, '--jail', 'web'), {
      changed: true,
      results: results([A, 'already-banned']),
      ...skipped,
    });
    assert.deepEqual(await answers('unban', A, '--jail', 'web'), {
      changed: true,
      results: results([A, 'still-held']),
      ...skipped,
    });
    assert.deepEqual(await answers('unban', A, '--jail', 'web'), {
      changed: false,
      results: results([A, 'still-held']),
      ...skipped,
    });
    assert.deepEqual(await answers('flush', '--all'), {
      changed: true,
      results: results([A, 'unbanned'], ['2001:db8::1', 'unbanned']),
      ...skipped,
    });
    assert.deepEqual((await answers('unban', A)).results, results([A, 'not-banned']));
  });

  test('--dry-run prints what would change, and changes nothing', async () => {
    const text = `# banctl | web ${A} since 2026-01-31T12:00:00Z for ever\nRequire not ip ${A}\n`;
    const list = temporaryList(text);
    const before = statSync(list.banlist, { bigint: true });
    const calls = [
      ['ban', B],
      ['unban', A],
      ['unban', A, '--jail', 'web'],
      ['flush', '--all'],
      ['flush', '--jail', 'web'],
    ];
    for (const line of calls) {
      const { exitCode, stdout } = await list.call(...line, '--dry-run', '--json');
      const { changed, reload } = JSON.parse(stdout);
      assert.deepEqual([exitCode, changed, reload], [0, true, 'skipped'], line.join(' '));
      assert.match(
        (await list.call(...line, '--dry-run')).stdout,
        /^203\.0\.113\.\d would be (?:un)?banned\n/,
      );
    }
    const { mtimeNs, ctimeNs, ino } = statSync(list.banlist, { bigint: true });
    assert.deepEqual([mtimeNs, ctimeNs, ino], [before.mtimeNs, before.ctimeNs, before.ino]);
    assert.deepEqual([list.text(), list.files()], [text, ['banlist.conf']]);
  });

  test('- reads standard input, one address a line, with others on the command line', async () => {
    const list = temporaryList();
    const input = `  ${A}\r\n\n2001:db8::1\n\t198.51.100.0/24`;
    const { exitCode, stdout } = await call(['ban', B, '-', '--json'], { env: list.env, input });
    assert.equal(exitCode, 0);
    const { results } = JSON.parse(stdout) as { results: { address: string }[] };
    assert.deepEqual(
      results.map(({ address }) => address),
      [B, A, '2001:db8::1', '198.51.100.0/24'],
    );
    const wrong = await call(['ban', '-'], { env: list.env, input: `192.0.2.1\n${A} why\n` });
    assert.deepEqual([wrong.exitCode, list.text().includes('192.0.2.1')], [64, false]);
  });

  test('- reads public block lists: comments, also behind an address, blank lines, commas', async () => {
    const list = temporaryList();
    const input = [
      '\ufeff; Spamhaus DROP List 2026/01/31',
      '198.51.100.0/24 ; SBL1',
      '',
      '   ',
      '# a list of a firewall',
      `${A}\t# tried passwords`,
      `${B}#`,
      '192.0.2.7, 192.0.2.8,192.0.2.9 # three',
      ',192.0.2.10,\r',
      '2001:db8::/32 ; SBL2 # twice',
    ].join('\n');
    const { exitCode, stdout } = await call(['ban', '-', '--json'], { env: list.env, input });
    const { results } = JSON.parse(stdout) as { results: { address: string }[] };
    const last = ['192.0.2.7', '192.0.2.8', '192.0.2.9', '192.0.2.10', '2001:db8::/32'];
    assert.deepEqual(
      [exitCode, results.map(({ address }) => address)],
      [0, ['198.51.100.0/24', A, B, ...last]],
    );
    const nothing = await call(['ban', '-'], { env: list.env, input: '# none today\n;\n,\n' });
    assert.equal(nothing.exitCode, 64);
    assert.match(nothing.stderr, /no address given: standard input has none/);
  });

  test('banctl alone prints the help', async () => {
    const [alone, help] = await Promise.all([call([]), call(['--help'])]);
    assert.deepEqual(alone, help);
    assert.match(alone.stdout, /banctl COMMAND/);
  });

  test('help and version are on standard output', async () => {
    for (const [args, said] of [
      [['--help'], /banctl COMMAND[\s\S]*ban [\s\S]*unban /],
      [['ban', '--help'], /--ipv6-prefix/],
      [['ban', '-h'], /--ipv6-prefix/],
      [['--version'], /^\d+\.\d+\.\d+\n$/],
    ] as const) {
      const { exitCode, stdout, stderr } = await call(args);
      assert.deepEqual([exitCode, stderr], [0, '']);
      assert.match(stdout, said);
    }
    assert.doesNotMatch((await call(['unban', '--help'])).stdout, /--ipv6-prefix/);
  });
});

suite('the list as a file', () => {
  const mode = (path: string) => (statSync(path).mode & 0o7777).toString(8);

  test('that is new is 0644, whatever the umask', async () => {
    for (const umask of ['077', '000', '777']) {
      const list = temporaryList();
      const { exitCode, stderr } = await call(['ban', A], {
        env: list.env,
        through: ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh'],
      });
      assert.deepEqual([exitCode, stderr, mode(list.banlist)], [0, '', '644'], umask);
    }
  });

  test('keeps its mode and owner', async () => {
    const list = temporaryList('');
    chmodSync(list.banlist, 0o640);
    if (process.getuid?.() === 0) chownSync(list.banlist, 12_345, 54_321);
    const { uid, gid } = statSync(list.banlist);
    assert.equal((await list.call('ban', A)).exitCode, 0);
    const now = statSync(list.banlist);
    assert.deepEqual([mode(list.banlist), now.uid, now.gid], ['640', uid, gid]);
  });

  test('stays behind its links, relative or absolute, also in another directory', async () => {
    const list = temporaryList();
    mkdirSync(join(list.folder, 'real'));
    symlinkSync('real/link.conf', list.banlist);
    const target = join(list.folder, 'real', 'list.conf');
    symlinkSync(target, join(list.folder, 'real', 'link.conf'));
    writeFileSync(target, '# real\n');
    assert.equal((await list.call('ban', A)).exitCode, 0);
    assert.equal(readlinkSync(list.banlist), 'real/link.conf');
    assert.match(readFileSync(target, 'utf8'), /^# real\n# banctl .*\nRequire not ip 203\.0\.113\.5\n$/);
    assert.deepEqual(list.files(), ['banlist.conf', 'real'], 'lock and state are beside the file itself');
  });

  test('is not written if nothing changes', async () => {
    const list = temporaryList('# kept');
    const { ino } = statSync(list.banlist);
    for (const line of [
      ['unban', A],
      ['unban', A, '--jail', 'web'],
      ['flush', '--jail', 'web'],
    ])
      assert.equal((await list.call(...line)).exitCode, 0);
    assert.deepEqual([statSync(list.banlist).ino, list.text()], [ino, '# kept']);
  });
});

suite('surroundings', () => {
  test('NODE_OPTIONS and the like have no effect', async () => {
    const list = temporaryList();
    const env = {
      ...list.env,
      NODE_OPTIONS: '--version',
      NODE_PATH: '/nonexistent',
      NODE_DEBUG: 'fs,module',
      NODE_V8_COVERAGE: '',
    };
    const { exitCode, stdout } = await call(['ban', A], { env });
    assert.equal(exitCode, 0);
    assert.match(stdout, /^203\.0\.113\.5 banned\n/);
  });

  test('neither HOME nor PATH nor a standard input is needed', async () => {
    const list = temporaryList();
    const through = [
      'env',
      '-i',
      `BANCTL_BANLIST=${list.banlist}`,
      `BANCTL_CONFIG=${empty}`,
      'BANCTL_NO_RELOAD=1',
    ];
    const closed = ['/bin/sh', '-c', 'exec <&- "$@"', 'sh'];
    for (const how of [through, [...through, ...closed]]) {
      const { exitCode, stderr } = await call(['ban', A, '--jail', 'web'], { through: how });
      assert.deepEqual([exitCode, stderr], [0, '']);
    }
  });

  test('a reader that has gone, or a closed output, does no harm', async () => {
    const closings = [
      '"$@" | true',
      'exec "$@" >&-',
      'exec "$@" 2>&-',
      '{ exec 3>&1; "$@" 2>&1 >&3 | true; }',
    ];
    for (const shell of closings) {
      const list = temporaryList();
      const { exitCode, stderr } = await call(['ban', A], {
        env: list.env,
        through: ['sh', '-c', shell, 'sh'],
      });
      assert.deepEqual([exitCode, stderr], [0, ''], shell);
      assert.match(list.text(), /^Require not ip 203\.0\.113\.5$/m);
    }
  });
});
