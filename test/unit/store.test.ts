// The store: changes of many callers at once, waits of a resident, and bans that are moved while they are released.

import assert from 'node:assert/strict';
import fs, {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { formatBan, isBanAlone } from '../../src/banlist/ban-lines.ts';
import type { Change } from '../../src/bans/change.ts';
import type { Hold } from '../../src/bans/hold.ts';
import { temporaryDirectoriesIn } from '../../src/store/ban-files.ts';
import { Kept } from '../../src/store/kept.ts';
import { NewFiles } from '../../src/store/new-files.ts';
import { changeBans, changeTogether, type StoreOptions } from '../../src/store/store.ts';
import { acquireLock, withLockAwaited } from '../../src/system/lock.ts';
import { discard } from '../../src/system/takeover.ts';
import { withoutReload } from '../lab/call.ts';

const A = '203.0.113.5';
const B = '203.0.113.6';
const NOW = Math.floor(Date.now() / 1000);

const held = (address: string, holder = 'web'): Hold => ({
  holder,
  address,
  since: NOW,
  until: null,
  reason: null,
});
const add = (address: string, holder = 'web'): Change => ({
  verb: 'add',
  target: address,
  hold: { holder, address, since: NOW, duration: null, reason: null },
});
const release = (address: string, holder = 'web'): Change => ({ verb: 'release', address, holder });

function places(isBoth: boolean, more: Partial<StoreOptions> = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-store-'));
  const banlist = join(directory, 'banlist.conf');
  const bandir = join(directory, 'bans');
  if (isBoth) mkdirSync(bandir);
  const kept = new Kept();
  const options: StoreOptions = {
    ...withoutReload(banlist, isBoth ? bandir : undefined),
    endTurns: () => kept.endTurns(),
    kept,
    ...more,
  };
  return {
    options,
    kept,
    banlist,
    list: () => (existsSync(banlist) ? readFileSync(banlist, 'utf8') : ''),
    file: (address: string) => join(bandir, address),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}

suite('callers that wait together', () => {
  for (const isBoth of [false, true]) {
    test(`are each answered, by one write, ${isBoth ? 'with' : 'without'} a directory`, async () => {
      using store = places(isBoth);
      const { isChanged, outcomes, reload } = await changeTogether(store.options, [
        [add(A), add(B)],
        (bansNow) => {
          assert.deepEqual(bansNow(), []);
          return [add(A, 'ssh')];
        },
        [release('198.51.100.1')],
        [add('198.51.100.0/24')],
      ]);
      assert.ok(isChanged);
      assert.equal(reload.result, 'skipped');
      assert.deepEqual(
        outcomes.map((answers) => answers.map(({ address, status }) => `${address} ${status}`)),
        [
          [`${A} banned`, `${B} banned`],
          [`${A} already-banned`],
          ['198.51.100.1 not-banned'],
          ['198.51.100.0/24 banned'],
        ],
      );
    });

    test(`a hold that is set is exactly that, ${isBoth ? 'with' : 'without'} a directory`, async () => {
      using store = places(isBoth);
      const reasoned: Hold = { ...held(A, 'web@b'), until: NOW + 60, reason: 'why' };
      const set = async (hold: Hold) =>
        (await changeBans(store.options, [{ verb: 'set', target: A, hold }])).outcomes[0];
      const textNow = () => (isBoth ? readFileSync(store.file(A), 'utf8') : store.list());
      assert.deepEqual(await set(reasoned), { address: A, status: 'banned', heldBy: [], isChanged: true });
      assert.equal(textNow(), formatBan(A, [reasoned]));
      assert.equal((await set(reasoned))?.isChanged, false);
      assert.equal((await set(held(A, 'web@b')))?.isChanged, true);
      assert.equal(textNow(), formatBan(A, [held(A, 'web@b')]));
    });
  }

  test('a resident answers others while it waits for the lock', async () => {
    using store = places(false);
    const lock = acquireLock(store.banlist, { timeout: 1 });
    const pending = changeBans(store.options, [add(A)]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(store.list(), '');
    lock.release();
    assert.equal((await pending).outcomes[0]?.status, 'banned');
  });
});

test('a text of one ban is recognized without a parser, and no other text is', () => {
  const text = formatBan(A, [held(A)]);
  const isAlone = (other: string) => isBanAlone(Buffer.from(other), A);
  assert.ok(isAlone(text) && isAlone(formatBan(A, [])));
  for (const other of [
    '',
    formatBan(B, [held(B)]),
    `1${formatBan(A, [])}`,
    text.trimEnd(),
    `${text}\n`,
    text.replace('\n', '\\\n'),
    text.replace('\n', '\\\r\n'),
    `<If false>\n${formatBan(A, [])}`,
    `#\n<If false>\n${formatBan(A, [])}`,
  ])
    assert.equal(isAlone(other), false, JSON.stringify(other));
});

suite('a ban that another process moves from the directory into the list', () => {
  test('is released where it arrives after it was released where it was', async () => {
    using store = places(true);
    await changeBans(store.options, [add(A)]);
    // As migrate does: it reads the directory under the lock of the list, and writes the list later.
    const lock = acquireLock(store.banlist, { timeout: 1 });
    const pending = changeBans(store.options, [release(A)]);
    await until(() => !existsSync(store.file(A)));
    writeFileSync(store.banlist, formatBan(A, [held(A)]));
    lock.release();
    assert.equal((await pending).outcomes[0]?.status, 'unbanned');
    assert.equal(store.list(), '');
  });
});

suite('holds of other hosts, many at once,', () => {
  const MANY = Array.from({ length: 40 }, (_, last) => `203.0.113.${last}`);
  const set = (address: string, holder = 'web@b'): Change => ({
    verb: 'set',
    target: address,
    hold: { ...held(address, holder), reason: 'tried | %' },
  });
  const writing = async (work: () => unknown, after: () => unknown) => {
    const { linkSync } = fs;
    fs.linkSync = (...paths) => {
      linkSync(...paths);
      after();
    };
    syncBuiltinESMExports();
    try {
      await work();
    } finally {
      fs.linkSync = linkSync;
      syncBuiltinESMExports();
    }
  };

  test('make the files that one after another would, whatever the umask, and leave nothing else', async () => {
    using store = places(true);
    using other = places(true);
    const changes = [...MANY.map((address) => set(address)), set(A, 'ssh@c')];
    for (const { options } of [store, other]) await changeBans(options, [add(B)]);
    const umask = process.umask(0o077);
    const { outcomes } = await changeBans(store.options, changes);
    process.umask(umask);
    for (const change of changes) await changeBans(other.options, [change]);
    const statuses = outcomes.map(({ status }) => status);
    assert.deepEqual(statuses, [
      ...MANY.map((one) => (one === B ? 'already-banned' : 'banned')),
      'already-banned',
    ]);
    for (const address of MANY) {
      assert.equal(readFileSync(store.file(address), 'utf8'), readFileSync(other.file(address), 'utf8'));
      assert.equal(statSync(store.file(address)).mode & 0o777, 0o644);
    }
    await store.kept.close(false);
    assert.deepEqual(readdirSync(store.file('.')).sort(), [...MANY].sort());
  });

  for (const [what, asked] of [
    ['many holds of other hosts', MANY.map((address) => set(address))],
    ['one hold', [add(A, 'web@b')]],
  ] as const) {
    test(`${what}: wait for a call that has the lock of one, and keep its hold`, async (t) => {
      using store = places(true);
      const lock = acquireLock(store.file(A), { timeout: 1 });
      const looks = t.mock.method(fs, 'lstatSync');
      syncBuiltinESMExports();
      const pending = changeBans(store.options, asked);
      const isLookedAt = () =>
        looks.mock.calls.some(({ arguments: [path] }) => path === store.file(`${A}.lock`));
      await until(isLookedAt);
      looks.mock.restore();
      syncBuiltinESMExports();
      writeFileSync(store.file(A), formatBan(A, [held(A)]));
      lock.release();
      await pending;
      assert.match(readFileSync(store.file(A), 'utf8'), /\| web 203\S+ since .*\| web@b /);
    });

    test(`${what}: notice a call that replaced the file right after it was made`, async () => {
      using store = places(true);
      const replace = () => {
        if (!existsSync(store.file(A)) || existsSync(store.file('replaced'))) return;
        writeFileSync(store.file('replaced'), formatBan(A, [held(A)]));
        fs.renameSync(store.file('replaced'), store.file(A));
        mkdirSync(store.file('replaced'));
      };
      await writing(() => changeBans(store.options, asked), replace);
      assert.match(readFileSync(store.file(A), 'utf8'), /\| web 203\S+ since .*\| web@b /);
    });
  }

  test('a caller that gives up while the disk takes its time gets no ban', async (t) => {
    using store = places(true);
    let isWanted = true;
    const syncs = t.mock.method(fs, 'fsyncSync', () => {
      isWanted = false;
    });
    syncBuiltinESMExports();
    await changeBans({ ...store.options, isWanted: () => isWanted }, [add(A)]);
    syncs.mock.restore();
    syncBuiltinESMExports();
    assert.ok(syncs.mock.callCount() > 0);
    assert.equal(existsSync(store.file(A)), false);
  });

  test('the lock of a killed call does not make a new ban an old one', async () => {
    using store = places(true);
    mkdirSync(store.file(`${A}.lock`));
    writeFileSync(join(store.file(`${A}.lock`), '999999999-1.1'), '');
    const { outcomes } = await changeBans(store.options, [add(A)]);
    assert.deepEqual(outcomes, [{ address: A, status: 'banned', heldBy: [], isChanged: true }]);
  });

  test('a lock that cannot be taken refuses a new ban', async () => {
    using store = places(true);
    writeFileSync(store.file(`${A}.lock`), '');
    await assert.rejects(changeBans(store.options, [add(A)]), /cannot lock/);
    assert.equal(existsSync(store.file(A)), false);
  });

  test('a resident that changes the list without a pause lets another call have its lock', async () => {
    using store = places(false);
    const until = performance.now() + 20_000;
    let isDone = false;
    const held = acquireLock(store.banlist, { timeout: 1 });
    const other = withLockAwaited(store.banlist, { timeout: 20 }, () => {
      isDone = true;
    });
    held.release();
    while (!isDone && performance.now() < until) await store.kept.withLock(store.banlist, 20, () => {});
    assert.ok(isDone);
    await other;
    await store.kept.close(false);
  });

  test('the files of many lifted bans are gone at once, and deleted before the resident ends', async () => {
    using store = places(true);
    await changeBans(
      store.options,
      MANY.map((address) => add(address)),
    );
    await changeBans(
      store.options,
      MANY.map((address) => release(address)),
    );
    const left = readdirSync(store.file('.')).filter((name) => name.startsWith('old.'));
    assert.equal(left.length, 1);
    assert.ok(MANY.every((address) => !existsSync(store.file(address))));
    await store.kept.close(false);
    assert.deepEqual(readdirSync(store.file('.')), []);
  });

  test('a resident that has a successor leaves the rest to it', async () => {
    using store = places(true);
    mkdirSync(store.file('old.banctl-1'));
    for (const name of MANY.keys()) writeFileSync(join(store.file('old.banctl-1'), `${name}`), '');
    store.kept.deleteLater(store.file('old.banctl-1'));
    await store.kept.close(true);
    assert.equal(readdirSync(store.file('old.banctl-1')).length, MANY.length);
    const successor = new Kept();
    successor.deleteLater(store.file('old.banctl-1'));
    successor.deleteLater(store.file('old.banctl-2'));
    await successor.close(false);
    assert.deepEqual(readdirSync(store.file('.')), []);
  });

  test('what another user puts in the place of such a directory is not followed, and foreign files stay', async () => {
    using store = places(true);
    const precious = join(store.banlist, '..', 'precious');
    mkdirSync(precious);
    writeFileSync(join(precious, '1'), '');
    symlinkSync(precious, store.file('old.banctl-1'));
    writeFileSync(store.file('old.banctl-2'), '');
    mkdirSync(store.file('old.banctl-3'));
    for (const name of ['1', 'mine']) writeFileSync(join(store.file('old.banctl-3'), name), '');
    for (const directory of temporaryDirectoriesIn(store.file('.'))) store.kept.deleteLater(directory);
    await store.kept.close(false);
    assert.deepEqual(readdirSync(store.file('.')), ['old.banctl-3']);
    assert.deepEqual(readdirSync(store.file('old.banctl-3')), ['mine']);
    assert.deepEqual(readdirSync(precious), ['1']);
    mkdirSync(store.file('backup.banctl-20261120'));
    writeFileSync(join(store.file('backup.banctl-20261120'), '1'), '');
    discard(store.file('backup.banctl-20261120'));
    assert.deepEqual(readdirSync(store.file('backup.banctl-20261120')), ['1']);
  });

  test('are made without links too, and what a kill leaves can be removed', async () => {
    using store = places(true);
    const refuse = () => {
      throw Object.assign(new Error('no links'), { code: 'EPERM' });
    };
    await writing(
      () =>
        changeBans(
          store.options,
          MANY.map((address) => set(address)),
        ),
      refuse,
    );
    assert.deepEqual(readdirSync(store.file('.')).sort(), [...MANY].sort());
    const files = new NewFiles(store.file('.'), { durable: false });
    const [left = ''] = readdirSync(store.file('.')).filter((name) => !MANY.includes(name));
    assert.match(left, /^new\.banctl-\d{1,10}$/);
    writeFileSync(join(store.file(left), 'removed'), 'half');
    assert.equal(
      files.create('192.0.2.1', 'text', () => true),
      'not-made',
    );
    writeFileSync(join(store.file('.'), left, 'removed'), 'half');
    discard(store.file(left));
    assert.deepEqual(readdirSync(store.file('.')).sort(), [...MANY].sort());
  });
});

suite('--widen-after with a directory', () => {
  const widening = { after: 3, protect: [], allows: () => true };
  const NETWORK = '203.0.113.0/24';
  const V = [1, 2, 3, 4].map((last) => `203.0.113.${last}`);

  test('the network stands in the list while enough files do, and goes', async () => {
    using store = places(true, { widening });
    for (const address of V.slice(0, 2)) await changeBans(store.options, [add(address)]);
    assert.equal(store.list(), '');
    await changeBans(store.options, [add(V[2] ?? '', 'ssh')]);
    assert.match(store.list(), /^# banctl widened after 3 \| .*\nRequire not ip 203\.0\.113\.0\/24\n$/);
    const files = () => V.filter((address) => existsSync(store.file(address)));
    assert.deepEqual(files(), V.slice(0, 3));
    const { outcomes } = await changeBans({ ...store.options, widening: undefined }, [release(V[0] ?? '')]);
    assert.equal(outcomes[0]?.status, 'unbanned');
    assert.deepEqual([store.list(), files()], ['', V.slice(1, 3)]);
  });

  test('calls at once agree on it', async () => {
    using store = places(true, { widening });
    await Promise.all(V.map((address) => changeBans(store.options, [add(address)])));
    assert.match(store.list(), new RegExp(`Require not ip ${NETWORK}\n$`));
    const [a = '', b = '', c = '', d = ''] = V;
    await Promise.all([a, b].map((address) => changeBans(store.options, [release(address)])));
    assert.equal(store.list(), '');
    assert.deepEqual(
      [a, b, c, d].map((address) => existsSync(store.file(address))),
      [false, false, true, true],
    );
  });
});
