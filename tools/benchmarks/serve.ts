// fail2ban with the Python action and `banctl serve`, compared with an action that does nothing and a shell action.
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import { syncDirectory } from '../../src/system/sync-directory.ts';
import { executable } from '../../test/lab/banctl.ts';
import { type Fail2ban, startFail2ban } from '../../test/lab/fail2ban.ts';
import {
  ownMegabytes,
  residentMegabytes,
  type Server,
  startServer,
  unitEnvironment,
} from '../../test/lab/served.ts';
import { execute } from '../../test/lab/wait.ts';
import { settleDisk } from './disk.ts';
import { awaitLines } from './log-lines.ts';
import { figure, median, type Result, target } from './measure.ts';

const RESTORED = 5000;
const BANNED = 1000;
const RUNS = 3;
const STANDING = 10_000;
const WRITTEN = 100;
/** About the time that a served ban leaves the disk alone. */
const BETWEEN_MS = 2;
/** Each takes a minute. */
const CYCLES = 2;
const PATIENCE_MS = 600_000;
/** It wakes once a minute, and has given back by then what it needed for its work. */
const REST_SECONDS = 65;
/** It collects its garbage two seconds after the last request. */
const QUIET_MS = 5000;
/** System calls that are so far apart belong to different wake-ups. Seconds. */
const APART = 1;
const shell = join(import.meta.dirname, 'shell-action.sh');

const ACTIONS: [string, string][] = [
  ['noop.conf', '[Definition]\nactionban = :\nactionunban = :\n'],
  [
    'shell.conf',
    `[Definition]\nactionban = ${shell} ban "<list>" "<ip>"\nactionunban = ${shell} unban "<list>" "<ip>"\n[Init]\nlist =\n`,
  ],
];

async function startJail(dir: string, action: string): Promise<Fail2ban> {
  mkdirSync(dir);
  return startFail2ban({
    dir,
    env: { BANCTL_NO_RELOAD: '1' },
    jails: `[web]\nenabled = true\nfilter = djangoapp-admin-login\nlogpath = DIR/access.log\nbantime = 1d\naction = ${action}\n`,
    actionFiles: ['apache-banlist.py', ...ACTIONS],
  });
}

const logOf = ({ dir }: Fail2ban) => join(dir, 'fail2ban.log');

/** The jail's bans in fail2ban's database. */
function fill({ db }: Fail2ban): void {
  const database = new DatabaseSync(db);
  const insert = database.prepare(
    "INSERT INTO bips (ip, jail, timeofban, bantime, bancount, data) VALUES (?, 'web', ?, 86400, 1, ?)",
  );
  const now = Math.floor(Date.now() / 1000);
  database.exec('BEGIN');
  for (let n = 0; n < RESTORED; n += 1)
    insert.run(`198.18.${n >> 8}.${n & 255}`, now - RESTORED + n, '{"matches": [], "failures": 5}');
  database.exec('COMMIT');
  database.close();
}

/** Seconds of a start, and of a stop, with all bans restored. */
async function cycle(fail2ban: Fail2ban): Promise<{ start: number; stop: number }> {
  const from = statSync(logOf(fail2ban)).size;
  const began = performance.now();
  await fail2ban.start();
  await awaitLines(logOf(fail2ban), from, 'Restore Ban', RESTORED, PATIENCE_MS);
  // Logged before its action: the last one has run when fail2ban answers again.
  await fail2ban.client('status', 'web');
  const start = (performance.now() - began) / 1000;
  const stopping = performance.now();
  await fail2ban.stop(PATIENCE_MS);
  return { start, stop: (performance.now() - stopping) / 1000 };
}

/** Seconds until the server has deleted the files of lifted bans, which it does after its answer. */
async function deletion(bandir: string): Promise<number> {
  const began = performance.now();
  while (readdirSync(bandir).some((name) => name.startsWith('old.'))) await setTimeout(BETWEEN_MS);
  return (performance.now() - began) / 1000;
}

