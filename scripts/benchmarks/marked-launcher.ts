// Starts banctl's bundle as src/startup/launcher.ts does, and notes when it loads a module and calls the file system.
// Appends to the file BENCH_MARKS, as JSON: nanoseconds of the monotonic clock, and from where to where each call went.
const began = process.hrtime.bigint();

import fs from 'node:fs';
import os from 'node:os';
import { getRawAsset } from 'node:sea';
import { Script } from 'node:vm';

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
Object.assign(os, { networkInterfaces: marked('networkInterfaces', os.networkInterfaces as Work) });

const source = Buffer.from(getRawAsset('banctl.cjs') as ArrayBuffer).toString('latin1');
const cachedData = Buffer.from(getRawAsset('code-cache') as ArrayBuffer);
const script = new Script(source, { filename: 'banctl.cjs', cachedData });
const program = script.runInThisContext();
const compiled = process.hrtime.bigint();
process.on('exit', () => {
  const [start = '0', end] = [process.env.BENCH_START, process.hrtime.bigint()];
  const marks = {
    start,
    began: String(began),
    rejected: script.cachedDataRejected,
    compiled: String(compiled),
    end: String(end),
    calls,
  };
  appendFileSync(process.env.BENCH_MARKS ?? '/dev/null', `${JSON.stringify(marks)}\n`);
});
program(marked('require', require as Work));
