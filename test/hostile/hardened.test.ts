// Hardened hosts: root without all of root's powers, and limits that V8 cannot live with.
import assert from 'node:assert/strict';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startApache } from '../lab/apache.ts';
import { executable } from '../lab/banctl.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { writeScript } from '../lab/site.ts';
import { execute } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-hardened-'));
after(() => rmSync(directory, { recursive: true }));
const empty = join(directory, 'empty.json');
writeFileSync(empty, '{}');
const isRoot = process.getuid?.() === 0;

function listOf(uid: number): string {
  const banlist = join(mkdtempSync(join(directory, 'list-')), 'banlist.conf');
  writeFileSync(banlist, '# kept\n');
  chownSync(banlist, uid, uid);
  return banlist;
}

const ban = (banlist: string, ...through: string[]) => {
  const [program = '', ...words] = [...through, executable, 'ban', '203.0.113.5', '--no-reload'];
  return execute(program, [...words, `--banlist=${banlist}`, `--config=${empty}`]);
};

test('without CAP_CHOWN banctl names it, and leaves the list as it was', { skip: !isRoot }, async () => {
  const banlist = listOf(1234);
  const { exitCode, stderr } = await ban(banlist, 'setpriv', '--bounding-set=-chown', '--inh-caps=-chown');
  assert.equal(exitCode, 73, stderr);
  assert.match(stderr, /^banctl: cannot write \S+: CAP_CHOWN is missing, .*CapabilityBoundingSet=.*\n$/);
  assert.doesNotMatch(stderr, /immutable/);
  assert.deepEqual([readFileSync(banlist, 'utf8'), statSync(banlist).uid], ['# kept\n', 1234]);
});

test("without CAP_CHOWN a ban in root's own list works", { skip: !isRoot }, async () => {
  const { exitCode, stderr } = await ban(listOf(0), 'setpriv', '--bounding-set=-chown', '--inh-caps=-chown');
  assert.equal(exitCode, 0, stderr);
});

test('an address space of 1.5 GB is enough', async () => {
  const { exitCode, stderr } = await ban(listOf(process.getuid?.() ?? 0), 'prlimit', '--as=1536000000');
  assert.equal(exitCode, 0, stderr);
});

/** A Python program that runs its arguments behind a filter, as systemd does (seccomp(2)). */
const filtered = (rules: string) => `
import ctypes, os, struct, sys
ALLOW, REFUSE = 0x7fff0000, 0x00050001 # EPERM
LOAD, EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
NUMBER, ARCHITECTURE, THIRD = 0, 4, 32 # in struct seccomp_data
X86_64, WRITE_EXECUTE, EXECUTE = 0xc000003e, 6, 4
def refuse(number, mask):
    return [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 4, number), (LOAD, 0, 0, THIRD), (AND, 0, 0, mask),
        (EQUAL, 0, 1, mask), (RETURN, 0, 0, REFUSE)]
mmap, mprotect, pkey_mprotect, socket = 9, 10, 329, 41
steps = ([(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, X86_64), (RETURN, 0, 0, ALLOW)] + ${rules} + [(RETURN, 0, 0, ALLOW)])
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None)
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    sys.exit('no filter')
os.execv(sys.argv[1], sys.argv[1:])
`;

/** MemoryDenyWriteExecute=yes: no memory that can be both written and executed. */
const withoutWriteExecute = filtered(
  'refuse(mmap, WRITE_EXECUTE) + refuse(mprotect, EXECUTE) + refuse(pkey_mprotect, EXECUTE)',
);

/** RestrictAddressFamilies=AF_UNIX: EAFNOSUPPORT (97) for sockets of any other family. */
const unixOnly = filtered(
  '[(LOAD, 0, 0, NUMBER), (EQUAL, 0, 3, socket), (LOAD, 0, 0, 16), (EQUAL, 1, 0, 1), (RETURN, 0, 0, 0x00050061)]',
);

