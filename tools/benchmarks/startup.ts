// A single ban, without a reload: the whole process, in a short list and in a long one, and where its time goes.
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { executable } from '../../test/lab/banctl.ts';
import { execute } from '../../test/lab/wait.ts';
import { settleDisk } from './disk.ts';
import { type Executables, makeExecutables } from './executables.ts';
import {
  type Candidate,
  compare,
  figure,
  median,
  type Result,
  runPlan,
  target,
  told,
  type Usage,
  usageFigures,
} from './measure.ts';

const SHORT = 10;
const LONG = 100_000;
const BULK = 10_000;
const ROUNDS = 40;
const BULK_ROUNDS = 10;
const shellAction = join(import.meta.dirname, 'shell-action.sh');
const jail = 'djangoapp-admin-login';
const newcomer = '203.0.113.55';

/** fail2ban's command line, except for the reload. */
const banLine = (program: string, banlist: string, ...addresses: string[]) => [
  program,
  'ban',
  `--jail=${jail}`,
  `--banlist=${banlist}`,
  '--reload-command=',
  '--apachectl=',
  '--reload-interval=',
  '--protect=',
  '--ipv6-prefix=',
  '--since=1767225600.5',
  '--for=600',
  '--reason=5 failures',
  '--no-reload',
  '--',
  ...addresses,
];
const unbanLine = (banlist: string, ...addresses: string[]) => [
  executable,
  'unban',
  `--jail=${jail}`,
  `--banlist=${banlist}`,
  '--no-reload',
  '--',
  ...addresses,
];

