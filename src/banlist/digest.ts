import { directives } from './lines.ts';

/**
 * What a list tells Apache, as a number: the sum of a hash of each line that is not a comment. Sums can be
 * corrected for an edit without reading the rest, and two lists that differ only in comments, holds or the
 * order of their lines have the same.
 */
export type Digest = readonly [number, number];

export const EMPTY: Digest = [0, 0];

export function digestOf(text: Buffer): Digest {
  let one = 0;
  let other = 0;
  for (const { bytes, start, end } of directives(text)) {
    let hash = 0x811c9dc5;
    let otherHash = 0x9747b28c;
    for (let index = start; index < end; index += 1) {
      const byte = bytes[index] ?? 0;
      hash = Math.imul(hash ^ byte, 0x01000193);
      otherHash = Math.imul(otherHash ^ byte, 0x85ebca6b);
      otherHash ^= otherHash >>> 13;
    }
    one = (one + (hash >>> 0)) >>> 0;
    other = (other + (otherHash >>> 0)) >>> 0;
  }
  return [one, other];
}

export function plus(one: Digest, other: Digest): Digest {
  return [(one[0] + other[0]) >>> 0, (one[1] + other[1]) >>> 0];
}

export function minus(one: Digest, other: Digest): Digest {
  return [(one[0] - other[0]) >>> 0, (one[1] - other[1]) >>> 0];
}
