// Stands in for string-width in the help texts of yargs and in cli-progress (see tools/bundle.ts), which are plain text with a few
// escapes for colour.
// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence starts with one
const escapes = /\u001b\[[\d;]*m/g;

module.exports = (text: string): number => [...text.replace(escapes, '')].length;
