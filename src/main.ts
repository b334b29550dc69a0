import { readArguments } from './arguments.ts';
import { runCommand } from './command.ts';
import { EXIT, isBanctlError } from './errors.ts';
import { warn } from './output.ts';

// Nothing that is made may be written by others, a lock least of all, however careless the caller's umask is.
process.umask(process.umask(0o077) | 0o022);

async function main(argv: readonly string[]): Promise<number> {
  const invocation =
    readArguments(argv) ?? (await (await import('./other-commands.ts')).parseCommandLine(argv));
  return typeof invocation === 'number' ? invocation : runCommand(invocation);
}

main(process.argv.slice(2))
  .catch((error: unknown) => {
    const isExpected = isBanctlError(error);
    warn(isExpected ? error.message : `${String(error)}; this is a mistake in banctl, please report it`);
    return isExpected ? error.exitCode : EXIT.internal;
  })
  // All is written by now (see output.ts), and Node would take itself apart first: a twentieth of a ban's time.
  .then((exitCode) => process.exit(exitCode));
