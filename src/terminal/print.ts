import { writeSync } from 'node:fs';
import { BanctlError, EXIT, reasonOf, systemCode } from '../system/errors.ts';
import { printable, printableJson } from '../system/printable.ts';
import { pause } from '../system/process.ts';

/*
 * How banctl speaks. Answers go to standard output, one line an address, in sentences that can be grepped; errors
 * and warnings to standard error, `banctl: …`, one line, lower case, with what to do. With --json, standard
 * output is one document and nothing else.
 */

const STANDARD_OUTPUT = 1;
const STANDARD_ERROR = 2;

export function showJson(document: unknown): void {
  printLines([printableJson(document)]);
}

/** A line on standard output; what came with it from a list or a program cannot steer the terminal. */
export function print(line: string): void {
  write(STANDARD_OUTPUT, `${printable(line)}\n`);
}

/** Many lines, or such as are styled: each part of them that is not banctl's own has been made printable. */
export function printLines(lines: readonly string[]): void {
  write(STANDARD_OUTPUT, `${lines.join('\n')}\n`);
}

/** A line on standard error. */
export function warn(message: string): void {
  write(STANDARD_ERROR, `banctl: ${printable(message).trim()}\n`);
}

/** Node's own streams would take a tenth of a ban's time to load. */
function write(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(descriptor, bytes, written);
    } catch (error) {
      // Nobody reads on: `banctl list | head`.
      if (systemCode(error) === 'EPIPE') return;
      // Whoever reads is slow, and somebody has made the pipe non-blocking: Node does, once it has looked at stdout.
      if (systemCode(error) !== 'EAGAIN') {
        // There is nowhere left to say it.
        if (descriptor === STANDARD_ERROR) return;
        const { why, hint } = reasonOf(error, { EIO: { why: 'input/output error' } });
        throw new BanctlError(EXIT.cannotWrite, `cannot write to standard output: ${why}`, hint);
      }
      pause(10);
    }
  }
}
