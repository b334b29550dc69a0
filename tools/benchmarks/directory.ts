// The ban directory: when a ban takes effect, and what 100,000 bans cost each request and the next ban.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Apache, kit, startApache } from '../../test/lab/apache.ts';
import { executable } from '../../test/lab/banctl.ts';
import { execute } from '../../test/lab/wait.ts';
import { compare, figure, floor, median, type Result, target, told, usageFigures } from './measure.ts';
import { mpm, quiet } from './reloads.ts';
import { addresses, ratio } from './startup.ts';

const FEW = 10;
const MANY = 100_000;
const ENFORCED_RUNS = 30;
const REQUEST_ROUNDS = 10;
const FILES_ROUNDS = 40;
/** Bans in the lists to compare with. */
const LISTED = [1000, 10_000, 40_000];
/** Seconds that ab asks for, each time. */
const ASKING = 2;
/** Lookups of addresses that were never looked up before, each time. */
const LOOKS = 1000;
const PATIENCE = 20_000;
/** Apache reads a list in a time that grows with the square of its length, and twice at its start. */
const START_LIMIT = 120_000;
/** Of the same range as the banned, and not banned. */
const neighbour = '198.19.255.254';
const newcomer = '203.0.113.55';

/** The kit's site, and its directory in Apache's private one. */
const site = (dir: string) => {
  const text = kit('djangoapp-banlist.conf');
  const own = text.replaceAll('/etc/apache2/djangoapp/bans', bandirOf(dir));
  if (own === text) throw new Error("the kit's site names another directory");
  return own;
};
const bandirOf = (dir: string) => join(dir, 'bans');

interface Places {
  readonly banlist: string;
  readonly bandir: string;
}

const line = (verb: 'ban' | 'unban', { banlist, bandir }: Places, address: string, ...more: string[]) => [
  executable,
  verb,
  '--jail=web',
  `--banlist=${banlist}`,
  `--bandir=${bandir}`,
  ...(verb === 'ban' ? ['--since=1767225600.5', '--for=600', '--reason=5 failures'] : []),
  ...more,
  '--',
  address,
];

/** A directory with bans in banctl's own form, all synced: a process for each would take an hour. */
async function makeBans(places: Places, count: number): Promise<void> {
  const { bandir } = places;
  const [first = '', ...others] = addresses(count);
  const [program = '', ...args] = line('ban', places, first, '--no-reload');
  const { exitCode, stderr } = await execute(program, args);
  if (exitCode !== 0) throw new Error(`no ban in ${bandir}: ${stderr}`);
  const model = readFileSync(join(bandir, first), 'utf8');
  for (const address of others) writeFileSync(join(bandir, address), model.replaceAll(first, address));
  // Otherwise the next sync, which is measured, waits for all of them.
  execFileSync('sync', ['--file-system', bandir]);
}

interface Counted {
  /** Milliseconds from the start of the command until a request gets this answer, and until the command has ended. */
  readonly answered: number;
  readonly command: number;
}

