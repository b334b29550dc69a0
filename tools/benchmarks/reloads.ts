// Bans with their reloads, on a real Apache: one after another, all at once, and the first after a quiet time.
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Apache, startApache } from '../../test/lab/apache.ts';
import { banctl, executable } from '../../test/lab/banctl.ts';
import { processesNaming } from '../../test/lab/processes.ts';
import { execute, until } from '../../test/lab/wait.ts';
import { type Command, figure, median, type Result, runPlan, target } from './measure.ts';

const SERIES = 1000;
const SERIES_RUNS = 3;
const BURST = 200;
const BURST_RUNS = 3;
const FIRST_RUNS = 15;
/** What an administrator types instead. */
const GRACEFUL = 'apache2 -t && apache2ctl -k graceful';
/** Seconds: banctl's default. */
const INTERVAL = 2;
const shellAction = join(import.meta.dirname, 'shell-action.sh');

/** With a single child a request after a reload waits for the next one, which Apache starts once a second. */
export const mpm =
  'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
const start = () => startApache({ remoteip: true, mpm, list: '' });

const addresses = (count: number) => Array.from({ length: count }, (_, n) => `198.18.${n >> 8}.${n & 255}`);
const banLine = ({ banlist, ctl }: Apache, address: string, ...more: string[]) => [
  executable,
  'ban',
  '--jail=web',
  `--banlist=${banlist}`,
  `--apachectl=${ctl}`,
  ...more,
  '--',
  address,
];

/** The environment in which Debian's apache2ctl finds this Apache. */
function controlEnvironment(apache: Apache): NodeJS.ProcessEnv {
  mkdirSync(join(apache.dir, 'socks'), { recursive: true });
  const envvars = join(apache.dir, 'envvars');
  const settings = {
    APACHE_RUN_DIR: apache.dir,
    APACHE_LOCK_DIR: apache.dir,
    APACHE_ARGUMENTS: `-f ${apache.config}`,
  };
  writeFileSync(envvars, '');
  return { ...settings, APACHE_ENVVARS: envvars };
}

const isRefused = async (apache: Apache, from: string) => (await apache.get('/', { from })) === 403;

/** No banctl process waits any more. */
export const quiet = (apache: Apache) =>
  until('the last reload', () => processesNaming(`--banlist=${apache.banlist}`).length === 0, {
    limit: 90_000,
  });

interface Series {
  /** Seconds until the last command has ended, and from then until the last address is refused. */
  readonly commands: number;
  readonly enforced: number;
  readonly reloads: number;
}

async function runSeries(line: (apache: Apache, address: string) => string[]): Promise<Series> {
  await using apache = await start();
  const all = addresses(SERIES);
  const commands = all.map((address): Command => ({ words: line(apache, address) }));
  const began = performance.now();
  await runPlan(commands, controlEnvironment(apache));
  const ended = performance.now();
  await until('the last ban', () => isRefused(apache, all.at(-1) ?? ''), { limit: 90_000 });
  const enforced = performance.now();
  await quiet(apache);
  const lines = readFileSync(apache.banlist, 'utf8').match(/^Require not ip /gm) ?? [];
  if (lines.length !== SERIES) throw new Error(`${lines.length} of ${SERIES} bans are in the list`);
  return { commands: (ended - began) / 1000, enforced: (enforced - ended) / 1000, reloads: apache.reloads() };
}

export async function series(): Promise<Result> {
  const [ours, theirs]: [Series[], Series[]] = [[], []];
  for (let run = 0; run < SERIES_RUNS; run += 1) {
    ours.push(await runSeries((apache, address) => banLine(apache, address)));
    theirs.push(
      await runSeries((apache, address) => [
        shellAction,
        'ban',
        apache.banlist,
        address,
        'apache2ctl',
        'graceful',
      ]),
    );
  }
  const of = (runs: readonly Series[], key: keyof Series) => runs.map((run) => run[key]);
  // The number that the interval allows in each run's time.
  const excess = Math.max(
    ...ours.map(({ commands, enforced, reloads }) => reloads - (commands + enforced) / INTERVAL),
  );
  const count = SERIES.toLocaleString('en');
  return {
    name: 'series',
    title: `${count} different bans, one after another, on a real Apache`,
    figures: [
      figure('banctl: all commands', 's', of(ours, 'commands')),
      figure('banctl: then until the last is refused', 's', of(ours, 'enforced')),
      figure('banctl: reloads', '', of(ours, 'reloads')),
      figure('shell action with apache2ctl graceful: all commands', 's', of(theirs, 'commands')),
      figure('shell action: then until the last is refused', 's', of(theirs, 'enforced')),
      figure('shell action: reloads that Apache did', '', of(theirs, 'reloads')),
    ],
    targets: [
      target('banctl: reloads beyond seconds / interval, in the worst run', excess, 2),
      target(
        'banctl: seconds until the last is refused, in the worst run',
        Math.max(...of(ours, 'enforced')),
        INTERVAL + 1,
      ),
      target(
        'banctl / shell action, all commands',
        median(of(ours, 'commands')) / median(of(theirs, 'commands')),
        1,
      ),
    ],
    remarks: [],
  };
}

