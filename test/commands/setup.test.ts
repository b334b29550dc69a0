// banctl setup: from a server without it to the first 403, and back.
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { KIT_DIRECTORIES, withJail } from '../../src/setup/kit.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { doSetup } from '../lab/installing.ts';
import { forEachCall, interruptible } from '../lab/interruptible.ts';
import { type LayoutName, type Machine, startMachine } from '../lab/machine.ts';
import { execute, type Finished, until } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-setup-'));
after(() => rmSync(directory, { recursive: true }));

const attacker = '203.0.113.55';
const visitor = '198.51.100.7';
const jail = 'djangoapp-admin-login';

const ACTION = '/etc/fail2ban/action.d/apache-banlist.conf';
const SERVED_ACTION = '/etc/fail2ban/action.d/apache-banlist.py';
const FILTER = '/etc/fail2ban/filter.d/djangoapp-login.conf';
const ACCESS_FILTER = `/etc/fail2ban/filter.d/${jail}.conf`;
const FILTERS = readdirSync(join(repository, 'filter.d')).map((name) => `/etc/fail2ban/filter.d/${name}`);
const JAILS = readdirSync(join(repository, 'jail.d')).map((name) => `/etc/fail2ban/jail.d/${name}`);
const JAIL = `/etc/fail2ban/jail.d/${jail}.local`;
const SNIPPET = '/etc/apache2/conf-available/djangoapp-banlist.conf';
const CRON = '/etc/cron.d/banctl';
const CONFIG = '/etc/banctl.json';
const LIST = '/etc/apache2/djangoapp/banlist.conf';
const MEMORY = '/var/lib/banctl/setup.json';
const BESIDE = '.banctl-new~';
const FAIL2BAN = 'etc/fail2ban/action.d etc/fail2ban/filter.d etc/fail2ban/jail.d';
const PACKAGES = `etc/apache2/conf-available etc/apache2/conf-enabled ${FAIL2BAN} etc/cron.d var/lib`;

type Told = {
  changed: boolean;
  files: { path: string; status: string; reason?: string }[];
  todo: { code: string; message: string }[];
};

/** What each distribution's administrators type. */
const LAYOUTS: Record<
  LayoutName,
  {
    apache: string;
    snippets: string;
    logs: string;
    enable: string[];
    log: string[];
    disable: string[];
    enabled: string;
    graceful: string[];
  }
> = {
  debian: {
    apache: '/etc/apache2',
    snippets: '/etc/apache2/conf-available',
    logs: '/var/log/apache2',
    enable: ['a2enconf', 'djangoapp-banlist'],
    log: ['a2enconf', 'djangoapp-login-log'],
    disable: ['a2disconf', 'djangoapp-banlist'],
    enabled: '/etc/apache2/conf-enabled',
    graceful: ['apache2ctl', '-k', 'graceful'],
  },
  redhat: {
    apache: '/etc/httpd',
    snippets: '/etc/httpd/djangoapp',
    logs: '/var/log/httpd',
    enable: ['ln', '-s', '/etc/httpd/djangoapp/djangoapp-banlist.conf', '/etc/httpd/conf.d/'],
    log: ['ln', '-s', '/etc/httpd/djangoapp/djangoapp-login-log.conf', '/etc/httpd/conf.d/'],
    disable: ['rm', '/etc/httpd/conf.d/djangoapp-banlist.conf'],
    enabled: '/etc/httpd/conf.d',
    graceful: ['httpd', '-k', 'graceful'],
  },
};

/** `banctl setup` in a machine. */
async function setUp(machine: Machine, ...args: string[]): Promise<Told> {
  return JSON.parse(await machine.done('banctl', 'setup', '--json', ...args));
}

const statusOf = ({ files }: Told, path: string) => files.find((file) => file.path === path)?.status;
const codes = ({ todo }: Told) => todo.map(({ code }) => code);

suite('on a new server, as its administrator types it', { concurrency: true }, () => {
  for (const [layout, places] of Object.entries(LAYOUTS)) {
    const { apache, snippets, logs, enable, log, disable, enabled, graceful } = places;
    test(`${layout}: from the executable alone to the first 403, and back to the list alone`, async () => {
      await using machine = await startMachine(layout as LayoutName);
      await machine.startApache();
      const before = machine.files('/etc');
      const list = `${apache}/djangoapp/banlist.conf`;
      const [command = '', ...args] = enable;

      const first = await machine.done('banctl', 'setup', '--list-only');
      assert.match(first, new RegExp(`^/etc/fail2ban/jail\\.d/${jail}\\.local written$`, 'm'));
      assert.match(first, new RegExp(`^${list} written$`, 'm'));
      assert.match(
        first,
        new RegExp(`^ {2}not-included: apache does not read ${list}: ${enable.join(' ')} for `, 'm'),
      );
      assert.match(
        first,
        new RegExp(`^ {2}no-login-log: apache does not log failed logins, .*: ${log.join(' ')}, after `, 'm'),
      );
      assert.match(first, /^ {2}fail2ban-down: /m);

      // Requests come through a proxy that Apache does not trust yet.
      for (let request = 0; request < 12; request += 1) await machine.get(attacker);
      machine.write(
        `${enabled}/proxy.conf`,
        'RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.0/8\n',
      );
      await machine.done(command, ...args);
      assert.ok(codes(await setUp(machine, '--list-only')).includes('no-login-log'));
      const [logCommand = '', ...logArgs] = log;
      await machine.done(logCommand, ...logArgs);
      assert.deepEqual(codes(await setUp(machine, '--enable-jail', '--list-only')), [
        'reload-pending',
        'fail2ban-down',
      ]);
      await machine.done('banctl', 'reload');
      await machine.startFail2ban();

      const again = await machine.done('banctl', 'setup', '--list-only');
      assert.equal(again, 'nothing has changed\n');
      assert.equal(await machine.done('banctl', 'audit'), '');

      for (let tries = 0; tries < 5; tries += 1)
        assert.equal(await machine.get(attacker, '/admin/login/', 'POST'), 401);
      await until('the attacker to be refused', async () => (await machine.get(attacker)) === 403);
      assert.equal(await machine.get(visitor), 200);
      assert.match(machine.read(list), new RegExp(`^Require not ip ${attacker}$`, 'm'));
      assert.match(await machine.done('banctl', 'explain', attacker), new RegExp(`${list}, line`));

      const kept = await setUp(machine, '--remove');
      assert.deepEqual(
        kept.files.filter(({ status }) => status !== 'removed').map(({ path, status }) => ({ path, status })),
        [
          `${snippets}/djangoapp-banlist.conf`,
          `${snippets}/djangoapp-login-log.conf`,
          `${logs}/djangoapp-login.log`,
        ].map((path) => ({ path, status: 'in-use' })),
      );
      assert.ok(
        kept.files.some(({ reason }) => reason?.includes(disable.join(' '))),
        JSON.stringify(kept),
      );
      assert.deepEqual(codes(kept), ['fail2ban-reload', 'list-stays', 'program-stays']);
      await machine.done('fail2ban-client', 'reload');
      await until(
        'the jail to be gone',
        async () => !(await machine.done('fail2ban-client', 'status')).includes(jail),
      );
      const [undo = '', ...words] = disable;
      await machine.done(undo, ...words);
      await machine.done(
        undo,
        ...words.map((word) => word.replace('djangoapp-banlist', 'djangoapp-login-log')),
      );
      const [control = '', ...controls] = graceful;
      await machine.done(control, ...controls);
      const removed = await setUp(machine, '--remove');
      assert.deepEqual(
        removed.files.map(({ status }) => status),
        ['removed', 'removed', 'in-use'],
      );
      assert.deepEqual(
        machine.files('/etc').filter((path) => !before.includes(path) && !path.endsWith('/proxy.conf')),
        [list],
      );
      assert.deepEqual(
        machine.files('/var/lib/banctl').filter((path) => !path.endsWith('/record')),
        [],
      );
    });
  }
});