/** Milliseconds from each ban to the next by fail2ban's own log, of `banip` with many addresses. */
async function bans(fail2ban: Fail2ban, count: number): Promise<number[]> {
  const addresses = Array.from({ length: count }, (_, n) => `198.19.${n >> 8}.${n & 255}`);
  const log = logOf(fail2ban);
  const from = statSync(log).size;
  await fail2ban.client('set', 'web', 'banip', ...addresses);
  const lines = await awaitLines(log, from, '] Ban ', count, PATIENCE_MS);
  const times = lines.map((line) => {
    const [, time = '', ms] = /^(\S+ \S+),(\d+) /.exec(line) ?? [];
    return Date.parse(time.replace(' ', 'T')) + Number(ms);
  });
  const [first = 0, last = 0] = [times[0], times.at(-1)];
  await fail2ban.client('unban', '--all');
  // The client gives up before thousands of programs have ended.
  await awaitLines(log, from, '] Unban ', count, PATIENCE_MS);
  await fail2ban.client('status', 'web');
  return [(last - first) / (count - 1), (last - first) / 1000];
}

/** Megabytes of a resident with many bans, once it is quiet: all, and without its executable. */
async function memory(dir: string): Promise<{ resident: number; own: number }> {
  mkdirSync(dir);
  const places = { banlist: join(dir, 'list.conf'), bandir: join(dir, 'bans') };
  const options = [`--banlist=${places.banlist}`, `--bandir=${places.bandir}`, '--no-reload'];
  await using server = await startServer({ dir, options, env: unitEnvironment() });
  const client = await server.connect();
  for (let n = 0; n < STANDING; n += 1)
    await client.ask('ban', {
      address: `198.18.${n >> 8}.${n & 255}`,
      options: { jail: 'web', ...places },
    });
  await setTimeout(QUIET_MS);
  return { resident: residentMegabytes(server.daemon()), own: ownMegabytes(server.daemon()) };
}

/** Milliseconds that the disk alone takes for a ban: a file that is written, synced and renamed, as a ban's is. */
async function plainWrites(directory: string): Promise<number[]> {
  const [temporary, times] = [join(directory, 'temporary'), [] as number[]];
  mkdirSync(directory);
  for (let written = 0; written < WRITTEN; written += 1) {
    const began = performance.now();
    writeFileSync(temporary, 'Require not ip 203.0.113.5\n', { flag: 'wx', flush: true });
    renameSync(temporary, join(directory, String(written)));
    syncDirectory(directory);
    times.push(performance.now() - began);
    await setTimeout(BETWEEN_MS);
  }
  return times;
}

/**
 * How often it wakes without requests, and the processor time that this takes, in milliseconds. The check of the last minute's
 * changes has to be over.
 */
async function rest({ daemon }: Server, directory: string): Promise<{ wakings: number; busy: number }> {
  const { pid } = daemon();
  const log = join(directory, 'strace');
  const ticks = () => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/.*\) /s, '').split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = ticks();
  const line = ['--signal=INT', `${REST_SECONDS}`, 'strace', '-f', '-q', '-ttt', '-o', log, '-p', `${pid}`];
  await execute('timeout', line);
  const times = [...readFileSync(log, 'utf8').matchAll(/^\d+ (\d+\.\d+) /gm)].map(([, time]) => Number(time));
  // The first calls are those in which strace has found it, and the last those in which strace left it.
  const [, ...later] = times;
  const wakings = later.filter((time, index) => time - (times[index] ?? 0) > APART).length;
  return { wakings, busy: (ticks() - before) * 10 };
}

