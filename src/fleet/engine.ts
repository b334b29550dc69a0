import type { Redis } from 'iovalkey';
import { explain, messageOf } from './engine-errors.ts';
import { FUTURE_SECONDS, isLiftKey, LONGEST_VALUE, REMEMBERED_SECONDS } from './entry.ts';
import { ALL } from './lift-notes.ts';
import type { Push } from './rules.ts';

/*
 * The Redis or Valkey that hosts share: five keys with one hash tag, two scripts, a snapshot and a log. Two plain connections,
 * one for commands, one that waits for the log. The agent reconnects by itself, because the client's own reconnection
 * notices a hung engine only after many seconds.
 */

export interface EngineOptions {
  /** `redis://HOST`, `rediss://HOST`, or `unix:/PATH`. */
  readonly url: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** The text of the certificate authority; undefined: those of the system. */
  readonly ca: string | undefined;
  /** The prefix of the keys. */
  readonly name: string;
}

/** A change that took effect, as the log records it. */
export type Logged =
  | readonly ['h', field: string, value: string]
  | readonly ['d', field: string]
  | readonly ['l', key: string, time: number]
  | readonly ['x', before: number];

export interface LogEntry {
  readonly id: string;
  readonly n: number;
  readonly by: string;
  readonly changes: readonly Logged[];
}

export interface Beat {
  readonly n: number;
  readonly holds: number;
  readonly lifts: number;
  /** Milliseconds since the epoch, as the engine's clock has it. */
  readonly timeMs: number;
  readonly hosts: ReadonlyMap<string, string>;
  /** The previous introduction under this host's name; empty if there is none. */
  readonly before: string;
}

export interface Snapshot {
  readonly n: number;
  /** The last entry of the log. */
  readonly id: string;
  readonly holds: ReadonlyMap<string, string>;
  readonly lifts: ReadonlyMap<string, number>;
}

const CONNECT_MS = 4000;
const COMMAND_MS = 3500;
const BLOCK_MS = 2000;
/** Most pushes in one call of the script. */
export const MOST_PUSHES = 500;
const SCAN_COUNT = 1000;
const LOG_LENGTH = 10_000;
const LOG_SECONDS = 3600;
/** No fleet has more holds: it is an attack, or another program's keys. */
export const MOST_HOLDS = 250_000;
/** Limit of one reply: a thousand values of a megabyte each would take all memory. Bytes. */
const LONGEST_REPLY = 64 * 2 ** 20;

/** `h` sets a field if the value differs; with c[5], only if the field still has that value. */
const CHANGE = `
local now = tonumber(redis.call('TIME')[1])
local done = {}
for _, c in ipairs(cjson.decode(ARGV[2])) do
  local op, key = c[1], c[2]
  if op == 'h' then
    local value = '[' .. string.format('%.0f', math.min(c[3], now)) .. c[4]
    local old = redis.call('HGET', KEYS[1], key) or ''
    if old ~= value and (c[5] == nil or c[5] == old) then
      redis.call('HSET', KEYS[1], key, value)
      done[#done + 1] = {'h', key, value}
    end
  elseif op == 'd' then
    if redis.call('HGET', KEYS[1], key) == c[3] then
      redis.call('HDEL', KEYS[1], key)
      done[#done + 1] = {'d', key}
    end
  elseif op == 'l' then
    local time = math.min(c[3], now)
    if redis.call('ZADD', KEYS[2], 'GT', 'CH', string.format('%.0f', time), key) == 1 then
      done[#done + 1] = {'l', key, time}
    end
  elseif op == 'x' then
    local before = math.min(key, now - ${REMEMBERED_SECONDS})
    local old = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', before))
    local future = redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now + ${FUTURE_SECONDS}), '+inf')
    if old + future > 0 then
      done[#done + 1] = {'x', before}
    end
    redis.call('XTRIM', KEYS[3], 'MINID', '~', string.format('%.0f', (now - ${LOG_SECONDS}) * 1000))
  end
end
if #done > 0 then
  local n = redis.call('INCR', KEYS[4])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ${LOG_LENGTH}, '*', 'n', n, 'by', ARGV[1], 'c', cjson.encode(done))
end
return #done`;