test('one line switches the server on: the jail bans by it, and setup --remove ends it', async () => {
  await using machine = await startMachine('debian');
  await machine.startApache();
  // systemd's part: a link for what is enabled, and a server for the socket.
  const systemctl = `#!/bin/sh
echo "$*" >>/run/calls
case $* in
  'enable --now banctl.socket')
    mkdir -p /etc/systemd/system/sockets.target.wants
    ln -s ../banctl.socket /etc/systemd/system/sockets.target.wants/
    setsid banctl serve </dev/null >/run/serve.log 2>&1 & echo $! >/run/serve.pid ;;
  'disable --now banctl.socket banctl.service')
    rm /etc/systemd/system/*.wants/banctl.socket /etc/systemd/system/*.wants/banctl.service
    kill "$(cat /run/serve.pid)" ;;
esac
`;
  machine.write('/run/systemctl', systemctl);
  await machine.done('install', '-m', '755', '/run/systemctl', '/usr/local/sbin/systemctl');
  await machine.done('mkdir', '-p', '/run/systemd/system', '/etc/systemd/system');
  const link = '/etc/systemd/system/sockets.target.wants/banctl.socket';
  try {
    const dry = await setUp(machine, '--enable-jail', '--enable-serve', '--dry-run');
    assert.equal(statusOf(dry, link), 'written');
    assert.ok(!machine.files('/etc').includes(link));
    const told = await setUp(machine, '--enable-jail', '--enable-serve');
    assert.equal(statusOf(told, link), 'written');
    assert.ok(!codes(told).includes('not-served'), JSON.stringify(told.todo));
    assert.equal((await setUp(machine, '--enable-serve')).changed, false);
    await machine.startFail2ban();
    await machine.done('fail2ban-client', 'set', jail, 'banip', attacker);
    const banned = () => machine.files('/etc/apache2/djangoapp/bans').some((path) => path.endsWith(attacker));
    const detail = () => machine.read('/run/serve.log') + machine.read('/var/log/fail2ban.log');
    await until('the ban', banned, { detail });
    assert.doesNotMatch(machine.read('/var/log/fail2ban.log'), / ERROR | does not answer/);
    // As a server that shares its bans enables it.
    const wanted = '/etc/systemd/system/multi-user.target.wants';
    await machine.done('mkdir', '-p', wanted);
    await machine.done('ln', '-s', '../banctl.service', wanted);
    // fail2ban stays, and its next ban would run banctl.
    const removed = await setUp(machine, '--remove', '--no-fail2ban');
    assert.equal(statusOf(removed, SERVED_ACTION), 'removed');
    assert.deepEqual(
      machine
        .read('/run/calls')
        .split('\n')
        .filter((call) => call.includes('banctl.s')),
      ['enable --now banctl.socket', 'disable --now banctl.socket banctl.service'],
    );
    assert.deepEqual(
      machine.files('/etc').filter((path) => path.includes('banctl.s')),
      [],
    );
  } finally {
    await machine.run('sh', '-c', 'kill "$(cat /run/serve.pid)"');
  }
});

