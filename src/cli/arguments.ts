import parse from 'yargs-parser';
import { type CommandName, isCommandName, isOptionName, type OptionName, optionOf } from './options.ts';

/** A command line that was read but not checked: every value is still the text that was given. */
export interface Invocation {
  readonly command: CommandName;
  readonly operands: readonly string[];
  readonly given: Given;
}

/** Options by name: a flag's state, else each value given, in order. */
export type Given = Readonly<Partial<Record<OptionName, boolean | readonly string[]>>>;

/** How yargs and yargs-parser read a line: no value becomes a number, and `--no-reload` is a name of its own. */
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

/**
 * Reads a line without yargs, whose loading takes longer than a ban. Undefined for every line that is not plainly right:
 * yargs handles help, errors and the other commands (see parse.ts), with the same table.
 */
export function readArguments(argv: readonly string[]): Invocation | undefined {
  const named = optionsNamedIn(argv);
  const valued = named.filter((name) => optionOf(name).kind !== 'flag');
  const { argv: parsed, error } = parse.detailed([...argv], {
    string: valued,
    boolean: named.filter((name) => optionOf(name).kind === 'flag'),
    narg: Object.fromEntries(valued.map((name) => [name, 1])),
    configuration: PARSER_CONFIGURATION,
  });
  return error === null ? toInvocation(parsed) : undefined;
}

/** The parser needs time for each option that it is to know, so it gets those that words of the line may mean. */
function optionsNamedIn(argv: readonly string[]): OptionName[] {
  const words = argv.filter((word) => word.startsWith('-')).map((word) => word.replace(/^-+|=.*$/gs, ''));
  return [...new Set(words)].filter(isOptionName);
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
