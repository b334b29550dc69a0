const PLAIN = /^[\x20-\x7e]*$/;

/**
 * One line that cannot move a terminal's cursor, hide a part of itself or end a line of the list: control and
 * formatting characters, and line ends, become spaces. For all text that comes from logs, lists and programs.
 */
export function printable(text: string): string {
  // Classes of Unicode take V8 a third of a millisecond to compile, and most text is plain.
  return PLAIN.test(text) ? text : text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** A text from outside, quoted and cut, to be shown in a message. */
export function quote(text: string): string {
  return JSON.stringify(printable(text.length > 200 ? `${text.slice(0, 200)}…` : text));
}