suite('on a server that is not as it should be', { concurrency: 2 }, () => {
  test('RHEL without a log yet: fail2ban starts, with the jail off and on', async () => {
    await using machine = await startMachine('redhat');
    assert.deepEqual(codes(await setUp(machine)), [
      'jail-off',
      'not-included',
      'no-login-log',
      'apache-down',
      'fail2ban-down',
    ]);
    assert.equal((await machine.run('fail2ban-client', '-t')).exitCode, 0);
    await setUp(machine, '--enable-jail');
    assert.equal((await machine.run('fail2ban-client', '-t')).exitCode, 0);
    await machine.startApache();
    assert.deepEqual(codes(await setUp(machine, '--enable-jail')), [
      'not-included',
      'no-login-log',
      'fail2ban-down',
    ]);
    assert.equal((await machine.run('fail2ban-client', '-t')).exitCode, 0);
    assert.match(await machine.done('fail2ban-client', '-d'), new RegExp(jail));
  });

  test('RHEL: each command finds the list there, without an option, and bans move to a directory', async () => {
    await using machine = await startMachine('redhat');
    await machine.done('banctl', 'setup', '--list-only');
    await machine.done('banctl', 'ban', '--no-reload', attacker);
    const list = '/etc/httpd/djangoapp/banlist.conf';
    assert.match(machine.read(list), new RegExp(`^Require not ip ${attacker}$`, 'm'));
    assert.match(await machine.done('banctl', 'list'), new RegExp(attacker));
    assert.match(
      (await machine.run('banctl', 'audit')).stdout,
      new RegExp(`^not-included: apache does not read ${list}`, 'm'),
    );
    assert.deepEqual(machine.files('/etc/apache2'), []);

    machine.write(
      '/etc/httpd/conf.d/proxy.conf',
      'RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.0/8\n',
    );
    await machine.done('ln', '-s', '/etc/httpd/djangoapp/djangoapp-banlist.conf', '/etc/httpd/conf.d/');
    await machine.startApache();
    assert.equal(await machine.get(attacker), 403);
    const bans = '/etc/httpd/djangoapp/bans';
    machine.write('/etc/banctl.json', JSON.stringify({ bandir: bans }));
    // Its files name that directory anyway.
    assert.equal((await setUp(machine)).changed, false);
    await machine.done('banctl', 'migrate', '--to', 'bandir');
    assert.deepEqual(machine.files(bans), [`${bans}/${attacker}`]);
    assert.doesNotMatch(machine.read(list), /Require/);
    assert.equal(await machine.get(attacker), 403);
    await machine.done('banctl', 'unban', attacker);
    assert.equal(await machine.get(attacker), 200);
  });

  test('says what is missing where the logs name a proxy for nearly every visitor', async () => {
    await using machine = await startMachine('debian');
    const log = '/var/log/apache2/access.log';
    const visits = (...clients: string[]) =>
      machine.write(
        log,
        clients
          .map((client) => `${client} - - [22/Nov/2026:16:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "-"\n`)
          .join(''),
      );
    const isNamed = async (...args: string[]) => {
      const { todo } = await setUp(machine, '--no-fail2ban', ...args);
      return todo.find(({ code }) => code === 'no-remoteip')?.message;
    };
    const proxies = Array.from({ length: 30 }, (_, number) => (number % 3 === 0 ? '10.0.3.8' : '10.0.3.7'));
    const visitors = Array.from({ length: 30 }, (_, number) => `198.51.100.${number}`);
    visits(...visitors);
    assert.equal(await isNamed(), undefined);
    visits(...proxies, ...visitors);
    assert.equal(await isNamed(), undefined);
    visits(...proxies.slice(0, 5));
    assert.equal(await isNamed(), undefined, 'too few to tell');
    visits('127.0.0.1', '127.0.0.1', ...proxies, visitor);
    assert.match(
      (await isNamed()) ?? '',
      /^the logs name 10\.0\.3\.7 for nearly every visitor; behind CloudFront .*remoteip-cloudfront\.conf/,
    );
    machine.write(
      '/etc/apache2/conf-enabled/proxy.conf',
      'RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 10.0.3.0/24\n',
    );
    assert.equal(await isNamed(), undefined);
    rmSync(join(machine.root, 'etc/apache2/conf-enabled/proxy.conf'));
    visits(...visitors);
    assert.match(
      (await isNamed('--protect=198.51.100.0/24')) ?? '',
      /^the logs name 198\.51\.100\./,
      'of CloudFront',
    );
  });

  test("Debian 12 without rsyslog: setup and audit name the line that lets fail2ban's own sshd jail start", async () => {
    await using machine = await startMachine('debian');
    machine.write('/etc/fail2ban/jail.d/defaults-debian.conf', '[sshd]\nenabled = true\n');
    const { todo } = await setUp(machine, '--enable-jail');
    const line =
      "printf '[sshd]\\nbackend = systemd\\n' > /etc/fail2ban/jail.d/sshd-journal.local, then systemctl restart fail2ban";
    const told = todo.find(({ code }) => code === 'fail2ban-down')?.message ?? '';
    assert.ok(told.includes(line), told);
    const ofAudit = async () =>
      /^fail2ban-down: .*$/m.exec((await machine.run('banctl', 'audit')).stdout)?.[0];
    const found = (await ofAudit()) ?? '';
    assert.ok(
      found.includes(`jail ${jail} does not ban; fail2ban does not start: `) && found.includes(line),
      found,
    );
    await machine.done('sh', '-c', line.replace(/, then .*/, ''));
    assert.match((await ofAudit()) ?? '', /does not ban; systemctl start fail2ban$/);
  });

  test('fail2ban does not read the new file beside a changed one', async () => {
    await using machine = await startMachine('debian');
    await machine.startApache();
    await setUp(machine, '--enable-jail');
    const dump = () => machine.done('fail2ban-client', '-d');
    const before = await dump();
    assert.match(before, new RegExp(jail));
    for (const path of [ACTION, FILTER, JAIL])
      machine.write(path + BESIDE, '[nothing that fail2ban understands\n');
    assert.equal(await dump(), before);
  });

  test('reports a configuration that Apache refuses, and what the files say about the snippet', async () => {
    await using machine = await startMachine('debian');
    await setUp(machine);
    machine.write('/etc/apache2/conf-enabled/broken.conf', 'Nonsense\n');
    assert.deepEqual(codes(await setUp(machine, '--no-fail2ban')), [
      'jail-off',
      'not-included',
      'no-login-log',
      'config-broken',
    ]);
    await machine.done('a2enconf', 'djangoapp-banlist', 'djangoapp-login-log');
    assert.deepEqual(codes(await setUp(machine, '--no-fail2ban')), ['jail-off', 'config-broken']);
    assert.equal(statusOf(await setUp(machine, '--remove', '--no-fail2ban'), SNIPPET), 'in-use');
  });
});

/** A tree with the directories that packages make, and banctl for it. */
function tree(directories = PACKAGES) {
  const root = mkdtempSync(join(directory, 'tree-'));
  for (const one of directories.split(' ')) mkdirSync(join(root, one), { recursive: true });
  const at = (path: string) => join(root, path);
  const run = (...args: string[]): Promise<Finished> => banctl(['setup', '--root', root, ...args]);
  return {
    root,
    at,
    run,
    read: (path: string) => readFileSync(at(path), 'utf8'),
    write(path: string, text: string) {
      mkdirSync(join(at(path), '..'), { recursive: true });
      writeFileSync(at(path), text);
    },
    files: () => filesIn(root),
    /** What there is, with all that a write would change. */
    state: () =>
      filesIn(root).map((path) => `${path} ${lstatSync(at(path)).ino} ${lstatSync(at(path)).mtimeMs}`),
    async told(...args: string[]): Promise<Told> {
      const { exitCode, stdout, stderr } = await run('--json', ...args);
      assert.equal(exitCode, 0, stderr);
      return JSON.parse(stdout);
    },
  };
}

/** All below a directory that is no directory, sorted, by paths that begin there. */
function filesIn(root: string): string[] {
  const names = readdirSync(root, { recursive: true, withFileTypes: true });
  return names
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}

