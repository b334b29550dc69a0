// Bans moved between the list and the directory during requests: no banned visitor may get in on the way.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, suite, test } from 'node:test';
import { type Apache, type ApacheOptions, installedBanlist, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { type Listed, writeScript } from '../lab/site.ts';
import { type Finished, until } from '../lab/wait.ts';

/** Tests of a suite share its Apache. */
const inOrder = { concurrency: 1 };

const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';
const both = [ipv4, ipv6];
const range = '198.51.100.0/24';
const foreign = ['# mine\n', '  require NOT ip 192.0.2.77\n', '\n'];

const held = (holder: string, address: string, reason = '') =>
  `| ${holder} ${address} since 2026-01-01T00:00:00Z for ever${reason && `: ${reason}`}`;
const written = (address: string, ...holds: string[]) =>
  `${holds.length === 0 ? '' : `# banctl ${holds.join(' ')}\n`}Require not ip ${address}\n`;

/** Two holders with a reason, one unknown, a range, and foreign lines. */
const singles = [
  written(ipv4, held('web', ipv4, '5 failures: x'), held('manual', ipv4)),
  written(ipv6, held('web', ipv6)),
  written('203.0.113.9'),
];
const stays = [foreign[0], written(range, held('web', range)), foreign[1], foreign[2]];
const list = [foreign[0], singles[0], stays[1], singles[1], foreign[1], singles[2], foreign[2]].join('');
const visitors = [...both, '203.0.113.9'];
const staying = ['198.51.100.7', '192.0.2.77'];

const optionsOf = ({ banlist, bandir, ctl }: Apache) => [
  `--banlist=${banlist}`,
  `--bandir=${bandir}`,
  `--apachectl=${ctl}`,
];

function run(apache: Apache, command: string, ...args: string[]): Promise<Finished> {
  const given = command === 'list' ? optionsOf(apache).slice(0, 2) : optionsOf(apache);
  const isGiven = (option: string) => args.some((arg) => arg.startsWith(option.replace(/=.*/, '=')));
  return banctl([command, ...args, ...given.filter((option) => !isGiven(option))]);
}

async function done(apache: Apache, command: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await run(apache, command, ...args);
  assert.equal(exitCode, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

const textOf = ({ banlist }: Apache) => (existsSync(banlist) ? readFileSync(banlist, 'utf8') : '');
const namesIn = ({ bandir }: Apache) => (existsSync(bandir) ? readdirSync(bandir).sort() : []);
const fileOf = ({ bandir }: Apache, address: string) => readFileSync(join(bandir, address), 'utf8');
const bansOf = async (apache: Apache) =>
  (JSON.parse(await done(apache, 'list', '--json')) as Listed).bans.sort((one, other) =>
    one.address < other.address ? -1 : 1,
  );

async function answer(apache: Apache, from: readonly string[], status: number) {
  const wrong: string[] = [];
  for (const visitor of from) {
    const got = await apache.get('/', { from: visitor });
    if (got !== status) wrong.push(`${visitor} gets ${got}`);
  }
  assert.deepEqual(wrong, [], `instead of ${status}\n${textOf(apache)}${namesIn(apache).join(' ')}`);
}

/** Requests of all these visitors, again and again; ends with what they got. */
function visits(apache: Apache, from: readonly string[]) {
  const statuses = new Map<number, number>();
  let isStopped = false;
  const ends = from.map(async (visitor) => {
    while (!isStopped) {
      const status = await apache.get('/', { from: visitor });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  });
  return async () => {
    isStopped = true;
    await Promise.all(ends);
    return [...statuses.keys()];
  };
}

const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
const start = (options: ApacheOptions = {}) => startApache({ mpm, remoteip: true, ...options });

suite('migrate', { concurrency: 2 }, () => {
  suite('there and back', inOrder, () => {
    let apache: Apache;
    before(async () => {
      apache = await start();
    });
    after(() => apache[Symbol.asyncDispose]());
    beforeEach(async () => {
      rmSync(apache.bandir, { recursive: true, force: true });
      writeFileSync(apache.banlist, list);
      await done(apache, 'reload', '--force', '--bandir=').catch(() => done(apache, 'reload', '--force'));
    });
    const to = (place: string, ...args: string[]) => done(apache, 'migrate', `--to=${place}`, ...args);

    test('to the directory: holds, reasons and unknown holders move, ranges and foreign lines stay', async () => {
      const before = await bansOf(apache);
      const said = await to('bandir');
      assert.equal(said, `3 bans moved to ${apache.bandir}; 2 other lines stay in ${apache.banlist}\n`);
      assert.equal(textOf(apache), stays.join(''));
      assert.deepEqual(namesIn(apache), [...visitors].sort());
      for (const [index, address] of visitors.entries())
        assert.equal(fileOf(apache, address), singles[index], address);
      const moved = before.map((ban) => (visitors.includes(ban.address) ? { ...ban, where: 'bandir' } : ban));
      assert.deepEqual(await bansOf(apache), moved);
      await answer(apache, [...visitors, ...staying], 403);
      await answer(apache, ['203.0.113.6', '2001:db8::6'], 200);
    });

    test('to the list: holds, reasons and unknown holders move back', async () => {
      const before = await bansOf(apache);
      await to('bandir');
      assert.equal(await to('banlist'), `3 bans moved to ${apache.banlist}\n`);
      assert.deepEqual(namesIn(apache), []);
      assert.deepEqual(await bansOf(apache), before);
      assert.ok(textOf(apache).startsWith(stays.join('')));
      await answer(apache, [...visitors, ...staying], 403);
      await answer(apache, ['203.0.113.6', '2001:db8::6'], 200);
    });

    test('a second run moves nothing, and reloads nothing', async () => {
      for (const [place, where] of [
        ['bandir', apache.bandir],
        ['banlist', apache.banlist],
      ] as const) {
        await to(place);
        const [reloads, text, names] = [apache.reloads(), textOf(apache), namesIn(apache)];
        assert.match(await to(place), new RegExp(`^0 bans moved to ${where}`));
        assert.deepEqual([apache.reloads(), textOf(apache), namesIn(apache)], [reloads, text, names]);
      }
    });

    test('no visitor who is banned gets in, at any instant, in either direction', async () => {
      const stop = visits(apache, [...visitors, ...staying]);
      for (let round = 0; round < 3; round += 1) {
        await to('bandir');
        await to('banlist');
      }
      assert.deepEqual(await stop(), [403]);
    });

    test('--dry-run says what would move, and changes nothing', async () => {
      const said = `3 bans would be moved to ${apache.bandir}; 2 other lines stay in ${apache.banlist}\n`;
      assert.equal((await to('bandir', '--dry-run')).split('\n')[0], said.trim());
      assert.deepEqual([textOf(apache), existsSync(apache.bandir)], [list, false]);
      await to('bandir');
      const reloads = apache.reloads();
      assert.equal(
        (await to('banlist', '--dry-run')).split('\n')[0],
        `3 bans would be moved to ${apache.banlist}`,
      );
      assert.deepEqual([textOf(apache), namesIn(apache)], [stays.join(''), [...visitors].sort()]);
      assert.equal(apache.reloads(), reloads);
    });

    test('--json prints what was moved', async () => {
      const told = JSON.parse(await to('bandir', '--json'));
      assert.deepEqual(told, { changed: true, moved: visitors, reload: 'done' });
      assert.deepEqual(JSON.parse(await to('bandir', '--json')), {
        changed: false,
        moved: [],
        reload: 'not-needed',
      });
    });

    test('files made by touch and notes move with an unknown holder', async () => {
      mkdirSync(apache.bandir);
      writeFileSync(join(apache.bandir, '203.0.113.20'), '');
      writeFileSync(join(apache.bandir, '203.0.113.21'), 'tries passwords\n');
      writeFileSync(join(apache.bandir, 'README'), 'not an address');
      assert.match(await to('banlist'), /^2 bans moved/);
      await answer(apache, ['203.0.113.20', '203.0.113.21'], 403);
      const unknown = (await bansOf(apache)).filter(({ holds }) => holds[0]?.holder === null);
      assert.deepEqual(
        unknown.map(({ address, where }) => `${address} ${where}`),
        ['192.0.2.77', '203.0.113.20', '203.0.113.21', '203.0.113.9'].map((one) => `${one} banlist`),
      );
      assert.deepEqual(namesIn(apache), ['README']);
    });

    test('a foreign line that bans the same address is not touched', async () => {
      const line = `require not ip ${ipv4} 192.0.2.78\n`;
      appendFileSync(apache.banlist, line);
      await to('bandir');
      assert.equal(textOf(apache), [...stays, line].join(''));
      await answer(apache, visitors, 403);
    });

    test('two lines of one address become one file', async () => {
      writeFileSync(apache.banlist, [singles[0], written(ipv4, held('ssh', ipv4)), singles[2]].join(''));
      await to('bandir');
      assert.equal(textOf(apache), '');
      const holders = (await bansOf(apache)).map(({ holds }) => holds.map(({ holder }) => holder));
      assert.deepEqual(holders, [['web', 'manual', 'ssh'], [null]]);
    });

    test('what a holder has in the new place already is newer, and is kept', async () => {
      mkdirSync(apache.bandir);
      const newer = written(ipv4, held('web', ipv4, 'newer'));
      writeFileSync(join(apache.bandir, ipv4), newer);
      await to('bandir');
      assert.equal(fileOf(apache, ipv4), written(ipv4, held('web', ipv4, 'newer'), held('manual', ipv4)));
    });

    test('thousands move, by one reload', async () => {
      const many = Array.from({ length: 2500 }, (_, index) => `10.1.${index >> 8}.${index & 255}`);
      writeFileSync(apache.banlist, many.map((address) => written(address, held('web', address))).join(''));
      await done(apache, 'reload', '--force');
      const reloads = apache.reloads();
      const some = many.filter((_, index) => index % 250 === 0);
      assert.equal(await to('bandir'), `2500 bans moved to ${apache.bandir}\n`);
      assert.deepEqual([namesIn(apache).length, textOf(apache), apache.reloads()], [2500, '', reloads + 1]);
      await answer(apache, some, 403);
      assert.equal(await to('banlist'), `2500 bans moved to ${apache.banlist}\n`);
      assert.deepEqual([namesIn(apache).length, apache.reloads()], [0, reloads + 2]);
      await answer(apache, some, 403);
    });

    /** A script for the control program, which runs `commands` at its first call with these arguments, before Apache is called. */
    function interrupted(name: string, when: string, ...commands: string[][]): string {
      const calls = commands.map((command) =>
        [executable, ...command, ...optionsOf(apache).slice(0, 2), '--no-reload']
          .map((word) => `'${word}'`)
          .join(' '),
      );
      const mark = join(apache.dir, `${name}.mark`);
      rmSync(mark, { force: true });
      const text = `case "$*" in *${when}*) [ -e ${mark} ] || { : >${mark}; ${calls.join(' && ')} || exit 9; } >${apache.dir}/${name}.log 2>&1;; esac\nexec ${apache.ctl} "$@"`;
      return writeScript(apache.dir, name, text);
    }

    test('to the list: what changes before the list is enforced stays changed', async () => {
      await to('bandir');
      // The reload comes between the bans in the list and the end of those in the directory.
      const control = interrupted(
        'back',
        'graceful',
        ['ban', ipv4, '--jail=ssh'],
        ['unban', ipv6, '--no-fail2ban'],
        ['ban', '203.0.113.30'],
      );
      // banctl itself would send a signal to Apache, and call nothing.
      await to('banlist', `--reload-command=${control} -k graceful`);
      await answer(apache, [ipv4, '203.0.113.9', '203.0.113.30'], 403);
      const holders = (await bansOf(apache)).map(({ address, holds, where }) =>
        [address, ...holds.map(({ holder }) => holder), where].join(' '),
      );
      assert.ok(holders.includes('203.0.113.30 manual bandir'), holders.join('\n'));
      assert.ok(
        holders.some((ban) => ban.startsWith(`${ipv4} `) && ban.includes('ssh')),
        holders.join('\n'),
      );
      assert.equal(
        holders.some((ban) => ban.startsWith(ipv6)),
        false,
        holders.join('\n'),
      );
    });

    test('to the directory: what is unbanned while it is prepared stays unbanned', async () => {
      const control = interrupted(
        'there',
        'DUMP_INCLUDES',
        ['unban', ipv6, '--no-fail2ban'],
        ['ban', ipv4, '--jail=ssh'],
      );
      await to('bandir', `--apachectl=${control}`);
      assert.equal(namesIn(apache).includes(ipv6), false);
      await answer(apache, [ipv6], 200);
      await answer(apache, [ipv4, '203.0.113.9'], 403);
      const [ban] = (await bansOf(apache)).filter(({ address }) => address === ipv4);
      assert.deepEqual(ban?.holds.map(({ holder }) => holder).sort(), ['manual', 'ssh', 'web']);
    });

    test('to the directory: what moves there while it is unbanned is unbanned', async () => {
      mkdirSync(apache.bandir);
      const file = join(apache.bandir, ipv6);
      writeFileSync(file, written(ipv6, held('ssh', ipv6)));
      const lock = fork(join(import.meta.dirname, '..', 'lab', 'holder.ts'), [apache.banlist]);
      await once(lock, 'message');
      const unbanned = run(apache, 'unban', ipv6, '--no-fail2ban', '--reload-interval=0');
      // By now it has looked at the directory, and waits for the list.
      await until('the file to go', () => !existsSync(file));
      writeFileSync(file, singles[1] ?? '');
      writeFileSync(apache.banlist, list.replace(singles[1] ?? '', ''));
      lock.send('release');
      await once(lock, 'message');
      lock.disconnect();
      const { stdout } = await unbanned;
      assert.match(stdout, /^2001:db8::5 unbanned\n/);
      assert.equal(existsSync(file), false);
      await answer(apache, [ipv6], 200);
    });

    test('calls that ban and unban all the while lose nothing', async () => {
      const mine = Array.from({ length: 12 }, (_, index) => `203.0.113.${100 + index}`);
      let isStopped = false;
      const states = new Map<string, boolean>();
      const storm = mine.map(async (address, index) => {
        for (let turn = index; !isStopped; turn += 1) {
          await done(apache, turn % 2 ? 'unban' : 'ban', address, '--jail=web', '--reload-interval=0');
          states.set(address, turn % 2 === 0);
        }
      });
      for (let round = 0; round < 2; round += 1) {
        await to('bandir');
        await to('banlist');
      }
      isStopped = true;
      await Promise.all(storm);
      const banned = new Set((await bansOf(apache)).map(({ address }) => address));
      for (const [address, isBanned] of states) assert.equal(banned.has(address), isBanned, address);
      await answer(apache, [...visitors, ...mine.filter((address) => states.get(address))], 403);
      await answer(
        apache,
        mine.filter((address) => !states.get(address)),
        200,
      );
    });
  });

  suite('refuses', inOrder, () => {
    const ruleOf = (dir: string) => `Require expr "! -e '${dir}/bans/%{REMOTE_ADDR}'"\n`;
    const siteWith = (rule: string, more = `IncludeOptional ${installedBanlist}\n`) =>
      `<If "true">\nAuthMerging And\n<RequireAll>\nRequire all granted\n${more}${rule}</RequireAll>\n</If>\n`;

    async function refusesToMove(apache: Apache, says: RegExp) {
      const text = textOf(apache);
      const reloads = apache.reloads();
      const { exitCode, stdout, stderr } = await run(apache, 'migrate', '--to=bandir');
      assert.deepEqual([exitCode, stdout], [78, ''], stderr);
      assert.match(stderr, says);
      assert.match(stderr, /^banctl: [^\n]*; nothing was moved\n$/);
      assert.deepEqual([textOf(apache), namesIn(apache), apache.reloads()], [text, [], reloads]);
      await answer(apache, visitors, 403);
    }

    test('a directory for which there is no rule', async () => {
      for (const rule of [
        '',
        `# ${ruleOf('/etc/apache2/djangoapp')}`,
        ruleOf('/etc/apache2/djangoapp/other'),
        ruleOf('/etc/apache2/djangoapp').replace('REMOTE_ADDR', 'REMOTE_HOST'),
        ruleOf('/etc/apache2/djangoapp').replace('bans/', 'bans'),
      ]) {
        await using apache = await start({ list, site: siteWith(rule) });
        await refusesToMove(apache, /apache has no rule that looks into \S+\/bans;/);
        assert.equal(existsSync(apache.bandir), false);
      }
    });

    suite('a rule that Apache has not loaded, until it has', inOrder, () => {
      const old = new Date('2020-01-01');
      const ways: [way: string, site: (dir: string) => string, write: (apache: Apache) => void][] = [
        [
          'written into a file that is read already',
          (dir) => siteWith(`Include ${dir}/rule.conf\n`),
          ({ dir }) => writeFileSync(join(dir, 'rule.conf'), ruleOf(dir)),
        ],
        [
          'in an old file that was moved there',
          (dir) => siteWith(`IncludeOptional ${dir}/enabled/*.conf\n`),
          ({ dir }) => renameSync(join(dir, 'old.conf'), join(dir, 'enabled', 'rule.conf')),
        ],
        [
          'in an old file that was enabled by a link',
          (dir) => siteWith(`IncludeOptional ${dir}/enabled/*.conf\n`),
          ({ dir }) => symlinkSync(join(dir, 'old.conf'), join(dir, 'enabled', 'rule.conf')),
        ],
        [
          'in an old file that another includes now',
          (dir) => siteWith(`Include ${dir}/rule.conf\n`),
          ({ dir }) => writeFileSync(join(dir, 'rule.conf'), `Include ${dir}/old.conf\n`),
        ],
        [
          'copied there with its old time',
          (dir) => siteWith(`Include ${dir}/rule.conf\n`),
          ({ dir }) => {
            writeFileSync(join(dir, 'rule.conf'), ruleOf(dir));
            utimesSync(join(dir, 'rule.conf'), old, old);
          },
        ],
      ];
      for (const [way, site, write] of ways)
        test(way, async () => {
          const dir = mkdtempSync(join(tmpdir(), 'banctl-migrate-'));
          mkdirSync(join(dir, 'enabled'));
          writeFileSync(join(dir, 'rule.conf'), '');
          writeFileSync(join(dir, 'old.conf'), ruleOf(dir));
          utimesSync(join(dir, 'old.conf'), old, old);
          try {
            await using apache = await start({ dir, list, site: site(dir) });
            await refusesToMove(apache, /apache has no rule/);
            write(apache);
            await refusesToMove(
              apache,
              /apache has not read the rule for \S+\/bans yet; banctl reload --force;/,
            );
            await done(apache, 'reload', '--force');
            assert.match(await done(apache, 'migrate', '--to=bandir'), /^3 bans moved/);
            await answer(apache, visitors, 403);
          } finally {
            rmSync(dir, { recursive: true });
          }
        });
    });

    test('a directory that Apache cannot search, or one below such', async () => {
      const site = (dir: string) => siteWith(ruleOf(`${dir}/above`));
      await using apache = await start({ list, site });
      const bandir = join(apache.dir, 'above', 'bans');
      mkdirSync(bandir, { recursive: true });
      for (const closed of [bandir, join(apache.dir, 'above')]) {
        chmodSync(closed, 0o700);
        const { exitCode, stdout, stderr } = await run(
          apache,
          'migrate',
          '--to=bandir',
          `--bandir=${bandir}`,
        );
        assert.deepEqual([exitCode, stdout], [78, '']);
        assert.equal(stderr, `banctl: apache's user www-data cannot search ${bandir}; nothing was moved\n`);
        assert.deepEqual([textOf(apache), readdirSync(bandir)], [list, []]);
        chmodSync(closed, 0o755);
      }
      assert.match(await done(apache, 'migrate', '--to=bandir', `--bandir=${bandir}`), /^3 bans moved/);
      await answer(apache, visitors, 403);
    });

    test('either way while the configuration is broken; what is banned stays so', async () => {
      await using apache = await start({ list });
      const text = readFileSync(apache.config, 'utf8');
      writeFileSync(apache.config, `${text}Rubbish\n`);
      await refusesToMove(apache, /Rubbish/);
      writeFileSync(apache.config, text);
      await done(apache, 'reload', '--force');
      await done(apache, 'migrate', '--to=bandir');
      writeFileSync(apache.config, `${text}Rubbish\n`);
      const stop = visits(apache, visitors);
      const { exitCode, stdout, stderr } = await run(apache, 'migrate', '--to=banlist');
      assert.deepEqual([exitCode, stdout], [69, '']);
      assert.match(stderr, /^banctl: [^\n]*Rubbish[^\n]*; the bans stay in \S+\/bans too\n$/);
      assert.deepEqual(namesIn(apache), [...visitors].sort());
      assert.deepEqual(await stop(), [403]);
      writeFileSync(apache.config, text);
      assert.match(await done(apache, 'migrate', '--to=banlist'), /^3 bans moved/);
      assert.deepEqual(namesIn(apache), []);
      await answer(apache, visitors, 403);
    });

    test('to take bans out of the directory when Apache does not read the list', async () => {
      await using apache = await start({ site: siteWith(ruleOf('/etc/apache2/djangoapp'), '') });
      await done(apache, 'ban', ...both);
      const { exitCode, stderr } = await run(apache, 'migrate', '--to=banlist');
      assert.equal(exitCode, 69);
      assert.match(
        stderr,
        /apache does not read \S+\/banlist\.conf; enable the snippet djangoapp-banlist: banctl setup says how; the bans stay in \S+\/bans too\n$/,
      );
      assert.deepEqual(namesIn(apache), [...both].sort());
      await answer(apache, both, 403);
    });

    test('to take bans out of a directory with something in it that cannot be read: 78, before anything has moved', async () => {
      await using apache = await start({ list: '' });
      await done(apache, 'ban', ...both);
      mkdirSync(join(apache.bandir, '203.0.113.200'));
      const [names, reloads] = [namesIn(apache), apache.reloads()];
      for (const more of [[], ['--dry-run']]) {
        const { exitCode, stdout, stderr } = await run(apache, 'migrate', '--to=banlist', ...more);
        assert.deepEqual([exitCode, stdout], [78, '']);
        assert.match(stderr, /203\.0\.113\.200 is not a regular file; nothing was changed\n$/);
        assert.deepEqual([textOf(apache), namesIn(apache), apache.reloads()], ['', names, reloads]);
      }
    });

    test('what it cannot do: 64', async () => {
      const place = [`--banlist=/nonexistent/list`, '--bandir=/nonexistent/bans'];
      const cases: [args: string[], says: RegExp][] = [
        [place, /migrate needs --to bandir or --to banlist/],
        [[...place, '--to=elsewhere'], /no such place: "elsewhere"; give bandir or banlist/],
        [['--to=bandir'], /migrate needs --bandir DIR/],
        [['--to=banlist', '--bandir='], /migrate needs --bandir DIR/],
        [[...place, '--to=banlist', '--no-reload'], /--no-reload is not an option of migrate/],
        [[...place, '--to=banlist', ipv4], /migrate takes no addresses: "203\.0\.113\.5"/],
        [[...place, '--to=banlist', '--jail=web'], /--jail is not an option of migrate/],
      ];
      for (const [args, says] of cases) {
        const { exitCode, stdout, stderr } = await banctl(['migrate', ...args]);
        assert.deepEqual([exitCode, stdout], [64, ''], args.join(' '));
        assert.match(stderr, says);
        assert.equal(stderr.split('\n').length, 2);
      }
      assert.equal(existsSync('/nonexistent'), false);
    });
  });

  test('with a stopped Apache bans move; it finds them when it starts', async () => {
    await using apache = await start({ list });
    await apache.stop();
    await done(apache, 'migrate', '--to=bandir');
    await apache.start();
    await answer(apache, visitors, 403);
    await apache.stop();
    await done(apache, 'migrate', '--to=banlist');
    assert.deepEqual(namesIn(apache), []);
    await apache.start();
    await answer(apache, visitors, 403);
  });
});
