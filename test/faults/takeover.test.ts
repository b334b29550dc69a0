// Many processes at once take over a lock whose holder is killed or stopped, at random moments; no change is lost.
// `scripts/test --torture` does it longer.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Change } from '../../src/bans/change.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { addition, change, release } from '../lab/call.ts';
import { type Interruptible, interruptible } from '../lab/interruptible.ts';
import { stateOf } from '../lab/processes.ts';
import { TORTURE } from '../lab/torture.ts';
import { until } from '../lab/wait.ts';

const A = '203.0.113.5';
/** Those who take over. */
const FULL = Array.from({ length: 6 }, (_, number) => `other-${number}`);

type Place = 'the list' | 'the directory';
const PLACES: readonly Place[] = ['the list', 'the directory'];

/** A list, or a ban directory, of which A alone is banned. */
function temporaryPlace(place: Place) {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-takeover-'));
  const banlist = join(directory, 'banlist.conf');
  const bandir = place === 'the directory' ? join(directory, 'bans') : undefined;
  if (bandir !== undefined) mkdirSync(bandir);
  const file = bandir === undefined ? banlist : join(bandir, A);
  return {
    directory,
    bandir,
    /** What is locked. */
    file,
    options: [`--banlist=${banlist}`, ...(bandir === undefined ? [] : [`--bandir=${bandir}`]), '--no-reload'],
    change: (...changes: Change[]) => change(banlist, changes, bandir),
    /** Who holds A, sorted; a text that is not whole fails the test. */
    holders(): string[] {
      const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
      assert.match(text, /^(?:# banctl(?: \| \S+ \S+ since \S+ for ever)+\nRequire not ip \S+\n)?$/);
      return [...text.matchAll(/\| (\S+) /g)].map(([, holder = '']) => holder).sort();
    },
    /** Entries of the lock. */
    entries: () => (existsSync(`${file}.lock`) ? readdirSync(`${file}.lock`) : []),
    left: () =>
      [directory, ...(bandir === undefined ? [] : [bandir])]
        .flatMap((path) => readdirSync(path))
        .filter((name) => !['banlist.conf', 'banlist.conf.state', 'bans', A].includes(name)),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

const among = (most: number) => 1 + Math.floor(Math.random() * most);

async function callsOf(place: Place): Promise<number> {
  using temporary = temporaryPlace(place);
  using one = await interruptible();
  await temporary.change(addition(A, 'old'));
  return await one.count({ ...temporary, changes: [release(A, 'old')] });
}

/** How often one is killed or stopped, in each place. */
const ROUNDS = 8 * TORTURE;
/** The same of the executable. */
const CALLS = 4 * TORTURE;

suite('many take over at once', { concurrency: 2 }, () => {
  for (const place of PLACES) {
    test(`from a killed holder of the lock of ${place}: no change is lost, no process waits long, nothing stays`, async (t) => {
      const calls = await callsOf(place);
      using stack = new DisposableStack();
      const others = await Promise.all(FULL.map(async () => stack.use(await interruptible())));
      let next = interruptible();
      let killed = 0;
      let inLock = 0;
      let longest = 0;
      let round = 0;
      for (; round < ROUNDS || inLock === 0; round += 1) {
        using temporary = temporaryPlace(place);
        using victim = await next;
        next = interruptible();
        await temporary.change(addition(A, 'old'));
        const dies = victim.killedOrDone({
          ...temporary,
          changes: [addition(A, 'victim')],
          before: [among(calls)],
        });
        // They find its lock, or wait for it already.
        if (Math.random() < 0.5) {
          await dies;
          if (temporary.entries().length > 0) inLock += 1;
        }
        const begin = performance.now();
        await Promise.all(
          others.map((other, index) =>
            other.count({
              ...temporary,
              changes: [index === 0 ? release(A, 'old') : addition(A, FULL[index] ?? '')],
            }),
          ),
        );
        longest = Math.max(longest, performance.now() - begin);
        if ((await dies) === undefined) killed += 1;
        await temporary.change(addition(A, 'last'));
        const holders = temporary.holders().filter((holder) => holder !== 'victim');
        assert.deepEqual(holders, ['last', ...FULL.slice(1)].sort(), `round ${round}`);
        if ((await dies) !== undefined) assert.ok(temporary.holders().includes('victim'), `round ${round}`);
        assert.deepEqual(temporary.left(), [], `round ${round}`);
      }
      (await next)[Symbol.dispose]();
      t.diagnostic(
        `${killed} of ${round} calls killed, ${inLock} of them seen to have held the lock, with ${FULL.length} at once ` +
          `to take it over; the longest until all had done their work: ${(longest / 1000).toFixed(2)} s`,
      );
      assert.ok(longest < 5000, `${longest} ms`);
    });

    test(`from stopped holders of the lock of ${place}, who continue at the same time: no change is lost or undone`, async (t) => {
      const calls = await callsOf(place);
      using stack = new DisposableStack();
      const start = async (): Promise<Interruptible> => stack.use(await interruptible());
      const victims = await Promise.all([start(), start()]);
      const others = await Promise.all(FULL.slice(2).map(start));
      let stopped = 0;
      let inLock = 0;
      let round = 0;
      for (; round < ROUNDS || inLock === 0; round += 1) {
        using temporary = temporaryPlace(place);
        await temporary.change(addition(A, 'old'));
        const doings = [addition(A, 'victim'), release(A, 'old')];
        const stops = await Promise.all(
          victims.map((victim, index) =>
            victim.stopped({ ...temporary, changes: doings.slice(index, index + 1), before: [among(calls)] }),
          ),
        );
        stopped += stops.filter((stop) => stop === undefined).length;
        if (temporary.entries().length > 0) inLock += 1;
        const goesOn = victims.map(async (victim, index) => {
          if (stops[index] !== undefined) return;
          await sleep(Math.random() * 120);
          assert.notEqual(await victim.goesOn(), undefined);
        });
        await Promise.all([
          ...goesOn,
          ...others.map((other, index) =>
            other.count({
              ...temporary,
              changes: [addition(A, FULL[index] ?? '')],
              takesOver: [temporary.file],
            }),
          ),
        ]);
        const expected = ['victim', ...FULL.slice(0, others.length)].sort();
        assert.deepEqual(temporary.holders(), expected, `round ${round}`);
        assert.deepEqual(temporary.left(), [], `round ${round}`);
      }
      t.diagnostic(
        `${stopped} of ${2 * round} calls stopped, in ${inLock} of ${round} rounds with the lock theirs, and continued ` +
          `within 0.12 s, while ${others.length} took it over that wait 0.05 s for a holder that shows no progress`,
      );
    });
  }
});

suite('a call of the executable that is stopped, replaced, and goes on', { concurrency: true }, () => {
  type TemporaryPlace = ReturnType<typeof temporaryPlace>;
  const prepare = (temporary: TemporaryPlace) => temporary.change(addition(A, 'old'), addition(A, 'gone'));

  /** A ban or unban that is stopped at a random moment, or as soon as it is seen to hold the lock. */
  async function stoppedCall({ options, entries }: TemporaryPlace, isAimed: boolean) {
    const [verb, holder] = Math.random() < 0.5 ? ['ban', 'victim'] : ['unban', 'old'];
    const child = spawn(executable, [verb, A, `--jail=${holder}`, ...options], { stdio: 'ignore' });
    const ended = once(child, 'exit').then(([code]) => code as number | null);
    const isMine = () => entries().some((entry) => entry.startsWith(`${child.pid}-`));
    const latest = performance.now() + (isAimed ? 20_000 : Math.random() * 60);
    while (child.exitCode === null && performance.now() < latest && !(isAimed && isMine())) await sleep(1);
    await sleep(Math.random() * 2);
    child.kill('SIGSTOP');
    await until('a stop, or the end', () => child.exitCode !== null || stateOf(child) === 'T');
    const isStopped = child.exitCode === null;
    return {
      verb,
      isStopped,
      isInLock: isStopped && isMine(),
      /** Goes on, and ends as it would have. */
      async end() {
        child.kill('SIGCONT');
        assert.equal(await ended, 0);
      },
    };
  }

  /** Others ban and unban at the same time; in the end all changes are there. */
  async function others(
    temporary: TemporaryPlace,
    goesOn: Promise<void>,
    verb: string | undefined,
    round: number,
  ) {
    const calls = [
      ['ban', A, '--jail=new'],
      ['unban', A, '--jail=gone'],
    ].map((args) => banctl([...args, ...temporary.options]));
    for (const { exitCode, stderr } of await Promise.all(calls))
      assert.deepEqual([exitCode, stderr], [0, '']);
    await goesOn;
    assert.deepEqual(
      temporary.holders(),
      verb === 'ban' ? ['new', 'old', 'victim'] : ['new'],
      `round ${round}`,
    );
    assert.deepEqual(temporary.left(), [], `round ${round}`);
  }

  for (const place of PLACES) {
    test(`undoes nothing in ${place}, at whatever moment`, async (t) => {
      using successor = await interruptible();
      let stopped = 0;
      let inLock = 0;
      let round = 0;
      for (; round < CALLS || inLock === 0; round += 1) {
        using temporary = temporaryPlace(place);
        await prepare(temporary);
        const call = await stoppedCall(temporary, Math.random() < 0.8);
        if (call.isStopped) stopped += 1;
        if (call.isInLock) inLock += 1;
        await successor.count({ ...temporary, changes: [], takesOver: [temporary.file] });
        await others(temporary, sleep(Math.random() * 80).then(call.end), call.verb, round);
      }
      t.diagnostic(
        `${stopped} of ${round} calls stopped, ${inLock} of them while the lock was theirs, and replaced`,
      );
    });
  }

  test('undoes nothing after the ten seconds that others wait for it', async (t) => {
    const atOnce = 6;
    const rounds = Math.ceil(TORTURE / 10);
    let longest = 0;
    const starve = async (place: Place, round: number): Promise<void> => {
      using temporary = temporaryPlace(place);
      await prepare(temporary);
      const call = await stoppedCall(temporary, true);
      if (!call.isInLock) {
        await call.end();
        return starve(place, round);
      }
      const begin = performance.now();
      // Some go on while they are being replaced.
      await others(temporary, sleep(9800 + Math.random() * 1000).then(call.end), call.verb, round);
      longest = Math.max(longest, performance.now() - begin);
    };
    for (let round = 0; round < rounds; round += 1)
      await Promise.all(
        Array.from({ length: atOnce }, (_, index) => starve(PLACES[index % 2] ?? 'the list', round)),
      );
    t.diagnostic(
      `${rounds * atOnce} calls stopped with the lock theirs for 9.8 to 10.8 s, then continued; all had done ` +
        `their work within ${(longest / 1000).toFixed(1)} s`,
    );
  });
});
