// fail2ban's own stop and start with thousands of bans: with banctl's action, and with one that does nothing.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Apache, startApache } from '../../test/lab/apache.ts';
import { executable } from '../../test/lab/banctl.ts';
import { type Fail2ban, startFail2ban } from '../../test/lab/fail2ban.ts';
import { processesNaming } from '../../test/lab/processes.ts';
import { until } from '../../test/lab/wait.ts';
import { awaitLines } from './log-lines.ts';
import { figure, median, type Result, target } from './measure.ts';

const BANS = 5000;
const RUNS = 3;
const PATIENCE = 300_000;
const noop = '[Definition]\nactionban = :\nactionunban = :\n';

interface Cycle {
  /** Seconds. */
  readonly start: number;
  readonly stop: number;
  readonly reloads: [start: number, stop: number];
}

/** The jail with an action, and what the database says that it holds. */
async function startWithBans(dir: string, action: string): Promise<Fail2ban> {
  mkdirSync(dir);
  const fail2ban = await startFail2ban({
    dir,
    jails: `[web]\nenabled = true\nfilter = djangoapp-admin-login\nlogpath = DIR/access.log\nbantime = 1d\naction = ${action}\n`,
    actionFiles: ['apache-banlist.conf', ['noop.conf', noop]],
  });
  await fail2ban.stop();
  // 5,000 bans by `banip` would take minutes; fail2ban keeps what it holds in this table.
  const database = new DatabaseSync(fail2ban.db);
  const insert = database.prepare(
    "INSERT INTO bips (ip, jail, timeofban, bantime, bancount, data) VALUES (?, 'web', ?, 86400, 1, ?)",
  );
  const now = Math.floor(Date.now() / 1000);
  database.exec('BEGIN');
  for (let n = 0; n < BANS; n += 1)
    insert.run(`198.18.${n >> 8}.${n & 255}`, now - BANS + n, '{"matches": [], "failures": 5}');
  database.exec('COMMIT');
  database.close();
  return fail2ban;
}

async function cycle(fail2ban: Fail2ban, apache: Apache): Promise<Cycle> {
  const reloadsBefore = apache.reloads();
  const from = fail2ban.log().length;
  const began = performance.now();
  await fail2ban.start();
  await awaitLines(join(fail2ban.dir, 'fail2ban.log'), from, 'Restore Ban', BANS, PATIENCE);
  // Logged before its action: the last one has run when fail2ban answers again.
  await fail2ban.client('status', 'web');
  const started = performance.now();
  await quiet(apache);
  const reloadsAtStart = apache.reloads();
  const stopping = performance.now();
  await fail2ban.stop();
  const stopped = performance.now();
  await quiet(apache);
  if (/ERROR/.test(fail2ban.log().slice(from)))
    throw new Error(
      `fail2ban had errors:\n${
        fail2ban
          .log()
          .slice(from)
          .match(/^.*ERROR[\s\S]{0,3000}/m)?.[0]
      }`,
    );
  return {
    start: (started - began) / 1000,
    stop: (stopped - stopping) / 1000,
    reloads: [reloadsAtStart - reloadsBefore, apache.reloads() - reloadsAtStart],
  };
}

const quiet = (apache: Apache) =>
  until('the last reload', () => processesNaming(`--banlist=${apache.banlist}`).length === 0, {
    limit: 90_000,
  });

const listed = ({ banlist }: Apache) =>
  statSync(banlist, { throwIfNoEntry: false }) === undefined
    ? 0
    : (readFileSync(banlist, 'utf8').match(/^Require not ip /gm)?.length ?? 0);

export async function fail2banCycle(): Promise<Result> {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-bench-fail2ban-'));
  try {
    await using apache = await startApache({ remoteip: true });
    const action = `apache-banlist[name=web, banlist=${apache.banlist}, banctl=${executable}, apachectl="${apache.ctl}", dbfile=DIR/fail2ban.sqlite3]`;
    await using idle = await startWithBans(join(dir, 'noop'), 'noop');
    await using ours = await startWithBans(join(dir, 'banctl'), action);
    process.env.BANCTL_FAIL2BAN_CLIENT = ours.clientCommand;
    const [with_, without]: [Cycle[], Cycle[]] = [[], []];
    for (let run = 0; run < RUNS; run += 1) {
      without.push(await cycle(idle, apache));
      const before = listed(apache);
      with_.push(await cycle(ours, apache));
      if (before !== 0 || listed(apache) !== 0)
        throw new Error('bans are left in the list after fail2ban has stopped');
    }
    const of = (cycles: readonly Cycle[], key: 'start' | 'stop') => cycles.map((one) => one[key]);
    const ratio = (key: 'start' | 'stop') => median(of(with_, key)) / median(of(without, key));
    const reloads = (index: 0 | 1) => with_.map((one) => one.reloads[index]);
    return {
      name: 'fail2ban',
      title: `fail2ban starts and stops with ${BANS.toLocaleString('en')} bans`,
      figures: [
        figure('start, actionban = :', 's', of(without, 'start')),
        figure('start, banctl', 's', of(with_, 'start')),
        figure('stop, actionunban = :', 's', of(without, 'stop')),
        figure('stop, banctl', 's', of(with_, 'stop')),
        figure('reloads at the start', '', reloads(0)),
        figure('reloads at the stop', '', reloads(1)),
      ],
      targets: [
        target('start: banctl / nothing', ratio('start'), 2),
        target('stop: banctl / nothing', ratio('stop'), 2),
        target('reloads at the start, in the worst run', Math.max(...reloads(0)), 2),
        target('reloads at the stop, in the worst run', Math.max(...reloads(1)), 2),
      ],
      remarks: [],
    };
  } finally {
    delete process.env.BANCTL_FAIL2BAN_CLIENT;
    rmSync(dir, { recursive: true, maxRetries: 3 });
  }
}
