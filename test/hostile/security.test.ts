// What people who may not may try: others on the machine who can write where banctl writes, who set its surroundings, and
// clients whose words end in logs and lists. See SECURITY.md for what is trusted; the filter has tests of its own.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
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
import { basename, dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { createHash } from '../../src/executable/stand-ins/node-crypto.ts';
import { executable } from '../lab/banctl.ts';
import { read, writeScript } from '../lab/site.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const A = '203.0.113.5';
/** A user without any rights; the user needs no name. */
const OTHER = 54_321;
const KEPT = "root's own\n";

/** A directory that OTHER may write, and beside it a file of root that no other user may read. */
function temporaryPlaces() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-security-'));
  chmodSync(directory, 0o755);
  const shared = join(directory, 'shared');
  mkdirSync(shared);
  chownSync(shared, OTHER, OTHER);
  const victim = join(directory, 'victim');
  writeFileSync(victim, KEPT, { mode: 0o600 });
  const config = join(directory, 'banctl.json');
  writeFileSync(config, '{}');
  const banlist = join(shared, 'banlist.conf');
  const line = (args: readonly string[]) => [executable, ...args, `--config=${config}`];
  return {
    directory,
    shared,
    victim,
    banlist,
    bandir: join(shared, 'bans'),
    /** Of commands that take no --no-reload: `list`, `explain`. */
    call: (...args: string[]): Promise<Finished> => execute('env', line(args)),
    run: (...args: string[]): Promise<Finished> =>
      execute('env', line([...args, `--banlist=${banlist}`, '--no-reload'])),
    /** Begins on a signal, so that its pid is known before. */
    waiting(...args: string[]): { child: ChildProcess; done: () => Promise<number | null> } {
      const child = spawn('sh', ['-c', 'read go; exec "$@"', 'sh', ...line(args)], {
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      return {
        child,
        async done() {
          child.stdin?.end('go\n');
          const [code] = await once(child, 'exit');
          return code as number | null;
        },
      };
    },
    /** As OTHER would: what is made is OTHER's. */
    link(target: string, path: string) {
      symlinkSync(target, path);
      lchownSync(path, OTHER, OTHER);
    },
    isUntouched() {
      const { mode, uid, gid, nlink } = statSync(victim);
      assert.deepEqual([readFileSync(victim, 'utf8'), mode & 0o7777, uid, gid], [KEPT, 0o600, 0, 0]);
      return nlink;
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

/** The name of a call's temporary file. */
function temporaryName(path: string, pid: number | undefined, file: number): string {
  const hash = createHash('');
  for (const part of ['banctl', String(pid), '0', String(file)]) hash.update(part);
  return join(dirname(path), `.${basename(path)}.${hash.digest().readUInt32BE(0)}`);
}

suite('who may write where banctl writes gets nothing of root', { concurrency: 4 }, () => {
  test('by a link in place of a lock: what it leads to is left alone', async () => {
    using places = temporaryPlaces();
    const elsewhere = join(places.directory, 'elsewhere');
    mkdirSync(elsewhere);
    // Also what looks like an entry of a lock.
    for (const name of ['1-1', 'a', 'z']) writeFileSync(join(elsewhere, name), KEPT);
    mkdirSync(places.bandir);
    places.link(elsewhere, `${places.banlist}.lock`);
    places.link(elsewhere, join(places.bandir, `${A}.lock`));
    for (const options of [[], [`--bandir=${places.bandir}`]]) {
      const { exitCode, stderr } = await places.run('ban', A, ...options);
      assert.equal(exitCode, 73);
      assert.match(stderr, /^banctl: cannot lock \S+: something else is in its place; remove it\n$/);
    }
    await places.run('audit', '--fix', '--no-fail2ban', `--bandir=${places.bandir}`);
    assert.deepEqual(readdirSync(elsewhere), ['1-1', 'a', 'z']);
  });

  test('by an entry in a lock that names another file: that is left alone', async () => {
    using places = temporaryPlaces();
    for (const named of ['other.conf', 'banlist.conf', '..', 'banlist.conf.bak']) {
      if (named !== '..') writeFileSync(join(places.shared, named), KEPT);
      mkdirSync(`${places.banlist}.lock`);
      writeFileSync(join(`${places.banlist}.lock`, `1-1.1@${named}`), '');
      assert.equal((await places.run('ban', A)).exitCode, 0);
      if (named !== '..') assert.match(read(join(places.shared, named)), new RegExp(`^${KEPT}`));
    }
  });

  test('by something else in a lock: it is named, and left alone', async () => {
    using places = temporaryPlaces();
    mkdirSync(`${places.banlist}.lock`);
    writeFileSync(join(`${places.banlist}.lock`, '\u001b[2J'), KEPT);
    const { exitCode, stderr } = await places.run('ban', A);
    assert.equal(exitCode, 73);
    assert.match(stderr, /^banctl: cannot lock \S+: "\\u001b\[2J" is in it; remove it\n$/);
    assert.equal(readdirSync(`${places.banlist}.lock`).length, 1);
  });

  const MADE: [string, (victim: string, path: string) => void][] = [
    ['links', symlinkSync],
    ['hard links', linkSync],
    ['files', (_victim, path) => writeFileSync(path, 'theirs', { mode: 0o666 })],
  ];
  for (const [what, make] of MADE) {
    test(`by ${what} with the names of temporary files: the victim is left alone, the ban is made`, async () => {
      for (let time = 0; time < TORTURE; time += 1) {
        using places = temporaryPlaces();
        const metrics = join(places.shared, 'banctl.prom');
        const calls: [string[], string[]][] = [
          [
            ['ban', A, `--banlist=${places.banlist}`, '--no-reload'],
            [places.banlist, `${places.banlist}.state`],
          ],
          [
            ['ban', '203.0.113.6', `--banlist=${places.banlist}`, '--no-reload', `--bandir=${places.bandir}`],
            [join(places.bandir, '203.0.113.6')],
          ],
          [
            [
              'audit',
              `--banlist=${places.banlist}`,
              `--prometheus=${metrics}`,
              '--no-fail2ban',
              '--apachectl=/none',
            ],
            [metrics],
          ],
        ];
        mkdirSync(places.bandir);
        for (const [call, written] of calls) {
          const waiting = places.waiting(...call);
          for (const path of written)
            for (let file = 1; file < 4; file += 1)
              make(places.victim, temporaryName(path, waiting.child.pid, file));
          assert.ok([0, 1].includes((await waiting.done()) ?? -1));
          const nlink = places.isUntouched();
          if (what === 'hard links') assert.ok(nlink < 1 + 3 * written.length, 'one of them was in the way');
          for (const name of readdirSync(places.shared, { recursive: true }).map(String)) {
            const path = join(places.shared, name);
            if (lstatSync(path).isSymbolicLink() || read(path) === KEPT || read(path) === 'theirs')
              rmSync(path);
          }
        }
        assert.match(read(places.banlist), /^Require not ip 203\.0\.113\.5$/m);
        assert.match(read(metrics), /^banctl_bans 1$/m);
        for (const path of [places.banlist, metrics]) assert.equal(lstatSync(path).uid, 0);
      }
    });
  }

  test('by changing each temporary file into a link as fast as it can', async () => {
    using places = temporaryPlaces();
    const metrics = join(places.shared, 'banctl.prom');
    writeFileSync(metrics, '');
    chownSync(metrics, OTHER, OTHER);
    const attack = `
      const { readdirSync, symlinkSync, unlinkSync, writeFileSync } = require('node:fs');
      process.setgroups([]); process.setgid(${OTHER}); process.setuid(${OTHER});
      const [shared, victim] = process.argv.slice(1);
      const tried = new Set();
      writeFileSync(shared + '/ready', '');
      for (let end = Date.now() + ${60_000 * TORTURE}; Date.now() < end; )
        for (const name of readdirSync(shared))
          if (name.includes('.banctl-') && !tried.has(name))
            try { unlinkSync(shared + '/' + name); symlinkSync(victim, shared + '/' + name); tried.add(name); writeFileSync(shared + '/met', '' + tried.size); } catch {}
    `;
    const attacker = spawn(process.execPath, ['-e', attack, places.shared, places.victim], {
      stdio: 'inherit',
    });
    try {
      await until('the attacker', () => existsSync(join(places.shared, 'ready')));
      for (let time = 0; time < 20 * TORTURE; time += 1) {
        const { exitCode } = await places.run(
          'audit',
          `--prometheus=${metrics}`,
          '--no-fail2ban',
          '--apachectl=/none',
        );
        assert.ok([1, 73, 78].includes(exitCode), `exit code ${exitCode}`);
        places.isUntouched();
        // Its own link can have become its own file of metrics.
        rmSync(metrics, { force: true });
      }
      assert.ok(existsSync(join(places.shared, 'met')), 'it was fast enough at least once');
      assert.equal(attacker.exitCode, null);
    } finally {
      attacker.kill('SIGKILL');
    }
  });

  test('by a link in place of the list, the directory or the metrics: it is followed only if it is root who made it', async () => {
    using places = temporaryPlaces();
    const metrics = join(places.shared, 'banctl.prom');
    const bandir = [`--bandir=${places.bandir}`];
    const calls: [string, string[]][] = [
      [places.banlist, ['ban', A]],
      [places.bandir, ['ban', A, ...bandir]],
      [metrics, ['audit', '--no-fail2ban', '--apachectl=/none', `--prometheus=${metrics}`]],
    ];
    for (const [path, call] of calls) {
      places.link(places.victim, path);
      const { exitCode, stderr } = await places.run(...call);
      assert.deepEqual(
        [exitCode, stderr],
        [
          78,
          `banctl: ${path} is a symbolic link that belongs to user ${OTHER}; nothing was changed, remove it, or make it root's\n`,
        ],
      );
      places.isUntouched();
      rmSync(path);
    }
    const target = join(places.directory, 'list');
    symlinkSync(target, places.banlist);
    assert.equal((await places.run('ban', A)).exitCode, 0);
    assert.equal(readlinkSync(places.banlist), target);
    assert.match(read(target), /^Require not ip/m);
  });

  test('by links in place of the state, a ban, or what an unban moves a ban to', async () => {
    using places = temporaryPlaces();
    mkdirSync(places.bandir);
    places.link(places.victim, `${places.banlist}.state`);
    places.link(places.victim, join(places.bandir, '203.0.113.6'));
    chmodSync(places.victim, 0o600);
    const bandir = `--bandir=${places.bandir}`;
    assert.equal((await places.run('ban', '198.51.100.0/24')).exitCode, 0);
    assert.equal((await places.run('ban', '203.0.113.6', bandir)).exitCode, 78);
    await places.run('audit', '--fix', '--no-fail2ban', '--apachectl=/none', bandir);
    places.isUntouched();

    await places.run('ban', A, '--jail=web', bandir);
    const elsewhere = join(places.directory, 'elsewhere');
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, 'removed'), KEPT);
    const waiting = places.waiting(
      'unban',
      A,
      '--jail=web',
      `--banlist=${places.banlist}`,
      bandir,
      '--no-reload',
    );
    places.link(elsewhere, join(places.bandir, `.${A}.banctl-${waiting.child.pid}`));
    assert.equal(await waiting.done(), 0);
    assert.equal(read(join(elsewhere, 'removed')), KEPT);
    assert.ok(!existsSync(join(places.bandir, A)));
  });

  test('unseen: audit names what belongs to another user, and what is above it', async () => {
    using places = temporaryPlaces();
    mkdirSync(places.bandir);
    await places.run('ban', A);
    for (const path of [places.banlist, places.bandir]) chownSync(path, OTHER, OTHER);
    const above = join(places.directory, 'above');
    mkdirSync(join(above, 'etc'), { recursive: true });
    chmodSync(above, 0o777);
    const config = join(above, 'etc', 'banctl.json');
    writeFileSync(config, '{}');
    const audit = async () =>
      (
        await execute(executable, [
          'audit',
          '--no-fail2ban',
          '--apachectl=/none',
          `--banlist=${places.banlist}`,
          `--bandir=${places.bandir}`,
          `--config=${config}`,
        ])
      ).stdout
        .split('\n')
        .filter((line) => line.startsWith('unsafe-permissions'))
        .map((line) => line.replace('unsafe-permissions: ', ''))
        .sort();
    const belongs = (path: string) =>
      `${path} belongs to user ${OTHER}, who can change it; chown root ${path}`;
    assert.deepEqual(
      await audit(),
      [
        `${above} is writable for other users than its owner; chmod go-w ${above}`,
        ...[places.banlist, places.bandir, places.shared].map(belongs),
      ].sort(),
    );
    // As in /tmp: no user can move another user's files away.
    chmodSync(above, 0o1777);
    for (const path of [places.banlist, places.bandir, places.shared]) chownSync(path, 0, 0);
    assert.deepEqual(await audit(), []);
  });
});

suite('surroundings', { concurrency: 4 }, () => {
  test('what the environment names is not run', async () => {
    using places = temporaryPlaces();
    const run = join(places.directory, 'run');
    const module = join(places.directory, 'module.js');
    writeFileSync(module, `require('node:fs').writeFileSync(${JSON.stringify(run)}, '')`);
    const openssl = join(places.directory, 'openssl.cnf');
    writeFileSync(
      openssl,
      `openssl_conf = a\n[a]\nengines = b\n[b]\nc = d\n[d]\ndynamic_path = ${module}\ninit = 1\n`,
    );
    const environment = {
      NODE_OPTIONS: `--require=${module} --openssl-config=${openssl}`,
      NODE_PATH: places.directory,
      NODE_EXTRA_CA_CERTS: module,
      NODE_TEST_CONTEXT: 'child',
      NODE_REDIRECT_WARNINGS: run,
      NODE_PENDING_DEPRECATION: '1',
      OPENSSL_CONF: openssl,
      OPENSSL_MODULES: places.directory,
      OPENSSL_ENGINES: places.directory,
      SSL_CERT_FILE: module,
      BASH_ENV: module,
      ENV: module,
      HOME: places.directory,
      TMPDIR: places.directory,
      XDG_CONFIG_HOME: places.directory,
    };
    const set = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const line = ['ban', A, `--banlist=${places.banlist}`, `--config=${places.directory}/banctl.json`];
    const reloading = ['--apachectl=/none', '--reload-command=true'];
    const { exitCode, stdout, stderr } = await execute('env', [...set, executable, ...line, ...reloading]);
    assert.deepEqual([exitCode, stdout, stderr], [0, `${A} banned\n`, '']);
    assert.ok(!existsSync(run));
    assert.deepEqual(readdirSync(places.directory).sort(), [
      'banctl.json',
      'module.js',
      'openssl.cnf',
      'shared',
      'victim',
    ]);
  });

  test('with a umask of 0 nothing is made that others may write, locks included', async () => {
    using places = temporaryPlaces();
    const modes = join(places.directory, 'modes');
    const program = writeScript(
      places.directory,
      'program',
      `stat -c '%a' ${places.banlist}.reload.lock > ${modes}`,
    );
    const options = `--banlist=${places.banlist} --bandir=${places.bandir} --config=${places.directory}/banctl.json`;
    const reloading = `--apachectl=/none --reload-command=${program}`;
    const { exitCode, stderr } = await execute('sh', [
      '-c',
      `umask 0; ${executable} ban ${A} 198.51.100.0/24 ${options} ${reloading}`,
    ]);
    assert.deepEqual([exitCode, stderr], [0, '']);
    assert.equal(read(modes), '755\n');
    for (const path of [places.banlist, `${places.banlist}.state`, places.bandir, join(places.bandir, A)])
      assert.equal(statSync(path).mode & 0o022, 0, path);
  });

  const SHELLS: [string, string, number[]][] = [
    ['no standard streams', 'exec <&- >&- 2>&-', [0]],
    ['all signals ignored', "trap '' HUP INT PIPE TERM CHLD XFSZ USR1 ALRM", [0]],
    ['a working directory that no longer exists', 'mkdir "$0.d"; cd "$0.d"; rmdir "$0.d"', [0]],
    ['no room for a file', 'exec 2>/dev/null >/dev/null; ulimit -f 0', [73]],
    // Node itself needs a few: it ends before banctl begins.
    ['few descriptors', 'exec 2>/dev/null; ulimit -c 0; ulimit -n 12; "$@"; exit $?', [0, 73, 134, 139]],
    ['an empty environment', 'exec env -i "$@"', [0]],
    ['many descriptors inherited', 'exec 3<"$0" 4<"$0" 5>>"$0" 6<"$0" 7<"$0" 8<"$0" 9<"$0"', [0]],
  ];
  for (const [what, shell, codes] of SHELLS) {
    test(`with ${what} the list is whole, and holds nothing but bans`, async () => {
      using places = temporaryPlaces();
      const first = 'Require not ip 192.0.2.1\n';
      writeFileSync(places.banlist, first);
      const { exitCode } = await execute('sh', [
        '-c',
        `${shell}; exec "$@"`,
        join(places.directory, 'victim'),
        ...[executable, 'ban', A, `--banlist=${places.banlist}`, `--config=${places.directory}/banctl.json`],
        ...['--apachectl=/none', '--reload-command=true', '--reload-interval=0'],
      ]);
      assert.ok(codes.includes(exitCode), `exit code ${exitCode}`);
      const added = /^# banctl \| manual 203\.0\.113\.5 since \S+ for ever\nRequire not ip 203\.0\.113\.5\n$/;
      const list = read(places.banlist);
      assert.ok(list.startsWith(first), list);
      if (exitCode === 0) assert.match(list.slice(first.length), added);
      else assert.equal(list, first);
      places.isUntouched();
    });
  }

  const STATES = [
    'null',
    '[]',
    '"x"',
    '{"loaded":"x"}',
    '{"loaded":{"digest":null,"pidFile":null}}',
    '{"digest":"ab"}',
    '{"digest":[1e400,"x"]}',
    '{"lastReload":1e300}',
    '{"lastTry":"abc","waiter":5}',
    '{"spacing":1e12,"lastTry":1}',
    '{"error":{"a":1}}',
    '{"pidFile":["/etc/shadow"]}',
    '\0'.repeat(100),
    '['.repeat(100_000),
  ].flatMap((text, index) => (index === 0 ? [text, `# ${text}\n`] : [`# ${text}\n`]));
  test('a state that another program has written costs a reload, and nothing else', async () => {
    using places = temporaryPlaces();
    const reloads = join(places.directory, 'reloads');
    const program = writeScript(places.directory, 'program', `echo >> ${reloads}`);
    const options = [`--banlist=${places.banlist}`, '--apachectl=/none', `--reload-command=${program}`];
    await places.call('ban', A, ...options, '--reload-interval=0');
    for (const state of STATES) {
      writeFileSync(`${places.banlist}.state`, state);
      const listed = await places.call('list', `--banlist=${places.banlist}`, '--json');
      assert.deepEqual([listed.exitCode, listed.stderr], [0, ''], state.slice(0, 100));
      rmSync(reloads);
      const banned = await places.call('ban', A, ...options);
      assert.deepEqual([banned.exitCode, banned.stderr], [0, ''], state.slice(0, 100));
      assert.equal(read(reloads), '\n', state.slice(0, 100));
    }
  });
});

suite('words of others', { concurrency: 4 }, () => {
  // Colours, title, clearing; the same in one byte; right to left; end of line; invisible letters; half a letter.
  const EVIL =
    'a\u001b[31mb\u001b]0;c\u0007d\u009b2Je\u0090f\u202eg\u2066h\u2028i\u2029j\u200bk\ufeffl\u{e0041}m\u{1d173}n\ud800o\u007fp\rq\bs';
  const STEERING = /[\p{C}\p{Zl}\p{Zp}]/u;

  test('cannot steer a terminal, whatever they come in by, and mean the same in JSON', async () => {
    using places = temporaryPlaces();
    const program = writeScript(
      places.directory,
      'apachectl',
      `printf '%s' '${EVIL.replaceAll('\ud800', '')}' >&2; exit 1`,
    );
    const odd = join(places.shared, `list-${EVIL.replace('\ud800', '')}`);
    const lists = [places.banlist, odd];
    const list = [
      `# banctl | web 203.0.113.7 since 2026-01-01T00:00:00Z for ever: ${EVIL.replace(/[\u2028\u2029\r]/g, '')}`,
      'Require not ip 203.0.113.7',
      `Require not ip 203.0.113.8 ${EVIL}`,
      `  Require  not  ip "203.0.113.9" '${EVIL}'`,
      `# banctl | ${EVIL}`,
      `x${EVIL} Require not ip 203.0.113.10`,
      '',
    ].join('\n');
    const config = join(places.directory, 'evil.json');
    writeFileSync(config, JSON.stringify({ [EVIL]: EVIL }));
    for (const banlist of lists) {
      const isOdd = banlist === odd;
      writeFileSync(banlist, list);
      const at = [`--banlist=${banlist}`];
      const apache = [...at, `--apachectl=${program}`, '--reload-interval=0'];
      const calls: string[][] = [
        ['ban', A, `--reason=${EVIL}`, ...apache],
        ['ban', EVIL, ...apache],
        ['ban', A, `--jail=${EVIL}`, ...apache],
        ['ban', A, `--for=${EVIL}`, ...apache],
        ['ban', A, `--protect=${EVIL}`, ...apache],
        ['ban', A, `--protect=@${places.directory}/${EVIL}`, ...apache],
        ['ban', A, `--bandir=/x${EVIL}`, ...apache],
        ['ban', A, `--${EVIL}`],
        [EVIL],
        ['unban', '203.0.113.9', `--fail2ban-client=${program}`, ...apache],
        ['sync', '--jail=web', `--fail2ban-client=${program}`, ...apache],
        ['list', ...at],
        ['explain', '203.0.113.7', ...at],
        ['audit', `--fail2ban-client=${program}`, ...apache],
        ['list', `--config=${config}`, ...at],
        ['reload', '--force', ...apache],
        ['migrate', '--to=bandir', `--bandir=${places.bandir}`, ...apache],
      ];
      for (const call of calls.filter(([name = '']) => !isOdd || /^(?:list|explain|audit)$/.test(name))) {
        for (const json of [[], ['--json']]) {
          const { stdout, stderr } = await places.call(...call, ...json);
          const said = `${stdout}${stderr}`;
          assert.notEqual(said, '', call.join(' '));
          for (const line of said.split('\n')) assert.doesNotMatch(line, STEERING, JSON.stringify(line));
          assert.ok(stderr.split('\n').length <= 2, stderr);
        }
      }
      const { stdout } = await places.call('explain', '203.0.113.7', ...at, '--json');
      const [by] = JSON.parse(stdout).by;
      assert.match(by.holds[0].reason, /^a \[31mb \]0;c d 2Je/, 'a reason is cleaned as it is read');
    }
    const { stdout } = await places.call(
      'audit',
      '--json',
      '--no-fail2ban',
      `--banlist=${odd}`,
      '--apachectl=/none',
    );
    const messages = JSON.parse(stdout).findings.map(({ message }: { message: string }) => message);
    assert.ok(
      messages.some((message: string) => message.includes('\u202eg\u2066h\u2028i')),
      stdout,
    );
  });

  /** With the processor's time that a call may take, whoever else uses it: then the system ends it. */
  const limited = (args: readonly string[], input = '') =>
    execute('sh', ['-c', 'ulimit -c 0; ulimit -t 10; "$@"; exit $?', 'sh', executable, ...args], input);

  test('however long they are, keep no call busy', async () => {
    using places = temporaryPlaces();
    const pieces = [
      ...['"', "'", ' ', '\\', '|', '[', '/', ':', '.', '1', '%7C', '\t', '\r', '=', '\u202e'],
      ...[
        'require ',
        'not ',
        'require not ip ',
        'since ',
        ' | ',
        '# banctl | ',
        'a: ',
        '"a ',
        '\'" ',
        '\\\\',
        '%',
      ],
      ...[' line 1 of ', '1.2.3.4 since 2026-01-01T00:00:00Z for ever', ' 203.0.113.5', '/1 '],
    ];
    const beginnings = [
      '',
      '# banctl | ',
      '# banctl | web 203.0.113.5 since ',
      'Require not ip ',
      'require not',
    ];
    const calls = [
      ['list', '--json'],
      ['explain', A],
      // In one document: hundreds of thousands of lines take their time.
      ['audit', '--no-fail2ban', '--apachectl=/none', '--json'],
      ['ban', A, '--no-reload'],
      ['unban', A, '--no-reload', '--no-fail2ban'],
    ];
    for (const length of TORTURE > 1 ? [20_000, 100_000] : [20_000]) {
      const lines = beginnings.flatMap((beginning) =>
        pieces.map((piece) => `${beginning}${piece.repeat(Math.ceil(length / piece.length))}`),
      );
      for (const call of calls) {
        writeFileSync(places.banlist, `${lines.join('\n\n')}\n\n`);
        const { exitCode, stderr } = await limited([...call, `--banlist=${places.banlist}`]);
        assert.ok([0, 1].includes(exitCode), `${call[0]}: ${exitCode} ${stderr}`);
      }
    }
  });

  test('nor do the addresses of one attacker, which begin alike and are banned as one range', async () => {
    using places = temporaryPlaces();
    const holds = Array.from(
      { length: 4096 },
      (_, index) =>
        `web 2001:db8::${(0x1000 + index).toString(16)} since 2026-01-01T00:00:00Z for ever: 5 failures`,
    );
    writeFileSync(places.banlist, `# banctl | ${holds.join(' | ')}\nRequire not ip 2001:db8::/64\n`);
    for (const call of [
      ['ban', '--ipv6-prefix=64'],
      ['unban', '--no-fail2ban'],
    ]) {
      const { exitCode, stderr } = await limited([
        ...call,
        '2001:db8::1',
        '--jail=web',
        `--banlist=${places.banlist}`,
        '--no-reload',
      ]);
      assert.deepEqual([exitCode, stderr], [0, '']);
    }
    assert.equal(read(places.banlist).split(' since ').length, 4097);
  });

  test('on the command line and on standard input keep no call busy either', async () => {
    using places = temporaryPlaces();
    const pieces = ['1', ':', '1:', '::', '1.', '/', 'f', '0', ' ', '-', '.', '%', 'ffff:', '[', '::1.'];
    for (const piece of pieces) {
      for (const begin of TORTURE > 1 ? ['', '::', '1.2.3.', 'fe80::'] : ['::']) {
        const { exitCode, stderr } = await limited(
          ['ban', '-', '--no-reload', `--banlist=${places.banlist}`],
          `${begin}${piece.repeat(1_000_000 / piece.length)}\n`,
        );
        if (piece !== ' ') assert.equal(exitCode, 64, `${begin}${piece}: ${stderr}`);
        assert.ok(stderr.length < 1000);
      }
    }
  });
});

test('what is protected cannot be banned by another spelling, a wider range, or a prefix', async () => {
  using places = temporaryPlaces();
  const ranges = join(places.directory, 'ip-ranges.json');
  const service = 'CLOUDFRONT_ORIGIN_FACING';
  writeFileSync(
    ranges,
    JSON.stringify({
      prefixes: [{ ip_prefix: '192.0.2.0/25', service }],
      ipv6_prefixes: [{ ipv6_prefix: '2001:db8:cf::/48', service }],
    }),
  );
  const protect = ['--protect=198.51.100.7', '--protect=2001:db8::7', `--protect=@${ranges}`];
  const refused: string[][] = [
    ...['198.51.100.7', '::ffff:198.51.100.7', '::FFFF:c633:6407', '198.51.100.7/32', '198.51.100.0/24'],
    ...['::ffff:198.51.100.0/120', '2001:db8::7', '2001:DB8:0:0::0:7', '2001:db8::/64', '2001:db8::/32'],
    ...['192.0.2.1', '192.0.2.127', '192.0.0.0/16', '::ffff:192.0.2.1', '2001:db8:cf::1', '2001:db8:c0::/40'],
    ...[
      '127.0.0.1',
      '127.255.255.255',
      '::1',
      '::ffff:127.0.0.1',
      '0:0:0:0:0:0:0:1',
      '::/20',
      '::ffff:7f00:1',
    ],
  ].map((address) => [address]);
  refused.push(
    ['198.51.100.8', '--ipv4-prefix=24'],
    ['::ffff:198.51.100.8', '--ipv4-prefix=24'],
    ['2001:db8::8', '--ipv6-prefix=64'],
    ['192.0.2.200', '--ipv4-prefix=24'],
    ['2001:db8:ce::1', '--ipv6-prefix=40'],
    ['203.0.113.1', '198.51.100.7'],
    ['203.0.113.1', '--ipv4-prefix=7'],
    ['0.0.0.0/7'],
    ['8000::/18'],
  );
  for (const [index, args] of refused.entries()) {
    const bandir = index % 2 === 0 ? [] : [`--bandir=${places.bandir}`];
    const { exitCode, stderr } = await places.run('ban', ...args, ...protect, ...bandir);
    assert.equal(exitCode, 77, `${args.join(' ')}: ${stderr}`);
  }
  assert.deepEqual(readdirSync(places.shared), []);
});
