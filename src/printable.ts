const PLAIN = /^[\x20-\x7e]*$/;

/**
 * One line that cannot move a terminal's cursor, hide a part of itself or end a line of the list: control and
 * formatting characters, and line ends, become spaces. For all text that comes from logs, lists and programs.
 */
export function printable(text: string): string {
  // Classes of Unicode take V8 a third of a millisecond to compile, and most text is plain.
  return PLAIN.test(text) ? text : text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** A text from outside, cut and quoted as in JSON, to be shown in a message. */
export function quote(text: string): string {
  const quoted = JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
  if (PLAIN.test(quoted)) return quoted;
  return quoted.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
