import { type Address, parseAddress } from '../bans/address.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { cannotReadInput, readInput } from '../system/read.ts';
import type { StartProgress } from '../terminal/progress.ts';

const STANDARD_INPUT = 0;
/** Room for a million addresses. Bytes. */
const LONGEST_INPUT = 2 ** 26;

/**
 * The addresses that a command names, in order, each once; `-` stands for those on standard input, a block list.
 *
 * @throws BanctlError usage for the first word that is not an address; the caller must change nothing then
 */
export function readAddresses(operands: readonly string[]): Address[] {
  const words = operands.flatMap((operand) => (operand === '-' ? readLines() : [operand]));
  if (words.length === 0)
    throw new BanctlError(
      EXIT.usage,
      operands.length === 0 ? 'no address given' : 'no address given: standard input has none',
      operands.length === 0 ? 'name one, or - for standard input' : 'give one on each line',
    );
  const addresses = new Map<string, Address>();
  for (const word of words) {
    const address = parseAddress(word);
    addresses.set(address.text, address);
  }
  return [...addresses.values()];
}

/** A limit for calls that name as many addresses as a file. */
export async function progressOf(operands: readonly string[]): Promise<StartProgress | undefined> {
  return operands.includes('-') ? (await import('../terminal/progress.ts')).terminalProgress() : undefined;
}

/** Public block lists have comments, also after an address, and some put commas between or after addresses. */
function readLines(): string[] {
  const text = readStandardInput();
  const plain = /[#;]/.test(text) ? text.replace(/[#;][^\n]*/g, '') : text;
  return plain
    .replaceAll(',', '\n')
    .split('\n')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function readStandardInput(): string {
  try {
    return readInput(STANDARD_INPUT, LONGEST_INPUT);
  } catch (error) {
    throw cannotReadInput('standard input', error, EXIT.usage);
  }
}
