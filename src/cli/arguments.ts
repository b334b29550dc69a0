import { type CommandName, isCommandName, isOptionName, type OptionName, optionOf } from './options.ts';

/** A command line that was read but not checked: every value is still the text that was given. */
export interface Invocation {
  readonly command: CommandName;
  readonly operands: readonly string[];
  readonly given: Given;
}

/** Options by name: a flag's state, else each value given, in order. */
export type Given = Readonly<Partial<Record<OptionName, boolean | readonly string[]>>>;

/** How yargs reads a line: no value becomes a number, and `--no-reload` is a name of its own. */
export const PARSER_CONFIGURATION = {
  'boolean-negation': false,
  'camel-case-expansion': false,
  'dot-notation': false,
  'duplicate-arguments-array': true,
  'flatten-duplicate-arrays': true,
  'greedy-arrays': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
  'short-option-groups': false,
} as const;

/** A duration may be negative. */
const LIKE_OPTION = /^-(?!\d+(?:\.\d+)?$)/;

/**
 * Reads a line without yargs, whose loading takes longer than a ban. Undefined for every line that is not plainly right:
 * yargs handles help, errors and the other commands (see parse.ts), with the same table.
 */
export function readArguments(argv: readonly string[]): Invocation | undefined {
  const operands: string[] = [];
  const options: Partial<Record<OptionName, true | string[]>> = {};
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? '';
    if (word === '--') {
      operands.push(...argv.slice(at + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      operands.push(word);
      continue;
    }
    const equals = word.indexOf('=');
    const name = equals === -1 ? word.slice(2) : word.slice(2, equals);
    const value = equals === -1 ? undefined : word.slice(equals + 1);
    if (!word.startsWith('--') || !isOptionName(name)) return undefined;
    if (optionOf(name).kind === 'flag') {
      // yargs takes such a word behind a flag for its value.
      if (value !== undefined || ['true', 'false'].includes(argv[at + 1] ?? '')) return undefined;
      options[name] = true;
      continue;
    }
    if (value === undefined) at += 1;
    const text = value ?? argv[at];
    if (text === undefined || (value === undefined && LIKE_OPTION.test(text))) return undefined;
    const earlier = options[name];
    options[name] = Array.isArray(earlier) ? [...earlier, text] : [text];
  }
  return toInvocation({ _: operands, ...options });
}

/** Undefined if the line names no command, or an option that the command does not have. */
export function toInvocation(parsed: Readonly<Record<string, unknown>>): Invocation | undefined {
  const words = Array.isArray(parsed._) ? parsed._.map(String) : [];
  const [command = '', ...operands] = words;
  if (!isCommandName(command)) return undefined;
  const given: Partial<Record<OptionName, boolean | readonly string[]>> = {};
  for (const [name, value] of Object.entries(parsed)) {
    if (name === '_' || value === undefined) continue;
    if (!isOptionName(name) || !optionOf(name).commands.includes(command)) return undefined;
    if (optionOf(name).kind !== 'flag') given[name] = [value].flat().map(String);
    else given[name] = [value].flat().at(-1) === true;
  }
  return { command, operands, given };
}
