// What becomes of the ban directory when calls are killed or stopped, and when it cannot be written or read.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { readAddress } from '../../src/bans/address.ts';
import type { Change } from '../../src/bans/change.ts';

import { banctl, executable } from '../lab/banctl.ts';
import { addition, change, release } from '../lab/call.ts';
import { forEachCall, type Interruptible, interruptible } from '../lab/interruptible.ts';
import { execute, until } from '../lab/wait.ts';

const A = '203.0.113.5';
const B = '2001:db8::5';
const RANGE = '198.51.100.0/24';
/** So many that one lock moves from file to file; A is the second. */
const MANY = Array.from({ length: 17 }, (_, index) => `203.0.113.${index + 4}`);
/** The first three files of many: the others are alike. */
const CALLS_OF_MANY = 45;
/** The answer about a visitor who is not banned. */
const NOBODY = 'nobody';

function temporaryPlaces() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bandir-'));
  return { ...placesIn(directory), [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

type Places = ReturnType<typeof placesIn>;

function placesIn(directory: string) {
  const banlist = join(directory, 'banlist.conf');
  const bandir = join(directory, 'bans');
  const file = (address: string) => join(bandir, address);
  const options = ['--banlist', banlist, '--bandir', bandir, '--no-reload'];
  return {
    directory,
    banlist,
    bandir,
    file,
    options,
    files: () => (existsSync(bandir) ? readdirSync(bandir).sort() : []),
    beside: () =>
      readdirSync(directory).filter((name) => !['bans', 'banlist.conf', 'banlist.conf.state'].includes(name)),
    read: (address: string) => readFileSync(file(address), 'utf8'),
    call: (...args: string[]) => banctl([...args, ...options]),
    change: (...changes: Change[]) => change(banlist, changes, bandir),
    /** Who bans the address in the directory, and in the list; a text that is not whole fails the test. */
    holders(address: string): string {
      const inFile = existsSync(file(address)) ? holdersIn(readFileSync(file(address), 'utf8'), address) : [];
      const text = existsSync(banlist) ? readFileSync(banlist, 'utf8') : '';
      const list = text.match(/(?:# .*\n)?Require not ip .*\n/g) ?? [];
      const inList = list
        .filter((ban) => ban.endsWith(` ${address}\n`))
        .flatMap((ban) => holdersIn(ban, address));
      return [inFile.join(), ...inList.map((holder) => `list:${holder}`)].filter(Boolean).join() || NOBODY;
    },
  };
}

function holdersIn(ban: string, address: string): string[] {
  const [comment = '', ...rest] = ban.split('\n');
  assert.match(comment, /^# banctl(?: \| [\w-]+ [\da-f.:/]+ since \S+ for ever)+$/);
  assert.deepEqual(rest, [`Require not ip ${address}`, '']);
  return [...comment.matchAll(/\| (\S+) /g)].map(([, holder]) => holder ?? '').sort();
}

/** The first bans, the changes, and the permitted bans of each address on the way and in the end. */
interface Story {
  /** Bans of the directory. */
  readonly first?: readonly Change[];
  readonly changes: readonly Change[];
  readonly banned: Readonly<Record<string, readonly string[]>>;
  /** The number of calls to interrupt; by default all. */
  readonly most?: number;
}

const STORIES: Record<string, Story> = {
  'a first ban': { changes: [addition(A, 'web')], banned: { [A]: [NOBODY, 'web'] } },
  'an unban that removes the file': {
    first: [addition(A, 'web')],
    changes: [release(A, 'web')],
    banned: { [A]: ['web', NOBODY] },
  },
  'a flush': {
    first: [addition(B, 'web'), addition(B, 'ssh'), addition(RANGE, 'web')],
    changes: [release(B, 'web'), release(RANGE, 'web')],
    banned: { [B]: ['ssh,web', 'ssh'], [RANGE]: ['list:web', NOBODY] },
  },
  'a flush of many': {
    first: MANY.map((address) => addition(address, 'web')),
    changes: MANY.map((address) => release(address, 'web')),
    banned: Object.fromEntries(MANY.map((address) => [address, ['web', NOBODY]])),
    most: CALLS_OF_MANY,
  },
};

async function prepare(places: Places, { first = [] }: Story): Promise<void> {
  if (first.length > 0) await places.change(...first);
}

suite('a call about the ban directory that ends or stops in the middle', () => {
  /** One that is interrupted, one that goes on with what it has left. */
  let others: Interruptible[] = [];
  before(async () => {
    others = await Promise.all(Array.from({ length: 4 }, interruptible));
  });
  after(() => {
    for (const other of others) other[Symbol.dispose]();
  });

  /** Whoever is free. */
  async function withOther<T>(work: (other: Interruptible) => Promise<T>): Promise<T> {
    const other = others.pop();
    assert.ok(other);
    try {
      return await work(other);
    } finally {
      others.push(other);
    }
  }

  async function countCalls(story: Story, { isStopped }: { isStopped: boolean }): Promise<number> {
    using places = temporaryPlaces();
    if (isStopped) mkdirSync(places.bandir);
    await prepare(places, story);
    return await withOther(async (other) => {
      const calls = await other.count({ ...places, changes: story.changes, skipsReads: !isStopped });
      assert.ok(calls > 10, String(calls));
      for (const [address, told] of Object.entries(story.banned))
        assert.equal(places.holders(address), told.at(-1), 'the story ends otherwise');
      return Math.min(calls, story.most ?? calls);
    });
  }

  for (const [what, story] of Object.entries(STORIES)) {
    const addresses = Object.keys(story.banned);

    test(`killed at any file system call of ${what}: each ban is as before or after, nothing stays behind`, async () => {
      const calls = await countCalls(story, { isStopped: false });
      await forEachCall(calls, async (call) => {
        using places = temporaryPlaces();
        await prepare(places, story);
        using victim = await interruptible();
        await victim.killed({ ...places, changes: story.changes, before: [call], skipsReads: true });

        const left = Object.fromEntries(addresses.map((address) => [address, places.holders(address)]));
        for (const [address, told] of Object.entries(story.banned))
          assert.ok(told.includes(left[address] ?? ''), `call ${call}: ${address} by ${left[address]}`);
        for (const name of places.files())
          assert.ok(addresses.includes(name) || readAddress(name) === undefined, `call ${call}: ${name}`);
        const bans = places.files().filter((name) => readAddress(name) !== undefined);

        await withOther(async (other) => {
          // A copy of it a day later.
          const copied = placesIn(join(places.directory, 'copy'));
          mkdirSync(copied.directory);
          for (const name of readdirSync(places.directory).filter((entry) => entry !== 'copy'))
            cpSync(join(places.directory, name), join(copied.directory, name), { recursive: true });
          makeOld(copied.directory);
          await other.count({ ...copied, changes: [], fixes: true });
          assert.deepEqual([copied.files(), copied.beside()], [bans, []], `call ${call}: an audit's repair`);
          for (const address of addresses)
            assert.equal(copied.holders(address), left[address], `call ${call}: an audit's repair`);
          rmSync(copied.directory, { recursive: true });

          await other.count({ ...places, changes: addresses.map((address) => addition(address, 'next')) });
        });
        const single = addresses.filter((address) => address !== RANGE).sort();
        assert.deepEqual([places.files(), places.beside()], [single, []], `call ${call}: the next ban`);
        for (const address of addresses) assert.match(places.holders(address), /next/, `call ${call}`);
      });
    });
  }

  /** The changes of other processes, the holder of A in the end, and the holder of A all the time from then on. */
  const DURING_CALL: [string, Story, { others: Change[]; end: string; always?: RegExp }][] = [
    [
      'an unban that removes the file, while another bans',
      { first: [addition(A, 'web')], changes: [release(A, 'web')], banned: {} },
      { others: [addition(A, 'ssh')], end: 'ssh', always: /ssh/ },
    ],
    [
      'a first ban, while another bans',
      { changes: [addition(A, 'web')], banned: {} },
      { others: [addition(A, 'ssh')], end: 'ssh,web', always: /ssh/ },
    ],
    [
      'a ban, while another removes the file',
      { first: [addition(A, 'ssh')], changes: [addition(A, 'web')], banned: {} },
      { others: [release(A, 'ssh')], end: 'web' },
    ],
    [
      'a flush of many, while another bans one of them',
      {
        first: MANY.map((address) => addition(address, 'web')),
        changes: MANY.map((address) => release(address, 'web')),
        banned: {},
        most: CALLS_OF_MANY,
      },
      { others: [addition(A, 'ssh')], end: 'ssh', always: /ssh/ },
    ],
  ];
  for (const [what, story, { others: changes, end, always }] of DURING_CALL) {
    test(`stopped at any file system call of ${what}, and replaced: it undoes nothing`, async () => {
      const calls = await countCalls(story, { isStopped: true });
      using stack = new DisposableStack();
      const victims = (await Promise.all(Array.from({ length: 4 }, interruptible))).map((one) =>
        stack.use(one),
      );
      await forEachCall(calls, async (call) => {
        using places = temporaryPlaces();
        mkdirSync(places.bandir);
        await prepare(places, story);
        const one = victims.pop();
        assert.ok(one);
        // A second stop right after the first: what it has done by then counts.
        const stopped = await one.stopped({ ...places, changes: story.changes, before: [call, call + 1] });
        assert.equal(stopped, undefined, `call ${call}`);
        await withOther((other) =>
          other.count({ ...places, changes, takesOver: [places.file(A), places.banlist] }),
        );
        const again = await one.goesOn();
        if (always !== undefined) assert.match(places.holders(A), always, `call ${call}, one later`);
        if (again === undefined) assert.notEqual(await one.goesOn(), undefined);
        victims.push(one);

        assert.equal(places.holders(A), end, `call ${call}`);
        assert.deepEqual([places.files(), places.beside()], [end === NOBODY ? [] : [A], []], `call ${call}`);
      });
    });
  }

  test('killed at random moments, two at once: every acknowledged change is there', async () => {
    using places = temporaryPlaces();
    const addresses = [A, B, '192.0.2.1'];
    const script = join(import.meta.dirname, '..', 'lab', 'changing.ts');
    const holders = ['web', 'ssh'];
    /** Whether each holder may hold each address, by the acknowledged changes: true, false, or undefined for both. */
    const known = new Map<string, boolean | undefined>();
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(
        holders.map(async (holder) => {
          const child = spawn(process.execPath, [script, places.bandir, holder, '100000', ...addresses], {
            stdio: ['ignore', 'pipe', 'inherit'],
          });
          let said = '';
          const most = 1 + Math.random() * 60;
          child.stdout.setEncoding('utf8').on('data', (text: string) => {
            said += text;
            if (said.split('\n').length > most) child.kill('SIGKILL');
          });
          const [, signal] = await once(child, 'close', { signal: AbortSignal.timeout(20_000) });
          assert.equal(signal, 'SIGKILL');
          const told = said.split('\n').slice(0, -1);
          for (const line of told) known.set(`${holder} ${line.slice(1)}`, line.startsWith('+'));
          // What it was about to do next.
          const last = told.at(-1) ?? '';
          const next = last.startsWith('+')
            ? last.slice(1)
            : addresses[(addresses.indexOf(last.slice(1)) + 1) % addresses.length];
          known.set(`${holder} ${next}`, undefined);
        }),
      );
      for (const address of addresses) {
        const held = places.holders(address).split(',');
        for (const holder of holders) {
          const expected = known.get(`${holder} ${address}`);
          if (expected !== undefined) assert.equal(held.includes(holder), expected, `${holder} ${address}`);
        }
      }
    }
    await places.change(...addresses.map((address) => addition(address, 'next')));
    assert.deepEqual(places.files(), [...addresses].sort());
  });
});

test('an address that is widened to a range keeps its file until apache has loaded the range', async () => {
  using places = temporaryPlaces();
  await places.change(addition(B, 'web'));
  const widen = (...options: string[]) =>
    banctl(['ban', B, '--jail=web', '--ipv6-prefix=64', ...places.options.slice(0, 4), ...options]);
  const now = ['--apachectl=/nonexistent', '--reload-interval=0'];
  for (const [exitCode, options] of [
    [0, ['--no-reload']],
    [69, [...now, '--reload-command=false']],
  ] as const) {
    assert.equal((await widen(...options)).exitCode, exitCode);
    assert.equal(places.holders(B), 'web');
  }
  const { exitCode, stderr } = await widen(...now, '--reload-command=true');
  assert.deepEqual([exitCode, stderr, places.files()], [0, '', []]);
  assert.match(readFileSync(places.banlist, 'utf8'), /^Require not ip 2001:db8::\/64$/m);
});

suite('what cannot be written in the ban directory is exit 73, and what was there is there', () => {
  test('a file in place of the directory', async () => {
    using places = temporaryPlaces();
    writeFileSync(places.bandir, 'kept');
    for (const call of [
      ['ban', A],
      ['unban', A, '--jail', 'web'],
    ]) {
      const { exitCode, stdout, stderr } = await places.call(...call);
      assert.deepEqual(
        [exitCode, stdout, stderr],
        [73, '', `banctl: ${places.bandir} is not a directory; move it away, or give another --bandir\n`],
      );
    }
    assert.equal(readFileSync(places.bandir, 'utf8'), 'kept');
    assert.deepEqual(places.beside(), []);
  });

  test('a path below a file is exit 78', async () => {
    using places = temporaryPlaces();
    writeFileSync(places.banlist, '');
    const bandir = join(places.banlist, 'bans');
    const { exitCode, stderr } = await banctl(['ban', A, '--banlist', places.banlist, '--bandir', bandir]);
    assert.deepEqual(
      [exitCode, stderr],
      [78, `banctl: cannot read ${bandir}: a part of its path is not a directory\n`],
    );
  });

  // The superuser may do anything: unless it is without the capabilities that say so.
  const asUser = (places: Places, ...call: string[]) => {
    const dropped =
      process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : ['env'];
    const [program = '', ...args] = dropped;
    return execute(program, [
      ...args,
      executable,
      ...call,
      '--banlist',
      places.banlist,
      '--bandir',
      places.bandir,
    ]);
  };

  test('a directory without permission to write', async () => {
    using places = temporaryPlaces();
    await places.change(addition(A, 'web'));
    const before = places.read(A);
    chmodSync(places.bandir, 0o555);
    for (const call of [
      ['ban', '192.0.2.1'],
      ['ban', A],
      ['unban', A, '--jail', 'web'],
    ]) {
      const { exitCode, stderr } = await asUser(places, ...call, '--no-reload');
      assert.equal(exitCode, 73, stderr);
      assert.match(stderr, /^banctl: cannot lock \S+\.lock: permission denied; run banctl as root\n$/);
    }
    assert.deepEqual([places.files(), places.read(A)], [[A], before]);
    const { exitCode } = await asUser(places, 'explain', A);
    assert.equal(exitCode, 0, 'it can be read');
    chmodSync(places.bandir, 0o755);
  });

  test('a directory that cannot be searched: no address is reported as not banned', async () => {
    using places = temporaryPlaces();
    await places.change(addition(A, 'web'));
    chmodSync(places.bandir, 0o000);
    for (const call of [
      ['unban', A, '--jail', 'web', '--no-reload'],
      ['unban', A, '--no-reload', '--no-fail2ban'],
      ['explain', A],
      ['list'],
    ]) {
      const { exitCode, stdout, stderr } = await asUser(places, ...call);
      assert.deepEqual([exitCode, stdout], [78, ''], call.join(' '));
      assert.match(stderr, /^banctl: cannot read \S+: permission denied; run banctl as root\n$/);
    }
    chmodSync(places.bandir, 0o755);
    assert.equal(places.holders(A), 'web');
  });
});

suite('what stands in place of a file of the ban directory', () => {
  const UNREADABLE: [string, (path: string) => void, RegExp][] = [
    [
      'NUL bytes',
      (path) => writeFileSync(path, `Require not ip ${A}\n\0`),
      /it contains NUL bytes; nothing was changed/,
    ],
    ['a directory', (path) => mkdirSync(path), /is not a regular file; nothing was changed/],
    [
      'a huge file',
      (path) => {
        writeFileSync(path, '');
        truncateSync(path, 2 ** 32);
      },
      /is larger than 64 MiB; nothing was changed/,
    ],
    ['a link to itself', (path) => symlinkSync(path, path), /it is a loop of symbolic links; remove it/],
  ];
  for (const [what, make, message] of UNREADABLE) {
    test(`${what}: exit 78, untouched, and banctl still bans other addresses`, async () => {
      using places = temporaryPlaces();
      mkdirSync(places.bandir);
      make(places.file(A));
      const before = lstatSync(places.file(A), { bigint: true });
      for (const call of [
        ['ban', A],
        ['unban', A, '--jail', 'web'],
        ['unban', A, '--no-fail2ban'],
      ]) {
        const { exitCode, stdout, stderr } = await places.call(...call);
        assert.deepEqual([exitCode, stdout], [78, ''], call.join(' '));
        assert.match(stderr, /^banctl: [^\n]+\n$/);
        assert.match(stderr, message);
      }
      assert.equal(lstatSync(places.file(A), { bigint: true }).ctimeNs, before.ctimeNs);
      const { exitCode, stderr } = await places.call('ban', B);
      assert.deepEqual([exitCode, stderr], [0, '']);
      assert.deepEqual(places.files(), [B, A].sort());
      // Apache refuses both, whatever is in the file, and one must not hide the other.
      const listed = await banctl(['list', '--banlist', places.banlist, '--bandir', places.bandir]);
      assert.equal(listed.exitCode, 0, listed.stderr);
      assert.match(listed.stdout, new RegExp(`^${A.replaceAll('.', '\\.')} +\\?`, 'm'));
      assert.match(listed.stdout, new RegExp(`^${B.replaceAll('.', '\\.')} +manual`, 'm'));
      const audited = await places.call('audit', '--no-fail2ban', '--json');
      const { findings } = JSON.parse(audited.stdout) as { findings: { code: string; message: string }[] };
      assert.ok(findings.some(({ code, message: told }) => code === 'bad-line' && message.test(told)));
    });
  }

  const FOREIGN: [string, string | Buffer][] = [
    ['nothing', ''],
    ['binary bytes', Buffer.from([0xff, 0xfe, 0x0a, 0xc3])],
    ['a last line that goes on', 'by hand \\'],
    ['a line that goes on, ended', 'by hand \\\n'],
    ['a ban of another address', `Require not ip ${B}\n`],
    ['the ban in another spelling', `require NOT ip "${A}"`],
    ['holds of no ban', `# banctl | web ${A} since 2026-01-01T00:00:00Z for ever\n`],
  ];
  for (const [what, text] of FOREIGN) {
    test(`${what}: bans the address and no other, takes a hold, keeps its bytes, and an unban removes it`, async () => {
      using places = temporaryPlaces();
      mkdirSync(places.bandir);
      const told = async () =>
        JSON.parse((await banctl(['list', '--json', ...places.options.slice(0, 4)])).stdout).bans.map(
          (one: { address: string }) => one.address,
        );
      writeFileSync(places.file(A), text);
      assert.deepEqual(await told(), [A]);
      assert.equal(
        (await places.call('ban', A, '--jail', 'web')).stdout,
        `${A} already banned; its holds have changed\n`,
      );
      assert.ok(readFileSync(places.file(A)).includes(text));
      assert.match(places.read(A), new RegExp(`^# banctl \\| web ${A} .*\nRequire not ip ${A}$`, 'm'));
      assert.deepEqual(await told(), [A]);
      assert.equal((await places.call('unban', A, '--jail', 'web')).stdout, `${A} unbanned\n`);
      assert.deepEqual(places.files(), []);

      writeFileSync(places.file(A), text);
      assert.equal((await places.call('unban', A, '--no-fail2ban')).stdout, `${A} unbanned\n`);
      assert.deepEqual(places.files(), []);
    });
  }

  test('a dangling link has no effect; a ban replaces it', async () => {
    using places = temporaryPlaces();
    mkdirSync(places.bandir);
    symlinkSync('nowhere', places.file(A));
    assert.equal((await banctl(['explain', A, ...places.options.slice(0, 4)])).exitCode, 1);
    assert.equal((await places.call('unban', A, '--jail', 'web')).stdout, `${A} not banned\n`);
    assert.equal((await places.call('ban', A, '--jail', 'web')).stdout, `${A} banned\n`);
    assert.equal(places.holders(A), 'web');
    assert.ok(lstatSync(places.file(A)).isFile());
    assert.deepEqual(places.files(), [A]);
  });

  test('a link to a file bans, and is never written through', async () => {
    using places = temporaryPlaces();
    mkdirSync(places.bandir);
    const target = join(places.directory, 'target');
    writeFileSync(target, 'kept\n');
    symlinkSync('../target', places.file(A));
    const { exitCode, stderr } = await places.call('ban', A);
    assert.deepEqual(
      [exitCode, stderr],
      [78, `banctl: ${places.file(A)} is a symbolic link; nothing was changed, make it a file\n`],
    );
    assert.equal((await places.call('unban', A, '--no-fail2ban')).stdout, `${A} unbanned\n`);
    assert.deepEqual([places.files(), readFileSync(target, 'utf8')], [[], 'kept\n']);
  });

  test("a directory that is a link to a missing one is made at the link's target", async () => {
    using places = temporaryPlaces();
    symlinkSync('elsewhere/bans', places.bandir);
    assert.equal((await places.call('ban', A, '--jail', 'web')).exitCode, 0);
    assert.ok(lstatSync(places.bandir).isSymbolicLink());
    assert.deepEqual(readdirSync(join(places.directory, 'elsewhere', 'bans')), [A]);
  });

  test('something in place of a lock is exit 73 for that address, and stops no audit', async () => {
    using places = temporaryPlaces();
    mkdirSync(places.bandir);
    writeFileSync(`${places.file(A)}.lock`, 'kept');
    const { exitCode, stderr } = await places.call('ban', A);
    assert.deepEqual(
      [exitCode, stderr],
      [73, `banctl: cannot lock ${places.file(A)}.lock: something else is in its place; remove it\n`],
    );
    const audited = await banctl([
      'audit',
      '--fix',
      '--no-fail2ban',
      '--no-reload',
      ...places.options.slice(0, 4),
    ]);
    assert.deepEqual([audited.exitCode, audited.stderr], [1, '']);
    assert.equal(readFileSync(`${places.file(A)}.lock`, 'utf8'), 'kept');
  });
});

suite('thousands of addresses on standard input', () => {
  const MANY = Array.from({ length: 2000 }, (_, index) => `10.9.${index >> 8}.${index & 255}`);

  test('killed midway: each file is whole, nothing was acknowledged, and the same call again does the rest', async () => {
    using places = temporaryPlaces();
    const child = spawn(executable, ['ban', '-', '--jail', 'web', ...places.options], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
    });
    const ended = once(child, 'close');
    child.stdin.end(MANY.join('\n'));
    await until('some bans', () => places.files().length > 100);
    child.kill('SIGKILL');
    await ended;
    assert.equal(said, '');
    const banned = places.files().filter((name) => MANY.includes(name));
    assert.ok(banned.length < MANY.length, 'it was done before it was killed');
    for (const address of banned) assert.equal(places.holders(address), 'web');
    const { exitCode, stdout, stderr } = await banctl(
      ['ban', '-', '--jail', 'web', ...places.options],
      MANY.join('\n'),
    );
    assert.deepEqual([exitCode, stderr], [0, '']);
    assert.equal(stdout.match(/ already banned$/gm)?.length, banned.length);
    assert.deepEqual(places.files(), [...MANY].sort());
  });

  /** A `sync` of its own, first in PATH. */
  function withSync(places: Places, script: string, ...args: string[]) {
    const bin = join(places.directory, 'bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, 'sync'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return spawn(executable, [...args, ...places.options], {
      env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  }

  test('nothing is acknowledged before all of them are on the disk', async () => {
    using places = temporaryPlaces();
    const gate = join(places.directory, 'gate');
    const seen = join(places.directory, 'seen');
    await execute('mkfifo', [gate]);
    const child = withSync(
      places,
      `[ "$1" = --file-system ] && ls "$2" | wc -l >"${seen}.new" && mv "${seen}.new" "${seen}" && read line <"${gate}"`,
      'ban',
      '-',
    );
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
    });
    const ended = once(child, 'close', { signal: AbortSignal.timeout(20_000) });
    child.stdin.end(MANY.slice(0, 50).join('\n'));
    await until('sync to be called', () => existsSync(seen));
    assert.deepEqual([readFileSync(seen, 'utf8').trim(), said], ['50', '']);
    appendFileSync(gate, 'on\n');
    assert.deepEqual(await ended, [0, null]);
    assert.equal(said.trim().split('\n').length, 50);
  });

  for (const [command, ...args] of [['ban'], ['unban', '--no-fail2ban']] as const) {
    test(`a disk that fails is exit 73, and no ${command} is acknowledged`, async () => {
      using places = temporaryPlaces();
      const some = MANY.slice(0, 50);
      if (command === 'unban') await places.change(...some.map((address) => addition(address, 'web')));
      const child = withSync(places, 'echo "sync: Input/output error" >&2; exit 1', command, '-', ...args);
      let said = '';
      let warned = '';
      child.stdout.on('data', (text) => {
        said += text;
      });
      child.stderr.on('data', (text) => {
        warned += text;
      });
      const ended = once(child, 'close', { signal: AbortSignal.timeout(20_000) });
      child.stdin.end(some.join('\n'));
      assert.deepEqual(await ended, [73, null]);
      assert.deepEqual(
        [said, warned],
        ['', `banctl: ${places.bandir} was changed, but may not be on the disk: sync: Input/output error\n`],
      );
    });
  }
});

/** As if all of it had been made a day ago. */
function makeOld(path: string): void {
  const entries = lstatSync(path).isDirectory() ? readdirSync(path) : [];
  for (const name of entries) makeOld(join(path, name));
  const yesterday = Date.now() / 1000 - 86_400;
  utimesSync(path, yesterday, yesterday);
}
