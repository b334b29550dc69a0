import { basename } from 'node:path';
import { completionScript } from '../cli/completion.ts';
import { SHELLS } from '../cli/options.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { quote } from '../system/printable.ts';
import { printLines } from '../terminal/print.ts';

/** `banctl completion [SHELL]`: without a name, for the user's own shell. */
export function completion(operands: readonly string[]): ExitCode {
  const [named, ...others] = operands;
  if (others.length > 0)
    throw new BanctlError(EXIT.usage, `completion takes one shell: ${quote(others.join(' '))} is too much`);
  const shell = SHELLS.find((one) => one === (named ?? basename(process.env.SHELL ?? '')));
  if (shell === undefined && named !== undefined)
    throw new BanctlError(EXIT.usage, `no completion for ${quote(named)}`, `give ${SHELLS.join(', ')}`);
  printLines([completionScript(shell ?? 'bash').trimEnd()]);
  return EXIT.done;
}