test("with RestrictAddressFamilies=AF_UNIX banctl bans, and still refuses this host's own addresses", {
  skip: !existsSync('/proc/self/net/fib_trie'),
}, async () => {
  const script = join(directory, 'families.py');
  writeFileSync(script, unixOnly);
  const banlist = listOf(process.getuid?.() ?? 0);
  const { exitCode, stderr } = await ban(banlist, 'python3', script);
  assert.deepEqual([exitCode, stderr], [0, '']);
  const before = readFileSync(banlist, 'utf8');
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  for (const { address } of own.filter(({ internal }) => !internal)) {
    const words = [executable, 'ban', address, '--no-reload', `--banlist=${banlist}`, `--config=${empty}`];
    const refused = await execute('python3', [script, ...words]);
    assert.equal(refused.exitCode, 77, refused.stderr);
    assert.match(refused.stderr, /^banctl: [^\n]*\n$/);
  }
  assert.equal(readFileSync(banlist, 'utf8'), before);
});

test('with RestrictAddressFamilies=AF_UNIX Apache tests no configuration, and the message names the setting', {
  skip: !isRoot,
}, async () => {
  await using apache = await startApache({ remoteip: true });
  const script = join(directory, 'families-of-apache.py');
  writeFileSync(script, unixOnly);
  const words = ['ban', '203.0.113.5', '--reload-interval=0', `--config=${empty}`];
  const { exitCode, stdout, stderr } = await execute('python3', [
    ...[script, executable, ...words],
    ...[`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`],
  ]);
  assert.deepEqual([exitCode, stdout], [69, '203.0.113.5 banned\n']);
  assert.match(
    stderr,
    /^banctl: apache was not reloaded: [^\n]*; RestrictAddressFamilies= of this unit [^\n]*\n$/,
  );
});

for (const [what, limit] of [
  ['an address space that is too small', () => 'prlimit --as=800000000'],
  [
    'MemoryDenyWriteExecute=yes',
    (dir: string) => {
      const script = join(dir, 'filter.py');
      writeFileSync(script, withoutWriteExecute);
      return `python3 ${script}`;
    },
  ],
] as const)
  test(`${what} is one line in the log of fail2ban, which names the setting`, async () => {
    const bin = mkdtempSync(join(directory, 'small-'));
    const banctl = writeScript(bin, 'banctl', `exec ${limit(bin)} ${executable} "$@"`);
    const jail = (name: string, action: string, more: string) => `[${name}]
enabled = true
filter = djangoapp-admin-login
logpath = DIR/access.log
action = ${action}[name=${name}, banctl="${banctl}", banlist="${join(bin, 'banlist.conf')}"${more}]
`;
    await using fail2ban = await startFail2ban({
      jails: `${jail('shell', 'apache-banlist', '')}\n${jail('python', 'apache-banlist.py', ', socket="DIR/none"')}`,
      actionFiles: ['apache-banlist.conf', 'apache-banlist.py'],
    });
    for (const name of ['shell', 'python'])
      assert.equal((await fail2ban.client('set', name, 'banip', '203.0.113.5')).exitCode, 0);
    const why = 'cannot start: MemoryDenyWriteExecute=yes or LimitAS= of fail2ban.service forbids it';
    await fail2ban.awaitLog(new RegExp(`banctl ${why}`));
    await fail2ban.awaitLog(new RegExp(`it ${why}`));
    assert.equal(existsSync(join(bin, 'banlist.conf')), false);
  });

test('an access list and extended attributes stay with the list, whoever sets them and when', {
  skip: !isRoot,
}, async () => {
  const banlist = listOf(1234);
  const told = async (...command: string[]) => {
    const { exitCode, stdout, stderr } = await execute(command[0] ?? '', command.slice(1));
    assert.equal(exitCode, 0, stderr);
    return stdout;
  };
  const acl = () => told('getfacl', '--absolute-names', '--omit-header', banlist);
  const attributes = () => told('getfattr', '--absolute-names', '--dump', banlist);
  const bans = async (address: string, verb = 'ban') => {
    const place = [`--banlist=${banlist}`, '--no-reload', `--config=${empty}`];
    const { exitCode, stderr } = await execute(executable, [verb, address, '--jail=web', ...place]);
    assert.deepEqual([exitCode, stderr], [0, '']);
  };
  await bans('203.0.113.1');
  await told('setfacl', '--modify', 'user:1235:rw,group:1236:r', banlist);
  await told('setfattr', '--name=user.origin', '--value=by hand', banlist);
  const before = [await acl(), await attributes()];
  assert.match(before.join(), /user:1235:rw-[\s\S]*group:1236:r--[\s\S]*user.origin="by hand"/);
  await bans('203.0.113.2');
  await bans('203.0.113.3');
  await bans('203.0.113.2', 'unban');
  assert.deepEqual([await acl(), await attributes()], before);
  assert.equal(statSync(banlist).uid, 1234);
  await told('setfacl', '--remove-all', banlist);
  await told('setfattr', '--remove=user.origin', banlist);
  await bans('203.0.113.4');
  assert.doesNotMatch(await acl(), /1235/);
});

