// A real redis-server, and hosts that share their bans over it: each a `banctl serve` with a list and a directory of its own.
//
//   await using engine = await startEngine();
//   await using a = await startHost({ name: 'a', engine });
//   await a.done('ban', '203.0.113.5');
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Status } from '../../src/fleet/status.ts';
import { executable } from './banctl.ts';
import { startServer } from './served.ts';
import { read } from './site.ts';
import { AT_REST, type Daemon, daemon, execute, type Finished, until } from './wait.ts';

export type Engine = AsyncDisposable & {
  readonly dir: string;
  readonly url: string;
  daemon(): Daemon;
  start(): Promise<void>;
  /** `redis-cli`, its answer without the line end. */
  ask(...words: string[]): Promise<string>;
};

/** @param options lines of redis.conf, as `--appendonly yes`; `place`: an existing directory, which is kept */
export async function startEngine(options: readonly string[] = [], place?: string): Promise<Engine> {
  const dir = place ?? mkdtempSync(join(tmpdir(), 'banctl-engine-'));
  const port = await freePort();
  const ask = async (...words: string[]) =>
    (await execute('redis-cli', ['-p', String(port), ...words])).stdout.replace(/\n$/, '');
  let server: Daemon;
  const start = async () => {
    const own = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      dir,
      '--save',
      '',
      '--loglevel',
      'warning',
    ];
    server = daemon('redis-server', [...own, ...options]);
    const isThere = async () => !server.running() || /PONG|NOAUTH/.test(await ask('ping'));
    await until('the engine to answer', isThere, { detail: () => server.output() });
    if (!server.running()) throw new Error(server.output());
  };
  await start();
  return {
    dir,
    url: `redis://127.0.0.1:${port}`,
    daemon: () => server,
    start,
    ask,
    async [Symbol.asyncDispose]() {
      await server.end('SIGKILL');
      if (place === undefined) rmSync(dir, AT_REST);
    },
  };
}

export type TlsEngine = Engine & {
  /** With TLS; `url` is without. */
  readonly secure: string;
  /** The file of the authority `ca`, which has signed the engine's certificate, or of `other`. */
  authority(name: 'ca' | 'other'): string;
};

export async function startTlsEngine(): Promise<TlsEngine> {
  const keys = mkdtempSync(join(tmpdir(), 'banctl-keys-'));
  const at = (file: string) => join(keys, file);
  for (const name of ['ca', 'other']) {
    const files = ['-keyout', at(`${name}.key`), '-out', at(`${name}.crt`)];
    const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
    await execute('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files, ...subject]);
  }
  const port = await freePort();
  const certificate = ['--tls-cert-file', at('ca.crt'), '--tls-key-file', at('ca.key')];
  const engine = await startEngine(['--tls-port', String(port), ...certificate, '--tls-auth-clients', 'no']);
  return {
    ...engine,
    secure: `rediss://127.0.0.1:${port}`,
    authority: (name) => at(`${name}.crt`),
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]();
      rmSync(keys, { recursive: true, force: true });
    },
  };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address !== null ? resolve(address.port) : reject(),
      );
    });
  });
}

export type HostOptions = {
  name: string;
  engine: { readonly url: string };
  /** Where its list and directory are; else new ones. */
  places?: { readonly banlist: string; readonly bandir: string | undefined };
  /** More of its configuration. */
  config?: Record<string, unknown>;
  /** An existing directory, which is kept. */
  dir?: string;
  program?: readonly [string, ...string[]];
  env?: Record<string, string>;
};

export type Host = AsyncDisposable & {
  readonly dir: string;
  readonly state: string;
  readonly list: string;
  readonly bandir: string | undefined;
  readonly config: string;
  daemon(): Daemon;
  start(): Promise<void>;
  run(...words: string[]): Promise<Finished>;
  done(...words: string[]): Promise<string>;
  status(): Status | undefined;
  connected(): Promise<Status>;
  /** The banned addresses, sorted. */
  banned(): string[];
  /** `ADDRESS HOLDER` of all holds, sorted. */
  holds(): string[];
  /** Awaits that the holds are these. */
  seen(...holds: string[]): Promise<void>;
};

export async function startHost(options: HostOptions): Promise<Host> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), `banctl-fleet-${options.name}-`));
  chmodSync(dir, 0o755);
  mkdirSync(dir, { recursive: true });
  const state = join(dir, 'fleet');
  const { banlist, bandir } = options.places ?? {
    banlist: join(dir, 'banlist.conf'),
    bandir: join(dir, 'bans'),
  };
  const config = join(dir, 'banctl.json');
  const settings = {
    banlist,
    ...(bandir === undefined ? {} : { bandir }),
    fleet: options.engine.url,
    'fleet-host': options.name,
    'fleet-state': state,
    socket: join(dir, 'socket'),
    record: join(dir, 'record'),
    ...(options.places === undefined ? { 'reload-command': 'true', 'no-fail2ban': true } : {}),
    ...options.config,
  };
  writeFileSync(config, JSON.stringify(settings));
  const [program, ...first] = options.program ?? [executable];
  const server = await startServer({
    dir,
    options: [`--config=${config}`],
    program: [program, ...first],
    env: options.env ?? {},
  });
  const run = (...words: string[]) => execute(program, [...first, ...words, `--config=${config}`]);
  const status = () => {
    const text = read(join(state, 'status.json'));
    return text === '' ? undefined : (JSON.parse(text) as Status);
  };
  const texts = () => [
    read(banlist),
    ...(bandir !== undefined && existsSync(bandir) ? readdirSync(bandir) : [])
      .filter((name) => /^[0-9a-f.:]+$/.test(name))
      .map((name) => read(join(bandir ?? '', name))),
  ];
  const holds = () =>
    texts()
      .flatMap((text) =>
        [...text.matchAll(/\| (\S+) (\S+) since /g)].map(([, holder, address]) => `${address} ${holder}`),
      )
      .sort();
  const detail = () =>
    `${options.name}: ${holds().join(', ')}\n${server.daemon().output()}\n${JSON.stringify(status())}`;
  return {
    dir,
    state,
    list: banlist,
    bandir,
    config,
    daemon: server.daemon,
    start: server.start,
    run,
    async done(...words) {
      const { exitCode, stdout, stderr } = await run(...words);
      assert.equal(exitCode, 0, `${words.join(' ')}: ${stdout}${stderr}`);
      return stdout;
    },
    status,
    connected: () =>
      until(`${options.name} to be connected`, () => (status()?.connected === true ? status() : undefined), {
        detail,
      }) as Promise<Status>,
    banned: () =>
      texts()
        .flatMap((text) => [...text.matchAll(/^Require not ip (\S+)$/gm)].map(([, address = '']) => address))
        .sort(),
    holds,
    seen: async (...wanted) => {
      const expected = JSON.stringify([...wanted].sort());
      await until(`${options.name} to hold ${expected}`, () => JSON.stringify(holds()) === expected, {
        detail,
      });
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      if (options.dir === undefined) rmSync(dir, AT_REST);
    },
  };
}
