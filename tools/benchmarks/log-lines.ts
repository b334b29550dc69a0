import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

const PIECE_BYTES = 1 << 20;
/** Who waits must not slow down what it measures. */
const LOOK_MS = 100;

/**
 * Waits until a log has `count` more lines with `text`, from a place in bytes on, and returns them. Each byte is read once.
 *
 * @throws Error if that takes longer than `limitMs`
 */
export async function awaitLines(
  log: string,
  from: number,
  text: string,
  count: number,
  limitMs: number,
): Promise<string[]> {
  const descriptor = openSync(log, 'r');
  try {
    const end = performance.now() + limitMs;
    const buffer = Buffer.alloc(PIECE_BYTES);
    const found: string[] = [];
    let [read, rest] = [from, ''];
    for (;;) {
      const bytes = readSync(descriptor, buffer, 0, buffer.length, read);
      read += bytes;
      const lines = (rest + buffer.toString('latin1', 0, bytes)).split('\n');
      rest = lines.pop() ?? '';
      found.push(...lines.filter((line) => line.includes(text)));
      if (found.length >= count) return found;
      if (performance.now() > end)
        throw new Error(`${log}: ${found.length} of ${count} lines with "${text}" after ${limitMs} ms`);
      if (bytes === 0) await setTimeout(LOOK_MS);
    }
  } finally {
    closeSync(descriptor);
  }
}
