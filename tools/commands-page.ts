// Writes docs/commands.md from the table of commands and options; with --print, prints it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXAMPLES, EXIT_MEANINGS } from '../src/cli/manual.ts';
import {
  COMMAND_NAMES,
  type CommandName,
  commandOf,
  defaultOf,
  OPTION_NAMES,
  type OptionName,
  optionOf,
  optionsOf,
} from '../src/cli/options.ts';
import { EXIT } from '../src/system/errors.ts';

export const COMMANDS_PAGE = join(import.meta.dirname, '..', 'docs', 'commands.md');

const code = (text: string) => `\`${text}\``;
const row = (...cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function command(name: CommandName): string[] {
  const { operands, describe } = commandOf(name);
  const options = optionsOf(name).map((option) => code(`--${option}`));
  const { line, describe: purpose } = EXAMPLES[name];
  return [
    `### ${name}`,
    '',
    `${code(`banctl ${name}${operands === '' ? '' : ` ${operands}`}`)}: ${describe}.`,
    '',
    ...(options.length === 0 ? [] : [`Options: ${options.join(', ')}.`, '']),
    `Example, ${purpose}:`,
    '',
    '```sh',
    line,
    '```',
    '',
  ];
}

function option(name: OptionName): string {
  const { placeholder, describe, kind } = optionOf(name);
  const usual = defaultOf(name);
  return row(
    code(`--${name}${placeholder === undefined ? '' : ` ${placeholder}`}`),
    usual === undefined ? '' : code(usual),
    `${describe}${kind === 'values' ? '; repeatable' : ''}`,
  );
}

export function commandsPage(): string {
  return [
    '# Commands and options',
    '',
    '<!-- Generated: edit src/cli/options.ts and src/cli/manual.ts, then run "node tools/commands-page.ts". -->',
    '',
    `Run ${code('banctl COMMAND --help')} for the options of one command.`,
    '',
    '## Commands',
    '',
    ...COMMAND_NAMES.flatMap(command),
    '## Options',
    '',
    'Options can stand before or after the command. `--` ends them. An empty value means that the option is not given.',
    '',
    row('option', 'default', 'meaning'),
    row('---', '---', '---').replaceAll(' ', ''),
    ...OPTION_NAMES.filter((name) => optionOf(name).isHidden !== true).map(option),
    '',
    '## Environment and configuration file',
    '',
    'Each option can also be set in the environment or in the configuration file. The command line wins over the',
    'environment, and the environment over the file.',
    '',
    '- `BANCTL_BANLIST=FILE` sets `--banlist`, and so on for each option. Set a flag with 1 or 0 (`BANCTL_NO_RELOAD=1`).',
    '  Separate the values of a repeatable option with commas.',
    '- `/etc/banctl.json` is one JSON object with the options by name:',
    '',
    '```json',
    '{ "bandir": "/etc/apache2/djangoapp/bans", "protect": ["198.51.100.0/24"], "reload-interval": 2 }',
    '```',
    '',
    '## Exit codes',
    '',
    row('code', 'meaning'),
    row('---', '---').replaceAll(' ', ''),
    ...Object.entries(EXIT).map(([name, number]) =>
      row(String(number), sentence(EXIT_MEANINGS[name as keyof typeof EXIT])),
    ),
    '',
  ].join('\n');
}

if (import.meta.main) {
  if (process.argv.includes('--print')) process.stdout.write(commandsPage());
  else writeFileSync(COMMANDS_PAGE, commandsPage());
}
