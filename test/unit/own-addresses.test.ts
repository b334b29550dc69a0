// What the kernel's files say of this host's addresses.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { readAddress } from '../../src/bans/address.ts';
import { ownAddresses, readInterfaces, readRoutes } from '../../src/protection/own-addresses.ts';

const ROUTES = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /31 link UNICAST
              /32 host LOCAL
           |-- 192.0.2.4
              /32 link UNICAST
           |-- 192.0.2.5
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
           |-- 192.0.2.2
              /32 host LOCAL
`;

test('the routes have each address of IPv4 once, and no broadcast or network', () => {
  assert.deepEqual(readRoutes(ROUTES), ['192.0.2.2', '192.0.2.5']);
});

test('the interfaces have each address of IPv6', () => {
  const table = '20010db8000000000000000000000002 04 40 00 82     eth0\n';
  assert.deepEqual(readInterfaces(table), ['2001:0db8:0000:0000:0000:0000:0000:0002']);
});

test('a table of routes that is long is not read, and the kernel is asked', (t) => {
  const opened = t.mock.method(fs, 'readSync', (_descriptor: number, buffer: Buffer) => {
    buffer.fill('#');
    return buffer.length;
  });
  syncBuiltinESMExports();
  const addresses = ownAddresses('IPv4');
  opened.mock.restore();
  syncBuiltinESMExports();
  assert.ok(opened.mock.callCount() < 10);
  assert.ok(addresses.includes('127.0.0.1'), addresses.join());
});

test("the files agree with the kernel's answer", () => {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const canonical = (address: string) => readAddress(address)?.text;
  for (const family of ['IPv4', 'IPv6'] as const) {
    const found = new Set(ownAddresses(family).map(canonical));
    for (const { address } of all.filter((one) => one.family === family))
      assert.ok(found.has(canonical(address)), `${address} is missing`);
  }
});
