import type { Invocation } from './cli/arguments.ts';
import { COMMANDS } from './cli/options.ts';
import { resolveSettings } from './cli/settings.ts';
import { BanctlError, EXIT, type ExitCode } from './system/errors.ts';
import { quote } from './system/printable.ts';

export { parseCommandLine } from './cli/parse.ts';

export interface OtherInvocation extends Invocation {
  readonly command: Exclude<Invocation['command'], 'ban' | 'unban'>;
}

/** Runs a command that fail2ban does not call for each address; loads only that command. */
export async function runOther({ command, operands, given }: OtherInvocation): Promise<ExitCode> {
  // It depends on no setting, and an error in the configuration must not reach a starting shell.
  if (command === 'completion') return (await import('./commands/completion.ts')).completion(operands);
  const [operand] = operands;
  if (operand !== undefined && COMMANDS[command].operands === '')
    throw new BanctlError(
      EXIT.usage,
      `${command} takes no addresses: ${quote(operand)}`,
      `see banctl ${command} --help`,
    );
  const settings = resolveSettings(given, process.env);
  switch (command) {
    case 'flush':
      return (await import('./commands/flush.ts')).flush(settings);
    case 'sync':
      return (await import('./commands/sync.ts')).sync(settings);
    case 'list':
      return (await import('./commands/list.ts')).list(settings);
    case 'explain':
      return (await import('./commands/explain.ts')).explain(settings, operands);
    case 'audit':
      return (await import('./commands/audit.ts')).auditCommand(settings);
    case 'report':
      return (await import('./commands/report.ts')).reportCommand(settings);
    case 'ranges':
      return (await import('./commands/ranges.ts')).rangesCommand(settings, operands);
    case 'migrate':
      return (await import('./commands/migrate.ts')).migrateCommand(settings);
    case 'setup':
      return (await import('./commands/setup.ts')).setup(settings);
    case 'serve':
      return (await import('./commands/serve.ts')).serveCommand(settings);
    case 'fleet':
      return (await import('./commands/fleet.ts')).fleetCommand(settings, operands);
    case 'reload':
      return (await import('./commands/reload.ts')).reloadCommand(settings);
  }
}
