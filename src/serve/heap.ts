import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/*
 * The resident is idle nearly always, and a busy one waits for disks: memory comes before speed. What V8 keeps of a burst
 * it gives back only when memory is asked for again, so the resident collects once it is quiet.
 */

const V8_FLAGS = [
  '--optimize-for-size',
  // Each compilation keeps megabytes that the allocator does not give back.
  '--no-opt',
  '--no-maglev',
  // The first ban after a quiet time would compile everything again.
  '--no-flush-bytecode',
  // Each helper thread takes pages of its own.
  '--single-threaded-gc',
  // New objects have one megabyte, not sixteen.
  '--semi-space-growth-factor=1',
  '--expose-gc',
];
const QUIET_MS = 2000;

type Collect = (how: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

let collect: Collect | undefined;
let quiet: NodeJS.Timeout | undefined;

export function preferMemory(): void {
  for (const flag of V8_FLAGS) setFlagsFromString(flag);
  collect = runInNewContext('gc');
}

/** After work that made garbage: gives it back when no more has come for a while. */
export function collectWhenQuiet(): void {
  if (collect === undefined) return;
  if (quiet === undefined) quiet = setTimeout(giveBack, QUIET_MS).unref();
  else quiet.refresh();
}

function giveBack(): void {
  quiet = undefined;
  collect?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
