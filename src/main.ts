import { readArguments } from './arguments.ts';
import { runCommand } from './command.ts';
import { BanctlError } from './errors.ts';
import { warn } from './output.ts';

async function main(argv: readonly string[]): Promise<number> {
  const invocation = readArguments(argv) ?? (await (await import('./cli.ts')).parseCommandLine(argv));
  return typeof invocation === 'number' ? invocation : runCommand(invocation);
}

main(process.argv.slice(2)).then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error: unknown) => {
    if (!(error instanceof BanctlError)) throw error;
    warn(error.message);
    process.exitCode = error.exitCode;
  },
);
