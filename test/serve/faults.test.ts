// banctl serve killed, stopped and out of memory in the middle of a request, beside calls.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { acquireLock } from '../../src/system/lock.ts';
import { banctl } from '../lab/banctl.ts';
import { addition, change } from '../lab/call.ts';
import { forEachCall, interruptible } from '../lab/interruptible.ts';
import type { Order } from '../lab/order.ts';
import { type Client, connectTo, startServer } from '../lab/served.ts';
import { TORTURE } from '../lab/torture.ts';
import { execute, until } from '../lab/wait.ts';

const A = '203.0.113.5';

/** A list, or a ban directory; the socket is elsewhere. */
function temporaryPlace(isDirectory: boolean) {
  const root = mkdtempSync(join(tmpdir(), 'banctl-serve-faults-'));
  const directory = join(root, 'site');
  mkdirSync(directory);
  const banlist = join(directory, 'banlist.conf');
  const bandir = isDirectory ? join(directory, 'bans') : undefined;
  if (bandir !== undefined) mkdirSync(bandir);
  const file = bandir === undefined ? banlist : join(bandir, A);
  const socket = join(root, 'socket');
  /** Its calls that change nothing do not count. */
  const serving: Order = { directory, bandir, changes: [], serves: socket, skipsReads: true };
  const places = { banlist, ...(bandir === undefined ? {} : { bandir }), 'no-reload': true };
  return {
    file,
    socket,
    serving,
    ban: (client: Client) => client.ask('ban', { address: A, options: { jail: 'served', ...places } }),
    change: (...holders: string[]) =>
      change(
        banlist,
        holders.map((holder) => addition(A, holder)),
        bandir,
      ),
    /** A server that starts and ends. */
    async served() {
      using server = await interruptible();
      const ends = server.count(serving);
      await using _client = await connected(socket);
      server.child.kill('SIGTERM');
      await ends;
    },
    /** Who holds A; a text that is not whole fails the test. */
    holders(): string[] {
      const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
      assert.match(text, /^(?:# banctl(?: \| \S+ \S+ since \S+ for ever)+\nRequire not ip \S+\n)?$/);
      return [...text.matchAll(/\| (\S+) /g)].map(([, holder = '']) => holder).sort();
    },
    left: () =>
      [directory, ...(bandir === undefined ? [] : [bandir])]
        .flatMap((path) => readdirSync(path))
        .filter((name) => !['banlist.conf', 'banlist.conf.state', 'bans', A].includes(name)),
    [Symbol.dispose]: () => rmSync(root, { recursive: true }),
  };
}

/** Numbers of calls of the file system: the last one of the server's start, and of its answer. */
interface Calls {
  readonly start: number;
  readonly answer: number;
}

/** With --torture every call of an answer, else every third one, from a random one on. */
function forSomeCalls({ start, answer }: Calls, work: (call: number) => Promise<void>): Promise<void> {
  const stride = TORTURE > 1 ? 1 : 3;
  const first = start + 1 + Math.floor(Math.random() * stride);
  return forEachCall(1 + Math.floor((answer - first) / stride), (turn) => work(first + (turn - 1) * stride));
}

const connected = (socket: string) =>
  until('the server', () => connectTo(socket).catch(() => undefined), { limit: 20_000 });

for (const [what, isDirectory, old] of [
  ['the list', false, ['old']],
  ['the directory', true, ['old']],
  ['the directory, of an address that is not banned', true, []],
] as const) {
  suite(`a request about ${what}`, () => {
    async function countCalls(): Promise<Calls> {
      using server = await interruptible();
      const countUntil = async (isAsked: boolean) => {
        using place = temporaryPlace(isDirectory);
        await place.change(...old);
        const counted = server.count(place.serving);
        await using client = await connected(place.socket);
        if (isAsked) assert.equal((await place.ban(client)).exit, 0);
        server.child.kill('SIGTERM');
        return await counted;
      };
      const calls = { start: await countUntil(false), answer: await countUntil(true) };
      assert.ok(calls.answer > calls.start + 5, JSON.stringify(calls));
      return calls;
    }

    test('in a server that is killed at any file system call: done or not, and nothing stays behind', async (t) => {
      const calls = await countCalls();
      await forSomeCalls(calls, async (call) => {
        using place = temporaryPlace(isDirectory);
        using server = await interruptible();
        await place.change(...old);
        const dies = server.killed({ ...place.serving, before: [call] });
        await using client = await connected(place.socket);
        const answer = await place.ban(client).catch(() => undefined);
        await dies;
        const after = place.holders();
        const isBanned = after.includes('served');
        assert.deepEqual(after, isBanned ? [...old, 'served'] : old, `call ${call}`);
        if (answer?.exit === 0) assert.ok(isBanned, `call ${call}`);
        await place.change('next');
        assert.deepEqual(place.holders(), ['next', ...after], `call ${call}`);
        // The next server removes the directory of files that were to come, and the lock that rested.
        if (!isDirectory || old.length === 0) await place.served();
        assert.deepEqual(place.left(), [], `call ${call}`);
      });
      t.diagnostic(`calls ${calls.start + 1} to ${calls.answer}`);
    });

    test('in a server that is stopped at any file system call and replaced: it undoes nothing', async (t) => {
      const calls = await countCalls();
      await forSomeCalls(calls, async (call) => {
        using place = temporaryPlace(isDirectory);
        using server = await interruptible();
        await place.change(...old);
        const stops = server.stopped({ ...place.serving, before: [call] });
        await using client = await connected(place.socket);
        const answer = place.ban(client);
        assert.equal(await stops, undefined, `call ${call}`);
        acquireLock(place.file, { timeout: 10, stale: 0.05 }).release();
        await place.change('other');
        server.child.kill('SIGCONT');
        assert.equal((await answer).exit, 0, `call ${call}`);
        assert.deepEqual(place.holders(), [...old, 'other', 'served'], `call ${call}`);
        // The directory of files that are to come, and the lock that rests, go when no more changes come.
        await until(`call ${call}: the end`, () => place.left().length === 0);
      });
      t.diagnostic(`calls ${calls.start + 1} to ${calls.answer}`);
    });
  });
}

test('a server without memory ends or refuses: the list stays whole, and the next server does what was asked', async () => {
  using place = temporaryPlace(false);
  // So long that it needs more than is left.
  const many = Array.from(
    { length: 100_000 },
    (_, n) => `Require not ip 198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}\n`,
  ).join('');
  await using server = await startServer({ dir: join(place.socket, '..'), options: ['--no-reload'] });
  writeFileSync(place.file, many);
  const { pid } = server.daemon();
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const data = Number(/^VmData:\s+(\d+)/m.exec(status)?.[1]) * 1024;
  const limited = await execute('prlimit', [`--pid=${pid}`, `--data=${data + 2 ** 21}`, '--core=0']);
  assert.equal(limited.exitCode, 0, limited.stderr);
  {
    await using client = await server.connect();
    const answer = await place.ban(client).catch(() => undefined);
    assert.notEqual(answer?.exit, 0);
    assert.equal(readFileSync(place.file, 'utf8'), many);
  }
  await server.daemon().end('SIGKILL');
  await server.start();
  await using client = await server.connect();
  assert.equal((await place.ban(client)).exit, 0);
  assert.match(readFileSync(place.file, 'utf8'), /\nRequire not ip 203\.0\.113\.5\n$/);
  await until('nothing to be left', () => place.left().length === 0);
  const explained = await banctl(['explain', A, `--banlist=${place.file}`, '--apachectl=/nonexistent']);
  assert.equal(explained.exitCode, 0, explained.stderr);
});
