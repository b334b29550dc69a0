// What the kernel's files say of this host's addresses, where the question to the kernel itself is forbidden.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ownAddresses, readInterfaces, readRoutes } from '../../src/protection/own-addresses.ts';

const ROUTES = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
           |-- 192.0.2.2
              /32 host LOCAL
`;

test('the routes have each address of IPv4 once, and no broadcast or network', () => {
  assert.deepEqual(readRoutes(ROUTES), [{ address: '192.0.2.2', family: 'IPv4' }]);
});

test('the interfaces have each address of IPv6', () => {
  const table = '20010db8000000000000000000000002 04 40 00 82     eth0\n';
  assert.deepEqual(readInterfaces(table), [
    { address: '2001:0db8:0000:0000:0000:0000:0000:0002', family: 'IPv6' },
  ]);
});

const routes = '/proc/self/net/fib_trie';

test("the routes agree with the kernel's answer", { skip: !existsSync(routes) }, () => {
  const found = new Set(readRoutes(readFileSync(routes, 'latin1')).map(({ address }) => address));
  for (const { address, family } of ownAddresses())
    if (family === 'IPv4') assert.ok(found.has(address), `${address} is missing`);
});
