import { directives } from './lines.ts';

/**
 * What a list tells Apache, as a number: the sum of a hash of each line that is not a comment. Sums can be
 * corrected for an edit without reading the rest, and two lists that differ only in comments, holds or the
 * order of their lines have the same.
 */
export type Digest = readonly [number, number];

export const EMPTY: Digest = [0, 0];

export function digestOf(text: Buffer): Digest {
  let digest = EMPTY;
  for (const directive of directives(text)) digest = plus(digest, hashOf(directive));
  return digest;
}

export function plus(one: Digest, other: Digest): Digest {
  return [(one[0] + other[0]) >>> 0, (one[1] + other[1]) >>> 0];
}

export function minus(one: Digest, other: Digest): Digest {
  return [(one[0] - other[0]) >>> 0, (one[1] - other[1]) >>> 0];
}

/** Two 32-bit hashes with different multipliers, the first of them FNV-1a. */
function hashOf(content: string): Digest {
  let one = 0x811c9dc5;
  let other = 0x9747b28c;
  for (let index = 0; index < content.length; index += 1) {
    const unit = content.charCodeAt(index);
    one = Math.imul(one ^ unit, 0x01000193);
    other = Math.imul(other ^ unit, 0x85ebca6b);
    other ^= other >>> 13;
  }
  return [one >>> 0, other >>> 0];
}
