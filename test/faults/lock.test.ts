import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { BanctlError, EXIT } from '../../src/system/errors.ts';
import { acquireLock, type LockOptions, withLock } from '../../src/system/lock.ts';
import { isTemporaryOf } from '../../src/system/lock-directory.ts';
import { processId } from '../../src/system/process.ts';
import { replaceFile } from '../../src/system/write.ts';
import { banctl } from '../lab/banctl.ts';
import { stateOf } from '../lab/processes.ts';
import { until } from '../lab/wait.ts';

const A = '203.0.113.5';
const TEXT = '# the list\n';

function temporaryList() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-lock-'));
  const banlist = join(directory, 'banlist.conf');
  writeFileSync(banlist, TEXT);
  const children: ChildProcess[] = [];
  return {
    directory,
    banlist,
    lock: `${banlist}.lock`,
    text: () => readFileSync(banlist, 'utf8'),
    files: () => readdirSync(directory).sort(),
    /** A ban through the executable. */
    ban: (...options: string[]) => banctl(['ban', A, '--banlist', banlist, '--no-reload', ...options]),
    /** A process that takes the lock, after `slowness` ms in the middle. */
    holder(slowness = 0) {
      const child = fork(join(import.meta.dirname, '..', 'lab', 'holder.ts'), [banlist, String(slowness)]);
      children.push(child);
      const answer = async () => (await once(child, 'message', { signal: AbortSignal.timeout(20_000) }))[0];
      return {
        child,
        answer,
        tell(order: 'write' | 'release') {
          child.send(order);
          return answer();
        },
        async signal(name: NodeJS.Signals) {
          child.kill(name);
          if (name === 'SIGSTOP') await until('the holder to stop', () => stateOf(child) === 'T');
          if (name === 'SIGKILL') await once(child, 'exit');
        },
      };
    },
    async held() {
      const holder = this.holder();
      assert.equal(await holder.answer(), 'held');
      return holder;
    },
    [Symbol.dispose]() {
      for (const child of children) child.kill('SIGKILL');
      rmSync(directory, { recursive: true });
    },
  };
}

function isFree(path: string, options: LockOptions = { timeout: 0 }): boolean {
  try {
    acquireLock(path, options).release();
    return true;
  } catch (error) {
    assert.ok(error instanceof BanctlError && error.exitCode === EXIT.lockBusy, String(error));
    return false;
  }
}

suite('a lock', () => {
  test('is held until it is released, and leaves nothing', async () => {
    using list = temporaryList();
    const holder = await list.held();
    assert.equal(isFree(list.banlist), false);
    assert.equal(await holder.tell('write'), 'written');
    assert.equal(isFree(list.banlist), false, 'a write does not end it');
    await holder.tell('release');
    assert.deepEqual(list.files(), ['banlist.conf']);
    assert.equal(isFree(list.banlist), true);
  });

  test('is waited for', async () => {
    using list = temporaryList();
    const holder = await list.held();
    const other = list.holder();
    other.child.on('message', () => assert.ok(isReleased, 'two hold it at once'));
    await until('the other to run', () => stateOf(other.child) === 'S');
    const isReleased = await holder.tell('release');
    assert.equal(await other.answer(), 'held');
  });

  test('that is not free in time is exit 75, and nothing is changed', async () => {
    using list = temporaryList();
    const holder = await list.held();
    const { exitCode, stderr } = await list.ban('--lock-timeout=0.2');
    assert.equal(exitCode, EXIT.lockBusy);
    assert.match(
      stderr,
      /^banctl: \S+banlist\.conf is locked by another banctl for over 0\.2 s; nothing was changed.*\n$/,
    );
    assert.equal(list.text(), TEXT);
    assert.equal(await holder.tell('write'), 'written', 'the holder goes on');
  });

  test('on a file that does not exist yet can be taken', () => {
    using list = temporaryList();
    assert.equal(isFree(join(list.directory, 'new.conf')), true);
  });

  test('whose directory cannot be made is exit 73', async () => {
    using list = temporaryList();
    const { exitCode, stderr } = await list.ban('--banlist', join(list.directory, 'none', 'banlist.conf'));
    assert.equal(exitCode, EXIT.cannotWrite, stderr);
    assert.match(stderr, /its directory does not exist; create it/);
    assert.deepEqual(list.files(), ['banlist.conf']);
  });

  test('whose temporary file cannot be named is exit 73, and is not tried for ever', async () => {
    using list = temporaryList();
    const long = join(list.directory, 'b'.repeat(235));
    const { exitCode, stderr } = await list.ban('--banlist', long);
    assert.equal(exitCode, EXIT.cannotWrite, stderr);
    assert.match(stderr, /^banctl: cannot lock \S+: the path is too long; give a shorter one\n$/);
    assert.deepEqual(list.files(), ['banlist.conf']);
  });

  test('with a file in its place is exit 73, and the file stays', async () => {
    using list = temporaryList();
    writeFileSync(list.lock, 'kept');
    const { exitCode, stderr } = await list.ban();
    assert.deepEqual(
      [exitCode, stderr],
      [73, `banctl: cannot lock ${list.lock}: something else is in its place; remove it\n`],
    );
    assert.equal(readFileSync(list.lock, 'utf8'), 'kept');
  });
});