export async function served(): Promise<Result> {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-bench-serve-'));
  try {
    const [list, bandir] = [join(dir, 'list.conf'), join(dir, 'bans')];
    writeFileSync(join(dir, 'shell.conf'), '');
    await settleDisk();
    await using server = await startServer({
      dir,
      options: [`--banlist=${list}`, `--bandir=${bandir}`, '--no-reload'],
      env: unitEnvironment(),
    });
    const action = (more: string) =>
      `apache-banlist.py[banctl="${executable}", banlist="${list}", dbfile="DIR/fail2ban.sqlite3", socket="${server.socket}"${more}]`;
    await using noop = await startJail(join(dir, 'noop'), 'noop');
    await using byShell = await startJail(join(dir, 'shell'), `shell[list="${join(dir, 'shell.conf')}"]`);
    await using filed = await startJail(join(dir, 'filed'), action(`, bandir="${bandir}"`));
    await using listed = await startJail(join(dir, 'listed'), action(''));
    const each: Record<'shell' | 'filed' | 'listed', number[]> = { shell: [], filed: [], listed: [] };
    const many: Record<'shell' | 'filed', number[]> = { shell: [], filed: [] };
    for (let run = 0; run < RUNS; run += 1) {
      for (const [name, jail] of [
        ['shell', byShell],
        ['filed', filed],
        ['listed', listed],
      ] as const)
        each[name].push((await bans(jail, 10))[0] ?? 0);
      for (const [name, jail] of [
        ['shell', byShell],
        ['filed', filed],
      ] as const)
        many[name].push((await bans(jail, BANNED))[1] ?? 0);
    }
    for (const jail of [noop, filed]) {
      await jail.stop();
      fill(jail);
    }
    const [nothing, ours]: [{ start: number; stop: number }[], { start: number; stop: number }[]] = [[], []];
    const deletions: number[] = [];
    for (let run = 0; run < CYCLES; run += 1) {
      nothing.push(await cycle(noop));
      ours.push(await cycle(filed));
      deletions.push(await deletion(bandir));
    }
    const disk = await plainWrites(join(dir, 'plain'));
    const of = (cycles: typeof nothing, key: 'start' | 'stop') => cycles.map((one) => one[key]);
    const ratio = (key: 'start' | 'stop') => median(of(ours, key)) / median(of(nothing, key));
    await setTimeout(REST_SECONDS * 1000);
    const after = residentMegabytes(server.daemon());
    // Beside the list, each line of the log would wake the server.
    const { wakings, busy } = await rest(server, byShell.dir);
    const { resident, own } = await memory(join(dir, 'standing'));
    return {
      name: 'serve',
      title: 'fail2ban bans through banctl serve',
      figures: [
        figure(`start with ${RESTORED} bans, actionban = :`, 's', of(nothing, 'start')),
        figure(`start with ${RESTORED} bans, served`, 's', of(ours, 'start')),
        figure('stop, actionunban = :', 's', of(nothing, 'stop')),
        figure('stop, served', 's', of(ours, 'stop')),
        figure('files deleted after that', 's', deletions),
        figure('a file written, synced and renamed', 'ms', disk),
        figure('a ban, shell', 'ms', each.shell),
        figure('a ban, served, in the directory', 'ms', each.filed),
        figure('a ban, served, in a list of 10', 'ms', each.listed),
        figure(`${BANNED} bans by banip, shell`, 's', many.shell),
        figure(`${BANNED} bans by banip, served`, 's', many.filed),
        figure('resident after all this', 'MB', [after]),
      ],
      targets: [
        target('start: served / nothing', ratio('start'), 0.35),
        target('stop: served / nothing', ratio('stop'), 0.1),
        target('a ban in the directory, ms', median(each.filed), 2),
        target('a ban in a list of 10, ms', median(each.listed), 2),
        target('a ban in the directory: served / shell', median(each.filed) / median(each.shell), 1.3),
        target('a ban in a list of 10: served / shell', median(each.listed) / median(each.shell), 1.3),
        target(`${BANNED} bans: served / shell`, median(many.filed) / median(many.shell), 0.5),
        target(`resident with ${STANDING} bans, MB`, resident, 60),
        target('of which not its executable, MB', own, 20),
        target(`wake-ups in ${REST_SECONDS} s without requests`, wakings, 2),
        target('processor time in these, ms', busy, 20),
      ],
      remarks: [],
    };
  } finally {
    rmSync(dir, { recursive: true, maxRetries: 3 });
  }
}
