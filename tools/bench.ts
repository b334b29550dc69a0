// Measures banctl and its alternatives; see scripts/bench. Exits with 1 if a target is missed.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { enforced, files, requests } from './benchmarks/directory.ts';
import { fail2banCycle } from './benchmarks/fail2ban.ts';
import { filters } from './benchmarks/filters.ts';
import { fleet } from './benchmarks/fleet.ts';
import type { Result, Target } from './benchmarks/measure.ts';
import { burst, first, series } from './benchmarks/reloads.ts';
import { reportPage } from './benchmarks/report.ts';
import { served } from './benchmarks/serve.ts';
import { singleBan, standardInput } from './benchmarks/startup.ts';
import { workers } from './benchmarks/wsgi.ts';

const BENCHMARKS: Record<string, () => Promise<Result>> = {
  ban: singleBan,
  stdin: standardInput,
  series,
  burst,
  first,
  enforced,
  requests,
  files,
  fail2ban: fail2banCycle,
  filters,
  report: reportPage,
  serve: served,
  fleet,
  wsgi: workers,
};

const { values, positionals } = parseArgs({
  options: { json: { type: 'string', default: 'dist/bench.json' }, from: { type: 'string', default: '.' } },
  allowPositionals: true,
});
const names = positionals.length === 0 ? Object.keys(BENCHMARKS) : positionals;
const unknown = names.find((name) => !Object.hasOwn(BENCHMARKS, name));
if (unknown !== undefined) {
  console.error(`bench: no such benchmark: ${unknown}; there are ${Object.keys(BENCHMARKS).join(', ')}`);
  process.exit(64);
}
// The caller's own banctl settings must not change the measurement.
for (const name of Object.keys(process.env)) if (name.startsWith('BANCTL_')) delete process.env[name];

/** The machine of the measurement, without host names. */
function machine(): Record<string, string | number> {
  const version = (program: string, args: string[], pattern: RegExp) =>
    pattern.exec(execFileSync(program, args, { encoding: 'utf8' }))?.[1] ?? '?';
  return {
    processors: cpus().length,
    model: cpus()[0]?.model ?? '?',
    kernel: `Linux ${release()}`,
    system: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '?',
    node: process.versions.node,
    apache: version('apache2', ['-v'], /Apache\/(\S+)/),
    fail2ban: version('fail2ban-client', ['--version'], /v?(\d[\d.]+)/),
    load: Number(Number(readFileSync('/proc/loadavg', 'latin1').split(' ')[0]).toFixed(2)),
  };
}

function show({ title, figures, targets, remarks }: Result): void {
  console.log(`\n== ${title}\n`);
  const width = Math.max(
    ...figures.map(({ what }) => what.length),
    ...targets.map(({ what }) => what.length),
  );
  const cell = (text: string) => text.padStart(10);
  console.log(`${''.padEnd(width)}${['median', 'min', 'max', 'runs'].map(cell).join('')}`);
  for (const { what, unit, median, min, max, runs } of figures) {
    const numbers = [median, min, max].map((value) => cell(shown(value)));
    console.log(`${what.padEnd(width)}${numbers.join('')}${cell(String(runs))}  ${unit}`);
  }
  console.log();
  for (const aim of targets) console.log(`${aim.what.padEnd(width)}${cell(shown(aim.value))}${judged(aim)}`);
  if (remarks.length > 0) console.log(`\n${remarks.join('\n')}`);
}

function judged({ atMost, atLeast, isMet }: Target): string {
  const limit = atMost ?? atLeast;
  if (limit === undefined) return '';
  return `  ${isMet ? 'met' : 'MISSED'}, ${atMost === undefined ? 'at least' : 'at most'} ${shown(limit)}`;
}

function shown(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en');
  return value.toLocaleString(
    'en',
    value < 100 ? { maximumFractionDigits: 2, minimumFractionDigits: 2 } : { maximumFractionDigits: 0 },
  );
}

const on = machine();
console.log(
  Object.entries(on)
    .map(([what, value]) => `${what}: ${value}`)
    .join('\n'),
);
const results: Result[] = [];
for (const name of names) {
  const result = await BENCHMARKS[name]?.();
  if (result === undefined) continue;
  show(result);
  results.push(result);
}
writeFileSync(resolve(values.from, values.json), `${JSON.stringify({ on, results }, null, 2)}\n`);
process.exitCode = results.every(({ targets }) => targets.every(({ isMet }) => isMet)) ? 0 : 1;
