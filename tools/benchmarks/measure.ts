// How to measure and report: commands by measure.pl, numbers by their median and spread.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Command {
  readonly words: readonly string[];
  /** A file for standard input. */
  readonly input?: string;
  /** False: it only runs between the measured ones. */
  readonly isMeasured?: boolean;
}

/** The resources of one process and its awaited children. */
export interface Usage {
  /** Milliseconds from fork to end. */
  readonly wall: number;
  /** Milliseconds of user and system time. */
  readonly cpu: number;
  /** Peak memory, megabytes. */
  readonly peak: number;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

/** A number of the table. */
export interface Figure extends Spread {
  readonly what: string;
  readonly unit: string;
}

/** The target of a number. */
export interface Target {
  readonly what: string;
  readonly value: number;
  /** Neither this nor `atLeast`: only reported. */
  readonly atMost?: number;
  readonly atLeast?: number;
  readonly isMet: boolean;
}

export interface Result {
  readonly name: string;
  readonly title: string;
  readonly figures: readonly Figure[];
  readonly targets: readonly Target[];
  readonly remarks: readonly string[];
}

/** Runs the commands in order and measures each. A failed command ends the benchmark. */
export async function runPlan(commands: readonly Command[], env: NodeJS.ProcessEnv = {}): Promise<Usage[]> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-plan-'));
  try {
    const plan = join(directory, 'plan');
    const lines = commands.map(({ words, input = '/dev/null', isMeasured = true }) =>
      [isMeasured ? 'time' : 'run', input, ...words].join('\t'),
    );
    writeFileSync(plan, `${lines.join('\n')}\n`);
    const output = await runMeasurer(plan, { ...process.env, ...env });
    return output
      .trim()
      .split('\n')
      .map((line) => {
        const [wall = 0, user = 0, system = 0, peak = 0] = line.split(' ').map(Number);
        return { wall: wall / 1e6, cpu: (user + system) / 1e3, peak: peak / 1024 };
      });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function runMeasurer(plan: string, env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'TERM', 'perl', join(import.meta.dirname, 'measure.pl'), plan],
      {
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve(output) : reject(new Error('a measured command failed: see above')),
    );
  });
}

/** One of several alternatives: its measurement, and how to undo it before the next round. */
export interface Candidate {
  readonly what: string;
  readonly command: Command;
  readonly undo?: Command;
}

/** Runs all candidates in turn, round after round, each round with another first one, after a round that warms up. */
export async function compare(
  candidates: readonly Candidate[],
  rounds: number,
  env: NodeJS.ProcessEnv = {},
): Promise<Map<string, Usage[]>> {
  const order = Array.from({ length: rounds + 1 }, (_, round) =>
    candidates.map((_, index) => candidates[(index + round) % candidates.length] as Candidate),
  );
  const commands = order
    .flat()
    .flatMap(({ command, undo }) => [
      command,
      ...(undo === undefined ? [] : [{ ...undo, isMeasured: false }]),
    ]);
  const usages = await runPlan(commands, env);
  const warm = order
    .flat()
    .map(({ what }, index) => ({ what, usage: usages[index] as Usage }))
    .slice(candidates.length);
  return new Map(
    candidates.map(({ what }) => [what, warm.filter((one) => one.what === what).map(({ usage }) => usage)]),
  );
}

export function spread(samples: readonly number[]): Spread {
  const sorted = samples.toSorted((one, other) => one - other);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
    runs: sorted.length,
  };
}

export function figure(what: string, unit: string, samples: readonly number[]): Figure {
  return { what, unit, ...spread(samples) };
}

/** Wall and processor time, and peak memory. */
export function usageFigures(what: string, usages: readonly Usage[]): Figure[] {
  return [
    figure(
      what,
      'ms',
      usages.map(({ wall }) => wall),
    ),
    figure(
      `${what}: processor`,
      'ms',
      usages.map(({ cpu }) => cpu),
    ),
    figure(
      `${what}: peak memory`,
      'MB',
      usages.map(({ peak }) => peak),
    ),
  ];
}

export function target(what: string, value: number, atMost: number): Target {
  return { what, value, atMost, isMet: value <= atMost };
}

/** A target below which the number must not fall. */
export function floor(what: string, value: number, atLeast: number): Target {
  return { what, value, atLeast, isMet: value >= atLeast };
}

/** A number beside a target, reported only. */
export function told(what: string, value: number): Target {
  return { what, value, isMet: true };
}

export function median(samples: readonly number[]): number {
  return spread(samples).median;
}