suite('a lock left behind', () => {
  test('by a killed holder is taken over at once', async () => {
    using list = temporaryList();
    await (await list.held()).signal('SIGKILL');
    assert.equal((await list.ban('--lock-timeout=0')).exitCode, 0);
    assert.deepEqual(list.files(), ['banlist.conf', 'banlist.conf.state']);
  });

  const LEFT: [string, (lock: string) => void, string][] = [
    ['before its holder made an entry', () => {}, '5'],
    [
      'by a process whose pid another has now',
      (lock) => writeFileSync(join(lock, `${process.pid}-1.1`), ''),
      '0',
    ],
    [
      'before the clock was set',
      (lock) => {
        writeFileSync(join(lock, '1-1.1'), '');
        utimesSync(lock, 0, 0);
      },
      '0',
    ],
    [
      'by a clock that has been set back since',
      (lock) => {
        writeFileSync(join(lock, '1-1.1'), '');
        utimesSync(lock, 4e9, 4e9);
      },
      '0',
    ],
    [
      'with a temporary file',
      (lock) => {
        writeFileSync(join(lock, '1-1.1@banlist.conf.123'), '');
        writeFileSync(lock.replace('.lock', '.123'), 'half of the');
      },
      '0',
    ],
    [
      'with a temporary file that was never registered',
      (lock) => {
        writeFileSync(join(lock, '1-1.1'), '');
        writeFileSync(lock.replace('.lock', '.123'), '');
      },
      '0',
    ],
  ];
  for (const [how, leave, timeout] of LEFT) {
    test(`${how} is taken over`, async () => {
      using list = temporaryList();
      mkdirSync(list.lock);
      leave(list.lock);
      const { exitCode, stderr } = await list.ban(`--lock-timeout=${timeout}`);
      assert.deepEqual([exitCode, stderr], [0, '']);
      assert.deepEqual(list.files(), ['banlist.conf', 'banlist.conf.state']);
    });
  }

  test('takes no file with it that is not its own', async () => {
    using list = temporaryList();
    const others = ['banlist.conf.1x', 'banlist.conf.bak', 'banlist.confx.1', 'other.conf.1'];
    for (const name of others) writeFileSync(join(list.directory, name), '');
    writeFileSync(join(list.directory, 'banlist.conf.1'), 'an old list');
    mkdirSync(list.lock);
    writeFileSync(join(list.lock, '1-1.1'), '');
    assert.equal((await list.ban()).exitCode, 0);
    assert.deepEqual(
      list.files(),
      ['banlist.conf', 'banlist.conf.1', 'banlist.conf.state', ...others].sort(),
    );
  });

  test('between its making and its entry does not fail a slow process', async () => {
    using list = temporaryList();
    const slow = list.holder(1500);
    await until('the directory', () => list.files().includes('banlist.conf.lock'));
    const fast = await list.held();
    await fast.tell('release');
    assert.equal(await slow.answer(), 'held');
    await slow.tell('release');
    assert.deepEqual(list.files(), ['banlist.conf']);
  });
});

