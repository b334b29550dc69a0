// Bans that servers share: until another server refuses, on a new server, in memory, and what a call pays for it.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatBan } from '../../src/banlist/ban-lines.ts';
import { Engine } from '../../src/fleet/engine.ts';
import type { Push } from '../../src/fleet/rules.ts';
import { startApache } from '../../test/lab/apache.ts';
import { executable } from '../../test/lab/banctl.ts';
import { type Host, startEngine, startHost } from '../../test/lab/fleet.ts';
import { residentMegabytes } from '../../test/lab/served.ts';
import { until } from '../../test/lab/wait.ts';
import { settleDisk } from './disk.ts';
import { compare, figure, median, type Result, target, told, usageFigures } from './measure.ts';

const SEEN_RUNS = 21;
const CALL_ROUNDS = 20;
const SOME = 10_000;
const MANY = 100_000;
const AT_ONCE = 500;
const PATIENCE = 300_000;
const QUIET_MS = 20_000;

const VALUE = { since: 1_767_225_600, until: null, reason: '5 failures' };

const address = (number: number) => `198.${18 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;

/** Holds of a server that is not there. */
async function fill({ url }: { readonly url: string }, count: number): Promise<void> {
  const options = { url, user: undefined, password: undefined, ca: undefined, name: 'banctl' };
  const engine = await Engine.connect(options, () => {});
  for (let done = 0; done < count; done += AT_ONCE) {
    const holds = Array.from({ length: Math.min(AT_ONCE, count - done) }, (_, index): Push => {
      const field = `${address(done + index)} web@gone`;
      return { push: 'hold', field, value: VALUE, over: undefined };
    });
    await engine.change('gone/0', holds);
  }
  engine.close();
}

/** Milliseconds from the start of `banctl ban` on one server to the first 403 of another. */
async function untilRefused(): Promise<number[]> {
  await using rest = new AsyncDisposableStack();
  await settleDisk();
  const engine = rest.use(await startEngine());
  const start = async (name: string) => {
    const apache = rest.use(await startApache({ remoteip: true }));
    const { banlist, bandir, ctl, dir } = apache;
    const config = { apachectl: [ctl], 'no-fail2ban': true };
    const host = rest.use(await startHost({ name, engine, dir, places: { banlist, bandir }, config }));
    await host.connected();
    return { apache, host };
  };
  const [one, other] = [await start('one'), await start('other')];
  const times: number[] = [];
  for (let run = 0; run <= SEEN_RUNS; run += 1) {
    const from = `203.0.113.${run}`;
    const began = performance.now();
    const call = one.host.done('ban', from, '--jail=web');
    await until('the refusal', async () => (await other.apache.get('/', { from })) === 403);
    times.push(performance.now() - began);
    await call;
  }
  return times.slice(1);
}

/**
 * Seconds until a new server has the bans in its directory, and the agent's resident megabytes once it is quiet.
 *
 * @param dir of the server
 */
async function joined(count: number, dir: string): Promise<{ seconds: number; megabytes: number }> {
  await using engine = await startEngine();
  await fill(engine, count);
  mkdirSync(dir);
  await settleDisk();
  const began = performance.now();
  await using host = await startHost({ name: 'new', engine, dir });
  const names = () => (existsSync(host.bandir ?? '') ? readdirSync(host.bandir ?? '') : []);
  const files = () => names().filter((name) => /^[\d.]+$/.test(name)).length;
  await host.connected();
  await until('all bans', () => files() === count, { limit: PATIENCE });
  const seconds = (performance.now() - began) / 1000;
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  return { seconds, megabytes: residentMegabytes(host.daemon()) };
}

/** Seconds of a loop that only makes the same files on the same disk: no server can be faster. */
async function plainLoop(count: number, directory: string): Promise<number> {
  mkdirSync(directory);
  await settleDisk();
  const began = performance.now();
  for (let made = 0; made < count; made += 1) {
    const name = address(made);
    const text = formatBan(name, [{ holder: 'web@gone', address: name, ...VALUE }]);
    writeFileSync(join(directory, name), text, { flag: 'wx' });
  }
  return (performance.now() - began) / 1000;
}

/** A jail's ban without a fleet, and in one whose engine runs, hangs, or is gone. */
async function calls() {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-fleet-'));
  try {
    await using engine = await startEngine();
    await using hung = await startEngine();
    const alone = join(directory, 'list.conf');
    await using up = await startHost({ name: 'up', engine });
    await using stuck = await startHost({ name: 'stuck', engine: hung });
    await using gone = await startHost({ name: 'gone', engine: { url: 'redis://127.0.0.1:1' } });
    for (const host of [up, stuck]) await host.connected();
    process.kill(hung.daemon().pid, 'SIGSTOP');
    const candidate = (what: string, ...options: string[]) => ({
      what,
      command: { words: [executable, 'ban', '--jail=web', ...options, '203.0.113.5'] },
      undo: { words: [executable, 'flush', '--all', '--no-fail2ban', ...options] },
    });
    const inFleet = (what: string, { config }: Host) => candidate(what, `--config=${config}`);
    const places = [`--banlist=${alone}`, `--bandir=${join(directory, 'bans')}`, '--no-reload'];
    return await compare(
      [
        candidate('a ban, no fleet', ...places),
        inFleet('a ban, engine up', up),
        inFleet('a ban, engine hung', stuck),
        inFleet('a ban, engine gone', gone),
      ],
      CALL_ROUNDS,
    );
  } finally {
    rmSync(directory, { recursive: true, maxRetries: 3 });
  }
}

/** How long a new server takes for many bans, beside a plain loop before and after, because other load changes. */
async function joinedBesidePlain() {
  // Removed at the end: for minutes after ext4 has removed many files, it makes new ones many times slower.
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-joined-'));
  try {
    const some = await joined(SOME, join(directory, 'some'));
    const before = await plainLoop(MANY, join(directory, 'before'));
    const many = await joined(MANY, join(directory, 'many'));
    return { some, many, plain: [before, await plainLoop(MANY, join(directory, 'after'))] };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export async function fleet(): Promise<Result> {
  const refused = await untilRefused();
  const { some, many, plain } = await joinedBesidePlain();
  const usages = await calls();
  const wall = (what: string) => median((usages.get(what) ?? []).map((usage) => usage.wall));
  const ratio = (what: string) => wall(what) / wall('a ban, no fleet');
  return {
    name: 'fleet',
    title: 'bans that servers share',
    figures: [
      figure('a ban on one server until another refuses', 'ms', refused),
      figure(`${SOME} bans to a new server`, 's', [some.seconds]),
      figure(`${MANY} bans to a new server`, 's', [many.seconds]),
      figure(`a plain loop that makes ${MANY} files`, 's', plain),
      ...[...usages].flatMap(([what, ofOne]) => usageFigures(what, ofOne)),
    ],
    targets: [
      target('a ban until another server refuses, ms', median(refused), 150),
      target(`${MANY} bans to a new server, s`, many.seconds, 10),
      told(`${MANY} bans to a new server / a plain loop that makes the files`, many.seconds / median(plain)),
      target(`resident with ${SOME} bans, MB`, some.megabytes, 90),
      ...['up', 'hung', 'gone'].map((state) =>
        target(`engine ${state} / no fleet`, ratio(`a ban, engine ${state}`), 1.15),
      ),
    ],
    remarks: [`Resident with ${MANY} bans: ${Math.round(many.megabytes)} MB.`],
  };
}
