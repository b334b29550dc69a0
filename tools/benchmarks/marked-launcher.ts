// Starts banctl's bundle as src/executable/launcher.ts does, and notes when it loads a module and calls the file system.
// Appends to the file BENCH_MARKS, as JSON: nanoseconds of the monotonic clock, and from where to where each call went.
const began = process.hrtime.bigint();

import fs from 'node:fs';
import { getRawAsset } from 'node:sea';
import { codeIn } from '../../src/executable/cache-asset.ts';
import { startProgram } from '../../src/executable/parts.ts';

interface Call {
  name: string;
  about: string;
  from: string;
  to: string;
}

const calls: Call[] = [];
const { appendFileSync } = fs;

type Work = (...args: unknown[]) => unknown;
const marked =
  (name: string, work: Work): Work =>
  (...args) => {
    const from = process.hrtime.bigint();
    try {
      return work(...args);
    } finally {
      calls.push({ name, about: String(args[0]), from: String(from), to: String(process.hrtime.bigint()) });
    }
  };

for (const [name, work] of Object.entries(fs)) {
  if (name.endsWith('Sync') && typeof work === 'function')
    Object.assign(fs, { [name]: marked(name, work as Work) });
}

let compiled = began;
process.on('exit', () => {
  const [start = '0', end] = [process.env.BENCH_START, process.hrtime.bigint()];
  const marks = { start, began: String(began), compiled: String(compiled), end: String(end), calls };
  appendFileSync(process.env.BENCH_MARKS ?? '/dev/null', `${JSON.stringify(marks)}\n`);
});
const asset = (name: string) => Buffer.from(getRawAsset(name) as ArrayBuffer);
startProgram(
  (name) => ({ source: asset(`${name}.cjs`).toString('latin1'), cachedData: codeIn(asset(`${name}.cache`)) }),
  marked('require', (name) => {
    // The first that the program does is to load what it needs: by then it is compiled.
    if (compiled === began) compiled = process.hrtime.bigint();
    return (require as Work)(name);
  }),
);
