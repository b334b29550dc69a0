// Power is lost in the middle of changes. The disks log every write and flush; out of the log, a cut can be made at any
// moment, and many of them: what was flushed is there, of the rest a random half. No machine boots here: the disks are
// qemu's, and this kernel mounts them, each cut as after a boot.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Scene } from '../../tools/machine/scenario.ts';
import { LoggedDisk, Replay } from '../../tools/machine/write-log.ts';
import { freePort } from '../lab/apache.ts';

export const expects =
  'After 300 power cuts on ext4 and xfs nothing acknowledged is lost or torn; without fsync, or without that of the directory, changes are lost';
export const needsMachine = false;

const STORM_SECONDS = Number(process.env.STORM_SECONDS ?? 25);
const CUTS = Number(process.env.CUTS ?? 150);
const CONTROL_CUTS = 20;
const NEXT_BANS_EVERY = 4;
/** Apache starts after some of the cuts. */
const APACHE_EVERY = 25;
const BYTES = 320 * 1024 * 1024;
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const banctl = resolve('dist/banctl');

type FileSystem = 'ext4' | 'xfs';

interface Storm {
  readonly name: string;
  /** What the storm may do. */
  readonly kind: 'all' | 'bans';
  /** Takes a part of banctl's care away. */
  readonly wrapper: (at: string) => readonly string[];
  readonly isControl: boolean;
}

const NO_SYNC =
  'strace -f -qq --seccomp-bpf -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:retval=0'.split(
    ' ',
  );
const STORMS: readonly Storm[] = [
  { name: 'banctl', kind: 'all', wrapper: () => [], isControl: false },
  { name: 'no fsync', kind: 'bans', wrapper: () => NO_SYNC, isControl: true },
  {
    name: 'no fsync of directories',
    kind: 'bans',
    wrapper: (at) => [...NO_SYNC, '-P', `${at}/apache`, '-P', `${at}/apache/bans`],
    isControl: true,
  },
];

export async function run({ say }: Scene): Promise<void> {
  say(`SEED=${seed}`);
  const random = generator(seed);
  const failures: string[] = [];
  for (const fileSystem of ['ext4', 'xfs'] as const)
    for (const storm of STORMS) {
      const directory = mkdtempSync(join(tmpdir(), 'banctl-power-'));
      // In memory, or each flush of these disks would wait for this computer's own.
      shell('mount -t tmpfs -o mode=755 tmpfs "$1"', directory);
      try {
        failures.push(...(await checked(directory, fileSystem, storm, random, say)));
      } finally {
        shell('umount -l "$1"', directory);
        rmdirSync(directory);
      }
    }
  if (failures.length > 0) throw new Error(failures.join('\n'));
}

/** Runs a storm, cuts its disk, and returns what is wrong. */
async function checked(
  directory: string,
  fileSystem: FileSystem,
  storm: Storm,
  random: () => number,
  say: Scene['say'],
): Promise<string[]> {
  const title = `${fileSystem}, ${storm.name}`;
  const { disk, begin, events, setups } = await storms(directory, fileSystem, storm);
  const replay = new Replay(disk, join(directory, 'base'));
  const places = replay.from(begin);
  const cuts = Array.from(
    { length: storm.isControl ? CONTROL_CUTS : CUTS },
    () => places[Math.floor(random() * places.length)] ?? 0,
  ).sort((a, b) => a - b);
  const image = join(directory, 'cut');
  const losses: string[] = [];
  let refusals = 0;
  for (const [number, index] of cuts.entries()) {
    replay.cut(index, image, random);
    const known = events.filter(({ did, log }) => did === 'ACK' && log <= replay.placeOf(index)).length;
    const parts = splitAt(events, known);
    const wrong = await mounted(directory, image, async (at) => {
      const isApacheStarted = !storm.isControl && number % APACHE_EVERY === 0;
      const refused = isApacheStarted ? bannedAfter(parts) : [];
      refusals += refused.length;
      return [
        ...judge(look(at), storm.kind, parts, setups),
        ...(isApacheStarted ? await apacheAfterBoot(directory, at, refused) : []),
        ...(number % NEXT_BANS_EVERY === 0 ? nextBans(directory, at) : []),
      ];
    });
    if (wrong.length > 0) losses.push(`cut before entry ${index}: ${wrong.slice(0, 3).join('; ')}`);
  }
  replay.close();
  const acknowledged = events.filter(({ did }) => did === 'ACK').length;
  const refused = events.flatMap(({ did, what }) => (did === 'FAIL' ? [what] : []));
  const shown = storm.isControl
    ? ''
    : `; Apache started on ${Math.ceil(cuts.length / APACHE_EVERY)} of them and refused ${refusals} of ${refusals} banned`;
  say(
    `${title}: ${acknowledged} changes acknowledged, ${cuts.length} cuts, ${losses.length} with a loss${shown}`,
  );
  if (!storm.isControl) for (const loss of losses) say(loss);
  if (storm.isControl)
    return losses.length > 0 ? [] : [`${title}: this control loses nothing, so the cuts show nothing`];
  return [...losses.slice(0, 5), ...refused.slice(0, 5)].map((what) => `${title}: ${what}`);
}

