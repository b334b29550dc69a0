const PLAIN = /^[\x20-\x7e]*$/;

/**
 * One line that cannot move a terminal's cursor, hide a part of itself, or end a line of the list: replaces control and
 * formatting characters, and line ends, by spaces. For all text from logs, lists and programs.
 */
export function printable(text: string): string {
  // V8 takes a third of a millisecond to compile Unicode classes, and most text is plain.
  return PLAIN.test(text) ? text : text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** A text from outside for a message, shortened and quoted as in JSON. */
export function quote(text: string): string {
  return printableJson(shorten(text));
}

/** The beginning of a text from outside, for a message that is read by people. */
export function shorten(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** JSON that is safe on a terminal: escapes what could steer the terminal, without changing the meaning. */
export function printableJson(value: unknown): string {
  const json = JSON.stringify(value);
  if (PLAIN.test(json)) return json;
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return json.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => character.split('').map(escaped).join(''));
}
