import { type Invocation, readArguments } from './cli/arguments.ts';
import { resolveSettings } from './cli/settings.ts';
import { finished } from './system/before-exit.ts';
import { EXIT, type ExitCode, isBanctlError, lineOf } from './system/errors.ts';
import { warn } from './terminal/print.ts';

// Whatever the caller's umask, other users must not be able to write banctl's files, least of all a lock.
process.umask(process.umask(0o077) | 0o022);

/**
 * A call of this length ends by process.exit(), since Node's own exit would take a twentieth of a ban's time. A longer one may
 * have used so much memory that a thread of V8's, compiling, waits for the next garbage collection; process.exit() would wait
 * for that thread, for ever: https://github.com/nodejs/node/issues/54918. Node's own exit lets it go on.
 */
const QUICK_SECONDS = 0.25;
/** What a call has left open keeps it from ending for this long at most. */
const OPEN_MS = 500;

async function main(argv: readonly string[]): Promise<number> {
  const invocation = readArguments(argv) ?? (await (await import('./full.ts')).parseCommandLine(argv));
  return typeof invocation === 'number' ? invocation : run(invocation);
}

/**
 * Runs a command. fail2ban calls ban and unban for each address, so only these two are here. The other commands are a
 * separate part of the executable, which these two never load (see tools/bundle.ts). The resident
 * does without it too, since it keeps what it has loaded.
 */
async function run({ command, operands, given }: Invocation): Promise<ExitCode> {
  if (command === 'serve' && operands.length === 0)
    return (await import('./commands/serve.ts')).serveCommand(resolveSettings(given, process.env));
  if (command !== 'ban' && command !== 'unban')
    return (await import('./full.ts')).runOther({ command, operands, given });
  const settings = resolveSettings(given, process.env);
  return command === 'ban'
    ? (await import('./commands/ban.ts')).ban(settings, operands)
    : (await import('./commands/unban.ts')).unban(settings, operands);
}

main(process.argv.slice(2))
  .catch((error: unknown) => {
    const isExpected = isBanctlError(error);
    warn(isExpected ? lineOf(error) : `${String(error)}; this is a bug in banctl, please report it`);
    return isExpected ? error.exitCode : EXIT.internal;
  })
  .then(async (exitCode) => {
    await finished();
    // All output is written by now: see terminal/print.ts.
    if (process.uptime() < QUICK_SECONDS) process.exit(exitCode);
    else {
      process.exitCode = exitCode;
      setTimeout(() => process.exit(exitCode), OPEN_MS).unref();
    }
  });
