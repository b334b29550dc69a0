import type { Given } from '../cli/arguments.ts';
import { isOptionName, optionOf } from '../cli/options.ts';

/*
 * The protocol between `action.d/apache-banlist.py` and `banctl serve`: one JSON object on each line, see docs/serve.md. The
 * server speaks first and names its protocol, so that each side recognizes a foreign program.
 */

export const PROTOCOL = 1;
/** Limit of one line, in bytes: it is about one address. */
export const LONGEST_LINE = 2 ** 20;

/** The bytes are not this protocol, or another version of it: the connection ends. */
export class ProtocolError extends Error {}

export interface Greeting {
  readonly banctl: number;
  readonly version: string;
  /** The server's monotonic clock, in seconds, on which `before` of a request is based. */
  readonly now: number;
}

/** The client's first line. */
export interface Hello {
  /** banctl's variables in the client's environment; they have the same effect as for a call. */
  readonly env: Readonly<Record<string, string>>;
  /** How many times the client has run the executable since its last report. */
  readonly fallbacks: number;
}

export const SERVED = ['ban', 'unban', 'flush', 'sync'] as const;
export type ServedCommand = (typeof SERVED)[number];

export interface Request {
  readonly id: number;
  readonly command: ServedCommand | 'status';
  readonly given: Given;
  readonly address: string | undefined;
  /** The ban comes from fail2ban's database, which the sync at the start has already read. */
  readonly isRestored: boolean;
  /** The deadline: afterwards the client no longer waits, and nothing may change. Seconds of the server's monotonic clock. */
  readonly before: number;
}

export interface Answer {
  readonly id: number;
  readonly exit: number;
  readonly said: string;
}

/** Splits incoming bytes into lines. */
export class LineReader {
  #rest = '';

  /** @throws ProtocolError for a line without end */
  take(piece: string): string[] {
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > LONGEST_LINE) throw new ProtocolError('a line is too long');
    return lines;
  }
}

/** @throws ProtocolError */
export function readHello(line: string): Hello {
  const { banctl, env = {}, fallbacks = 0 } = readObject(line);
  if (banctl !== PROTOCOL) throw new ProtocolError(`the client speaks protocol ${String(banctl)}`);
  if (typeof env !== 'object' || env === null) throw new ProtocolError('the environment is not an object');
  const variables = Object.entries(env).filter(([name]) => name.startsWith('BANCTL_'));
  return {
    env: Object.fromEntries(variables.map(([name, value]) => [name, String(value)])),
    fallbacks: Number.isSafeInteger(fallbacks) && Number(fallbacks) > 0 ? Number(fallbacks) : 0,
  };
}

/** @throws ProtocolError */
export function readRequest(line: string): Request {
  const { id, do: command, options = {}, address, restored, before } = readObject(line);
  if (typeof id !== 'number' || !Number.isSafeInteger(id)) throw new ProtocolError('a request has no number');
  if (command !== 'status' && !SERVED.some((served) => served === command))
    throw new ProtocolError('a request has no command that is served');
  if (address !== undefined && typeof address !== 'string')
    throw new ProtocolError('an address is not a string');
  if (before !== undefined && typeof before !== 'number') throw new ProtocolError('a time is not a number');
  return {
    id,
    command: command as Request['command'],
    given: readOptions(command as Request['command'], options),
    address,
    isRestored: restored === true,
    before: before ?? Number.POSITIVE_INFINITY,
  };
}

function readOptions(command: Request['command'], options: unknown): Given {
  if (typeof options !== 'object' || options === null)
    throw new ProtocolError('the options are not an object');
  const given: Record<string, boolean | readonly string[]> = {};
  for (const [name, value] of Object.entries(options)) {
    if (command === 'status' || !isOptionName(name) || !optionOf(name).commands.includes(command))
      throw new ProtocolError(`${command} has no option ${name}`);
    given[name] = optionOf(name).kind === 'flag' ? value === true : [String(value)];
  }
  return given;
}

function readObject(line: string): Record<string, unknown> {
  let document: unknown;
  try {
    document = JSON.parse(line);
  } catch {
    throw new ProtocolError('a line is not JSON');
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new ProtocolError('a line is not a JSON object');
  return document as Record<string, unknown>;
}

/** Seconds of a monotonic clock. */
export function monotonicSeconds(): number {
  return performance.now() / 1000;
}