export async function burst(): Promise<Result> {
  const [times, enforced, reloads, refused, lost]: number[][] = [[], [], [], [], []] as const;
  const peaks: number[] = [];
  for (let run = 0; run < BURST_RUNS; run += 1) {
    await using apache = await start();
    const all = addresses(BURST);
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, processesNaming(`reload --when-due --banlist=${apache.banlist}`).length);
    }, 100);
    const began = performance.now();
    const ends = await Promise.all(all.map((address) => banctl(banLine(apache, address).slice(1))));
    times?.push((performance.now() - began) / 1000);
    await until('the last ban', async () => {
      for (const address of [...all.slice(-3), ...all.slice(0, 3)])
        if (!(await isRefused(apache, address))) return false;
      return true;
    });
    await quiet(apache);
    enforced?.push((performance.now() - began) / 1000);
    clearInterval(watch);
    const list = readFileSync(apache.banlist, 'utf8');
    reloads?.push(apache.reloads());
    refused?.push(ends.filter(({ exitCode }) => exitCode !== 0).length);
    let missing = 0;
    for (const address of all) {
      if (!list.includes(`\nRequire not ip ${address}\n`) || !(await isRefused(apache, address)))
        missing += 1;
    }
    lost?.push(missing);
    peaks.push(most);
  }
  const worst = (samples: readonly number[] | undefined) => Math.max(...(samples ?? []));
  return {
    name: 'burst',
    title: `${BURST} bans at once, on a real Apache`,
    figures: [
      figure('all commands', 's', times ?? []),
      figure('until the last reload', 's', enforced ?? []),
      figure('reloads', '', reloads ?? []),
      figure('most processes for a deferred reload', '', peaks),
    ],
    targets: [
      target('bans lost, in the worst run', worst(lost), 0),
      target('calls refused, in the worst run', worst(refused), 0),
      target('reloads, in the worst run', worst(reloads), 5),
      // One process waits; the one before it may still reload.
      target('most processes for a deferred reload, in the worst run', worst(peaks), 2),
    ],
    remarks: [],
  };
}

export async function first(): Promise<Result> {
  await using apache = await start();
  const version = () => {
    const { ino, mtimeMs } = statSync(apache.pidFile);
    return `${ino} ${mtimeMs}`;
  };
  const [ours, theirs, returned]: [number[], number[], number[]] = [[], [], []];
  const all = addresses(FIRST_RUNS + 1);
  for (const [index, address] of all.entries()) {
    const [program = '', ...args] = banLine(apache, address, '--reload-interval=0.2');
    const began = performance.now();
    const { exitCode, stderr } = await execute(program, args);
    const ended = performance.now();
    if (exitCode !== 0 || !(await isRefused(apache, address)))
      throw new Error(`no ban of ${address}: ${stderr}`);
    await sleep(1000);
    const before = version();
    const asked = performance.now();
    const control = await execute('env', [
      ...Object.entries(controlEnvironment(apache)).map(([name, value]) => `${name}=${value}`),
      'sh',
      '-c',
      'apache2 -f "$0" -t && apache2ctl -k graceful',
      apache.config,
    ]);
    const answered = performance.now();
    if (control.exitCode !== 0) throw new Error(`${GRACEFUL}: ${control.stderr}`);
    await until('a new PidFile', () => version() !== before);
    const loaded = performance.now();
    await sleep(1000);
    if (index === 0) continue;
    ours.push(ended - began);
    returned.push(answered - asked);
    theirs.push(loaded - asked);
  }
  return {
    name: 'first',
    title: 'The first ban after a quiet time, with its reload',
    figures: [
      figure('banctl ban, enforced when it returns', 'ms', ours),
      figure(`${GRACEFUL}, until it returns`, 'ms', returned),
      figure(`${GRACEFUL}, until Apache has read its configuration`, 'ms', theirs),
    ],
    targets: [target(`banctl / ${GRACEFUL}`, median(ours) / median(theirs), 2.5)],
    remarks: [],
  };
}
