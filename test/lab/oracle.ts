// Another reading of addresses than banctl's: glibc's inet_pton and inet_ntop, and Python's ipaddress for the ranges.
// fail2ban, which the tests install, brings Python with it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const PROGRAM = `
import ipaddress, json, re, socket, sys

FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}

def pton(host):
    for family in FAMILIES.values():
        try:
            return socket.inet_pton(family, host)
        except (OSError, ValueError):
            pass

def numeric(host):
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return socket.inet_pton(found[0][0], found[0][4][0])

def read(text):
    host, slash, prefix = text.partition('/')
    packed = pton(host)
    if packed is None:
        return None
    assert numeric(host) == packed, host
    bits = len(packed) * 8
    if slash:
        if not re.fullmatch('[1-9][0-9]?[0-9]?', prefix) or int(prefix) > bits:
            return None
        bits = int(prefix)
    network = ipaddress.ip_network((packed, bits), strict=False)
    if network.version == 6 and network.subnet_of(ipaddress.ip_network('::ffff:0:0/96')):
        if network.prefixlen == 96:
            return None
        network = ipaddress.ip_network((network.network_address.packed[12:], network.prefixlen - 96))
    first, last = network[0].packed, network[-1].packed
    family = FAMILIES[len(first)]
    text = socket.inet_ntop(family, first) + ('' if first == last else '/%d' % network.prefixlen)
    return {'text': text, 'first': first.hex(), 'last': last.hex()}

json.dump([read(text) for text in json.load(sys.stdin)], sys.stdout)
`;

/** An address or range: all of it from `first` to `last`. */
export interface Network {
  /** As glibc writes it, with `/prefix` for a range. */
  readonly text: string;
  readonly family: 4 | 6;
  readonly first: bigint;
  readonly last: bigint;
}

/** What each text is; undefined for what is no address, or a range of everything. */
export async function networksOf(texts: readonly string[]): Promise<(Network | undefined)[]> {
  // Not whatever python3 comes first in PATH: fail2ban's.
  const child = spawn('/usr/bin/python3', ['-I', '-c', PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
  let answer = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    answer += text;
  });
  child.stdin.end(JSON.stringify(texts));
  const [exitCode] = await once(child, 'close');
  if (exitCode !== 0) throw new Error(`the oracle ended with ${exitCode}`);
  const read: ({ text: string; first: string; last: string } | null)[] = JSON.parse(answer);
  return read.map((one) =>
    one === null
      ? undefined
      : {
          text: one.text,
          family: one.first.length === 8 ? 4 : 6,
          first: BigInt(`0x${one.first}`),
          last: BigInt(`0x${one.last}`),
        },
  );
}

/** The text of an address of which only the bits are known: every group written out. */
export function written(family: 4 | 6, bits: bigint): string {
  const size = family === 4 ? 8n : 16n;
  const parts = Array.from(
    { length: family === 4 ? 4 : 8 },
    (_, index) => (bits >> (size * BigInt((family === 4 ? 3 : 7) - index))) & ((1n << size) - 1n),
  );
  return family === 4 ? parts.join('.') : parts.map((part) => part.toString(16)).join(':');
}
