import { statSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { isPending, lookAtState } from '../reload/state.ts';
import { namesOf } from '../reload/types.ts';
import { temporaryDirectoriesIn } from '../store/ban-files.ts';
import { Kept } from '../store/kept.ts';
import type { StoreOptions } from '../store/store.ts';
import { EXIT, type ExitCode, isBanctlError } from '../system/errors.ts';
import { type FileVersion, statFile } from '../system/read.ts';
import { removeRestingLocks } from '../system/takeover.ts';
import { warn } from '../terminal/print.ts';
import { Connection } from './connection.ts';
import { Ends } from './ends.ts';
import { collectWhenQuiet } from './heap.ts';
import { isPassed, listen } from './listen.ts';
import { Metrics } from './metrics.ts';
import { type Hello, monotonicSeconds, PROTOCOL, type Request } from './protocol.ts';
import { Queue } from './queue.ts';
import { Reloads } from './reloads.ts';
import { Restored } from './restored.ts';
import type { Commands, Reply, ServeOptions, Sharing, SharingAgent } from './types.ts';

/*
 * The resident: requests arrive on the socket and go through one queue into the store, with the same locks as calls, except for
 * the file of a new ban, which needs none. The resident also ends holds by hand and runs deferred reloads. Nothing here waits
 * synchronously.
 */

const MINUTE_MS = 60_000;
const ENDINGS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
/** The kernel marks the path if another version had replaced the executable before Node asked for it. */
const EXECUTABLE = process.execPath.replace(/ \(deleted\)$/, '');

/** Why it ends: a signal, or a new executable. */
type Ending = 'asked' | 'renewed';

class Resident {
  readonly #commands: Commands;
  readonly #metrics = new Metrics();
  readonly #kept = new Kept();
  readonly #reloads = new Reloads(this.#kept);
  readonly #queue = new Queue(this.#reloads);
  readonly #restored = new Restored();
  readonly #connections = new Set<Connection>();
  readonly #ends = new Map<string, Ends>();
  /** Undefined if it was replaced while this process started. */
  readonly #executable = ownVersion();
  readonly #version: string;
  #sharing: SharingAgent | undefined;
  #end: (ending: Ending) => void = () => {};
  readonly ended = new Promise<Ending>((resolve) => {
    this.#end = resolve;
  });

  constructor(commands: Commands, version: string) {
    this.#commands = commands;
    this.#version = version;
  }

  readonly connect = (socket: Socket): void => {
    this.#renewIfReplaced();
    const greeting = { banctl: PROTOCOL, version: this.#version, now: monotonicSeconds() };
    const connection = new Connection(socket, this.#answer, greeting, ({ fallbacks }) =>
      this.#metrics.fellBack(fallbacks),
    );
    this.#connections.add(connection);
    socket.on('close', () => this.#connections.delete(connection));
  };

  /** The work without requests. */
  start(options: StoreOptions): void {
    for (const signal of ENDINGS) process.on(signal, () => this.#end('asked'));
    setInterval(() => this.#minute(), MINUTE_MS).unref();
    this.#endHoldsOf(options);
    if (options.reloads && isPending(lookAtState(options.banlist), namesOf(options)))
      this.#reloads.later(options);
  }

  /** Changes of other servers go through the queue like those of callers. */
  async share({ start, options }: Sharing): Promise<void> {
    this.#sharing = await start((changes, sync) => {
      const work = { options: { ...options, sync }, changes };
      return this.#queue.change({ ...work, needs: undefined, skipped: [], onDone: () => {} });
    });
  }

  /** Answers the requests that it has begun, and finishes all work. */
  async stop(server: Server, ending: Ending): Promise<void> {
    server.close();
    await Promise.all([...this.#ends.values()].map((ends) => ends.close()));
    await this.#sharing?.close();
    await Promise.all([...this.#connections].map((connection) => connection.end()));
    await this.#queue.idle();
    await this.#reloads.finish();
    await this.#kept.close(ending === 'renewed');
  }

  readonly #answer = async (request: Request, hello: Hello, isWanted: () => boolean): Promise<Reply> => {
    if (request.command === 'status') return { exit: EXIT.done, said: this.#metrics.format().join('\n') };
    const began = monotonicSeconds();
    const count = (exit: number) =>
      request.command === 'status' ||
      this.#metrics.answered(request.command, exit, monotonicSeconds() - began);
    try {
      const said = await this.#do(request, hello, isWanted);
      count(said.exit);
      return said;
    } catch (error) {
      count(isBanctlError(error) ? error.exitCode : EXIT.internal);
      throw error;
    } finally {
      collectWhenQuiet();
      this.#renewIfReplaced();
    }
  };

  async #do(request: Request, hello: Hello, isWanted: () => boolean): Promise<Reply> {
    const work = await this.#commands.prepare(request, hello);
    if ('exit' in work) return work;
    const { options, needs } = work;
    using _lifts = work.lifts;
    this.#endHoldsOf(options);
    if (request.isRestored && needs !== undefined && this.#restored.has(options, needs))
      return { exit: EXIT.done, said: '' };
    const { outcomes, reload } = await this.#queue.change(work, isWanted);
    work.onDone(outcomes);
    return this.#commands.describe([...outcomes, ...work.skipped], reload);
  }

  /** Includes lists that only a jail's action names. */
  #endHoldsOf(options: StoreOptions): void {
    const place = `${options.banlist}\n${options.bandir ?? ''}`;
    if (this.#ends.has(place)) return;
    removeRestingLocks(options.banlist);
    // Another process that uses one of them makes its change again.
    for (const directory of options.bandir === undefined ? [] : temporaryDirectoriesIn(options.bandir))
      this.#kept.deleteLater(directory);
    const ends = new Ends({ ...options, isUrgent: false }, async (addresses) => {
      await this.#queue.change({
        options: ends.options,
        changes: addresses.map((address) => ({ verb: 'tidy', address })),
        needs: undefined,
        skipped: [],
        onDone: () => {},
      });
      this.#commands.recordEnded(addresses);
    });
    this.#ends.set(place, ends);
    void ends.look();
  }

  #minute(): void {
    this.#renewIfReplaced();
    this.#restored.forget();
    for (const ends of this.#ends.values()) void ends.look();
  }

  #renewIfReplaced(): void {
    const version = statFile(EXECUTABLE)?.version;
    // During an update the executable may be missing.
    if (version !== undefined && version !== this.#executable) this.#end('renewed');
  }
}

/**
 * Serves until a signal ends it.
 *
 * @throws BanctlError as of listen()
 */
export async function serve(
  options: ServeOptions,
  commands: Commands,
  version: string,
  sharing?: Sharing,
): Promise<ExitCode> {
  const resident = new Resident(commands, version);
  const server = await listen(options.socket, resident.connect);
  server.on('error', (error) => warn(`cannot take a connection: ${String(error)}`));
  resident.start(options);
  if (sharing !== undefined) await resident.share(sharing);
  const ending = await resident.ended;
  await resident.stop(server, ending);
  // systemd keeps the socket, and starts the new executable.
  if (ending === 'renewed' && !isPassed()) becomeNew();
  return EXIT.done;
}

function ownVersion(): FileVersion | undefined {
  const { version } = statFile(EXECUTABLE) ?? {};
  // Looked at last, so that a file that comes in between is no version of this process.
  return isReplaced() ? undefined : version;
}

/** True if this process runs a file without a name, and there is another one in its place. */
function isReplaced(): boolean {
  const names = (path: string) => statSync(path, { throwIfNoEntry: false })?.nlink ?? 0;
  return names('/proc/self/exe') === 0 && names(EXECUTABLE) > 0;
}

/**
 * Replaces itself by the same command line; the executable brings Node's options. Clients that connect in between run the
 * executable, or ask again.
 */
function becomeNew(): void {
  process.execve?.(EXECUTABLE, [EXECUTABLE, ...process.argv.slice(2)], process.env);
}