interface Event {
  readonly did: 'TRY' | 'ACK' | 'FAIL';
  /** How long the disk's log was when banctl had acknowledged it. */
  readonly log: number;
  readonly what: string;
}

interface Stormed {
  readonly disk: LoggedDisk;
  /** How long the log was when the storm began. */
  readonly begin: number;
  readonly events: readonly Event[];
  /** What a complete `setup` looks like. */
  readonly setups: ReadonlyMap<string, readonly string[]>;
}

async function storms(directory: string, fileSystem: FileSystem, storm: Storm): Promise<Stormed> {
  const disk = new LoggedDisk(directory, 'logged', BYTES);
  const at = join(directory, 'at');
  const said = join(directory, 'said');
  mkdirSync(at);
  await disk.start();
  let running: ChildProcess | undefined;
  try {
    writeFileSync(`${at}.conf`, apacheConfiguration(at, await freePort()));
    const begin = Number(shell(PREPARE, directory, at, disk.file, fileSystem, disk.log));
    const output = openSync(said, 'w');
    running = spawn(
      'bash',
      [
        join(import.meta.dirname, 'storm.sh'),
        ...[banctl, storm.name, at, storm.kind, disk.log, ...storm.wrapper(at)],
      ],
      { stdio: ['ignore', output, 'ignore'], detached: true },
    );
    closeSync(output);
    await sleep(STORM_SECONDS * 1000);
    await killed(running);
    const events = [...readFileSync(said, 'utf8').matchAll(/^(TRY|ACK|FAIL) (\d+) (.*)\n/gm)].map(
      ([, did, log, what = '']) => ({ did: did as Event['did'], log: Number(log), what }),
    );
    return { disk, begin, events, setups: look(at).setups };
  } finally {
    if (running !== undefined) await killed(running);
    shell(END, directory, at);
    await disk.stop();
  }
}

async function killed(storm: ChildProcess): Promise<void> {
  if (storm.pid === undefined || storm.exitCode !== null || storm.signalCode !== null) return;
  const ended = new Promise((resolve) => storm.once('exit', resolve));
  process.kill(-storm.pid, 'SIGKILL');
  await ended;
}

/** The visitor that a request is from, as if there were a proxy. */
const VISITOR = 'X-Visitor';

function apacheConfiguration(at: string, port: number): string {
  const modules = ['mpm_event', 'authz_core', 'authz_host', 'remoteip'].map(
    (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
  );
  const ban = readFileSync('apache2/djangoapp-banlist.conf', 'utf8').replaceAll(
    '/etc/apache2/djangoapp/',
    `${at}/apache/`,
  );
  return `ServerName machine
PidFile ${at}.pid
Listen 127.0.0.1:${port}
User www-data
Group www-data
DocumentRoot ${at}.site
ErrorLog ${at}.error
RemoteIPHeader ${VISITOR}
RemoteIPInternalProxy 127.0.0.1
StartServers 1
${modules.join('\n')}
${ban}`;
}

function shell(script: string, ...args: string[]): string {
  return execFileSync('bash', ['-c', script, 'bash', ...args], { encoding: 'utf8', maxBuffer: 1e8 });
}

const PREPARE = `set -e; at=$2
  echo '{}' > "$at.json"
  mkfs.$4 -q "$3" >/dev/null; mount -o loop "$3" "$at"
  mkdir -p "$at/apache/bans" "$at/setup" "$at.site"; touch "$at/apache/banlist.conf"
  apache2 -f "$at.conf" >/dev/null; sync -f "$at"; stat -c %s "$5"`;

const STOP_APACHE =
  '[ ! -e "$at.pid" ] || { p=$(cat "$at.pid"); kill "$p"; while kill -0 "$p" 2>/dev/null; do sleep 0.05; done; }';

const END = `at=$2
  ${STOP_APACHE}
  ! mountpoint -q "$at" || umount "$at" || umount -l "$at"`;

/** Mounts a cut, so that the kernel repairs it as after a boot. */
async function mounted<T>(directory: string, image: string, use: (at: string) => Promise<T>): Promise<T> {
  const at = join(directory, 'mounted');
  shell('mkdir -p "$1"; mount -o loop "$2" "$1"', at, image);
  try {
    return await use(at);
  } finally {
    shell('for n in {1..100}; do umount "$1" 2>/dev/null && exit; sleep 0.1; done; umount "$1"', at);
  }
}

/** Apache starts with what is left, refuses those and no other, and the first ban works. */
async function apacheAfterBoot(directory: string, at: string, refused: readonly string[]): Promise<string[]> {
  const port = await freePort();
  writeFileSync(`${at}.conf`, apacheConfiguration(at, port));
  const started = spawnSync('bash', ['-c', START_APACHE, 'bash', at], { encoding: 'utf8' });
  if (started.status !== 0) return [`Apache does not start: ${started.stderr}`];
  try {
    const isWrong = async (visitor: string, expected: number) => {
      const status = await answerTo(visitor, port);
      return status === expected ? [] : [`Apache answers ${visitor} ${status}, not ${expected}`];
    };
    const old = await Promise.all(refused.map((visitor) => isWrong(visitor, 403)));
    const place = [`--config=${directory}/at.json`, `--banlist=${at}/apache/banlist.conf`];
    const apache = [`--apachectl=apache2 -f ${at}.conf`, '--reload-interval=0'];
    const next = '203.0.113.77';
    const before = await isWrong(next, 200);
    const { status } = spawnSync(banctl, ['ban', next, ...place, ...apache]);
    const first = status === 0 ? await isWrong(next, 403) : [`the first ban: exit code ${status}`];
    return [...old.flat(), ...before, ...first];
  } finally {
    shell(`at=$1; ${STOP_APACHE}`, at);
  }
}

const START_APACHE = 'set -e; mkdir -p "$1.site"; echo page >"$1.site/page"; apache2 -f "$1.conf" >/dev/null';

function answerTo(visitor: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: '/page', agent: false, headers: { [VISITOR]: visitor } };
    get(options, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    }).once('error', reject);
  });
}