test('banctl looks for them once, and reports their loss', { skip: !isRoot }, async () => {
  const banlist = listOf(0);
  const bin = mkdtempSync(join(directory, 'bin-'));
  const calls = join(bin, 'calls');
  const fake = (name: string, line: string) =>
    writeFileSync(join(bin, name), `#!/bin/sh\necho ${name} >> ${calls}\n${line}\n`, { mode: 0o755 });
  fake('tar', 'PATH=/usr/bin:/bin exec tar "$@"');
  fake('cp', 'echo "cp: no room for it" >&2; exit 1');
  const path = `PATH=${bin}:${process.env.PATH}`;
  const said = async () => (await ban(banlist, 'env', path)).stderr;
  const looks = () => readFileSync(calls, 'utf8');
  assert.equal(await said(), '');
  await execute('env', [path, executable, 'ban', '203.0.113.6', '--no-reload', `--banlist=${banlist}`]);
  assert.equal(looks(), 'tar\n');
  await execute('setfacl', ['--modify', 'user:1235:rw', banlist]);
  const more = ['ban', '203.0.113.7', '--no-reload', `--banlist=${banlist}`, `--config=${empty}`];
  const { exitCode, stderr } = await execute('env', [path, executable, ...more]);
  assert.equal(exitCode, 0);
  assert.match(stderr, /^banctl: \S+ has lost its access list or extended attributes: cp: no room for it\n$/);
});

test('of a list that has them, banctl copies them at each change and looks only where another program wrote', {
  skip: !isRoot,
}, async () => {
  const banlist = listOf(0);
  const bin = mkdtempSync(join(directory, 'bin-'));
  const calls = join(bin, 'calls');
  for (const name of ['tar', 'cp'])
    writeFileSync(
      join(bin, name),
      `#!/bin/sh\necho ${name} >> ${calls}\nPATH=/usr/bin:/bin exec ${name} "$@"\n`,
      { mode: 0o755 },
    );
  const callsOf = async (last: number) => {
    writeFileSync(calls, '');
    const args = ['ban', `203.0.113.${last}`, '--no-reload', `--banlist=${banlist}`, `--config=${empty}`];
    const { exitCode, stderr } = await execute('env', [
      `PATH=${bin}:${process.env.PATH}`,
      executable,
      ...args,
    ]);
    assert.deepEqual([exitCode, stderr], [0, '']);
    return readFileSync(calls, 'utf8').split('\n').slice(0, -1);
  };
  const acl = async () => (await execute('getfacl', ['--absolute-names', banlist])).stdout;
  await execute('setfacl', ['--modify', 'user:1235:rw', banlist]);
  assert.deepEqual([await callsOf(1), await callsOf(2)], [['tar', 'cp'], ['cp']]);
  await execute('setfacl', ['--modify', 'user:1236:r', banlist]);
  assert.deepEqual([await callsOf(3), await callsOf(4)], [['tar', 'cp'], ['cp']]);
  assert.match(await acl(), /user:1235:rw-\nuser:1236:r--\n/);
  await execute('setfacl', ['--remove-all', banlist]);
  assert.deepEqual([await callsOf(5), await callsOf(6)], [['tar'], []]);
  assert.doesNotMatch(await acl(), /123/);
});