suite('setup in a tree', { concurrency: 2 }, () => {
  test('writes action, filter, jail, list, snippets and cron job, and remembers that', async () => {
    const { told, files, read } = tree();
    const { changed } = await told();
    assert.ok(changed);
    // The report's page is for those who ask for it with --print.
    const snippets = readdirSync(join(repository, 'apache2'))
      .filter((name) => name !== 'banctl-report.conf')
      .map((name) => `/etc/apache2/conf-available/${name}`);
    assert.deepEqual(
      files(),
      [ACTION, SERVED_ACTION, ...FILTERS, ...JAILS, LIST, CRON, CONFIG, MEMORY, ...snippets].sort(),
    );
    assert.equal(read(LIST), '');
    for (const [path, source] of [
      [ACTION, 'action.d/apache-banlist.conf'],
      [SNIPPET, 'apache2/djangoapp-banlist.conf'],
    ] as const)
      assert.equal(read(path), readFileSync(join(repository, source), 'utf8'));
    const ofJail = readFileSync(join(repository, 'jail.d', `${jail}.local`), 'utf8');
    assert.equal(read(JAIL), withJail(ofJail, false));
    assert.deepEqual(JSON.parse(read(CONFIG)), { bandir: '/etc/apache2/djangoapp/bans' });
  });

  test('switches the jail on when it is asked to, and leaves it on', async () => {
    const { told, read } = tree();
    assert.ok(codes(await told()).includes('jail-off'));
    assert.match(read(JAIL), /^enabled = false$/m);
    const second = await told('--enable-jail');
    assert.equal(statusOf(second, JAIL), 'replaced');
    assert.match(read(JAIL), /^enabled = true$/m);
    assert.ok(!codes(second).includes('jail-off'));
    const third = await told();
    assert.deepEqual([third.changed, codes(third).includes('jail-off')], [false, false]);
    assert.equal(statusOf(await told('--remove'), JAIL), 'removed');
  });

  test('has its jails use the Python action when it is asked to, and leaves them so', async () => {
    const { told, read } = tree();
    await told('--enable-jail');
    const served = await told('--enable-serve');
    for (const path of JAILS) {
      assert.equal(statusOf(served, path), 'replaced');
      assert.match(read(path), /^action = apache-banlist\.py\[jail=%\(__name__\)s\]$/m);
    }
    assert.match(read(JAIL), /^enabled = true$/m);
    assert.ok(codes(served).includes('not-served'), 'another system is not running');
    assert.equal((await told()).changed, false);
    const removed = await told('--remove');
    for (const path of JAILS) assert.equal(statusOf(removed, path), 'removed');
  });

  test('keeps the Python action while a jail of the administrator names it', async () => {
    const { told, write } = tree();
    await told();
    write('/etc/fail2ban/jail.d/own.local', '[own]\naction = apache-banlist.py[jail=%(__name__)s]\n');
    assert.equal(statusOf(await told('--remove'), SERVED_ACTION), 'in-use');
  });

  test('leaves the jail on that an administrator has switched on in the file', async () => {
    const { told, read, write } = tree();
    await told();
    write(JAIL, read(JAIL).replace('enabled = false', 'enabled = true'));
    await told();
    assert.match(read(JAIL), /^enabled = true$/m);
  });

  test('does not ask for the log of failed logins where the jail reads another, or Apache writes it', async () => {
    const { told, write } = tree();
    const isAsked = async () => codes(await told()).includes('no-login-log');
    assert.ok(await isAsked());
    const own = '/etc/fail2ban/jail.d/own.local';
    write(own, `[${jail}]\nfilter = ${jail}\nlogpath = /var/log/apache2/*access.log\n`);
    assert.ok(!(await isAsked()));
    write(own, '[other]\nlogpath = /var/log/apache2/*access.log\n');
    assert.ok(await isAsked());
    write('/etc/apache2/apache2.conf', 'IncludeOptional conf-available/djangoapp-login-log.conf\n');
    assert.ok(!(await isAsked()));
  });

  test('beside the package, switches the jail on without a copy of it', async () => {
    const { told, read, write, files } = tree();
    const packaged = JAIL.replace('.local', '.conf');
    write('/var/lib/dpkg/info/banctl.list', `/.\n${packaged}\n`);
    write(packaged, `[${jail}]\nenabled = false\n`);
    assert.ok(codes(await told()).includes('jail-off'));
    assert.ok(!files().includes(JAIL));
    assert.equal(statusOf(await told('--enable-jail'), JAIL), 'written');
    assert.equal(read(JAIL), `[${jail}]\nenabled = true\n`);
    assert.deepEqual([(await told()).changed, read(packaged)], [false, `[${jail}]\nenabled = false\n`]);
    assert.equal(statusOf(await told('--enable-serve'), JAIL), 'replaced');
    const served = `[${jail}]\nenabled = true\naction = apache-banlist.py[jail=%(__name__)s]\n`;
    assert.equal(read(JAIL), served);
    assert.deepEqual([(await told()).changed, read(JAIL)], [false, served]);
  });

  test('puts the ban directory into the configuration of a server without bans, and says so', async () => {
    const { run, told, read, files } = tree();
    const { stdout } = await run();
    assert.match(stdout, /^\/etc\/banctl\.json written$/m);
    assert.match(
      stdout,
      /^new bans go into the directory \/etc\/apache2\/djangoapp\/bans, without reloads; .*--list-only/m,
    );
    assert.equal((await told()).changed, false);
    assert.deepEqual(JSON.parse(read(CONFIG)), { bandir: '/etc/apache2/djangoapp/bans' });
    assert.equal(statusOf(await told('--remove'), CONFIG), 'removed');
    assert.ok(!files().includes(CONFIG));
  });

  test('adds it to a configuration, and leaves one alone that cannot be added to', async () => {
    const { told, read, write } = tree();
    write(CONFIG, '{"reload-interval": 5}');
    assert.equal(statusOf(await told(), CONFIG), 'replaced');
    assert.deepEqual(JSON.parse(read(CONFIG)), {
      'reload-interval': 5,
      bandir: '/etc/apache2/djangoapp/bans',
    });
    write(CONFIG, '{"bandir": ""}');
    assert.equal(statusOf(await told(), CONFIG), undefined);
    assert.equal(read(CONFIG), '{"bandir": ""}');
  });

  test('is left by a removal where more than setup wrote is in it, or bans are, and the removal says so', async () => {
    const { run, told, read, write, files } = tree();
    await run();
    write('/etc/apache2/djangoapp/bans/203.0.113.5', 'Require not ip 203.0.113.5\n');
    const withBans = await run('--remove');
    assert.match(withBans.stdout, /^\/etc\/banctl\.json kept: bans are in \/etc\/apache2\/djangoapp\/bans$/m);
    const text = read(CONFIG).replace('{', '{"reload-interval": 5,');
    write(CONFIG, text);
    const withMore = await run('--remove');
    assert.match(withMore.stdout, /^\/etc\/banctl\.json kept: it says more than setup has written$/m);
    assert.equal(read(CONFIG), text);
    const log = '/var/log/apache2/djangoapp-login.log';
    write(log, '');
    assert.match(
      (await run('--remove')).stdout,
      new RegExp(`^${log} kept: it has the failed logins so far`, 'm'),
    );
    assert.ok(files().includes(log));
    assert.equal(statusOf(await told('--remove'), log), 'in-use');
  });

  const KEPT: [string, (made: ReturnType<typeof tree>) => string[], string | undefined][] = [
    [
      'that has bans',
      ({ write }) => {
        write(LIST, 'Require not ip 203.0.113.5\n');
        return [];
      },
      'list-in-use',
    ],
    ['as it is asked to', () => ['--list-only'], undefined],
    [
      'that Apache reads without the rule for the directory',
      ({ write }) => {
        write('/etc/apache2/apache2.conf', `IncludeOptional ${LIST}\n`);
        return [];
      },
      undefined,
    ],
  ];
  for (const [what, prepare, code] of KEPT) {
    test(`keeps the list ${what}`, async () => {
      const made = tree();
      const told = await made.told(...prepare(made));
      assert.ok(!made.files().includes(CONFIG));
      assert.equal(
        codes(told).find((one) => one === 'list-in-use'),
        code,
      );
    });
  }

  test('makes the log of failed logins as Debian and RHEL keep the logs of Apache', async () => {
    for (const [apache, logs, name, mode, gid] of [
      ['etc/apache2/conf-available', 'var/log/apache2', 'adm', 0o640, 4],
      ['etc/httpd', 'var/log/httpd', 'root', 0o644, 0],
    ] as const) {
      const { told, write, at, files } = tree(`${apache} ${logs} ${FAIL2BAN} etc/cron.d var/lib`);
      write('/etc/group', `root:x:0:\nadm:x:4:\n`);
      const log = `/${logs}/djangoapp-login.log`;
      assert.equal(statusOf(await told(), log), 'written');
      const { mode: made, gid: group, uid } = statSync(at(log));
      assert.deepEqual([made & 0o7777, group, uid], [mode, gid, 0], name);
      assert.equal(statusOf(await told(), log), undefined);
      assert.ok(files().includes(log));
    }
  });

  test('makes files that all users can read in directories that all users can search, whatever the umask', async () => {
    const { root, files, at } = tree();
    await execute('sh', ['-c', 'umask 077; exec "$@"', 'sh', executable, 'setup', '--root', root]);
    for (const path of files()) {
      assert.equal(statSync(at(path)).mode & 0o777, 0o644, path);
      assert.equal(statSync(join(at(path), '..')).mode & 0o777, 0o755, path);
    }
  });

  test('changes nothing the second time, and says so', async () => {
    const { run, state } = tree();
    await run();
    const before = state();
    const { exitCode, stdout } = await run();
    assert.equal(exitCode, 0);
    assert.match(stdout, /^nothing has changed$/m);
    assert.doesNotMatch(stdout, / written$/m);
    assert.deepEqual(state(), before);
  });

  test('changes nothing with --dry-run, and says what it would do', async () => {
    const { run, state, told, write } = tree();
    const before = state();
    const { stdout } = await run('--dry-run');
    assert.match(stdout, new RegExp(`^${SNIPPET} would be written$`, 'm'));
    assert.match(stdout, new RegExp(`^${LIST} would be written$`, 'm'));
    assert.deepEqual(state(), before);
    await told();
    write(JAIL, '[mine]\n');
    const after = state();
    assert.match((await run('--dry-run')).stdout, /would be .*\.banctl-new~$/m);
    assert.match((await run('--dry-run', '--remove')).stdout, new RegExp(`^${CRON} would be removed$`, 'm'));
    assert.deepEqual(state(), after);
  });

  test('leaves a list as it is', async () => {
    const { told, write, read } = tree();
    write(LIST, 'Require not ip 203.0.113.5\n');
    assert.equal(statusOf(await told(), LIST), 'unchanged');
    assert.equal(read(LIST), 'Require not ip 203.0.113.5\n');
  });

  test('keeps what was changed, and lays the new one beside it, once', async () => {
    const { run, told, read, at, state } = tree();
    await told();
    const shipped = read(JAIL);
    appendFileSync(at(JAIL), 'maxretry = 3\n');
    const { stdout } = await run();
    assert.ok(
      stdout.includes(`${JAIL} kept, because it was changed; the new one is ${JAIL}${BESIDE}\n`),
      stdout,
    );
    assert.equal(read(JAIL), `${shipped}maxretry = 3\n`);
    assert.equal(read(JAIL + BESIDE), shipped);
    const before = state();
    const again = await told();
    assert.deepEqual([again.changed, statusOf(again, JAIL)], [false, 'kept']);
    assert.deepEqual(state(), before);
  });

  test('takes the new one away again when nothing is left to be merged', async () => {
    const { told, read, at, write } = tree();
    await told();
    const shipped = read(JAIL);
    appendFileSync(at(JAIL), '#\n');
    await told();
    write(JAIL, shipped);
    await told();
    assert.ok(!existsSync(at(JAIL + BESIDE)));
  });

  test('replaces files that are unchanged since an earlier setup', async () => {
    const { told, read, at } = tree();
    await told('--bandir=/srv/old');
    chmodSync(at(SNIPPET), 0o640);
    appendFileSync(at('/etc/apache2/conf-available/djangoapp-banlist-admin.conf'), '# mine\n');
    const second = await told('--bandir=/srv/new');
    assert.equal(statusOf(second, SNIPPET), 'replaced');
    assert.equal(statusOf(second, ACTION), 'replaced');
    assert.equal(statusOf(second, JAIL), 'unchanged');
    assert.equal(statusOf(second, '/etc/apache2/conf-available/djangoapp-banlist-admin.conf'), 'laid-beside');
    assert.match(read(SNIPPET), /'\/srv\/new\//);
    assert.equal(statSync(at(SNIPPET)).mode & 0o777, 0o640, 'its mode stays');
  });

  test('replaces files that were copied from the repository', async () => {
    const { told, write } = tree(
      PACKAGES.replaceAll('etc/apache2/conf-available', 'etc/httpd/conf.d').replaceAll(
        'etc/apache2/conf-enabled',
        'etc/httpd/conf',
      ),
    );
    write(JAIL, readFileSync(join(repository, 'jail.d', `${jail}.local`), 'utf8'));
    assert.equal(statusOf(await told(), JAIL), 'replaced');
  });

  test('keeps all that differs where it cannot remember', async () => {
    const { told, write, read } = tree();
    await told('--bandir=/srv/old');
    for (const memory of ['', 'null', '{"files": [1]}', '{"files": {"/etc/cron.d/banctl": 1}}', '{']) {
      write(MEMORY, memory);
      const old = read(SNIPPET);
      assert.equal(statusOf(await told(`--bandir=/srv/${memory.length}`), SNIPPET), 'laid-beside', memory);
      assert.equal(read(SNIPPET), old);
    }
  });

  test('leaves to dpkg what is of the Debian package', async () => {
    const { told, write, read, files } = tree();
    write('/var/lib/dpkg/info/banctl.list', `/.\n${CRON}\n${ACTION}\n`);
    write(CRON, '# of the package\n');
    const first = await told();
    assert.equal(statusOf(first, CRON), 'packaged');
    assert.equal(statusOf(first, ACTION), 'written', 'it was not there');
    assert.equal(statusOf(await told('--remove'), CRON), 'packaged');
    assert.equal(read(CRON), '# of the package\n');
    assert.ok(!files().includes(CRON + BESIDE));
  });

  test('follows links below the root only, as the tree would see them', async () => {
    const { root, told, files, at } = tree('etc/apache2/conf-available etc/cron.d srv/elsewhere var/lib');
    const outside = mkdtempSync(join(directory, 'outside-'));
    for (const name of ['action.d', 'filter.d', 'jail.d']) mkdirSync(join(outside, name));
    symlinkSync('/srv/fail2ban', at('etc/fail2ban'));
    mkdirSync(at('srv/fail2ban'));
    symlinkSync(outside, at('srv/fail2ban/filter.d'));
    symlinkSync('../../../../../../../../../../../../../../../srv/elsewhere', at('srv/fail2ban/jail.d'));
    symlinkSync('/srv/elsewhere/list', at('etc/apache2/djangoapp'));
    symlinkSync('/srv/elsewhere/cron', at(CRON));
    await told();
    assert.deepEqual(filesIn(outside), []);
    const written = files();
    for (const path of [
      '/srv/fail2ban/action.d/apache-banlist.conf',
      `${outside}/${jail}.conf`,
      `/srv/elsewhere/${jail}.local`,
      '/srv/elsewhere/list/banlist.conf',
      '/srv/elsewhere/cron',
    ])
      assert.ok(written.includes(path), `${path} in ${written.join(' ')}`);
    assert.ok(lstatSync(at(CRON)).isSymbolicLink());
    assert.equal((await told()).changed, false);
    rmSync(join(root, 'var', 'lib', 'banctl'), { recursive: true });
    symlinkSync('/var/lib/banctl', at('var/lib/banctl'));
    const { exitCode, stderr } = await banctl(['setup', '--root', root]);
    assert.equal(exitCode, 78);
    assert.match(stderr, /is a loop of symbolic links; remove it\n$/);
  });

  test('reads the configuration of the tree', async () => {
    const { told, write, read, at } = tree();
    write('/etc/banctl.json', '{"banlist": "/srv/bans/list.conf"}');
    await told();
    assert.match(read(SNIPPET), /IncludeOptional \/srv\/bans\/list\.conf$/m);
    assert.ok(existsSync(at('/srv/bans/list.conf')));
  });

  test('reads and writes the named configuration below the root, as it is given there or here', async () => {
    const { told, write, read, at, files } = tree();
    const outside = join(directory, 'named.json');
    writeFileSync(outside, '{}');
    write(outside, '{"banlist": "/srv/bans/list.conf"}');
    assert.equal(statusOf(await told('--config', outside), outside), 'replaced');
    assert.equal(readFileSync(outside, 'utf8'), '{}');
    assert.equal(JSON.parse(read(outside)).bandir, '/etc/apache2/djangoapp/bans');
    assert.match(read(SNIPPET), /IncludeOptional \/srv\/bans\/list\.conf$/m);
    assert.ok(!files().includes(CONFIG));
    assert.equal((await told('--config', at(outside))).changed, false);
  });

  test('says which part is left out where fail2ban is missing, and is completed later', async () => {
    const { told, files, at } = tree('etc/apache2/conf-available etc/cron.d');
    const first = await told();
    assert.equal(codes(first)[0], 'no-fail2ban');
    assert.ok(files().includes(LIST) && files().includes(CRON) && files().includes(SNIPPET));
    assert.ok(!existsSync(at('etc/fail2ban')));
    mkdirSync(at('etc/fail2ban'));
    const second = await told();
    assert.equal(statusOf(second, JAIL), 'written');
    assert.ok(!codes(second).includes('no-fail2ban'));
  });

  test('replaces its cron job by a timer where systemd is', async () => {
    const { told, write, files } = tree(`${PACKAGES} etc/systemd/system`);
    await told();
    assert.ok(files().includes(CRON));
    write('/usr/lib/systemd/systemd', '');
    const second = await told();
    assert.equal(statusOf(second, CRON), 'removed');
    assert.ok(files().includes('/etc/systemd/system/banctl-audit.timer') && !files().includes(CRON));
    assert.ok(codes(second).includes('no-audit'));
    assert.equal((await told()).changed, false);
  });

  test('writes a systemd timer where there is no cron, and no cron job beside the timer', async () => {
    const { told, files, at } = tree(`etc/httpd etc/systemd/system/timers.target.wants ${FAIL2BAN}`);
    const first = await told();
    assert.ok(codes(first).includes('no-audit'));
    assert.ok(files().includes('/etc/systemd/system/banctl-audit.timer'));
    assert.ok(!files().includes(CRON));
    symlinkSync('../banctl-audit.timer', at('etc/systemd/system/timers.target.wants/banctl-audit.timer'));
    mkdirSync(at('etc/cron.d'));
    assert.ok(!codes(await told()).includes('no-audit'));
    assert.ok(!files().includes(CRON));
    const kept = await told('--remove');
    assert.equal(statusOf(kept, '/etc/systemd/system/banctl-audit.timer'), 'in-use');
    rmSync(at('etc/systemd/system/timers.target.wants/banctl-audit.timer'));
    await told('--remove');
    assert.deepEqual(files(), ['/etc/httpd/djangoapp/banlist.conf']);
  });
});

suite('setup refuses', () => {
  const WRONG: [string, (root: string, at: (path: string) => string) => string[], number, RegExp][] = [
    [
      'a root that is not there',
      (root) => ['--root', `${root}/nowhere`],
      64,
      /^banctl: --root is not a directory: /,
    ],
    [
      'a server without Apache',
      (_root, at) => {
        rmSync(at('etc/apache2'), { recursive: true });
        return [];
      },
      73,
      /^banctl: there is neither \/etc\/apache2 nor \/etc\/httpd below .*; install Apache first .*nothing was changed\n$/,
    ],
    [
      'a directory in the place of a file',
      (_root, at) => {
        mkdirSync(at(CRON));
        return [];
      },
      78,
      /^banctl: .*\/cron\.d\/banctl is not a regular file; nothing was changed\n$/,
    ],
    [
      'a file in the place of a directory',
      (_root, at) => {
        writeFileSync(at('var/lib/banctl'), '');
        return [];
      },
      78,
      /^banctl: cannot read .*\/banctl\/setup\.json: a part of its path is not a directory\n$/,
    ],
    [
      '--print together with --remove',
      () => ['--print', 'jail', '--remove'],
      64,
      /^banctl: setup takes --print or --remove, not both\n$/,
    ],
    ['addresses', () => ['203.0.113.5'], 64, /^banctl: setup takes no addresses: /],
    ...['/a b', '/a"b', "/a'b", '/a%b', '/a$b', '/a`b', '/a\\b', '/a*', '/a<b>', '/a}'].map(
      (path): [string, () => string[], number, RegExp] => [
        `the list ${path}`,
        () => [`--banlist=${path}`],
        64,
        /^banctl: not a path for --banlist: ".*; Apache and fail2ban accept no path with /,
      ],
    ),
  ];
  for (const [what, prepare, code, message] of WRONG) {
    test(`${what}, and changes nothing`, async () => {
      const { root, at, run, state } = tree();
      const args = prepare(root, at);
      const before = state();
      const { exitCode, stdout, stderr } = await run(...args);
      assert.match(stderr, message);
      assert.deepEqual([exitCode, stdout], [code, '']);
      assert.deepEqual(state(), before);
      assert.ok(!existsSync(at('etc/apache2/djangoapp')));
    });
  }

  test('to write as the wrong user: 73, and nothing has changed', async () => {
    const { root, at, state } = tree();
    for (const path of ['var/lib', 'etc/apache2', 'etc/cron.d', 'etc/fail2ban/action.d'])
      chmodSync(at(path), 0o555);
    const through =
      process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : ['env'];
    const [program = '', ...words] = through;
    for (const verb of [[], ['--remove']]) {
      const before = state();
      const { exitCode, stderr } = await execute(program, [
        ...words,
        executable,
        'setup',
        '--root',
        root,
        ...verb,
      ]);
      if (verb.length > 0) assert.equal(exitCode, 0, 'nothing to remove');
      else {
        assert.match(stderr, /^banctl: cannot make .*: permission denied; run banctl as root\n$/);
        assert.equal(exitCode, 73);
      }
      assert.deepEqual(state(), before);
    }
  });

  test('a full disk, with whole files on it, and goes on when there is space', async () => {
    const mounted = mkdtempSync(join(directory, 'mounted-'));
    const script = `
      mount -t tmpfs -o size=28k none "$1" && cd "$1" && mkdir -p ${PACKAGES}
      "$2" setup --root "$1"; echo "ended with $?"
      cp -r . "$3/full" && mount -o remount,size=1m "$1"
      "$2" setup --root "$1" --json; cp -r . "$3/complete"`;
    const copies = mkdtempSync(join(directory, 'copies-'));
    const { stdout, stderr } = await execute('unshare', [
      '--mount',
      'sh',
      '-c',
      script,
      'sh',
      mounted,
      executable,
      copies,
    ]);
    assert.match(
      stderr,
      /^banctl: cannot write .*: no space is left on the device; free some; the old file is unchanged\n$/,
    );
    assert.match(stdout, /ended with 73\n/);
    const reference = tree();
    await reference.told();
    const whole = filesIn(join(copies, 'full')).filter((path) => path !== MEMORY);
    assert.ok(whole.length > 0);
    for (const path of whole)
      assert.equal(readFileSync(join(copies, 'full', path), 'utf8'), reference.read(path), path);
    assert.deepEqual(filesIn(join(copies, 'complete')), reference.files());
  });
});

suite('setup killed or called at once', () => {
  const kit = { 'action.d/apache-banlist.conf': '[Definition]\n', [`jail.d/${jail}.local`]: `[${jail}]\n` };
  const older = Object.fromEntries(Object.entries(kit).map(([path, text]) => [path, `# older\n${text}`]));
  /** Without temporary files, which the sources do not mark as banctl's, as the executable does: see below. */
  const contents = (root: string) =>
    filesIn(root)
      .filter((path) => !/\.\d+$/.test(path))
      .map((path) => `${path} ${JSON.stringify(readFileSync(join(root, path), 'utf8'))}`);

  for (const [what, prepare, verb] of [
    ['a first setup', () => {}, 'install'],
    [
      'a setup of a later version',
      (root: string) => doSetup(root, { verb: 'install', kit: older }),
      'install',
    ],
    ['a removal', (root: string) => doSetup(root, { verb: 'install', kit }), 'remove'],
  ] as const) {
    test(`${what} is completed by the next call, whenever it was killed`, async () => {
      const prepared = () => {
        const made = tree();
        prepare(made.root);
        return made.root;
      };
      const reference = prepared();
      using first = await interruptible();
      const order = { changes: [], setup: { verb, kit }, skipsReads: true };
      const calls = await first.count({ ...order, directory: reference });
      assert.ok(calls > 10);
      const wanted = contents(reference);
      await forEachCall(calls, async (call) => {
        const root = prepared();
        using one = await interruptible();
        await one.killed({ ...order, directory: root, before: [call] });
        for (const path of filesIn(root).filter((name) => /\.(?:conf|local)$|cron\.d\/banctl$/.test(name))) {
          const text = readFileSync(join(root, path), 'utf8');
          const texts = ['', ...Object.values(kit), ...Object.values(older)];
          assert.ok(texts.includes(text), `${path} is whole after ${call} calls`);
        }
        doSetup(root, { verb, kit });
        assert.deepEqual(contents(root), wanted, `after ${call} calls`);
      });
    });
  }

  for (const verb of [[], ['--remove']]) {
    test(`setup ${verb.join(' ')} removes the leftovers of a killed one, and no backups`, async () => {
      const { told, write, files, at } = tree();
      if (verb.length > 0) await told();
      const backups = [`${CRON}.1`, `${JAIL}.20261122`, `${ACTION}.banctl-old`];
      const left = [`${CRON}.banctl-4294967295`, `${JAIL}.banctl-1`, `${ACTION}${BESIDE}.banctl-22`];
      for (const path of [...backups, ...left]) write(path, '#\n');
      rmSync(at(JAIL), { force: true });
      await told(...verb);
      assert.deepEqual(
        files().filter((path) => left.includes(path)),
        [],
      );
      assert.deepEqual(
        backups.filter((path) => !files().includes(path)),
        [],
      );
    });
  }

  test('ten at once do what one does', async () => {
    const { run, files, told } = tree();
    const ended = await Promise.all(Array.from({ length: 10 }, () => run()));
    assert.deepEqual(
      ended.filter(({ exitCode }) => exitCode !== 0),
      [],
    );
    const reference = tree();
    await reference.told();
    assert.deepEqual(files(), reference.files());
    assert.equal((await told()).changed, false);
  });
});

suite('setup --print', () => {
  test('shows each file as it would be written, and names them all where it does not know one', async () => {
    const { stderr, exitCode } = await banctl(['setup', '--print', 'nothing']);
    assert.equal(exitCode, 64);
    const names =
      /^banctl: no such file: "nothing"; setup --print knows (.*)\n$/.exec(stderr)?.[1]?.split(', ') ?? [];
    const texts = await Promise.all(
      names.map(async (name) => (await banctl(['setup', '--print', name])).stdout),
    );
    const sources = KIT_DIRECTORIES.flatMap((folder) =>
      readdirSync(join(repository, folder)).map((name) =>
        readFileSync(join(repository, folder, name), 'utf8'),
      ),
    );
    assert.deepEqual(texts.sort(), sources.sort());
    for (const name of ['action', 'filter', 'jail', 'apache', 'apache-admin', 'cron'])
      assert.ok(names.includes(name));
  });

  test('puts the configured list and ban directory in their places', async () => {
    const places = ['--banlist=/srv/bans/list.conf', '--bandir=/srv/bans/dir'];
    const { stdout } = await banctl(['setup', '--print', 'apache', ...places]);
    assert.match(
      stdout,
      /^ {4}IncludeOptional \/srv\/bans\/list\.conf\n {4}Require expr "! -e '\/srv\/bans\/dir\/%\{REMOTE_ADDR\}'"$/m,
    );
    const action = await banctl(['setup', '--print', 'action', ...places]);
    assert.match(action.stdout, /"\$\{dir:-\/srv\/bans\/dir\}\/<ip>" "\$\{list:-\/srv\/bans\/list\.conf\}"/);
  });

  test("has nothing of Debian's in it on RHEL's layout", async () => {
    const { run, told, files, read } = tree(`etc/httpd/conf.d etc/cron.d ${FAIL2BAN}`);
    for (const name of [
      'action',
      'filter',
      'jail',
      'apache',
      'apache-admin',
      'remoteip-cloudfront',
      'remoteip-loadbalancer',
      'djangoapp-login-log',
      'djangoapp-requests-log',
      'djangoapp-banned-page',
      'djangoapp-denied',
      'cron',
    ]) {
      const { stdout } = await run('--print', name);
      assert.notEqual(stdout, '', name);
      assert.doesNotMatch(stdout, /\/apache2\b(?!\/\))|a2en|APACHE_LOG_DIR|Debian|access\.log\b/, name);
    }
    await told();
    assert.match(read(JAIL), /^logpath = \/var\/log\/httpd\/djangoapp-login\.log$/m);
    assert.ok(files().includes('/etc/httpd/djangoapp/djangoapp-banlist.conf'));
    assert.ok(
      !files().some((path) => path.startsWith('/etc/httpd/conf.d/')),
      'nothing is switched on by itself',
    );
  });
});