interface Found {
  readonly list: string;
  /** The files of the ban directory, by name. */
  readonly bans: ReadonlyMap<string, string>;
  readonly ranges: string;
  /** What the other servers are to hear, a line for each. */
  readonly said: string;
  /** Names and sizes of the files that each `setup` has written. */
  readonly setups: ReadonlyMap<string, readonly string[]>;
}

function look(at: string): Found {
  const bans = join(at, 'apache/bans');
  const setup = join(at, 'setup');
  return {
    list: textOf(join(at, 'apache/banlist.conf')),
    bans: new Map(namesIn(bans).map((name) => [name, textOf(join(bans, name))])),
    ranges: textOf(join(at, 'ranges.conf')),
    said: namesIn(join(at, 'fleet/said'))
      .filter((name) => /^\d/.test(name))
      .map((name) => textOf(join(at, 'fleet/said', name)))
      .join(''),
    setups: new Map(namesIn(setup).map((number) => [number, filesIn(join(setup, number))])),
  };
}

function textOf(path: string): string {
  return existsSync(path) && statSync(path).isFile() ? readFileSync(path, 'utf8') : '';
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

function filesIn(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return names
    .filter((name) => statSync(join(directory, name)).isFile())
    .map((name) => `${name} of ${textOf(join(directory, name)).length} characters`);
}

/** The next bans succeed, and remove what the call that was cut off left beside the list. */
function nextBans(directory: string, at: string): string[] {
  const list = join(at, 'apache/banlist.conf');
  const places = [[], [`--bandir=${join(at, 'apache/bans')}`]];
  const results = places.map(
    (place, last) =>
      spawnSync(banctl, [
        ...['ban', `203.0.113.${last}`, '--no-reload', `--config=${directory}/at.json`, `--banlist=${list}`],
        ...place,
      ]).status,
  );
  const left = namesIn(join(at, 'apache')).filter((name) => !/^(banlist\.conf(\.state)?|bans)$/.test(name));
  return [
    ...results.filter((status) => status !== 0).map((status) => `the next ban: exit code ${status}`),
    ...left.map((name) => `the next ban left ${name}`),
  ];
}

/** What was over when so many changes were acknowledged, and what may have come after. */
function splitAt(events: readonly Event[], acknowledged: number): readonly [Event[], Event[]] {
  let count = 0;
  const end = events.findIndex(({ did }) => (did === 'ACK' ? ++count : count) > acknowledged);
  const later = end < 0 ? events.length : end;
  const isBegun = events[later - 1]?.did === 'TRY';
  const over = isBegun ? later - 1 : later;
  return [events.slice(0, over), events.slice(over)];
}

/** What is wrong with a cut. */
function judge(
  { list, bans, ranges, said, setups }: Found,
  kind: Storm['kind'],
  [over, later]: readonly [Event[], Event[]],
  complete: ReadonlyMap<string, readonly string[]>,
): string[] {
  const acknowledged = acknowledgedOf(over);
  // A migration that is cut off leaves both places. Its files are synced together, at its end, so some may have no text
  // yet: such a file bans as well, and the list has its holds.
  const isMigrating = later[0]?.what === 'migrate bandir';
  const inDirectory = isMigrating ? new Map([...bans].filter(([, text]) => !/^\0*$/.test(text))) : bans;
  const held = heldIn(list, inDirectory);
  return [
    ...held.torn,
    ...missingBans(held.addresses, acknowledged, later),
    ...(kind === 'all' ? lostSayings(said, acknowledged) : []),
    ...lostRanges(ranges, acknowledged, later),
    ...lostSetups(setups, complete, acknowledged),
  ];
}

function heldIn(
  list: string,
  bans: ReadonlyMap<string, string>,
): { addresses: ReadonlySet<string>; torn: string[] } {
  const isWhole = /^(?:#[^\n]*\n|Require not ip [\d.]+\n|\n)*$/.test(list);
  const inList = [...list.matchAll(/^Require not ip (\S+)$/gm)].map(([, address = '']) => address);
  // Other names are temporary files and locks.
  const inDirectory = [...bans].filter(([address]) => /^[\d.]+$/.test(address));
  return {
    addresses: new Set([...inList, ...inDirectory.map(([address]) => address)]),
    torn: [
      ...(isWhole ? [] : ['the list is torn']),
      ...inDirectory
        .filter(([address, text]) => !text.endsWith(`\nRequire not ip ${address}\n`))
        .map(([address, text]) => `the file of ${address} is torn: ${JSON.stringify(text)}`),
    ],
  };
}

/** The last acknowledged change of each address that no change was under way for. */
function lastChanges(acknowledged: readonly string[], later: readonly Event[]): Map<string, '+' | '-'> {
  const open = new Set(later.map(({ what }) => what.split(' ')[1]));
  const last = new Map<string, '+' | '-'>();
  for (const what of acknowledged) {
    const [sign = '', address = ''] = what.split(' ');
    if ((sign === '+' || sign === '-') && !open.has(address)) last.set(address, sign);
  }
  return last;
}

function acknowledgedOf(over: readonly Event[]): string[] {
  return over.flatMap(({ did, what }) => (did === 'ACK' ? [what] : []));
}

function bannedAfter([over, later]: readonly [Event[], Event[]]): string[] {
  const last = lastChanges(acknowledgedOf(over), later);
  return [...last].flatMap(([address, sign]) => (sign === '+' ? [address] : []));
}

function missingBans(
  held: ReadonlySet<string>,
  acknowledged: readonly string[],
  later: readonly Event[],
): string[] {
  return [...lastChanges(acknowledged, later)].flatMap(([address, sign]) => {
    if (sign === '+') return held.has(address) ? [] : [`${address} was banned and is not`];
    return held.has(address) ? [`${address} was unbanned and is banned`] : [];
  });
}

/** With a fleet, an unban is a file that the other servers hear of, even when no engine answers. */
function lostSayings(fleet: string, acknowledged: readonly string[]): string[] {
  const torn = fleet
    .split('\n')
    .filter((line) => line !== '' && !/^\{"keys":\[.*\],"time":\d+\}$/.test(line));
  const lost = acknowledged.filter((what) => what.startsWith('- ') && !fleet.includes(`"${what.slice(2)}"`));
  return [
    ...torn.map((line) => `the fleet's state is torn: ${line}`),
    ...lost.map((what) => `the other servers never hear of ${what}`),
  ];
}

function lostRanges(ranges: string, acknowledged: readonly string[], later: readonly Event[]): string[] {
  const isRanges = (what: string) => what.startsWith('ranges ');
  const kept = acknowledged.findLast(isRanges);
  const mayBe = [kept ?? '', ...later.map(({ what }) => what).filter(isRanges)];
  return kept === undefined || mayBe.some((what) => ranges.endsWith(`\n${what.slice(7)}\n`))
    ? []
    : [`${kept} is lost`];
}

/** A lock or a temporary file may be left of a setup that is over; what it has written must be there. */
function lostSetups(
  found: ReadonlyMap<string, readonly string[]>,
  complete: ReadonlyMap<string, readonly string[]>,
  acknowledged: readonly string[],
): string[] {
  return acknowledged
    .filter((what) => what.startsWith('setup '))
    .flatMap((what) => {
      const files = new Set(found.get(what.slice(6)));
      const lost = (complete.get(what.slice(6)) ?? []).filter((file) => !files.has(file));
      return lost.map((file) => `${what} lost ${file}`);
    });
}

/** Mulberry32: the same cuts for the same seed and log. */
function generator(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
