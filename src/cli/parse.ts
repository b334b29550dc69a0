import { closest, distance } from 'fastest-levenshtein';
import yargs, { type Argv } from 'yargs';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { quote } from '../system/printable.ts';
import { printLines } from '../terminal/print.ts';
import { type Invocation, PARSER_CONFIGURATION, toInvocation } from './arguments.ts';
import { EXAMPLES } from './manual.ts';
import {
  COMMAND_NAMES,
  COMMANDS,
  type CommandName,
  defaultOf,
  isCommandName,
  isOptionName,
  OPTION_NAMES,
  type OptionName,
  optionOf,
  optionsOf,
} from './options.ts';
import { VERSION, versionLines } from './version.ts';

const SEE_HELP = 'see banctl --help';

/**
 * Reads a command line with yargs, including help, version and errors.
 *
 * @returns what to run, or the exit code if the line asked for help or the version only
 * @throws BanctlError usage
 */
export function parseCommandLine(argv: readonly string[]): Invocation | ExitCode {
  if (argv.length === 2 && argv.includes('--version') && argv.includes('--verbose')) {
    printLines(versionLines());
    return EXIT.done;
  }
  if (argv.length === 0) return parseCommandLine(['--help']);
  const command = argv.find((word) => isCommandName(word));
  let help = '';
  const parsed = parseWithYargs(buildCli(command), argv, (output) => {
    help = output;
  });
  if (help !== '') {
    printLines([help]);
    return EXIT.done;
  }
  return judge(parsed);
}

function parseWithYargs(cli: Argv, argv: readonly string[], onHelp: (output: string) => void) {
  try {
    return cli.parseSync([...argv], {}, (_error, _parsed, output) => onHelp(output));
  } catch (error) {
    if (error instanceof BanctlError) throw error;
    // yargs fails on names that every JavaScript object has, such as --constructor.
    throw new BanctlError(EXIT.usage, `cannot read the command line: ${quote(argv.join(' '))}`, SEE_HELP);
  }
}

/** The command line for yargs, with the options of one command, or of all, in its help. */
export function buildCli(command?: CommandName): Argv {
  const { operands, describe } = command === undefined ? { operands: '', describe: '' } : COMMANDS[command];
  const usage =
    command === undefined ? '$0 COMMAND [OPTIONS]' : `$0 ${command} [OPTIONS] ${operands}\n\n${describe}`;
  const cli = yargs([])
    // Without this, yargs would read messages from a file that the environment names (LC_ALL=/some/file).
    .detectLocale(false)
    .scriptName('banctl')
    .usage(usage.trim())
    .parserConfiguration(PARSER_CONFIGURATION)
    .version(VERSION)
    .help()
    .alias('help', 'h')
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .exitProcess(false)
    .fail((message, error) => {
      throw new BanctlError(EXIT.usage, lowerFirst(message ?? error.message), SEE_HELP);
    });
  for (const name of OPTION_NAMES) {
    const option = optionOf(name);
    cli.option(name, {
      type: option.kind === 'flag' ? 'boolean' : 'string',
      requiresArg: option.kind !== 'flag',
      describe: option.describe,
      defaultDescription: defaultOf(name),
      hidden: option.isHidden === true || (command !== undefined && !option.commands.includes(command)),
    });
  }
  if (command === undefined) {
    for (const [name, { describe }] of Object.entries(COMMANDS)) cli.command(name, describe);
    cli.epilogue(
      'Each option can also be set in the environment (BANCTL_BANLIST) or in the configuration file.',
    );
  } else cli.epilogue(`Example, ${EXAMPLES[command].describe}:\n\n  ${EXAMPLES[command].line}`);
  return cli;
}

function judge(parsed: Readonly<Record<string, unknown>>): Invocation {
  const { help: _help, h: _short, version: _version, $0: _program, ...line } = parsed;
  const [command = ''] = Array.isArray(line._) ? line._.map(String) : [];
  const names = Object.keys(line).filter((key) => key !== '_');
  if (!isCommandName(command)) {
    const misspelt = names.find((name) => !isOptionName(name));
    if (command === '' && misspelt !== undefined) throw noSuchOption(misspelt, OPTION_NAMES);
    const message = command === '' ? 'no command' : `no such command: ${quote(command)}`;
    throw new BanctlError(EXIT.usage, message, suggestion(command, COMMAND_NAMES));
  }
  for (const name of names) {
    if (!isOptionName(name)) throw noSuchOption(name, optionsOf(command));
    if (line[name] !== undefined && !optionOf(name).commands.includes(command)) {
      throw new BanctlError(
        EXIT.usage,
        `--${name} is not an option of ${command}`,
        `see banctl ${command} --help`,
      );
    }
  }
  const invocation = toInvocation(line);
  if (invocation === undefined) throw new BanctlError(EXIT.usage, 'cannot read the command line', SEE_HELP);
  return invocation;
}

/** yargs reports a misspelt option by its name only, without the dashes that were typed. */
function noSuchOption(name: string, options: readonly OptionName[]): BanctlError {
  const known = options.map((option) => `--${option}`);
  return new BanctlError(
    EXIT.usage,
    `no such option: ${quote(`--${name}`)}`,
    suggestion(`--${name}`, ['--help', '--version', ...known]),
  );
}

/** The known word that a misspelt one probably means, and where to look otherwise. */
function suggestion(word: string, known: readonly string[]): string {
  const nearest = closest(word, known);
  const { length } = nearest.replace(/^--/, '');
  // Two swapped letters are a distance of two.
  const isNear = word !== '' && distance(word, nearest) <= (length < 4 ? 1 : Math.max(2, length / 3));
  return isNear ? `did you mean ${nearest}? ${SEE_HELP}` : SEE_HELP;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
