// Runs the scenarios of test/machine: run.ts IMAGE PACKAGE NEXT OLD [NAME]..; see scripts/vm-test.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type BootOptions, Machine } from './machine.ts';
import { compare, type Scenario, type Scene } from './scenario.ts';

const [directory = '', present = '', next = '', old = '', ...wanted] = process.argv.slice(2);
const scenarios = join(import.meta.dirname, '..', '..', 'test', 'machine');
/** It makes the machine that all others start from. */
const FIRST = 'install';
const SNAPSHOT = 'installed';

interface Result {
  readonly name: string;
  readonly expects: string;
  readonly seconds: number;
  readonly failure?: string;
}

const names = readdirSync(scenarios)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -3));
const unknown = wanted.filter((name) => !names.includes(name));
if (unknown.length > 0) {
  console.error(`vm-test: there is no scenario ${unknown.join(', ')}; there are ${names.sort().join(', ')}`);
  process.exit(64);
}

const disk = join(directory, 'disk.qcow2');
const files = join(directory, 'files.tar');
execFileSync('tar', [
  '-cf',
  files,
  ...[present, next, old].flatMap((path) => ['-C', dirname(path), basename(path)]),
]);
const machine = new Machine({ directory, disk, files });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, async () => {
    await machine.close();
    process.exit(130);
  });
const started = performance.now();
const results: Result[] = [];
const scene: Scene = {
  machine,
  expect: expectOutput,
  bootAnew,
  packages: { present: basename(present), next: basename(next), old: basename(old) },
  say,
};
try {
  const chosen = await Promise.all(names.filter(isWanted).sort().map(scenarioOf));
  const isFirstWanted = wanted.length === 0 || wanted.includes(FIRST);
  const isMachineNeeded = isFirstWanted || chosen.some(({ needsMachine = true }) => needsMachine);
  const hasMachine = isMachineNeeded && (await installed(isFirstWanted));
  for (const scenario of chosen)
    if (hasMachine || scenario.needsMachine === false) await runScenario(scenario);
} finally {
  await machine.close();
}
showTable();
process.exit(results.every(({ failure }) => failure === undefined) ? 0 : 1);

function isWanted(name: string): boolean {
  return name !== FIRST && (wanted.length === 0 || wanted.includes(name));
}

/** Makes the machine on which the package is installed, unless this package is on it already. */
async function installed(isAsked: boolean): Promise<boolean> {
  const mark = join(directory, 'disk.of');
  const hash = createHash('sha256').update(readFileSync(present)).digest('hex');
  if (!isAsked && existsSync(mark) && existsSync(disk) && readFileSync(mark, 'utf8') === hash) return true;
  rmSync(mark, { force: true });
  rmSync(disk, { force: true });
  const base = join(directory, 'base.img');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, disk]);
  await runScenario(await scenarioOf(FIRST));
  if (results.some(({ failure }) => failure !== undefined)) return false;
  await machine.save(SNAPSHOT);
  writeFileSync(mark, hash);
  return true;
}

async function scenarioOf(name: string): Promise<Scenario & { readonly name: string }> {
  const scenario: Scenario = await import(join(scenarios, `${name}.ts`));
  return { ...scenario, name };
}

async function runScenario({
  name,
  expects,
  needsMachine,
  run,
}: Scenario & { readonly name: string }): Promise<void> {
  console.log(`\n== ${name}: ${expects}`);
  const begin = performance.now();
  let failure: string | undefined;
  try {
    if (name === FIRST) await machine.boot();
    else if (needsMachine !== false) await bootAnew({ snapshot: SNAPSHOT });
    await run(scene);
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
    console.log(`   FAILED: ${failure.replaceAll('\n', '\n   ')}`);
  }
  const seconds = Math.round((performance.now() - begin) / 1000);
  console.log(`   ${failure === undefined ? 'passed' : 'failed'} after ${seconds} s`);
  results.push({ name, expects, seconds, ...(failure === undefined ? {} : { failure }) });
}

async function bootAnew(options: BootOptions): Promise<void> {
  await machine.kill();
  // Without its memory, the machine boots from the disk as it was then.
  if (options.snapshot === undefined) execFileSync('qemu-img', ['snapshot', '-a', SNAPSHOT, disk]);
  await machine.boot(options);
}

function say(what: string): void {
  console.log(`   ${String(Math.round((performance.now() - started) / 1000)).padStart(4)} s  ${what}`);
}

async function expectOutput(what: string, script: string, expected: string | RegExp): Promise<string> {
  say(what);
  const { exitCode, output } = await machine.run(script);
  if (exitCode < 0) throw new Error(`${what}: no end of the script; it printed\n${output}`);
  compare(what, output, expected);
  return output.trim();
}

function showTable(): void {
  console.log('\n| scenario | expected | seconds |\n|---|---|---|');
  for (const { name, expects, seconds, failure } of results)
    console.log(`| ${name} | ${expects}${failure === undefined ? '' : ' (FAILED)'} | ${seconds} |`);
  const failed = results.filter(({ failure }) => failure !== undefined).length;
  console.log(
    `\n${results.length - failed} passed, ${failed} failed, ${Math.round((performance.now() - started) / 1000)} s`,
  );
}