suite('setup --remove', () => {
  test('leaves the list alone, with its bans, and says that it does', async () => {
    const { run, told, write, files, read } = tree();
    await told();
    write(LIST, 'Require not ip 203.0.113.5\n');
    write(`${LIST}.state`, '{}');
    const { stdout, exitCode } = await run('--remove');
    assert.equal(exitCode, 0);
    assert.match(stdout, new RegExp(`what is banned stays in ${LIST}, `));
    assert.deepEqual(files(), [LIST]);
    assert.equal(read(LIST), 'Require not ip 203.0.113.5\n');
    assert.match((await run('--remove')).stdout, /^nothing to remove$/m);
  });

  for (const packages of [PACKAGES, `etc/httpd etc/cron.d ${FAIL2BAN}`]) {
    test(`still removes after ${packages.split(' ')[0]?.split('/')[1]} has gone`, async () => {
      const { told, at, files } = tree(packages);
      await told();
      for (const apache of ['etc/apache2', 'etc/httpd']) rmSync(at(apache), { recursive: true, force: true });
      await told('--remove');
      assert.deepEqual(files(), []);
    });
  }

  test('removes what an earlier version or configuration has written', async () => {
    const { told, files } = tree();
    await told('--bandir=/srv/old');
    await told('--remove', '--bandir=/srv/new');
    assert.deepEqual(files(), [LIST]);
  });

  test('keeps what was changed, and what that needs, and says why', async () => {
    const { run, told, at, files } = tree();
    await told();
    appendFileSync(at(JAIL), 'maxretry = 3\n');
    await told();
    const { stdout } = await run('--remove');
    assert.match(stdout, new RegExp(`^${JAIL} kept, because it was changed$`, 'm'));
    assert.match(stdout, new RegExp(`^${ACTION} kept: ${JAIL} names it$`, 'm'));
    assert.match(stdout, new RegExp(`^${FILTER} kept: ${JAIL} names it$`, 'm'));
    // The other filter has the jail's name.
    assert.deepEqual(files(), [ACTION, FILTER, ACCESS_FILTER, JAIL, LIST, MEMORY].sort());
    rmSync(at(JAIL));
    await told('--remove');
    assert.deepEqual(files(), [LIST]);
  });

  test("keeps the action that another jail uses, but not for a comment's sake", async () => {
    const { told, write } = tree();
    await told();
    write('/etc/fail2ban/jail.local', '# action = apache-banlist\n');
    assert.equal(statusOf(await told('--remove', '--dry-run'), ACTION), 'removed');
    write('/etc/fail2ban/jail.local', '[shop]\naction = apache-banlist[name=shop]\n');
    const removed = await told('--remove');
    assert.deepEqual([statusOf(removed, ACTION), statusOf(removed, FILTER)], ['in-use', 'removed']);
  });

  for (const [what, use] of Object.entries({
    'a link': (at: (path: string) => string) =>
      symlinkSync(
        '../conf-available/djangoapp-banlist.conf',
        at('etc/apache2/conf-enabled/djangoapp-banlist.conf'),
      ),
    'an Include': (at: (path: string) => string) =>
      writeFileSync(
        at('etc/apache2/conf-enabled/site.conf'),
        `<VirtualHost *>\n  Include ${SNIPPET}\n</VirtualHost>\n`,
      ),
  })) {
    test(`keeps a snippet that ${what} names, since Apache could not start without it`, async () => {
      const { told, at, files } = tree();
      await told();
      use(at);
      const removed = await told('--remove');
      assert.deepEqual(
        removed.files.filter(({ status }) => status !== 'removed').map(({ path, status }) => [path, status]),
        [[SNIPPET, 'in-use']],
      );
      rmSync(at('etc/apache2/conf-enabled'), { recursive: true });
      await told('--remove');
      assert.deepEqual(files(), [LIST]);
    });
  }
});