/** The capabilities of the drop-in, and nothing to write to but `writable`, as ProtectSystem=strict has it. */
function hardened(writable: string): string[] {
  const dropIn = readFileSync(join(repository, 'systemd', 'fail2ban-banctl.conf'), 'utf8');
  const kept = [...dropIn.matchAll(/^CapabilityBoundingSet=(.*)$/gm)].flatMap(([, names = '']) =>
    names.split(' '),
  );
  const set = ['-all', ...kept.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)].join(',');
  const script = `mount --make-rprivate / && mount --bind ${writable} ${writable} && mount -o remount,bind,ro / && exec setpriv --bounding-set=${set} --inh-caps=-all "$@"`;
  return ['unshare', '--mount', 'sh', '-c', script, 'sh'];
}

test('with the drop-in, a ban reaches Apache on a host that is read-only but for the list', {
  skip: !isRoot,
}, async () => {
  await using apache = await startApache({
    remoteip: true,
    site: (dir) =>
      `<Location "/">\n<RequireAll>\nRequire all granted\nIncludeOptional ${dir}/lists/banlist.conf\n</RequireAll>\n</Location>`,
  });
  const lists = join(apache.dir, 'lists');
  mkdirSync(lists);
  const banlist = join(lists, 'banlist.conf');
  writeFileSync(banlist, '');
  chownSync(banlist, 1234, 1234);
  const args = [
    `--banlist=${banlist}`,
    `--apachectl=${apache.ctl}`,
    `--config=${empty}`,
    '--reload-interval=0',
  ];
  const call = async (writable: string, verb: string) => {
    const [program = '', ...words] = hardened(writable);
    return execute(program, [...words, executable, verb, '203.0.113.5', '--jail=web', ...args]);
  };
  const done = await call(lists, 'ban');
  assert.deepEqual([done.exitCode, done.stderr], [0, '']);
  assert.equal(await apache.get('/', { from: '203.0.113.5' }), 403);
  assert.equal(statSync(banlist).uid, 1234);
  const refused = await call(join(apache.dir, 'www'), 'unban');
  assert.equal(refused.exitCode, 73);
  assert.match(refused.stderr, /^banctl: cannot \S+ \S+: \S[^\n]*read-only[^\n]*\n$/i);
  assert.equal((await call(lists, 'unban')).exitCode, 0);
  assert.equal(await apache.get('/', { from: '203.0.113.5' }), 200);
});

/** Units of systemd in which banctl cannot see the process that Apache's PidFile names. */
const USER = 1234;
const HIDING = [
  [
    'ProtectProc=',
    ['unshare', '--mount'],
    // It hides no process from the group of root: hidepid= and gid= of proc(5).
    `mount -t proc -o hidepid=invisible proc /proc && exec setpriv --reuid=${USER} --regid=${USER} --clear-groups "$@"`,
  ],
  [
    'PrivatePIDs=',
    ['unshare', '--mount', '--pid', '--fork', '--mount-proc'],
    // systemd runs where this directory is: sd_booted(3).
    'mount -t tmpfs none /run && mkdir -p /run/systemd/system && "$@"; exit $?',
  ],
] as const;

for (const [setting, [program, ...words], script] of HIDING)
  test(`where ${setting} hides a running Apache, banctl says so, and never that none runs`, {
    skip: !isRoot,
  }, async () => {
    await using apache = await startApache({ remoteip: true });
    chownSync(apache.dir, USER, USER);
    const config = join(apache.dir, 'empty.json');
    writeFileSync(config, '{}');
    const args = [
      ...['ban', '203.0.113.5', '--reload-interval=0', `--config=${config}`],
      ...[`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`],
    ];
    const hidden = await execute(program, [...words, 'sh', '-c', script, 'sh', executable, ...args]);
    assert.equal(
      hidden.stderr,
      `banctl: apache was not reloaded: ${setting} of this unit hides the apache of ${apache.pidFile}\n`,
    );
    assert.equal(hidden.exitCode, 69);
    assert.equal((await execute(executable, args)).exitCode, 0);
    assert.equal(await apache.get('/', { from: '203.0.113.5' }), 403);
    // What is hidden may have ended: a stopped Apache reads the list when it starts.
    await apache.stop();
    const stopped = await execute(program, [
      ...[...words, 'sh', '-c', script, 'sh'],
      ...[executable, 'unban', '203.0.113.5', ...args.slice(2)],
    ]);
    assert.equal(stopped.exitCode, 0, stopped.stderr);
  });
