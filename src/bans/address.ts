import ipaddr from 'ipaddr.js';
import { BanctlError, EXIT } from '../system/errors.ts';
import { quote } from '../system/printable.ts';

/** An IPv4 or IPv6 address, or a range of them (prefix shorter than the family's length). */
export interface Address {
  /** Canonical text: as Apache prints a visitor's address, with `/prefix` for a range. */
  readonly text: string;
  /** 4 or 16 bytes in network order, host bits zero. */
  readonly bytes: readonly number[];
  /** Significant bits: 32 or 128 for a single address. */
  readonly prefix: number;
}

/** banctl refuses ranges with fewer bits than this without `--force`. */
export const BROADEST = { ipv4: 8, ipv6: 19 } as const;

const IPV6_GROUPS = /^[0-9a-f:]+$/i;
const TOO_LONG_GROUP = /[0-9a-f]{5}/i;
const DOT = 46;
const ZERO = 48;
const NINE = 57;
const PREFIX = /^(?:0|[1-9]\d{0,2})$/;

/**
 * Parses an address or CIDR range from a person, fail2ban or a script. An IPv4-mapped IPv6 address becomes IPv4, because
 * Apache compares it so. A full-length prefix becomes the address. Host bits are cut.
 *
 * @throws BanctlError usage, which names the input, for everything else: host names, partial addresses, octal or
 *   hexadecimal parts, zone ids, ports, netmasks; notPermitted for `/0`, which Apache accepts in no form
 */
export function parseAddress(input: string): Address {
  const address = readAddress(input);
  if (address === undefined) throw refusal(input);
  return address;
}

/** Why a text is not an address or range. */
function refusal(input: string): BanctlError {
  const slash = input.indexOf('/');
  const bytes = slash === -1 ? undefined : readBytes(input.slice(0, slash));
  const refused = (hint: string) => new BanctlError(EXIT.usage, `not an address: ${quote(input)}`, hint);
  if (bytes === undefined)
    return refused('give one IPv4 or IPv6 address or CIDR range, such as 203.0.113.55 or 2001:db8::/64');
  const prefix = input.slice(slash + 1);
  const family = bytes.length === 4 ? 'IPv4' : 'IPv6';
  if (PREFIX.test(prefix) && Number(prefix) <= bytes.length * 8) {
    const hint = 'nothing was changed; Apache accepts no /0, so --force does not help';
    return new BanctlError(EXIT.notPermitted, `${quote(input)} is too broad: it covers every address`, hint);
  }
  if (readBytes(prefix) !== undefined)
    return refused('give the prefix length instead of the netmask, such as /24');
  return refused(`the prefix of an ${family} range is a whole number from 1 to ${bytes.length * 8}`);
}

/** Like {@link parseAddress}, but undefined for a text that is not an address. */
export function readAddress(input: string): Address | undefined {
  const ipv4 = ipv4Bytes(input);
  if (ipv4 !== undefined) return { text: input, bytes: ipv4, prefix: 32 };
  const slash = input.indexOf('/');
  const bytes = readBytes(slash === -1 ? input : input.slice(0, slash));
  if (bytes === undefined) return undefined;
  if (slash === -1) return network(bytes, bytes.length * 8);
  const prefix = input.slice(slash + 1);
  if (!PREFIX.test(prefix) || Number(prefix) > bytes.length * 8 || Number(prefix) === 0) return undefined;
  const range = network(bytes, Number(prefix));
  return range.prefix === 0 ? undefined : range;
}

/**
 * Parses an argument of `Require ip` as Apache does (apr_ipsubnet_create): in addition to addresses and CIDR ranges also
 * netmasks, leading zeros and partial addresses, which are ranges of whole bytes.
 */
export function readApacheArgument(argument: string): Address | undefined {
  const [host = '', mask, ...rest] = argument.split('/');
  if (rest.length > 0) return undefined;
  if (mask === undefined) return readAddress(host) ?? readPartial(host);
  if (!mask.includes('.')) return readAddress(argument);
  const bytes = readBytes(host);
  const maskBytes = readBytes(mask);
  if (bytes?.length !== 4 || maskBytes?.length !== 4) return undefined;
  const bits = maskBytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return /^1+0*$/.test(bits) ? network(bytes, bits.lastIndexOf('1') + 1) : undefined;
}

/** True for `10`, `10.1.` and the like, which Apache reads as a whole range. */
export function isPartial(argument: string): boolean {
  return readAddress(argument) === undefined && readPartial(argument) !== undefined;
}

/** The range of `prefix` bits around a single address. Returns a range unchanged: only addresses are widened. */
export function widen(address: Address, prefixes: { ipv4: number; ipv6: number }): Address {
  const prefix = isIPv4(address) ? prefixes.ipv4 : prefixes.ipv6;
  return isSingle(address) && prefix < address.prefix ? network(address.bytes, prefix) : address;
}

export function isIPv4(address: Address): boolean {
  return address.bytes.length === 4;
}

export function isSingle(address: Address): boolean {
  return address.prefix === address.bytes.length * 8;
}

