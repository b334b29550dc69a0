import { readDeny, visitDirectives } from './syntax.ts';

/*
 * A digest represents the list's content for Apache: its directives, without comments and blanks. Holds do not change it.
 *
 * Banned visitors choose their addresses, and so the lines. With a hash that anyone can compute, four addresses of one /64
 * make two different lists look the same. So each line goes through HalfSipHash-2-4 (Aumasson and Bernstein), a
 * pseudorandom function, with a key that only root can read. Without the key, an attacker cannot find lines that cancel
 * each other out, and a guess succeeds once in 2^64 tries.
 *
 * The digest is the sum of the lines' hashes, so the change of one ban in 100,000 costs two lines instead of the whole
 * list. A sum ignores the order, and so does Apache between `Require not ip` lines. Around any other directive the order
 * matters. In such a list, the hash of each line also covers all other directives above it, and a change needs the whole
 * list again. node:crypto would do the same in C, but takes 4 ms to load, longer than 10,000 lines here.
 */

/** 16 hexadecimal digits, followed by a mark if order matters in the list. Equal text means an equal list. */
export type Digest = string;

/** The key, 16 hexadecimal digits. */
export type DigestKey = string;

interface Hash {
  low: number;
  high: number;
}

const ORDERED = '+';
const DIGITS = /^([\da-f]{8})([\da-f]{8})(\+?)$/;
const KEY = /^[\da-f]{16}$/;
export const EMPTY: Digest = '0000000000000000';

export function isDigest(value: unknown): value is Digest {
  return typeof value === 'string' && DIGITS.test(value);
}

export function isDigestKey(value: unknown): value is DigestKey {
  return typeof value === 'string' && KEY.test(value);
}

/** True if the list has directives that are no bans. */
export function isOrdered(digest: Digest): boolean {
  return digest.endsWith(ORDERED);
}

export function digestOf(text: Buffer, key: DigestKey): Digest {
  const sum = { low: 0, high: 0 };
  const above = keyOf(key);
  const line = { low: 0, high: 0 };
  let isOrdered = false;
  visitDirectives(text, (bytes, start, end) => {
    hash(bytes, start, end, above, line);
    sum.low = (sum.low + line.low) >>> 0;
    sum.high = (sum.high + line.high) >>> 0;
    if (isBan(bytes, start, end)) return;
    isOrdered = true;
    // The key for the lines below: it covers this directive and, with its own key, all above.
    above.low = line.low;
    above.high = line.high;
  });
  return write(sum, isOrdered);
}

/**
 * The digest after a part of the list was replaced. Undefined if order matters: only the whole list gives the digest then.
 */
export function correctDigest(
  digest: Digest,
  key: DigestKey,
  removed: Buffer,
  inserted: Buffer,
): Digest | undefined {
  const [sum, minus, plus] = [digest, digestOf(removed, key), digestOf(inserted, key)].map(read);
  if (sum === undefined || minus === undefined || plus === undefined) return undefined;
  const low = (sum.low - minus.low + plus.low) >>> 0;
  return write({ low, high: (sum.high - minus.high + plus.high) >>> 0 }, false);
}

/** Undefined for a digest in which order matters. */
function read(digest: Digest): Hash | undefined {
  const [, low = '', high = '', mark] = DIGITS.exec(digest) ?? [];
  return mark === '' ? { low: Number.parseInt(low, 16), high: Number.parseInt(high, 16) } : undefined;
}

function write({ low, high }: Hash, isOrdered: boolean): Digest {
  const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0');
  return `${hex(low)}${hex(high)}${isOrdered ? ORDERED : ''}`;
}

function keyOf(key: DigestKey): Hash {
  return { low: Number.parseInt(key.slice(0, 8), 16) | 0, high: Number.parseInt(key.slice(8), 16) | 0 };
}

/** The form of nearly every line, as banctl writes it. */
const USUAL = Buffer.from('Require not ip ');

function isBan(bytes: Buffer, start: number, end: number): boolean {
  if (startsWith(bytes, start, end, USUAL)) return true;
  return readDeny(bytes.toString('utf8', start, end)) !== undefined;
}

function startsWith(bytes: Buffer, start: number, end: number, prefix: Buffer): boolean {
  if (end - start < prefix.length) return false;
  for (let index = 0; index < prefix.length; index += 1)
    if (bytes[start + index] !== prefix[index]) return false;
  return true;
}

/** HalfSipHash-2-4 with 64 bits of output. One loop for all rounds: function calls would double the time. */
function hash(bytes: Buffer, start: number, end: number, key: Hash, result: Hash): void {
  let v0 = key.low;
  let v1 = key.high ^ 0xee;
  let v2 = 0x6c796765 ^ key.low;
  let v3 = 0x74656462 ^ key.high;
  let word = 0;
  const absorbing = 2 * (((end - start) >> 2) + 1);
  for (let round = 0; round < absorbing + 8; round += 1) {
    if (round < absorbing) {
      if (round % 2 === 0) {
        word = wordAt(bytes, start + 2 * round, start, end);
        v3 ^= word;
      }
    } else if (round === absorbing) v2 ^= 0xee;
    else if (round === absorbing + 4) {
      result.low = v1 ^ v3;
      v1 ^= 0xdd;
    }
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    if (round < absorbing && round % 2 === 1) v0 ^= word;
  }
  result.high = v1 ^ v3;
}

/** Four bytes; the last word has the remaining ones, and the length. */
function wordAt(bytes: Buffer, at: number, start: number, end: number): number {
  if (at + 4 <= end)
    return (
      (bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24)
    );
  let word = (end - start) << 24;
  for (let index = at; index < end; index += 1) word |= (bytes[index] ?? 0) << (8 * (index - at));
  return word;
}