export async function enforced(): Promise<Result> {
  await using apache = await startApache({ remoteip: true, mpm, site });
  const places = { banlist: apache.banlist, bandir: bandirOf(apache.dir) };
  const pidFiles = new Set<string>();
  const look = () => {
    const { ino, mtimeMs } = statSync(apache.pidFile);
    pidFiles.add(`${ino} ${mtimeMs}`);
  };
  const count = async (verb: 'ban' | 'unban', address: string): Promise<Counted> => {
    // Reloads are allowed, but must not be needed.
    const [program = '', ...args] = line(verb, places, address, `--apachectl=${apache.ctl}`);
    const began = performance.now();
    const run = async () => {
      const { exitCode, stderr } = await execute(program, args);
      const ended = performance.now();
      if (exitCode !== 0) throw new Error(`${verb} ${address}: ${stderr}`);
      return ended;
    };
    const [ended, answered] = await Promise.all([
      run(),
      firstAnswer(apache, address, verb === 'ban' ? 403 : 200),
    ]);
    look();
    return { answered: answered - began, command: ended - began };
  };

  const families = [
    { name: 'IPv4', address: (run: number) => `203.0.113.${run + 1}` },
    { name: 'IPv6', address: (run: number) => `2001:db8::${(run + 1).toString(16)}` },
  ].map((family) => ({ ...family, bans: [] as Counted[], unbans: [] as Counted[] }));
  look();
  for (let run = 0; run <= ENFORCED_RUNS; run += 1) {
    for (const { address, bans, unbans } of families) {
      const [ban, unban] = [await count('ban', address(run)), await count('unban', address(run))];
      // The first round warms up.
      if (run === 0) continue;
      bans.push(ban);
      unbans.push(unban);
    }
  }
  await quiet(apache);
  look();

  const rows = families.flatMap(({ name, bans, unbans }) => [
    { what: `${name}, ban`, status: 403, counted: bans },
    { what: `${name}, unban`, status: 200, counted: unbans },
  ]);
  const of = (counted: readonly Counted[], key: keyof Counted) => counted.map((one) => one[key]);
  return {
    name: 'enforced',
    title: 'A ban in the directory, and its end, on a real Apache',
    figures: rows.flatMap(({ what, status, counted }) => [
      figure(`${what}: until the first ${status}`, 'ms', of(counted, 'answered')),
      figure(`${what}: until the command has ended`, 'ms', of(counted, 'command')),
    ]),
    targets: [
      target('reloads', Math.max(pidFiles.size - 1, apache.reloads()), 0),
      ...rows.map(({ what, status, counted }) =>
        told(
          `${what}: first ${status} / command`,
          median(of(counted, 'answered')) / median(of(counted, 'command')),
        ),
      ),
    ],
    remarks: [],
  };
}

/** When the first request of the visitor is answered so, each on a connection of its own. */
async function firstAnswer(apache: Apache, from: string, status: number): Promise<number> {
  const end = performance.now() + PATIENCE;
  while ((await apache.get('/static/app.css', { from })) !== status) {
    if (performance.now() > end) throw new Error(`${from} does not get ${status}`);
    await sleep(1);
  }
  return performance.now();
}

/** An Apache with one of the compared settings. */
interface Setting {
  readonly what: string;
  readonly apache: Apache;
  /** The directory at Apache's path during the measurement of this setting. */
  readonly stored?: string;
  readonly bans: number;
  /** Requests a second. */
  readonly rates: number[];
}

export async function requests(): Promise<Result> {
  await using started = new AsyncDisposableStack();
  const start = async (bans: number) => {
    const list = addresses(bans).map((address) => `Require not ip ${address}\n`);
    return started.use(
      await startApache({ remoteip: true, site, list: list.join(''), startLimit: START_LIMIT }),
    );
  };
  const apache = await start(0);
  const [none, many] = [join(apache.dir, 'none'), join(apache.dir, 'many')];
  mkdirSync(none);
  await makeBans({ banlist: apache.banlist, bandir: many }, MANY);
  const setting = (what: string, its: Omit<Setting, 'what' | 'rates'>): Setting => ({
    what: `${what}, ${its.bans.toLocaleString('en')} bans`,
    rates: [],
    ...its,
  });
  const empty = setting('directory', { apache, stored: none, bans: 0 });
  const full = setting('directory', { apache, stored: many, bans: MANY });
  const lists: Setting[] = [];
  for (const bans of LISTED) lists.push(setting('list', { apache: await start(bans), bans }));

  const settings = [empty, full, ...lists];
  const [looksEmpty, looksFull]: [number[], number[]] = [[], []];
  for (let round = 0; round <= REQUEST_ROUNDS; round += 1) {
    for (const index of settings.keys()) {
      const setting = settings[(index + round) % settings.length] as Setting;
      const rate = await rateOf(setting);
      if (round > 0) setting.rates.push(rate);
    }
    const looks = [timeOfLooks(none, round), timeOfLooks(many, round)] as const;
    // The first round warms up.
    if (round === 0) continue;
    looksEmpty.push(looks[0]);
    looksFull.push(looks[1]);
  }
  const look = 'a look for a new address';
  return {
    name: 'requests',
    title: 'Requests of a visitor who is not banned, on a real Apache',
    figures: [
      ...settings.map(({ what, rates }) => figure(what, 'requests/s', rates)),
      figure(`${look}: no bans`, 'µs', looksEmpty),
      figure(`${look}: ${MANY.toLocaleString('en')} bans`, 'µs', looksFull),
    ],
    targets: [
      floor(`${full.what} / none`, median(full.rates) / median(empty.rates), 0.9),
      ...lists.map(({ what, rates }) => told(`${what} / none`, median(rates) / median(empty.rates))),
    ],
    remarks: [],
  };
}

