// Runs the scenarios of test/machine: run.ts IMAGE PACKAGE NEXT OLD [NAME]..; see scripts/vm-test.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Machine, type MachineOptions } from './machine.ts';
import type { Scenario, Scene } from './scenario.ts';

type Named = Scenario & { readonly name: string };

interface Result {
  readonly name: string;
  readonly expects: string;
  readonly seconds: number;
  readonly isPassed: boolean;
}

const [directory = '', present = '', next = '', old = '', ...wanted] = process.argv.slice(2);
const room = join(import.meta.dirname, '..', '..', 'test', 'machine');
/** It makes the machine that all others go on from. */
const FIRST = 'install';
const SECONDS_WIDTH = 5;

const names = readdirSync(room)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -3))
  .sort();
const unknown = wanted.filter((name) => !names.includes(name));
if (unknown.length > 0) {
  console.error(`vm-test: there is no scenario ${unknown.join(', ')}; there are ${names.join(', ')}`);
  process.exit(64);
}

const base = join(directory, 'base.img');
const files = join(directory, 'files.tar');
const installed = join(directory, 'installed.qcow2');
const memory = join(directory, 'installed.memory');
const mark = join(directory, 'installed.of');

const running = new Set<Machine>();
const started = performance.now();
const results: Result[] = [];
const chosen = await Promise.all(names.filter(isWanted).map(scenarioOf));
const isFirstWanted = wanted.length === 0 || wanted.includes(FIRST);
const isMachineNeeded = isFirstWanted || chosen.some(({ needsMachine = true }) => needsMachine);
const queue = [...chosen].sort((a, b) => rankOf(a) - rankOf(b));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, async () => {
    queue.length = 0;
    await Promise.all([...running].map((machine) => machine.close()));
    process.exit(130);
  });
const ready = isMachineNeeded ? makeInstalled() : Promise.resolve(false);
await Promise.all([ready.then(work), ...Array.from({ length: lanes() - 1 }, work)]);
showTable();
const asked = [...(isFirstWanted ? [FIRST] : []), ...chosen.map(({ name }) => name)];
const isComplete = asked.every((name) => results.some((result) => result.name === name));
process.exit(isComplete && results.every(({ isPassed }) => isPassed) ? 0 : 1);

function isWanted(name: string): boolean {
  return name !== FIRST && (wanted.length === 0 || wanted.includes(name));
}

async function scenarioOf(name: string): Promise<Named> {
  const scenario: Scenario = await import(join(room, `${name}.ts`));
  return { ...scenario, name };
}

/** How many scenarios run at once. */
function lanes(): number {
  return Number(process.env.MACHINES ?? Math.min(2, availableParallelism()));
}

/** What needs no machine runs while the first one is made; then the long ones, so that none runs alone at the end. */
function rankOf({ needsMachine = true, isLong = false }: Scenario): number {
  if (!needsMachine) return 0;
  return isLong ? 1 : 2;
}

async function work(): Promise<void> {
  for (let scenario = queue.shift(); scenario !== undefined; scenario = queue.shift()) {
    if (scenario.needsMachine === false) await result(scenario, () => played(scenario));
    else if (await ready) await result(scenario, () => resumed(scenario));
  }
}

/** Makes the machine on which the package is installed, unless the last run has left the same. */
async function makeInstalled(): Promise<boolean> {
  const hash = hashOfInstalled();
  const isKept = existsSync(mark) && readFileSync(mark, 'utf8') === hash;
  if (isKept && !isFirstWanted) return true;
  for (const path of [mark, installed, memory]) rmSync(path, { force: true });
  execFileSync('tar', [
    '-cf',
    files,
    ...[present, next, old].flatMap((path) => ['-C', dirname(path), basename(path)]),
  ]);
  const isMade = await result(await scenarioOf(FIRST), install);
  if (isMade) writeFileSync(mark, hash);
  return isMade;
}

