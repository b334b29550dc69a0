import { fstatSync, writeSync } from 'node:fs';
import { BanctlError, EXIT, reasonOf, systemCode } from '../system/errors.ts';
import { printable, printableJson } from '../system/printable.ts';
import { pause } from '../system/process.ts';

/*
 * How banctl prints. Answers go to standard output, one line for each address, in sentences that grep can find. Errors and
 * warnings go to standard error: `banctl: …`, one line, lower case, with what to do. With --json, standard output is
 * one document and nothing else.
 */

const STANDARD_OUTPUT = 1;
const STANDARD_ERROR = 2;

export function showJson(document: unknown): void {
  printLines([printableJson(document)]);
}

/** Prints a line on standard output. Text from a list or a program cannot steer the terminal. */
export function print(line: string): void {
  write(STANDARD_OUTPUT, `${printable(line)}\n`);
}

/** Prints many or styled lines. The caller has made every part from outside printable. */
export function printLines(lines: readonly string[]): void {
  write(STANDARD_OUTPUT, `${lines.join('\n')}\n`);
}

/** Prints a line on standard error. */
export function warn(message: string): void {
  write(STANDARD_ERROR, `banctl: ${printable(message).trim()}\n`);
}

/** Whether standard output is a terminal. Node's stream for it, and node:tty, would take a twentieth of a ban's time to load. */
export async function isOnTerminal(): Promise<boolean> {
  if (!isCharacterDevice(STANDARD_OUTPUT)) return false;
  const { isatty } = await import('node:tty');
  return isatty(STANDARD_OUTPUT);
}

function isCharacterDevice(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isCharacterDevice();
  } catch {
    return false;
  }
}

/** Node's own streams would take a tenth of a ban's time to load. */
function write(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(descriptor, bytes, written);
    } catch (error) {
      // The reader has closed the pipe: `banctl list | head`.
      if (systemCode(error) === 'EPIPE') return;
      // The reader is slow, and the pipe is non-blocking: Node makes it so when stdout is touched.
      if (systemCode(error) !== 'EAGAIN') {
        // No place is left to report it.
        if (descriptor === STANDARD_ERROR) return;
        const { why, hint } = reasonOf(error, { EIO: { why: 'input/output error' } });
        throw new BanctlError(EXIT.cannotWrite, `cannot write to standard output: ${why}`, hint);
      }
      pause(10);
    }
  }
}