/** Introduces a host, and returns the numbers by which it knows whether it has heard everything. */
const BEAT = `
local before = redis.call('HGET', KEYS[5], ARGV[1]) or ''
if ARGV[1] ~= '' then redis.call('HSET', KEYS[5], ARGV[1], ARGV[2]) end
for i = 3, #ARGV do redis.call('HDEL', KEYS[5], ARGV[i]) end
local time = redis.call('TIME')
return {before, redis.call('GET', KEYS[4]) or '0', redis.call('HLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), time[1], time[2],
  redis.call('HGETALL', KEYS[5])}`;

/** An error of the engine or its connection; the message says what to do. */
export class EngineError extends Error {}

export class Engine {
  readonly #commands: Redis;
  readonly #log: Redis;
  readonly #keys: readonly string[];
  #isClosed = false;

  readonly #failures: readonly unknown[];

  private constructor(commands: Redis, log: Redis, name: string, failures: readonly unknown[]) {
    this.#failures = failures;
    this.#commands = commands;
    this.#log = log;
    this.#keys = ['holds', 'lifts', 'log', 'seq', 'hosts'].map((key) => `{${name}}:${key}`);
  }

  /** @throws EngineError */
  static async connect(options: EngineOptions, onEnd: () => void, url = options.url): Promise<Engine> {
    const { Redis: Client } = await import('iovalkey');
    // The client reports the cause as an event; the waiting call fails only with `Connection is closed`.
    const failures: unknown[] = [];
    const make = () => {
      const client = new Client(clientOptions(options, url));
      client.on('error', (error) => failures.push(error));
      limitReplies(client, (error) => failures.push(error));
      return client;
    };
    const engine = new Engine(make(), make(), options.name, failures);
    try {
      // One after the other: a TLS handshake that is cut off, since the other failed, would end the process by an error.
      await engine.#commands.connect();
      await engine.#log.connect();
      await engine.#commands.get(engine.#key(3));
    } catch (error) {
      // What the client reports of a refused password comes after the answer to the command that was sent behind it.
      await new Promise(setImmediate);
      engine.close();
      const moved = /^MOVED \d+ (\S+):(\d+)$/.exec(messageOf(error));
      if (moved !== null && url === options.url)
        return Engine.connect(options, onEnd, movedTo(options.url, moved[1] ?? '', moved[2] ?? ''));
      throw new EngineError(explain(engine.reason(error), options));
    }
    for (const client of [engine.#commands, engine.#log])
      client.on('end', () => {
        if (!engine.#isClosed) onEnd();
      });
    return engine;
  }

  close(): void {
    this.#isClosed = true;
    this.#commands.disconnect();
    this.#log.disconnect();
  }

  /** The cause of a call's failure: that of its connection, if it was closed, or its password was refused. */
  reason(error: unknown): unknown {
    return isOfConnection(error) ? (this.#failures[0] ?? error) : error;
  }

  /** Takes at most {@link MOST_PUSHES}; returns how many took effect. */
  async change(by: string, pushes: readonly Push[], forgetBefore?: number): Promise<number> {
    const changes: unknown[] = pushes.map((push) => {
      if (push.push === 'lift') return ['l', push.key, push.time];
      if (push.push === 'drop') return ['d', push.field, push.seen];
      const { since, until, reason } = push.value;
      const tail = `,${JSON.stringify([until, reason]).slice(1)}`;
      return ['h', push.field, since, tail, ...(push.over === undefined ? [] : [push.over])];
    });
    if (forgetBefore !== undefined) changes.push(['x', forgetBefore]);
    return Number(await this.#eval(CHANGE, by, JSON.stringify(changes)));
  }

  /** @param host empty: introduces no host */
  async beat(host: string, said: string, gone: readonly string[] = []): Promise<Beat> {
    const answer = (await this.#eval(BEAT, host, said, ...gone)) as [
      ...[string, string, number, number, string, string],
      string[],
    ];
    const [before, n, holds, lifts, seconds, micros, flat] = answer;
    const timeMs = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
    const hosts = new Map(pairsOf(flat));
    return { n: Number(n), holds: Number(holds), lifts: Number(lifts), timeMs, hosts, before };
  }

  /** The log after `n` has what changes during the reading. Applying such an entry twice does no harm. */
  async snapshot(): Promise<Snapshot> {
    const [, , log, seq] = this.#keys as [string, string, string, string];
    const [last] = await this.#commands.xrevrange(log, '+', '-', 'COUNT', 1);
    const next = Number((await this.#commands.get(seq)) ?? 0);
    const n = last === undefined ? next : Math.min(next, Number(last[1][1] ?? 0));
    return { n, id: last?.[0] ?? '0', holds: await this.#scan(), lifts: await this.#lifts() };
  }

  async #scan(): Promise<Map<string, string>> {
    const holds = new Map<string, string>();
    let [cursor, bytes] = ['0', 0];
    do {
      const [next, flat] = await this.#commands.hscan(this.#key(0), cursor, 'COUNT', SCAN_COUNT);
      for (const [field, value] of pairsOf(flat)) {
        // No host would read a value of this length.
        holds.set(field, value.length > LONGEST_VALUE ? '' : value);
        bytes += field.length;
      }
      cursor = next;
    } while (cursor !== '0' && holds.size < MOST_HOLDS && bytes < LONGEST_REPLY);
    return holds;
  }

  async #lifts(): Promise<Map<string, number>> {
    const lifts = new Map<string, number>();
    for (let at = 0; at < MOST_HOLDS; at += SCAN_COUNT) {
      const flat = await this.#commands.zrange(this.#key(1), at, at + SCAN_COUNT - 1, 'WITHSCORES');
      for (const [key, time] of pairsOf(flat)) if (isLiftKey(key)) lifts.set(key, Number(time));
      if (flat.length < 2 * SCAN_COUNT) break;
    }
    return lifts;
  }

  /** Waits up to two seconds for what follows `id`. */
  async read(id: string): Promise<LogEntry[]> {
    const answer = await this.#log.xread('COUNT', 100, 'BLOCK', BLOCK_MS, 'STREAMS', this.#key(2), id);
    return (answer ?? []).flatMap(([, entries]) => entries.map(readEntry));
  }

  #key(index: number): string {
    return this.#keys[index] ?? ALL;
  }

  #eval(script: string, ...words: string[]): Promise<unknown> {
    return this.#commands.eval(script, this.#keys.length, ...this.#keys, ...words);
  }
}

/** The engine answers with fields and values in one row. */
function pairsOf(flat: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < flat.length; at += 2) pairs.push([flat[at] ?? '', flat[at + 1] ?? '']);
  return pairs;
}

/** Hangs up on a reply that is too long. */
function limitReplies(client: Redis, onTooLong: (error: Error) => void): void {
  let received = 0;
  const sendCommand = client.sendCommand.bind(client);
  client.sendCommand = (command, ...more) => {
    received = 0;
    return sendCommand(command, ...more);
  };
  client.on('connect', () =>
    client.stream.on('data', (piece: Buffer) => {
      received += piece.length;
      if (received <= LONGEST_REPLY) return;
      onTooLong(new Error('a reply is too long'));
      client.disconnect();
    }),
  );
}

function readEntry([id, flat]: [id: string, fields: string[]]): LogEntry {
  const parts = new Map(pairsOf(flat));
  let changes: unknown;
  try {
    changes = JSON.parse(parts.get('c') ?? '');
  } catch {
    changes = undefined;
  }
  const isReadable = Array.isArray(changes) && changes.every((change) => Array.isArray(change));
  // NaN makes the agent read everything again.
  const n = isReadable ? Number(parts.get('n')) : Number.NaN;
  return { id, n, by: parts.get('by') ?? '', changes: isReadable ? (changes as Logged[]) : [] };
}

function clientOptions({ user, password, ca }: EngineOptions, url: string) {
  const parsed = new URL(url);
  const isSocket = parsed.protocol === 'unix:';
  return {
    ...(isSocket
      ? { path: decodeURIComponent(parsed.pathname) }
      : { host: parsed.hostname.replace(/^\[|\]$/g, ''), port: Number(parsed.port || 6379) }),
    ...(parsed.protocol === 'rediss:' ? { tls: ca === undefined ? {} : { ca } } : {}),
    ...(user === undefined ? {} : { username: user }),
    ...(password === undefined ? {} : { password }),
    lazyConnect: true,
    connectTimeout: CONNECT_MS,
    commandTimeout: COMMAND_MS,
    keepAlive: 30_000,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  };
}

/** A cluster's node names another by address. An empty host means the same host. */
function movedTo(url: string, host: string, port: string): string {
  const target = new URL(url);
  if (host !== '') target.hostname = host.includes(':') ? `[${host}]` : host;
  target.port = port;
  return target.href;
}

function isOfConnection(error: unknown): boolean {
  return /Connection is closed|Stream isn't writeable|NOAUTH/.test(messageOf(error));
}