/** Another package, image, qemu or hardware makes another machine. */
function hashOfInstalled(): string {
  const hash = createHash('sha256').update(`${statSync(base).mtimeMs}`);
  hash.update(execFileSync('qemu-system-x86_64', ['--version']));
  const sources = [join(import.meta.dirname, 'machine.ts'), join(room, `${FIRST}.ts`)];
  for (const path of [present, next, old, ...sources]) hash.update(readFileSync(path));
  return hash.digest('hex');
}

async function install(): Promise<void> {
  const image = { directory, base, files };
  const scenario = await scenarioOf(FIRST);
  await withMachine(new Machine(image, { disk: installed }), async (machine) => {
    await played(scenario, machine);
    await machine.save(memory);
  });
}

async function resumed(scenario: Named): Promise<void> {
  const image = { directory, base: installed, memory, files };
  const options: MachineOptions = { losesPower: scenario.losesPower ?? false };
  await withMachine(new Machine(image, options), (machine) => played(scenario, machine));
}

async function withMachine(machine: Machine, use: (machine: Machine) => Promise<void>): Promise<void> {
  running.add(machine);
  try {
    await machine.start();
    await use(machine);
  } finally {
    await machine.close();
    running.delete(machine);
  }
}

async function played({ name, run }: Named, machine?: Machine): Promise<void> {
  const say = (what: string) => show(name, what);
  const failures: string[] = [];
  const expect: Scene['expect'] = async (what, script, expected) => {
    say(what);
    const { exitCode, output } = await machineOf(machine).run(script);
    if (exitCode < 0) throw new Error(`${what}: no end of the script; it printed\n${output}`);
    const difference = differenceOf(output.trim(), expected);
    if (difference !== undefined) {
      // The next steps may show why.
      failures.push(`${what}: ${difference}`);
      say(`differs: ${difference}`);
    }
    return output.trim();
  };
  const packages = { present: basename(present), next: basename(next), old: basename(old) };
  await run({
    get machine() {
      return machineOf(machine);
    },
    expect,
    packages,
    say,
  });
  if (failures.length > 0) throw new Error(failures.join('\n'));
}

function differenceOf(printed: string, expected: string | RegExp): string | undefined {
  const isRight = typeof expected === 'string' ? printed === expected : expected.test(printed);
  return isRight ? undefined : `printed\n${printed}\nexpected\n${expected}`;
}

function machineOf(machine: Machine | undefined): Machine {
  if (machine === undefined) throw new Error('this scenario has no machine');
  return machine;
}

/** Runs a scenario, shows and keeps what came of it. */
async function result({ name, expects }: Named, run: () => Promise<void>): Promise<boolean> {
  show(name, `BEGINS: ${expects}`);
  const begin = performance.now();
  let failure: string | undefined;
  try {
    await run();
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  }
  const seconds = Math.round((performance.now() - begin) / 1000);
  const isPassed = failure === undefined;
  show(name, isPassed ? `PASSED after ${seconds} s` : `FAILED after ${seconds} s: ${failure}`);
  results.push({ name, expects, seconds, isPassed });
  return isPassed;
}

function show(name: string, what: string): void {
  const seconds = String(Math.round((performance.now() - started) / 1000)).padStart(SECONDS_WIDTH);
  console.log(`${seconds} s  ${name}: ${what.replaceAll('\n', '\n         ')}`);
}

function showTable(): void {
  console.log('\n| scenario | promise | seconds | |\n|---|---|---|---|');
  for (const { name, expects, seconds, isPassed } of results)
    console.log(`| \`${name}\` | ${expects} | ${seconds} | ${isPassed ? 'passed' : 'FAILED'} |`);
  const passed = results.filter(({ isPassed }) => isPassed).length;
  const total = Math.round((performance.now() - started) / 1000);
  console.log(`\n${passed} passed, ${results.length - passed} failed, ${total} s`);
}
