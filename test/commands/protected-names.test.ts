// Host names in `protect`: the audit resolves them with the system's resolver, and a ban reads what it wrote.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { executable } from '../lab/banctl.ts';
import { execute } from '../lab/wait.ts';

const HOME = 'home.example.org';
const OFFICE = 'office.example.org';
const [OLD, NEW, OTHER, V6] = ['203.0.113.5', '203.0.113.9', '203.0.113.77', '2001:db8::5'] as const;

interface Finding {
  readonly code: string;
  readonly message: string;
  readonly address?: string;
  readonly fixed: boolean;
}

suite('a host name in protect', () => {
  let directory = '';
  const at = (name: string) => join(directory, name);
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'banctl-names-'));
    writeFileSync(at('nsswitch.conf'), 'hosts: files\n');
    writeFileSync(at('banlist'), '');
    writeFileSync(at('banctl.json'), JSON.stringify({ protect: [HOME, 'Office.Example.org'] }));
    hosts();
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** What the system's resolver knows. */
  const hosts = (...lines: string[]) =>
    writeFileSync(at('hosts'), ['127.0.0.1 localhost', ...lines, ''].join('\n'));
  const MOUNTS =
    'mount --bind "$1/hosts" /etc/hosts; mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf; shift; exec "$@"';
  const run = (...command: string[]) =>
    execute('unshare', ['--mount', 'sh', '-e', '-c', MOUNTS, 'sh', directory, ...command]);
  const places = () => [
    `--config=${at('banctl.json')}`,
    `--banlist=${at('banlist')}`,
    `--record=${at('state/record')}`,
  ];
  const banctl = (...args: string[]) => run(executable, ...args, '--no-reload', ...places());
  const audit = async (...args: string[]) => {
    const { stdout, stderr } = await banctl('audit', '--json', '--no-fail2ban', '--apachectl=false', ...args);
    assert.equal(stderr, '');
    return (JSON.parse(stdout).findings as Finding[]).filter(({ code }) =>
      ['unresolved-name', 'protected'].includes(code),
    );
  };
  const messages = (findings: readonly Finding[]) => findings.map(({ message }) => message).sort();
  const ban = async (address: string, ...more: string[]) =>
    (await banctl('ban', address, '--jail=web', ...more)).exitCode;

  test('is never banned at the addresses that the audit found, and keeps the last of them', async () => {
    hosts(`${OLD} ${HOME}`, `${V6} ${HOME}`, `${OTHER} ${OFFICE}`);
    assert.deepEqual(messages(await audit()), [
      `${HOME} is ${OLD}, ${V6} now, not protected yet; run banctl audit --fix`,
      `${OFFICE} is ${OTHER} now, not protected yet; run banctl audit --fix`,
    ]);
    assert.deepEqual(await audit('--fix'), []);
    for (const address of [OLD, V6, OTHER]) assert.equal(await ban(address), 77);
    assert.equal(await ban(OLD, '--ipv4-prefix=24'), 77);
    assert.equal(await ban('203.0.113.6'), 0);

    // The name has moved, and the other does not resolve any more.
    hosts(`${NEW} ${HOME}`);
    const [found] = await audit('--fix');
    assert.equal(
      found?.message,
      `${OFFICE} does not resolve (no such name); its last address ${OTHER} stays protected`,
    );
    assert.deepEqual(
      [await ban(NEW), await ban(OTHER), await ban(OLD), await ban(V6)],
      [77, 77, 0, 0],
      readFileSync(at('state/protected-names'), 'utf8'),
    );

    // A resolver that knows nothing, and a file that was removed by hand.
    hosts();
    assert.equal((await audit('--fix')).length, 2);
    assert.deepEqual([await ban(NEW), await ban(OTHER)], [77, 77]);
    rmSync(at('state/protected-names'));
    assert.deepEqual(messages(await audit('--fix')), [
      `${HOME} does not resolve (no such name) and protects nothing; correct it in "protect"`,
      `${OFFICE} does not resolve (no such name) and protects nothing; correct it in "protect"`,
    ]);
    assert.equal(await ban(NEW), 0);
  });

  test('that comes to stand for a banned address is reported, and its network is not banned any more', async () => {
    hosts(`${OTHER} ${HOME} ${OFFICE}`);
    await audit('--fix');
    const widely = '--widen-after=3';
    for (const last of [1, 2, 3]) assert.equal(await ban(`198.51.100.${last}`, widely), 0);
    assert.match(readFileSync(at('banlist'), 'utf8'), /^Require not ip 198\.51\.100\.0\/24$/m);
    hosts(`198.51.100.1 ${HOME}`, `198.51.100.200 ${OFFICE}`);
    const found = await audit('--fix');
    assert.deepEqual(
      found.map(({ code, address, fixed }) => [code, address, fixed]),
      [
        ['protected', '198.51.100.0/24', true],
        ['protected', '198.51.100.1', false],
      ],
    );
    const list = readFileSync(at('banlist'), 'utf8');
    assert.deepEqual(list.match(/^Require not ip .*$/gm), [
      'Require not ip 198.51.100.1',
      'Require not ip 198.51.100.2',
      'Require not ip 198.51.100.3',
    ]);
  });

  test('is looked up by no ban, whatever its file looks like', async () => {
    hosts(`${OLD} ${HOME}`);
    await audit('--fix');
    const traced = await run(
      'strace',
      ...['-f', '-qq', '-e', 'trace=%file,%network', '-o', at('calls')],
      ...[executable, 'ban', OLD, '--no-reload', ...places()],
    );
    assert.equal(traced.exitCode, 77);
    assert.doesNotMatch(readFileSync(at('calls'), 'utf8'), /\/etc\/(?:hosts|resolv\.conf)|socket\(AF_INET/);
    for (const text of ['\0\xff', `${HOME}\n${HOME} x 999 ${OLD}`, '\n\n'.repeat(1000)]) {
      writeFileSync(at('state/protected-names'), text);
      assert.equal(await ban('203.0.113.6'), 0, text.slice(0, 20));
    }
    rmSync(at('state'), { recursive: true });
    writeFileSync(at('state'), 'in the way');
    assert.equal(await ban('203.0.113.7'), 0);
    assert.match(messages(await audit('--fix')).join('\n'), /cannot make .*state/);
    assert.deepEqual(messages(await audit('--fix', '--dry-run')).length, 2);
  });

  test('must have two labels, and no character that an address has', async () => {
    for (const name of [
      'localhost',
      '10.1',
      '203.0.113.5x',
      'a..b',
      '-a.example.org',
      'a.example.org.',
      'a b.org',
    ])
      assert.equal((await banctl('ban', OLD, `--protect=${name}`)).exitCode, 64, name);
    for (const name of ['a.example.org', 'xn--bcher-kva.example', 'my_host.dyn.example.org'])
      assert.equal((await banctl('ban', OLD, `--protect=${name}`)).exitCode, 0, name);
  });
});