suite('a stopped holder', () => {
  const stale = { timeout: 10, stale: 0.3 };

  test('is replaced after a while, and can neither write nor release any more', async () => {
    using list = temporaryList();
    const holder = await list.held();
    await holder.signal('SIGSTOP');
    assert.equal(isFree(list.banlist, { timeout: 0.1, stale: 60 }), false, 'not before');
    const lock = acquireLock(list.banlist, stale);
    replaceFile(list.banlist, [Buffer.from('written by another\n')], { lock });
    await holder.signal('SIGCONT');
    assert.equal(await holder.tell('write'), 'lost');
    assert.equal(await holder.tell('release'), 'released');
    assert.equal(isFree(list.banlist), false, "the successor's lock is not released by it");
    lock.release();
    assert.equal(list.text(), 'written by another\n');
    assert.deepEqual(list.files(), ['banlist.conf']);
  });

  test('cannot release what its successor is about to take', async () => {
    using list = temporaryList();
    const holder = await list.held();
    await holder.signal('SIGSTOP');
    acquireLock(list.banlist, stale).release();
    // Another has made the directory, and not its entry yet.
    mkdirSync(list.lock);
    await holder.signal('SIGCONT');
    await holder.tell('release');
    assert.deepEqual(list.files(), ['banlist.conf', 'banlist.conf.lock']);
  });

  test('has another entry in its next turn, which who replaced it too late cannot remove', () => {
    using list = temporaryList();
    const turns = [1, 2].map(() => withLock(list.banlist, { timeout: 1 }, () => readdirSync(list.lock)));
    const [[first = ''] = [], [second = ''] = []] = turns;
    const [owner, turn] = first.split('.');
    assert.equal(owner, processId());
    assert.equal(second, `${owner}.${Number(turn) + 1}`);
  });

  test('makes its change again once it goes on', () => {
    using list = temporaryList();
    let runs = 0;
    const text = withLock(list.banlist, { timeout: 1 }, (lock) => {
      runs += 1;
      const before = list.text();
      if (runs === 1) {
        // As if stopped here: another process evicts it and makes a change.
        withLock(list.banlist, { timeout: 5, stale: 0 }, (other) =>
          replaceFile(list.banlist, [Buffer.from(`${before}other\n`)], { lock: other }),
        );
      }
      replaceFile(list.banlist, [Buffer.from(`${before}own\n`)], { lock });
      return list.text();
    });
    assert.deepEqual([runs, text], [2, `${TEXT}other\nown\n`]);
    assert.deepEqual(list.files(), ['banlist.conf']);
  });
});

test('temporary files are recognized by their names', () => {
  const own = [
    'banlist.conf.1',
    'banlist.conf.4294967295',
    'banlist.conf.state.123',
    '.banlist.conf.banctl-1',
    '.banlist.conf.state.banctl-4294967295',
  ];
  const others = [
    'banlist.conf',
    'banlist.conf.',
    'banlist.conf.1a',
    'banlist.conf.42949672950',
    'banlist.conf.state',
    'xbanlist.conf.1',
    'banlist.conf.lock',
    'banlist.conf.1.2',
    '.banlist.conf',
    '.banlist.conf.1',
    '.xbanlist.conf.banctl-1',
  ];
  assert.deepEqual(
    [...own, ...others].filter((name) => isTemporaryOf('banlist.conf', name)),
    own,
  );
});