async function rateOf({ apache, stored, bans }: Setting): Promise<number> {
  const bandir = bandirOf(apache.dir);
  if (stored !== undefined) renameSync(stored, bandir);
  try {
    const last = addresses(bans).at(-1);
    if (last !== undefined && (await apache.get('/', { from: last })) !== 403)
      throw new Error(`${last} is not refused, with ${bans} bans`);
    return await askMuch(apache);
  } finally {
    if (stored !== undefined) renameSync(bandir, stored);
    truncateSync(apache.accessLog);
  }
}

/** Requests a second, measured by ab. */
async function askMuch({ port }: Apache): Promise<number> {
  const { exitCode, stdout, stderr } = await execute('ab', [
    ...['-q', '-k', '-c', '4', '-t', String(ASKING), '-H', `X-Forwarded-For: ${neighbour}`],
    `http://127.0.0.1:${port}/static/app.css`,
  ]);
  const rate = Number(/^Requests per second: +([\d.]+)/m.exec(stdout)?.[1]);
  if (exitCode !== 0 || !/^Failed requests: +0$/m.test(stdout) || /^Non-2xx/m.test(stdout) || !(rate > 0))
    throw new Error(`ab: exit ${exitCode}\n${stdout}${stderr}`);
  return rate;
}

/** Microseconds for one lookup: ab uses one visitor only, whose absence the kernel caches. */
function timeOfLooks(bandir: string, round: number): number {
  const paths = Array.from({ length: LOOKS }, (_, n) => join(bandir, `10.${round}.${n >> 8}.${n & 255}`));
  const began = performance.now();
  for (const path of paths) if (existsSync(path)) throw new Error(`${path} is there`);
  return ((performance.now() - began) * 1000) / LOOKS;
}

export async function files(): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-files-'));
  try {
    const make = async (count: number) => {
      const own = join(directory, `directory-of-${count}`);
      const places = { banlist: join(own, 'banlist.conf'), bandir: join(own, 'bans') };
      mkdirSync(own);
      await makeBans(places, count);
      return {
        what: `banctl ban, directory of ${count.toLocaleString('en')}`,
        command: { words: line('ban', places, newcomer, '--no-reload') },
        undo: { words: line('unban', places, newcomer, '--no-reload') },
      };
    };
    const [few, many] = [await make(FEW), await make(MANY)];
    const usages = await compare([few, many], FILES_ROUNDS);
    const of = ({ what }: { what: string }) => usages.get(what) ?? [];
    return {
      name: 'files',
      title: 'A ban of a new address in the directory: the whole process',
      figures: [few, many].flatMap((one) => usageFigures(one.what, of(one))),
      targets: [
        target('many files / few', ratio(of(many), of(few)), 1.05),
        told('many files / few, processor time', ratio(of(many), of(few), 'cpu')),
        told('many files / few, peak memory', ratio(of(many), of(few), 'peak')),
      ],
      remarks: [],
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
