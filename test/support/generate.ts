// Arbitrary addresses for property tests, of the documentation ranges.
import fc from 'fast-check';

const byte = fc.nat(255);
const word = fc.oneof(fc.constant(0), fc.nat(0xffff)).map((group) => group.toString(16));

/** Text of IPv4 addresses and ranges, not always canonical. */
export const ipv4 = fc
  .tuple(fc.constantFrom('203.0.113', '198.51.100'), byte)
  .map(([net, host]) => `${net}.${host}`);
export const ipv4Range = fc
  .tuple(ipv4, fc.integer({ min: 9, max: 31 }))
  .map(([host, bits]) => `${host}/${bits}`);
export const ipv6 = fc
  .array(word, { minLength: 6, maxLength: 6 })
  .map((groups) => `2001:db8:${groups.join(':')}`);
export const ipv6Range = fc
  .tuple(ipv6, fc.integer({ min: 20, max: 127 }))
  .map(([host, bits]) => `${host}/${bits}`);
export const anyAddress = fc.oneof(ipv4, ipv6, ipv4Range, ipv6Range);