/** `count` addresses of the range for benchmarks, 198.18.0.0/15. */
export function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`);
}

/** Lists of one length: banctl's, with holds in its own form, and the shell action's. */
interface Lists {
  readonly banctl: string;
  readonly shell: string;
  readonly bare: string;
  /** What the bare one was. */
  readonly original: string;
}

async function makeLists(directory: string, length: number): Promise<Lists> {
  const own = join(directory, `list-of-${length}`);
  mkdirSync(own);
  const lists = {
    banctl: join(own, 'banlist.conf'),
    shell: join(own, 'shell.conf'),
    bare: join(own, 'bare.conf'),
    original: join(own, 'original.conf'),
  };
  const [program = '', ...args] = banLine(executable, lists.banctl, '-');
  const { exitCode, stderr } = await execute(program, args, addresses(length).join('\n'));
  if (exitCode !== 0) throw new Error(`no list of ${length} bans: ${stderr}`);
  copyFileSync(lists.banctl, lists.bare);
  copyFileSync(lists.banctl, lists.original);
  const denies = readFileSync(lists.banctl, 'utf8').match(/^Require.*\n/gm) ?? [];
  writeFileSync(lists.shell, denies.join(''));
  return lists;
}

function candidates({ banctl, empty, bare }: Executables, length: number, lists: Lists): Candidate[] {
  const what = (program: string) => `${program}, list of ${length.toLocaleString('en')}`;
  return [
    {
      what: what('banctl ban'),
      command: { words: banLine(banctl, lists.banctl, newcomer) },
      undo: { words: unbanLine(lists.banctl, newcomer) },
    },
    {
      what: what('bare node:fs'),
      command: { words: [bare, lists.bare, newcomer] },
      undo: { words: ['cp', lists.original, lists.bare] },
    },
    {
      what: what('shell action'),
      command: { words: [shellAction, 'ban', lists.shell, newcomer] },
      undo: { words: [shellAction, 'unban', lists.shell, newcomer] },
    },
    { what: 'empty executable', command: { words: [empty] } },
  ];
}

export async function singleBan(): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-ban-'));
  try {
    const executables = await makeExecutables(directory);
    const [short, long] = [await makeLists(directory, SHORT), await makeLists(directory, LONG)];
    // Apart from each other: a long list that is written keeps the disk busy for the next call.
    const [shorts, longs] = [
      candidates(executables, SHORT, short),
      candidates(executables, LONG, long).slice(0, 3),
    ];
    await settleDisk();
    const usages = new Map([...(await compare(shorts, ROUNDS)), ...(await compare(longs, ROUNDS))]);
    const all = [...shorts, ...longs];
    const of = (index: number) => usages.get(all[index]?.what ?? '') ?? [];
    const [banShort, bareShort, empty, banLong, bareLong] = [of(0), of(1), of(3), of(4), of(5)];
    return {
      name: 'ban',
      title: 'A ban of a new address, without a reload: the whole process',
      figures: [3, 0, 1, 2, 4, 5, 6].flatMap((index) => usageFigures(all[index]?.what ?? '', of(index))),
      targets: [
        target(`list of ${SHORT}: banctl / empty executable`, ratio(banShort, empty), 1.35),
        told(`list of ${SHORT}: banctl / empty executable, processor time`, ratio(banShort, empty, 'cpu')),
        told(`list of ${SHORT}: bare node:fs / empty executable`, ratio(bareShort, empty)),
        target(`list of ${LONG}: banctl / bare node:fs`, ratio(banLong, bareLong), 1.6),
        told('banctl: long list / short list', ratio(banLong, banShort)),
        told('banctl: long list / short list, processor time', ratio(banLong, banShort, 'cpu')),
        target('banctl: long list / short list, peak memory', ratio(banLong, banShort, 'peak'), 1.3),
      ],
      remarks: await account(directory, executables.marked, [
        [SHORT, short.banctl],
        [LONG, long.banctl],
      ]),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export async function standardInput(): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-stdin-'));
  try {
    const { banctl: banlist } = await makeLists(directory, SHORT);
    const input = join(directory, 'addresses');
    writeFileSync(
      input,
      addresses(BULK + SHORT)
        .slice(SHORT)
        .join('\n'),
    );
    const single = 'one address';
    const bulk = `${BULK.toLocaleString('en')} addresses on standard input`;
    const usages = await compare(
      [
        {
          what: single,
          command: { words: banLine(executable, banlist, newcomer) },
          undo: { words: unbanLine(banlist, newcomer) },
        },
        {
          what: bulk,
          command: { words: banLine(executable, banlist, '-'), input },
          undo: { words: unbanLine(banlist, '-'), input },
        },
      ],
      BULK_ROUNDS,
    );
    const [one, many] = [usages.get(single) ?? [], usages.get(bulk) ?? []];
    return {
      name: 'stdin',
      title: 'Many addresses in one call, without a reload',
      figures: [...usageFigures(single, one), ...usageFigures(bulk, many)],
      targets: [target('many / one', ratio(many, one), 3)],
      remarks: [],
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export function ratio(some: readonly Usage[], others: readonly Usage[], key: keyof Usage = 'wall'): number {
  const middle = (usages: readonly Usage[]) => median(usages.map((usage) => usage[key]));
  return middle(some) / middle(others);
}

/** The record of one run of the marked executable. Nanoseconds of the monotonic clock. */
interface Marks {
  readonly start: string;
  readonly began: string;
  readonly compiled: string;
  readonly end: string;
  readonly calls: readonly { name: string; about: string; from: string; to: string }[];
}

const ACCOUNT_ROUNDS = 15;

/** Where the time of a ban goes, from marks that a special launcher sets around what the bundle calls. */
async function account(
  directory: string,
  marked: string,
  lists: readonly (readonly [length: number, banlist: string])[],
): Promise<string[]> {
  const remarks: string[] = [];
  for (const [length, banlist] of lists) {
    const marksFile = join(directory, `marks-${length}`);
    appendFileSync(marksFile, '');
    const round = [
      { words: banLine(marked, banlist, newcomer) },
      { words: unbanLine(banlist, newcomer), isMeasured: false },
    ];
    const usages = await runPlan(Array.from({ length: ACCOUNT_ROUNDS + 1 }, () => round).flat(), {
      BENCH_MARKS: marksFile,
    });
    const runs = readFileSync(marksFile, 'utf8')
      .trim()
      .split('\n')
      .map((line, index) => steps(JSON.parse(line), usages[index]?.wall ?? 0, banlist))
      .slice(1);
    remarks.push(
      `Where the time of banctl ban goes, list of ${length.toLocaleString('en')} (medians of ${runs.length} runs):`,
    );
    for (const name of Object.keys(runs[0] ?? {})) {
      const {
        median: milliseconds,
        min,
        max,
      } = figure(
        name,
        'ms',
        runs.map((run) => run[name] ?? 0),
      );
      remarks.push(
        `  ${milliseconds.toFixed(2).padStart(6)} ms  ${name} (${min.toFixed(2)}–${max.toFixed(2)})`,
      );
    }
  }
  return remarks;
}

/** Milliseconds of each step of one run. */
function steps(marks: Marks, wall: number, banlist: string): Record<string, number> {
  const { calls } = marks;
  const at = (time: string) => Number(BigInt(time) - BigInt(marks.start)) / 1e6;
  const first = (name: string, about: string) =>
    calls.find((call) => call.name === name && call.about === about) ?? { from: marks.end, to: marks.end };
  const total = (isCounted: (call: Marks['calls'][number]) => boolean) =>
    calls.filter(isCounted).reduce((sum, { from, to }) => sum + at(to) - at(from), 0);
  const state = first('openSync', `${banlist}.state`);
  const [locks, reads] = [first('mkdirSync', `${banlist}.lock`), first('openSync', banlist)];
  const locked = calls
    .filter(({ name, about }) => name === 'rmdirSync' && about === `${banlist}.lock`)
    .at(-1);
  const writes = calls.find(({ name, about }) => name === 'statSync' && about === banlist);
  const stateWrites = calls.find(({ name, about }) => name === 'statSync' && about === `${banlist}.state`);
  const endOf = (call: { to: string } | undefined) => at(call?.to ?? marks.end);
  const startOf = (call: { from: string } | undefined) => at(call?.from ?? marks.end);
  return {
    'Node, until the launcher runs': at(marks.began),
    'the bundle, out of the executable and the code cache': at(marks.compiled) - at(marks.began),
    'modules, arguments, settings, address': at(locks.from) - at(marks.compiled),
    '  of it built-in modules': total(({ name }) => name === 'require'),
    'the lock': at(reads.from) - at(locks.from),
    'reading the list, finding the edit': startOf(state) - at(reads.from),
    'reading the state': startOf(writes) - startOf(state),
    'the new list': startOf(stateWrites) - startOf(writes),
    '  of it fsync': total(({ name }) => name === 'fsyncSync'),
    'the new state': startOf(locked) - startOf(stateWrites),
    unlocking: endOf(locked) - startOf(locked),
    'the answer, until Node exits': at(marks.end) - endOf(locked),
    'the end of the process': wall - at(marks.end),
  };
}
