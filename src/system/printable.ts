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
  return printableJson(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/** JSON that a terminal can be shown as well: what could steer it is escaped, and means the same. */
export function printableJson(value: unknown): string {
  const json = JSON.stringify(value);
  if (PLAIN.test(json)) return json;
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return json.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => character.split('').map(escaped).join(''));
}
