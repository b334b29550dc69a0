// Prints the manual page, banctl(8), from the table of commands and options: manual-page.ts [--date YYYY-MM-DD]
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ENVIRONMENT, EXAMPLES, EXIT_MEANINGS, FILES } from '../src/cli/manual.ts';
import {
  COMMAND_NAMES,
  commandOf,
  defaultOf,
  OPTION_NAMES,
  optionOf,
  optionsOf,
} from '../src/cli/options.ts';
import { EXIT } from '../src/system/errors.ts';

const { values } = parseArgs({ options: { date: { type: 'string', default: '' } } });
const { version, description }: { version: string; description: string } = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8'),
);

/** Text for roff: keeps hyphens as typed, and lets no line begin with a character that roff reads as a request. */
function text(plain: string): string {
  return plain
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '')
    .replace(/^\./gm, '\\&.');
}

const bold = (plain: string) => `\\fB${text(plain)}\\fP`;
const italic = (plain: string) => `\\fI${text(plain)}\\fP`;
const item = (term: string, ...lines: string[]) => ['.TP', term, ...lines];
const sentence = (plain: string) => `${plain.charAt(0).toUpperCase()}${plain.slice(1)}.`;
const example = (line: string) => ['.IP', '.nf', bold(line), '.fi'];

const synopsis = (operands: string) => (operands === '' ? '' : ` ${italic(operands)}`);
const visible = OPTION_NAMES.filter((name) => optionOf(name).isHidden !== true);

const lines = [
  `.TH BANCTL 8 "${values.date}" "banctl ${version}" "System Administration"`,
  '.SH NAME',
  `banctl \\- ${text(description.charAt(0).toLowerCase() + description.slice(1))}`,
  '.SH SYNOPSIS',
  `.B banctl`,
  `${italic('COMMAND')} [${italic('OPTIONS')}] [${italic('ADDRESS...')}]`,
  '.SH DESCRIPTION',
  'banctl keeps the addresses that Apache refuses, either in a list that Apache includes or in a directory with one file',
  'for each address. fail2ban calls banctl for each ban, and so can you. Each ban records who holds it, since when, until',
  'when and why. It ends with its last hold. When the list changes, banctl reloads Apache, once for many changes.',
  '.SH COMMANDS',
  ...COMMAND_NAMES.flatMap((name) => {
    const { operands, describe } = commandOf(name);
    const options = optionsOf(name).map((option) => bold(`--${option}`));
    return [
      ...item(`${bold(name)}${synopsis(operands)}`, text(sentence(describe))),
      ...(options.length === 0 ? [] : ['.IP', `Options: ${options.join(', ')}.`]),
    ];
  }),
  '.SH OPTIONS',
  'Options can stand before or after the command. Their values follow as the next word, or after an equals sign.',
  ...visible.flatMap((name) => {
    const { placeholder, describe, kind } = optionOf(name);
    const usual = defaultOf(name);
    return item(
      `${bold(`--${name}`)}${placeholder === undefined ? '' : ` ${italic(placeholder)}`}`,
      text(sentence(describe)),
      ...(kind === 'values' ? ['Repeatable.'] : []),
      ...(usual === undefined ? [] : [`Default: ${text(usual)}.`]),
    );
  }),
  '.SH ENVIRONMENT',
  ...ENVIRONMENT.flatMap(({ name, describe }) => item(bold(name), text(describe))),
  '.SH FILES',
  ...FILES.flatMap(({ name, describe }) => item(italic(name), text(describe))),
  '.SH EXIT STATUS',
  ...Object.entries(EXIT).flatMap(([name, code]) =>
    item(String(code), text(sentence(EXIT_MEANINGS[name as keyof typeof EXIT]))),
  ),
  '.SH EXAMPLES',
  ...Object.values(EXAMPLES).flatMap(({ line, describe }, index) => [
    ...(index === 0 ? [] : ['.PP']),
    text(`${sentence(describe).slice(0, -1)}:`),
    ...example(line),
  ]),
  '.SH SEE ALSO',
  ['fail2ban\\-client (1)', 'apache2ctl (8)', 'a2enconf (8)', 'cron (8)']
    .map((page) => `.BR ${page}`)
    .join(' ,\n'),
];
process.stdout.write(`${lines.join('\n')}\n`);
