// For string-width in yargs' help texts (see scripts/bundle.ts), which are plain text with a few escapes for colour.
// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence starts with one
const escapes = /\u001b\[[\d;]*m/g;

export default function stringWidth(text: string): number {
  return [...text.replace(escapes, '')].length;
}
