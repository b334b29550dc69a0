// A `banctl serve` for the tests, and a client that speaks its protocol.
//
//   await using server = await startServer({ dir, options: ['--banlist=…'] });
//   const client = await server.connect();
//   const { exit, said } = await client.ask('ban', { address: '203.0.113.5', options: { jail: 'web' } });
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { executable } from './banctl.ts';
import { type Daemon, daemon, until } from './wait.ts';

export type Answer = { id: number; exit: number; said: string };

export type Client = AsyncDisposable & {
  readonly greeting: { banctl: number; version: string; now: number };
  ask(command: string, request: object): Promise<Answer>;
  /** Writes a line without waiting. */
  send(line: string): void;
  /** When the server has hung up. */
  readonly closed: Promise<void>;
  readonly socket: Socket;
};

export type Server = AsyncDisposable & {
  readonly socket: string;
  daemon(): Daemon;
  start(): Promise<void>;
  connect(hello?: object): Promise<Client>;
};

/** The variables that systemd gives the server. */
export function unitEnvironment(): Record<string, string> {
  const unit = join(import.meta.dirname, '..', '..', 'systemd', 'banctl.service');
  const lines = readFileSync(unit, 'utf8').matchAll(/^Environment=(.*)$/gm);
  const variables = [...lines].flatMap(([, words = '']) => words.split(' '));
  return Object.fromEntries(variables.map((variable) => variable.split('=') as [string, string]));
}

/** Megabytes of a process that are no file's: the program itself is mapped from its file. */
export function ownMegabytes(process: Daemon): number {
  return megabytes('RssAnon', process);
}

/** All megabytes of a process that are in memory. */
export function residentMegabytes(process: Daemon): number {
  return megabytes('VmRSS', process);
}

function megabytes(field: string, { pid }: Daemon): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1]) / 1024;
}

/** The bans of a directory by their names, sorted: without locks, and what a server keeps there for files to come. */
export function banNames(bandir: string): string[] {
  if (!existsSync(bandir)) return [];
  return readdirSync(bandir)
    .filter((name) => !/\.lock$|\.banctl-/.test(name))
    .sort();
}

export async function startServer(options: {
  dir: string;
  options: readonly string[];
  env?: Record<string, string>;
  program?: readonly [string, ...string[]];
}): Promise<Server> {
  const socket = join(options.dir, 'socket');
  const [program, ...words] = options.program ?? [executable];
  let server: Daemon;
  const start = async () => {
    server = daemon(program, [...words, 'serve', `--socket=${socket}`, ...options.options], options.env);
    await until('the server to answer', () => !server.running() || isAnswered(socket), {
      detail: () => server.output(),
    });
    if (!server.running()) throw new Error(`the server does not start: ${server.output()}`);
  };
  await start();
  return {
    socket,
    daemon: () => server,
    start,
    connect: (hello) => connectTo(socket, hello),
    [Symbol.asyncDispose]: () => server.end('SIGKILL'),
  };
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

export async function connectTo(path: string, hello: object = { banctl: 1, env: {} }): Promise<Client> {
  const socket = connect(path);
  const waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  let greet: (greeting: Client['greeting']) => void = () => {};
  const greeted = new Promise<Client['greeting']>((resolve, reject) => {
    greet = resolve;
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the server has hung up')));
  });
  let rest = '';
  let isGreeted = false;
  socket.setEncoding('utf8').on('data', (piece: string) => {
    const lines = (rest + piece).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const message = JSON.parse(line);
      if (!isGreeted) greet(message);
      else if ('exit' in message) waiting.get(message.id)?.resolve(message);
      isGreeted = true;
    }
  });
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      for (const { reject } of waiting.values()) reject(new Error('the server has hung up'));
      resolve();
    });
  });
  const greeting = await greeted;
  socket.write(`${JSON.stringify(hello)}\n`);
  let number = 0;
  return {
    greeting,
    closed,
    socket,
    send: (line) => void socket.write(`${line}\n`),
    ask(command, request) {
      number += 1;
      const id = number;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        socket.write(`${JSON.stringify({ id, do: command, ...request })}\n`);
      });
    },
    async [Symbol.asyncDispose]() {
      socket.destroy();
    },
  };
}
