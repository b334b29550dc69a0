import type { Invocation } from './arguments.ts';
import type { ExitCode } from './errors.ts';
import { resolveSettings } from './settings.ts';

/**
 * Runs a command; each is loaded only if it is called. What fail2ban calls for each address is here, all else is a part
 * of the executable that these two do without (see scripts/bundle.ts).
 */
export async function runCommand(invocation: Invocation): Promise<ExitCode> {
  const { command, operands, given } = invocation;
  if (command !== 'ban' && command !== 'unban')
    return (await import('./other-commands.ts')).runOther({ command, operands, given });
  const settings = resolveSettings(given, process.env);
  return command === 'ban'
    ? (await import('./commands/ban.ts')).ban(settings, operands)
    : (await import('./commands/unban.ts')).unban(settings, operands);
}