export function isTooBroad(address: Address): boolean {
  return address.prefix < (isIPv4(address) ? BROADEST.ipv4 : BROADEST.ipv6);
}

/** True if `outer` contains each address of `inner`. */
export function covers(outer: Address, inner: Address): boolean {
  if (outer.bytes.length !== inner.bytes.length || outer.prefix > inner.prefix) return false;
  return sameBits(outer.bytes, inner.bytes, outer.prefix);
}

/** True if the two have an address in common. */
export function overlaps(one: Address, other: Address): boolean {
  const isSameFamily = one.bytes.length === other.bytes.length;
  return isSameFamily && sameBits(one.bytes, other.bytes, Math.min(one.prefix, other.prefix));
}

/** IPv4 before IPv6, each by bytes, wider ranges first. */
export function compareAddresses(one: Address, other: Address): number {
  if (one.bytes.length !== other.bytes.length) return one.bytes.length - other.bytes.length;
  const at = one.bytes.findIndex((byte, index) => byte !== other.bytes[index]);
  return at === -1 ? one.prefix - other.prefix : (one.bytes[at] ?? 0) - (other.bytes[at] ?? 0);
}

function sameBits(one: readonly number[], other: readonly number[], bits: number): boolean {
  const whole = bits >> 3;
  for (let index = 0; index < whole; index += 1) if (one[index] !== other[index]) return false;
  const rest = bits & 7;
  return rest === 0 || (((one[whole] ?? 0) ^ (other[whole] ?? 0)) & (0xff00 >> rest) & 0xff) === 0;
}

function network(bytes: readonly number[], prefix: number): Address {
  if (prefix >= 96 && isMapped(bytes)) return network(bytes.slice(12), prefix - 96);
  const cut = bytes.map(
    (byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - index * 8))) & 0xff,
  );
  const host = cut.length === 4 ? cut.join('.') : ipv6Text(cut);
  return { text: prefix === cut.length * 8 ? host : `${host}/${prefix}`, bytes: cut, prefix };
}

/** `::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2. */
function isMapped(bytes: readonly number[]): boolean {
  return bytes.length === 16 && bytes.slice(0, 12).every((byte, index) => byte === (index < 10 ? 0 : 0xff));
}

function readBytes(host: string): number[] | undefined {
  const ipv4 = ipv4Bytes(host);
  if (ipv4 !== undefined) return ipv4;
  // ipaddr.js also accepts zone ids, octal and short IPv4 tails: pass it only what inet_pton accepts.
  const tail = host.slice(host.lastIndexOf(':') + 1);
  const last = ipv4Bytes(tail);
  const groups = last === undefined ? host : `${host.slice(0, -tail.length)}0:0`;
  if (!groups.includes(':') || !IPV6_GROUPS.test(groups) || TOO_LONG_GROUP.test(groups)) return undefined;
  if (!ipaddr.IPv6.isValid(groups)) return undefined;
  const { parts } = ipaddr.IPv6.parse(groups);
  const bytes = parts.flatMap((part) => [part >> 8, part & 0xff]);
  return last === undefined ? bytes : [...bytes.slice(0, 12), ...last];
}

/**
 * Four decimal parts without leading zeros, which is the canonical text; undefined for any other. Own code for speed: most
 * calls have one such address, and some have thousands.
 */
function ipv4Bytes(text: string): number[] | undefined {
  const bytes = [0, 0, 0, 0];
  let part = 0;
  let byte = -1;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit === DOT) {
      if (byte === -1 || part === 3) return undefined;
      bytes[part] = byte;
      part += 1;
      byte = -1;
    } else {
      if (unit < ZERO || unit > NINE || byte === 0) return undefined;
      byte = (byte === -1 ? 0 : byte * 10) + unit - ZERO;
      if (byte > 255) return undefined;
    }
  }
  if (byte === -1 || part !== 3) return undefined;
  bytes[part] = byte;
  return bytes;
}

function readPartial(host: string): Address | undefined {
  if (!/^\d{1,3}(?:\.\d{1,3}){0,3}\.?$/.test(host)) return undefined;
  const parts = host.split('.').filter((part) => part !== '');
  const bytes = parts.map(Number);
  if (bytes.length === 4 ? host.endsWith('.') : false) return undefined;
  if (bytes.some((byte) => byte > 255)) return undefined;
  return network([...bytes, 0, 0, 0].slice(0, 4), bytes.length * 8);
}

/**
 * IPv6 text as glibc's inet_ntop writes it, which is what Apache prints: the first longest run of two or more
 * zero groups becomes `::`, and IPv4-compatible addresses end in dotted decimal. RFC 5952 differs in the latter.
 */
function ipv6Text(bytes: readonly number[]): string {
  const groups = Array.from(
    { length: 8 },
    (_, index) => ((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0),
  );
  const run = longestZeroRun(groups);
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':');
  if (run.length < 2) return hex(groups);
  if (run.start === 0 && run.length === 6) return `::${bytes.slice(12).join('.')}`;
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  groups.forEach((group, index) => {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  });
  return best;
}
