// What cron asks every five minutes: is all well between the list, fail2ban and Apache, and if not, what is wrong?
import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { after, before, beforeEach, suite, test } from 'node:test';
import { type Apache, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { type Site, startSite, writeScript } from '../lab/site.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

type Finding = {
  code: string;
  severity: string;
  address?: string;
  line?: number;
  message: string;
  fixed: boolean;
};
type Audit = { ok: boolean; findings: Finding[] };

const repository = join(import.meta.dirname, '..', '..');
/** The tests of a suite share its servers. */
const inOrder = { concurrency: 1 };

const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';
const both = [ipv4, ipv6];
const noFail2ban = '--fail2ban-client=/nonexistent/fail2ban-client';
const silent: Finished = { exitCode: 0, stdout: '', stderr: '' };

const comment = (...holds: string[]) => `# banctl ${holds.map((hold) => `| ${hold}`).join(' ')}\n`;
const held = (holder: string, address: string, until = 'for ever') =>
  `${holder} ${address} since 2026-01-01T00:00:00Z ${until}`;
const over = 'until 2026-01-02T00:00:00Z';

suite('audit', { concurrency: 3 }, () => {
  suite('of the list and Apache', inOrder, () => {
    let apache: Apache;
    let options: string[];
    const run = (...args: string[]) => banctl(['audit', noFail2ban, ...options, ...args]);
    const list = () => readFileSync(apache.banlist, 'utf8');
    const reload = () => banctl(['reload', '--force', ...options]);

    before(async () => {
      apache = await startApache({ remoteip: true, list: '' });
      options = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`];
    });
    after(() => apache[Symbol.asyncDispose]());

    async function audited(...args: string[]): Promise<Audit> {
      const { stdout, stderr, exitCode } = await run('--json', ...args);
      assert.equal(stderr, '');
      const document = JSON.parse(stdout) as Audit;
      assert.equal(exitCode, document.ok ? 0 : 1);
      return document;
    }

    /** Puts a list there that Apache has loaded, if it can. */
    async function given(text: string) {
      writeFileSync(apache.banlist, text);
      await reload();
    }

    test('is silent and ends with 0 when all is well', async () => {
      const lines = [ipv4, ipv6, '198.51.100.0/25', '2001:db8:1::/64'];
      const bans = lines.map((address) => `${comment(held('web', address))}Require not ip ${address}\n`);
      await given(`# mine\n\n${bans.join('')}Require not ip 203.0.113.9\n`);
      const text = list();
      assert.deepEqual(await run(), silent);
      assert.deepEqual(await run('--fix'), silent);
      assert.deepEqual(await audited(), { ok: true, findings: [] });
      assert.equal(list(), text);
    });

    /** Two foreign lines stand above each of these, so that its first line is the third. */
    const head = '# kept as it is: \x01\xff \t\n  # and so is this\n';
    type Fault = {
      what: string;
      list: string;
      /** Code, line, address. */
      finds: [string, number, string?][];
      /** What --fix leaves, if it may repair. */
      fixed?: string;
      /** Apache refuses the list. */
      isRefused?: boolean;
      args?: string[];
    };
    const bad: [what: string, text: string, line?: number][] = [
      ['an address that is none', 'Require not ip 203.0.113.300\n'],
      ['no address at all', 'Require not ip\n'],
      ['a line that was torn and joined', `Require not ip 203.0.113.7Require not ip ${ipv4}\n`],
      ['a remark behind the address', `Require not ip ${ipv4} # attacker\n`],
    ];
    const faults: Fault[] = [
      ...bad.map(([what, text]): Fault => ({ what, list: text, finds: [['bad-line', 3]], isRefused: true })),
      {
        what: 'a comment that swallows the next line',
        list: `# attacker \\\nRequire not ip ${ipv4}\n`,
        finds: [['bad-line', 3]],
      },
      {
        what: 'unreadable holds',
        list: `# banctl | web ${ipv4} since yesterday\nRequire not ip ${ipv4}\n`,
        finds: [['bad-line', 3]],
      },
      {
        what: 'holds without their ban',
        list: `${comment(held('web', ipv4))}\nRequire not ip ${ipv4}\n`,
        finds: [['bad-line', 3]],
      },
      {
        what: 'an address cut in the middle',
        list: 'Require not ip 203.0.113.\n',
        finds: [['partial-address', 3, '203.0.113.0/24']],
      },
      {
        what: 'a line in other letters',
        list: `\trequire NOT ip ${ipv4}\n`,
        finds: [['not-canonical', 3]],
      },
      {
        what: 'an address in another spelling',
        list: 'Require not ip 2001:DB8:0::5\n',
        finds: [['not-canonical', 3]],
      },
      {
        what: 'two addresses in a line',
        list: `Require not ip ${ipv4} ${ipv6}\n`,
        finds: [['not-canonical', 3]],
      },
      {
        what: 'a netmask',
        list: 'Require not ip 203.0.113.0/255.255.255.0\n',
        finds: [['not-canonical', 3]],
      },
      {
        what: 'a continued line',
        list: `Require not \\\n  ip ${ipv4}\n`,
        finds: [['not-canonical', 3]],
      },
      {
        what: 'two bans of one address, each with its holder',
        list: `${comment(held('one', ipv4))}Require not ip ${ipv4}\n# between\n${comment(held('two', ipv4))}Require not ip ${ipv4}\n`,
        finds: [['duplicate', 7, ipv4]],
        fixed: `${comment(held('one', ipv4), held('two', ipv4))}Require not ip ${ipv4}\n# between\n`,
      },
      {
        what: 'three plain lines for one range',
        list: 'Require not ip 198.51.100.0/25\n'.repeat(3),
        finds: [
          ['duplicate', 4, '198.51.100.0/25'],
          ['duplicate', 5, '198.51.100.0/25'],
        ],
        fixed: 'Require not ip 198.51.100.0/25\n',
      },
      {
        what: 'the same address in a line that banctl did not write',
        list: `Require not ip ${ipv6}\n  Require not ip 2001:db8:0::5\n`,
        finds: [
          ['not-canonical', 4],
          ['duplicate', 4, ipv6],
        ],
      },
      {
        what: 'an address in a range that is banned too',
        list: `Require not ip ${ipv4}\nRequire not ip 203.0.113.0/28\n`,
        finds: [['shadowed', 3, ipv4]],
      },
      {
        what: 'this host itself',
        list: 'Require not ip 127.0.0.5\nRequire not ip ::/32\n',
        finds: [
          ['protected', 3, '127.0.0.5'],
          ['protected', 4, '::/32'],
        ],
      },
      {
        what: 'what is protected by the configuration',
        list: `${comment(held('web', ipv4))}Require not ip ${ipv4}\n`,
        args: ['--protect=203.0.113.0/24'],
        finds: [['protected', 4, ipv4]],
      },
    ];
    for (const { what, list: text, finds, fixed, isRefused = false, args = [] } of faults) {
      test(`${finds[0]?.[0]}: ${what}, with its line`, async () => {
        const latin = (part: string) => Buffer.from(part, 'latin1');
        writeFileSync(apache.banlist, latin(head + text));
        await reload();
        const { findings } = await audited(...args);
        const codes = new Set(findings.map(({ code }) => code));
        assert.equal(codes.delete('config-broken'), isRefused);
        assert.deepEqual([...codes].sort(), [...new Set(finds.map(([code]) => code))].sort());
        for (const [code, line, address] of finds) {
          const found = findings.filter((one) => one.code === code && one.line === line);
          assert.ok(found.length > 0, JSON.stringify(findings));
          if (!isRefused) assert.deepEqual([found.length, found[0]?.address], [1, address]);
        }
        const said = await run(...args);
        assert.equal(said.exitCode, 1);
        for (const [code, line, address] of finds)
          assert.ok(
            said.stdout.includes(`${code}: line ${line}: ${address === undefined ? '' : `${address}: `}`),
          );
        assert.equal(said.stdout.split('\n').length - 1, findings.length, 'one line a finding');

        const repair = await run('--fix', ...args);
        assert.deepEqual(readFileSync(apache.banlist), latin(head + (fixed ?? text)));
        assert.equal(repair.exitCode, fixed === undefined ? 1 : 0, repair.stdout);
        assert.equal(repair.stdout.includes('(repaired)'), fixed !== undefined);
        if (fixed === undefined) await given(head);
        assert.deepEqual(await run(...args), silent);
      });
    }

    test('expired: a hold that is over goes, in silence, and with the last one its ban', async () => {
      const alone = comment(held('web', ipv4, over));
      const shared = comment(held('web', ipv6, over), held('manual', ipv6));
      await given(`# mine\n${alone}Require not ip ${ipv4}\n${shared}Require not ip ${ipv6}\n`);
      const { findings } = await audited();
      assert.deepEqual(
        findings.map(({ code, line, address, severity }) => [code, line, address, severity]),
        [
          ['expired', 3, ipv4, 'info'],
          ['expired', 5, ipv6, 'info'],
        ],
      );
      assert.equal(await apache.get('/', { from: ipv4 }), 403);
      const reloads = apache.reloads();
      assert.deepEqual(await run('--fix'), silent);
      assert.equal(list(), `# mine\n${comment(held('manual', ipv6))}Require not ip ${ipv6}\n`);
      assert.equal(apache.reloads(), reloads + 1);
      assert.equal(await apache.get('/', { from: ipv4 }), 200);
      assert.deepEqual(await run(), silent);
    });

    test('expired: jails are left alone where fail2ban is not to be asked', async () => {
      const text = `${comment(held('web', ipv4, over))}Require not ip ${ipv4}\n`;
      await given(text);
      assert.deepEqual(await run('--fix', '--no-fail2ban'), silent);
      assert.equal(list(), text);
    });

    test('reload-pending: a list that Apache has not loaded is loaded by --fix, by one reload', async () => {
      await given('');
      writeFileSync(apache.banlist, `Require not ip ${ipv4}\n`);
      const { findings } = await audited();
      assert.deepEqual(findings.map(({ code }) => code).join(), 'reload-pending');
      const dry = await run('--fix', '--dry-run');
      assert.match(dry.stdout, /^reload-pending: [^\n]*\n$/);
      assert.equal(await apache.get('/', { from: ipv4 }), 200);
      const reloads = apache.reloads();
      const { exitCode, stdout } = await run('--fix');
      assert.deepEqual([exitCode, stdout.trim()], [0, `${dry.stdout.trim()} (repaired)`]);
      assert.equal(apache.reloads(), reloads + 1);
      assert.equal(await apache.get('/', { from: ipv4 }), 403);
      assert.deepEqual(await run(), silent);
    });

    test('a deferred reload with a waiting process is not a finding', async () => {
      await given('');
      // Longer than three calls on a busy machine.
      const interval = '--reload-interval=15';
      await banctl(['ban', ipv4, ...options, interval]);
      const { stdout } = await banctl(['ban', ipv6, ...options, interval]);
      assert.match(stdout, /apache reloads within \d+ s/);
      assert.deepEqual(await run('--fix'), silent);
      assert.equal(await apache.get('/', { from: ipv6 }), 200);
      await until('the reload', async () => (await apache.get('/', { from: ipv6 })) === 403);
    });

    test('--fix repairs everything at once by one reload, and touches nothing else', async () => {
      await given('');
      const foreign = ['# first\n', '  require not ip 198.51.100.9\n', '# a\\\n  b\n', '\n'];
      writeFileSync(
        apache.banlist,
        [
          foreign[0],
          `${comment(held('web', '203.0.113.1', over))}Require not ip 203.0.113.1\n`,
          foreign[1],
          `${comment(held('web', ipv4))}Require not ip ${ipv4}\n`,
          foreign[2],
          `Require not ip ${ipv4}\n`,
          foreign[3],
        ].join(''),
      );
      chmodSync(apache.banlist, 0o664);
      const reloads = apache.reloads();
      const { findings } = await audited('--fix');
      assert.deepEqual(findings.map(({ code, fixed }) => `${code} ${fixed}`).sort(), [
        'bad-line false',
        'duplicate true',
        'expired true',
        'not-canonical false',
        'reload-pending true',
        'unsafe-permissions true',
      ]);
      assert.equal(apache.reloads(), reloads + 1);
      const kept = `${comment(held('web', ipv4))}Require not ip ${ipv4}\n`;
      assert.equal(list(), [foreign[0], foreign[1], kept, foreign[2], foreign[3]].join(''));
    });

    test('apache-down: a stopped Apache is reported, and not started', async () => {
      await given('');
      await apache.stop();
      const { exitCode, stdout } = await run('--fix');
      assert.deepEqual([exitCode, stdout], [1, 'apache-down: apache is not running\n']);
      assert.equal(apache.running(), false);
      await apache.start();
      // The list was changed so shortly before that Apache may have read it earlier.
      await run('--fix');
      assert.deepEqual(await run(), silent);
    });

    test('apache-down: no Apache is found', async () => {
      const { exitCode, stdout } = await run('--apachectl=/nonexistent/apachectl');
      assert.equal(exitCode, 1);
      assert.match(stdout, /^apache-down: \/nonexistent\/apachectl not found; give --apachectl[^\n]*\n$/);
    });

    const site = '  # Attackers';
    const configurations = [
      {
        code: 'config-broken',
        what: "a mistake elsewhere in Apache's configuration",
        spoil: (config: string) => `${config}\nNonsense On\n`,
        says: /^config-broken: .*Syntax error on line \d+ of .*httpd\.conf: .*Nonsense[^\n]*\n$/,
      },
      {
        code: 'not-included',
        what: 'a list that no configuration reads',
        spoil: (config: string) => config.replace(/^\s*Include\w* .*banlist\.conf.*$/m, site),
        says: /^not-included: apache does not read \/.*\/banlist\.conf; [^\n]*\n$/,
      },
    ];
    for (const { code, what, spoil, says } of configurations) {
      test(`${code}: ${what} is reported with a remedy, and not repaired`, async () => {
        await given('');
        const config = readFileSync(apache.config, 'utf8');
        assert.notEqual(spoil(config), config);
        writeFileSync(apache.config, spoil(config));
        const { exitCode, stdout } = await run('--fix');
        writeFileSync(apache.config, config);
        assert.equal(exitCode, 1);
        assert.match(stdout, says);
        assert.deepEqual(await run(), silent);
      });
    }

    test('not-included: a list that does not exist, and that no configuration would read, such as a misspelt one', async () => {
      await given('');
      const misspelt = join(dirname(apache.banlist), 'bannlist.conf');
      const { exitCode, stdout } = await run(`--banlist=${misspelt}`);
      assert.equal(exitCode, 1);
      assert.equal(
        stdout,
        `not-included: apache would not read ${misspelt}, which does not exist yet; enable the snippet djangoapp-banlist: banctl setup says how\n`,
      );
    });

    test('a list that does not exist before its first ban is not missed', async () => {
      await given('');
      rmSync(apache.banlist);
      await reload();
      assert.deepEqual(await run(), silent);
      writeFileSync(apache.banlist, '');
    });

    test('a list that is included through a symbolic link is included', async () => {
      const dir = mkdtempSync(join(tmpdir(), 'banctl-audit-'));
      const target = join(dir, 'real.conf');
      writeFileSync(target, list());
      rmSync(apache.banlist);
      symlinkSync(target, apache.banlist);
      await reload();
      assert.deepEqual(await run(), silent);
      assert.deepEqual(await run(`--banlist=${target}`), silent);
      rmSync(apache.banlist);
      rmSync(dir, { recursive: true });
      await given('');
    });

    test('leftover: an old temporary file goes, a young one and those of others stay', async () => {
      const beside = (name: string) => join(dirname(apache.banlist), name);
      const [old, young] = [
        beside('banlist.conf.banctl-1234567890'),
        beside('banlist.conf.banctl-987654321'),
      ];
      const backups = ['banlist.conf.bak', 'banlist.conf~', 'banlist.conf.20260101', 'banlist.conf.1'];
      const theirs = [...backups, 'other.banctl-1'].map(beside);
      for (const path of [old, young, ...theirs]) writeFileSync(path, `Require not ip ${ipv4}\n`);
      for (const path of [old, ...theirs]) utimesSync(path, 0, 0);
      const { exitCode, stdout } = await run();
      assert.deepEqual([exitCode, stdout], [1, `leftover: ${old} was left by a killed call\n`]);
      assert.equal((await run('--fix')).stdout, stdout.replace('\n', ' (repaired)\n'));
      assert.deepEqual([old, young, ...theirs].map(existsSync), [false, true, true, true, true, true, true]);
      assert.deepEqual(await run(), silent);
      for (const path of [young, ...theirs]) rmSync(path);
    });

    suite('unsafe-permissions', inOrder, () => {
      const cases = [
        { what: 'the list', path: () => apache.banlist, isFixed: true },
        { what: 'the state', path: () => `${apache.banlist}.state`, isFixed: true },
        { what: 'the directory', path: () => apache.dir, isFixed: false },
        { what: 'the configuration', path: () => join(apache.dir, 'banctl.json'), isFixed: false },
      ];
      for (const { what, path, isFixed } of cases) {
        test(`${what} that other users may write is reported${isFixed ? ', and --fix revokes that' : ''}`, async () => {
          writeFileSync(join(apache.dir, 'banctl.json'), '{}', { mode: 0o644 });
          const config = `--config=${join(apache.dir, 'banctl.json')}`;
          await given('');
          assert.deepEqual(await run(config), silent);
          const mode = statSync(path()).mode & 0o7777;
          chmodSync(path(), mode | 0o022);
          const { exitCode, stdout } = await run(config);
          assert.deepEqual(
            [exitCode, stdout],
            [
              1,
              `unsafe-permissions: ${path()} is writable for other users than its owner; chmod go-w ${path()}\n`,
            ],
          );
          assert.equal((await run('--fix', config)).exitCode, isFixed ? 0 : 1);
          assert.equal(statSync(path()).mode & 0o7777, isFixed ? mode : mode | 0o022);
          if (!isFixed) chmodSync(path(), mode);
          assert.deepEqual(await run(config), silent);
        });
      }
    });

    test('--json has these keys, and no others', async () => {
      await given(`Require not ip 203.0.113.\n${comment(held('web', ipv6, over))}Require not ip ${ipv6}\n`);
      const document = await audited('--fix');
      assert.deepEqual(document, {
        ok: false,
        findings: [
          {
            code: 'partial-address',
            severity: 'error',
            address: '203.0.113.0/24',
            line: 1,
            message: '203.0.113. bans all of 203.0.113.0/24',
            fixed: false,
          },
          {
            code: 'expired',
            severity: 'info',
            address: ipv6,
            line: 3,
            message: 'the hold of web is over',
            fixed: true,
          },
        ],
      });
      await given('');
    });

    test('a finding never steers the terminal', async () => {
      await given('');
      writeFileSync(apache.banlist, `Require not ip \x1b[31m203.0.113.5\x9b\n`);
      const { stdout } = await run();
      assert.match(stdout, /^bad-line: line 1: Apache refuses /m);
      assert.doesNotMatch(stdout.replaceAll('\n', ''), /\p{Cc}/u);
      await given('');
    });

    test('20,000 bans that are all over are dropped at once', async () => {
      const address = (index: number) => `2001:db8:${index >> 12}::1:${(index & 0xfff).toString(16)}`;
      const addresses = Array.from({ length: 20_000 }, (_, index) => address(index));
      const bans = addresses.map(
        (address) => `${comment(held('manual', address, over))}Require not ip ${address}\n`,
      );
      writeFileSync(apache.banlist, bans.join(''));
      // Apache itself takes long to read such a list.
      const { exitCode } = await run('--fix', '--no-reload', '--apachectl=true');
      assert.equal(exitCode, 1, 'true is no Apache');
      assert.equal(list(), '');
      await given('');
    });

    suite('--prometheus', inOrder, () => {
      let dir: string;
      let file: string;
      before(() => {
        dir = mkdtempSync(join(tmpdir(), 'banctl-metrics-'));
        file = join(dir, 'banctl.prom');
      });
      after(() => rmSync(dir, { recursive: true }));

      test('writes what the text format allows, labels escaped', async () => {
        const odd = ['we"b', 'back\\slash', 'ж', 'web'];
        const holds = odd.map((holder) => held(encodeURIComponent(holder), ipv4));
        await given(
          `${comment(...holds)}Require not ip ${ipv4}\nRequire not ip 203.0.113.\nRequire not ip 198.51.\n`,
        );
        const { exitCode } = await run(`--prometheus=${file}`);
        assert.equal(exitCode, 1);
        const metrics = parseMetrics(readFileSync(file, 'utf8'));
        assert.equal(metrics.banctl_bans, 1);
        for (const holder of odd)
          assert.equal(metrics[`banctl_holds{holder=${JSON.stringify(holder)}}`], 1, holder);
        assert.equal(metrics['banctl_findings{code="partial-address",severity="error"}'], 2);
        assert.equal(metrics['banctl_findings{code="shadowed",severity="info"}'], 1);
        assert.equal(metrics.banctl_ok, 0);
        const age = Date.now() / 1000 - (metrics.banctl_audit_timestamp_seconds ?? 0);
        assert.ok(age >= 0 && age < 60, `${age}`);
      });

      test('replaces the file in one step, readable for all whatever the umask', async () => {
        await given('');
        writeFileSync(file, 'old\n');
        const reader = openSync(file, 'r');
        for (const name of [file, join(dir, 'new.prom')]) {
          const command = `umask 077; exec "$0" audit "$@" --prometheus=${name}`;
          const finished = await execute('sh', ['-c', command, executable, noFail2ban, ...options]);
          assert.deepEqual(finished, silent);
          assert.equal(statSync(name).mode & 0o777, 0o644);
          assert.equal(parseMetrics(readFileSync(name, 'utf8')).banctl_ok, 1);
        }
        assert.equal(readFileSync(reader, 'utf8'), 'old\n', 'who has begun to read finds what was there');
        closeSync(reader);
        assert.deepEqual(readdirSync(dir).sort(), ['banctl.prom', 'new.prom']);
      });

      test('counts what --fix has left, and writes nothing in a dry run', async () => {
        await given(`${comment(held('web', ipv6, over))}Require not ip ${ipv6}\n`);
        rmSync(file);
        await run('--fix', '--dry-run', `--prometheus=${file}`);
        assert.equal(existsSync(file), false);
        await run('--fix', `--prometheus=${file}`);
        const metrics = parseMetrics(readFileSync(file, 'utf8'));
        assert.deepEqual([metrics.banctl_ok, metrics.banctl_bans], [1, 0]);
        assert.deepEqual(
          Object.keys(metrics).filter((name) => name.startsWith('banctl_findings')),
          [],
        );
      });

      test('prints the findings although it cannot write the file, and exits with 73', async () => {
        await given('Require not ip 203.0.113.\n');
        const { exitCode, stdout, stderr } = await run(`--prometheus=${join(dir, 'none', 'banctl.prom')}`);
        assert.match(stdout, /^partial-address: /);
        assert.deepEqual([exitCode, stderr.split('\n').length], [73, 2]);
        await given('');
      });
    });
  });

  for (const [place, bandir] of [
    ['the list', false],
    ['the ban directory', true],
  ] as const) {
    suite(`beside the running fail2ban, with ${place}`, inOrder, () => {
      let site: Site;
      before(async () => {
        site = await startSite({ bandir });
      });
      after(() => site[Symbol.asyncDispose]());
      beforeEach(async () => {
        if (!site.fail2ban.running()) await site.fail2ban.start();
        await site.tells('unban', '--all');
        await until('no bans', async () => (await site.fail2ban.banned('web')).length === 0);
        await site.clear();
      });

      /** Expects that --fix finds these, repairs them all by one reload (none with the directory), and that none is left. */
      async function repairs(expected: string[], reloads = 1) {
        const before = site.apache.reloads();
        const fixed = await site.run('audit', '--fix');
        const told = expected
          .filter((line) => !line.startsWith('expired'))
          .map((line) => `${line} (repaired)`);
        assert.deepEqual([fixed.exitCode, fixed.stdout.split('\n').filter(Boolean).sort()], [0, told.sort()]);
        assert.equal(site.apache.reloads() - before, bandir ? 0 : reloads);
        assert.deepEqual(await site.run('audit'), silent);
      }
      const missing = (address: string) =>
        `missing: ${address}: jail web of fail2ban holds it, banctl does not`;
      const stale = (address: string) => `stale: ${address}: held by web, but not by that jail of fail2ban`;

      test('missing: what a jail holds and the list does not is banned, as long as fail2ban holds it', async () => {
        await site.bans('web', ...both);
        const ends = async () =>
          new Map((await site.listed()).bans.map((ban) => [ban.address, ban.holds[0]?.until ?? '']));
        const before = await ends();
        await site.clear();
        writeFileSync(site.apache.banlist, '# mine\n');
        await site.done('reload');
        await site.answer(both, 200);
        await repairs(both.map(missing));
        await site.answer(both, 403);
        assert.ok(site.list().startsWith('# mine\n'));
        const repaired = await ends();
        for (const address of both) {
          // fail2ban rounds the time of a ban here and cuts it there.
          const apart = Date.parse(repaired.get(address) ?? '') - Date.parse(before.get(address) ?? '');
          assert.ok(Math.abs(apart) <= 1000, `${apart} ms`);
        }
      });

      test('missing: the hold of another does not count, and costs no reload', async () => {
        await site.bans('web', ipv4);
        await site.done('ban', ipv4);
        await site.done('unban', ipv4, '--jail=web');
        await repairs([missing(ipv4)], 0);
        assert.deepEqual(await site.holders(ipv4), ['manual', 'web']);
      });

      test('stale: what the list holds for a jail and the jail does not is released', async () => {
        await site.done('ban', ...both, '--jail=web');
        await site.answer(both, 403);
        await repairs(both.map(stale));
        await site.answer(both, 200);
      });

      test(`both directions and an ended hold are repaired by ${bandir ? 'no' : 'one'} reload`, async () => {
        await site.bans('web', ipv4);
        await site.done('unban', ipv4, '--jail=web');
        await site.done('ban', ipv6, '--jail=web');
        await site.done('ban', '203.0.113.9', '--since=2026-01-01', '--for=1h');
        await repairs([
          missing(ipv4),
          stale(ipv6),
          'expired: line 4: 203.0.113.9: the hold of manual is over',
        ]);
        await site.answer([ipv4], 403);
        await site.answer([ipv6, '203.0.113.9'], 200);
      });

      test('bans and unbans that are on their way are no findings', async () => {
        const burst = Array.from({ length: 5 }, (_, index) => `203.0.113.${50 + index}`);
        await site.tells('set', 'web', 'banip', ...burst);
        assert.deepEqual(await site.run('audit'), silent);
        await until('the bans', () => burst.every((address) => site.list().includes(` ${address}\n`)));
        await site.tells('set', 'web', 'unbanip', ...burst);
        assert.deepEqual(await site.run('audit', '--fix'), silent);
      });

      test('unknown-jail: a holder that is not a jail is reported, and keeps its ban', async () => {
        await site.done('ban', ...both, '--jail=console');
        const { exitCode, stdout } = await site.run('audit', '--fix');
        assert.deepEqual(
          [exitCode, stdout],
          [1, 'unknown-jail: console holds bans, but fail2ban has no such jail\n'],
        );
        await site.answer(both, 403);
        await site.done('unban', ...both);
        assert.deepEqual(await site.run('audit'), silent);
      });

      test('other-list: a jail with another prefix than the configuration', async () => {
        const prefix = (value: string) =>
          site.tells('set', 'web', 'action', 'apache-banlist', 'ipv6_prefix', value);
        await prefix('64');
        const { exitCode, stdout } = await site.run('audit', '--fix');
        assert.equal(exitCode, 1);
        assert.match(stdout, /^other-list: jail web bans with .*ipv6_prefix 64; [^\n]*\n$/);
        assert.deepEqual(await site.run('audit', '--ipv6-prefix=64', noFail2ban), silent);
        await prefix('');
        assert.deepEqual(await site.run('audit'), silent);
      });

      test('other-list: a jail with another list than the configuration, whose bans are not missing', async () => {
        await site.bans('web', ipv4);
        const directory = bandir ? `, bandir ${site.apache.bandir}` : '';
        const another = `${site.apache.dir}/another.conf`;
        const { exitCode, stdout } = await site.run('audit', `--banlist=${another}`);
        assert.equal(exitCode, 1);
        const [otherList, ...others] = stdout.trimEnd().split('\n');
        assert.equal(
          otherList,
          `other-list: jail web bans with banlist ${site.apache.banlist}${directory}; set it only in /etc/banctl.json`,
        );
        assert.deepEqual(
          others.map((line) => line.replace(/;.*/, '')),
          bandir ? [] : [`not-included: apache would not read ${another}, which does not exist yet`],
        );
      });

      if (bandir) {
        const others = {
          'another directory than the configuration': () => [`--bandir=${site.apache.dir}/another`],
          'a directory, and the configuration names none': () => {
            const config = join(site.apache.dir, 'without.json');
            writeFileSync(config, '{}');
            return [`--config=${config}`];
          },
        };
        for (const [what, args] of Object.entries(others)) {
          test(`other-list: a jail with ${what}, whose bans are not missing`, async () => {
            await site.bans('web', ...both);
            const { stdout } = await site.run('audit', '--fix', ...args());
            const told = `other-list: jail web bans with banlist ${site.apache.banlist}, bandir ${site.apache.bandir}; set it only in /etc/banctl.json`;
            assert.deepEqual(
              stdout.split('\n').filter((line) => /^(?:other-list|missing|stale|unknown-jail)/.test(line)),
              [told],
            );
            await site.answer(both, 403);
          });
        }

        test('a jail that leaves the directory to the configuration is no other-list', async () => {
          await site.tells('set', 'web', 'action', 'apache-banlist', 'bandir', '');
          await site.done('ban', ipv4, '--jail=web');
          assert.match((await site.run('audit')).stdout, /^stale: 203\.0\.113\.5: [^\n]*\n$/);
          await site.tells('set', 'web', 'action', 'apache-banlist', 'bandir', site.apache.bandir);
          await site.done('unban', ipv4);
        });
      }

      test('a hold that is over stays while its jail still has the ban', async () => {
        // It must not end before the second question: on a loaded machine each takes seconds.
        await site.tells('set', 'web', 'bantime', '8');
        await site.tells('set', 'web', 'banip', ipv4);
        await site.tells('set', 'web', 'bantime', '1h');
        await until('the hold', () => site.list().includes(`| web ${ipv4} `));
        const { bans } = await site.listed();
        const end = Date.parse(bans[0]?.holds[0]?.until ?? '');
        await until('its end', () => Date.now() > end + 1000 || end - Date.now() > 60_000);
        assert.deepEqual(await site.run('audit', '--fix'), silent);
        await site.answer([ipv4], 403);
      });

      test('a fail2ban that does not answer for a jail makes nothing stale', async () => {
        await site.bans('web', ...both);
        const { clientCommand } = site.fail2ban;
        const refused = ['banip', 'ignoreip'];
        for (const question of refused) {
          const client = writeScript(
            site.fail2ban.dir,
            'silent-client',
            `case "$*" in *"get web ${question}"*) exit 255;; esac; exec ${clientCommand} "$@"`,
          );
          assert.deepEqual(await site.run('audit', '--fix', `--fail2ban-client=${client}`), silent);
          assert.deepEqual(await site.run('audit', '--fix'), silent);
        }
        await site.answer(both, 403);
      });

      test('fail2ban-down: a killed fail2ban holds nothing against the list, and what is over goes', async () => {
        await site.bans('web', ipv4);
        await site.done('ban', ipv6, '--jail=web', '--since=2026-01-01', '--for=1h');
        await site.fail2ban.kill();
        await site.answer(both, 403);
        const { exitCode, stdout } = await site.run('audit', '--fix');
        const down = 'fail2ban is not running, so jail web does not ban; systemctl start fail2ban';
        assert.deepEqual([exitCode, stdout], [1, `fail2ban-down: ${down}\n`]);
        await site.answer([ipv4], 403);
        await site.answer([ipv6], 200);
        assert.deepEqual(await site.holders(ipv4), ['web']);
      });
    });

    suite(`after an action that failed, with ${place}`, inOrder, () => {
      const dir = mkdtempSync(join(tmpdir(), 'banctl-disk-'));
      const trouble = join(dir, 'trouble');
      let site: Site;
      before(async () => {
        // While `trouble` is there, the action finds the list's directory as `trouble` makes it, in a mount namespace of its own.
        const program = writeScript(
          dir,
          'banctl',
          `[ -e ${trouble} ] || exec ${executable} "$@"
        exec unshare --mount sh -e -c '. ${trouble}; exec ${executable} "$@"' sh "$@"`,
        );
        site = await startSite({ bandir, parameters: `, banctl="${program}"` });
        // By then fail2ban has started the jail. During that start it would ban what its database contains.
        await site.bans('web', '203.0.113.9');
        await site.done('unban', '203.0.113.9');
      });
      after(async () => {
        await site[Symbol.asyncDispose]();
        rmSync(dir, { recursive: true });
      });

      const troubles = {
        'a full disk': () =>
          `mount -t tmpfs -o size=4k none ${site.apache.dir}\nhead -c 4096 /dev/zero > ${site.apache.dir}/full`,
        'a read-only file system': () =>
          `mount --bind ${site.apache.dir} ${site.apache.dir}\nmount -o remount,bind,ro ${site.apache.dir}`,
      };
      for (const [what, script] of Object.entries(troubles)) {
        test(`on ${what}, audit reports what is missing, and --fix bans`, async () => {
          writeFileSync(trouble, script());
          const from = site.fail2ban.log().length;
          await site.tells('set', 'web', 'banip', ...both);
          for (const address of both)
            await site.fail2ban.awaitLog(new RegExp(`ERROR .*Failed to execute ban .*${address}`), from);
          rmSync(trouble);
          assert.match(site.fail2ban.log().slice(from), /banctl: cannot (?:write|lock|make) /);
          assert.deepEqual(await site.fail2ban.banned('web'), both.toSorted());
          await site.answer(both, 200);
          const { exitCode, stdout } = await site.run('audit');
          assert.equal(exitCode, 1);
          assert.deepEqual(
            [...stdout.matchAll(/^missing: (\S+): /gm)].map(([, address]) => address).sort(),
            both.toSorted(),
          );
          assert.equal((await site.run('audit', '--fix')).exitCode, 0);
          await site.answer(both, 403);
          assert.deepEqual(await site.run('audit'), silent);
          await site.done('unban', ...both);
        });
      }
    });
  }

  suite('at regular times', inOrder, () => {
    const cron = readFileSync(join(repository, 'cron.d', 'banctl'), 'utf8');
    const unit = (name: string) => readFileSync(join(repository, 'systemd', name), 'utf8');
    const setting = (text: string, section: string, key: string) =>
      new RegExp(`^\\[${section}\\]\n(?:(?!\\[).*\n)*?${key}=(.*)$`, 'm').exec(text)?.[1];
    const path = setting(unit('banctl-audit.service'), 'Service', 'Environment')?.replace(/^PATH=/, '');

    test("cron's file has a path and one line: times, user, command", () => {
      assert.ok(cron.endsWith('\n'));
      const lines = cron.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      assert.deepEqual(lines, [`PATH=${path}`, '*/5 * * * * root banctl audit --fix']);
    });

    test('the path has the program, and those of Apache and fail2ban', () => {
      const directories = path?.split(delimiter) ?? [];
      for (const directory of ['/usr/local/bin', '/usr/sbin', '/usr/bin'])
        assert.ok(directories.includes(directory), path);
    });

    test('the timer starts the service every five minutes, which runs the same command', async () => {
      assert.equal(
        setting(unit('banctl-audit.service'), 'Service', 'ExecStart'),
        '/usr/bin/env banctl audit --fix',
      );
      assert.equal(setting(unit('banctl-audit.service'), 'Service', 'Type'), 'oneshot');
      assert.equal(setting(unit('banctl-audit.timer'), 'Timer', 'OnUnitActiveSec'), '5min');
      assert.equal(setting(unit('banctl-audit.timer'), 'Install', 'WantedBy'), 'timers.target');
      const units = ['banctl-audit.service', 'banctl-audit.timer'].map((name) =>
        join(repository, 'systemd', name),
      );
      const hasAnalyze = (await execute('sh', ['-c', 'command -v systemd-analyze'])).exitCode === 0;
      if (hasAnalyze)
        assert.deepEqual(await execute('systemd-analyze', ['verify', '--man=no', ...units]), silent);
    });

    test("cron's command, run as cron runs it, is silent and ends with 0 when all is well", async () => {
      await using apache = await startApache({ list: '' });
      await banctl(['reload', '--force', `--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`]);
      const [, command = ''] = /root (.*)/.exec(cron) ?? [];
      const environment = [
        `PATH=${dirname(executable)}:/usr/bin:/bin`,
        `BANCTL_BANLIST=${apache.banlist}`,
        `BANCTL_APACHECTL=${apache.ctl}`,
        'BANCTL_NO_FAIL2BAN=1',
      ];
      assert.deepEqual(await execute('env', ['-i', ...environment, '/bin/sh', '-c', command]), silent);
    });
  });
});

/** Metrics by their name and labels; fails for what the text format (version 0.0.4) does not allow. */
function parseMetrics(text: string): Record<string, number> {
  assert.ok(text.endsWith('\n'));
  const metrics: Record<string, number> = {};
  const types = new Map<string, string>();
  for (const line of text.slice(0, -1).split('\n')) {
    const [, kind = '', described = '', told = ''] = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line) ?? [];
    if (kind === 'TYPE') {
      assert.ok(['gauge', 'counter', 'histogram'].includes(told) && !types.has(described), line);
      types.set(described, told);
    }
    if (kind !== '') continue;
    const sample = /^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\d+(?:\.\d+)?)$/.exec(line);
    assert.ok(sample, `not a sample: ${line}`);
    const [, name = '', labels, value] = sample;
    const family = name.replace(/_(?:bucket|sum|count)$/, '');
    assert.ok(types.has(name) || types.get(family) === 'histogram', `no TYPE before ${line}`);
    const key = labels === undefined ? name : `${name}{${labels}}`;
    assert.ok(!(key in metrics), `twice: ${line}`);
    metrics[key] = Number(value);
  }
  return metrics;
}
