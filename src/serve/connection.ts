import type { Socket } from 'node:net';
import { EXIT, isBanctlError, lineOf } from '../system/errors.ts';
import { warn } from '../terminal/print.ts';
import {
  type Answer,
  type Greeting,
  type Hello,
  LineReader,
  monotonicSeconds,
  ProtocolError,
  type Request,
  readHello,
  readRequest,
} from './protocol.ts';
import type { Reply } from './types.ts';

/** How long a client waits for a sign of life; the server sends each well before that. Seconds. */
export const PATIENCE = 5;
const SIGN_SECONDS = 1;
/** Longest answer, because fail2ban reads it only after the action has ended. Characters. */
const LONGEST_SAID = 4000;

/** Answers a request while `isWanted` says that its client still waits. */
export type Answering = (request: Request, hello: Hello, isWanted: () => boolean) => Promise<Reply>;

/** One client; its requests are answered in order. */
export class Connection {
  readonly #socket: Socket;
  readonly #answering: Answering;
  readonly #lines = new LineReader();
  #hello: Hello | undefined;
  #last: Promise<void> = Promise.resolve();
  #isEnding = false;

  constructor(socket: Socket, answering: Answering, greeting: Greeting, onHello: (hello: Hello) => void) {
    this.#socket = socket;
    this.#answering = answering;
    socket.setEncoding('utf8');
    socket.on('error', () => {});
    socket.on('data', (piece: string) => this.#take(piece, onHello));
    this.#send(greeting);
  }

  /** Answers the requests that it has read, and disconnects: later requests are for the next server. */
  async end(): Promise<void> {
    this.#isEnding = true;
    this.#socket.pause();
    await this.#last;
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve());
      if (this.#socket.destroyed) resolve();
      this.#socket.destroySoon();
    });
  }

  #take(piece: string, onHello: (hello: Hello) => void): void {
    if (this.#isEnding) return;
    try {
      for (const line of this.#lines.take(piece)) {
        if (this.#hello === undefined) {
          this.#hello = readHello(line);
          onHello(this.#hello);
        } else this.#begin(readRequest(line), this.#hello);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      warn(`cannot understand a client: ${error.message}; does its action have another version?`);
      this.#socket.destroy();
    }
  }

  #begin(request: Request, hello: Hello): void {
    this.#last = this.#last.then(() => this.#answer(request, hello));
  }

  async #answer(request: Request, hello: Hello): Promise<void> {
    const isSlow = request.command === 'sync' || request.command === 'flush';
    let { before } = request;
    const isWanted = () => !this.#socket.destroyed && monotonicSeconds() < before;
    const signs = setInterval(() => {
      // The clients of a process that was stopped for long have given up.
      if (!isWanted()) return;
      before = monotonicSeconds() + PATIENCE - SIGN_SECONDS;
      this.#send({ id: request.id, busy: true });
    }, SIGN_SECONDS * 1000);
    if (!isSlow) clearInterval(signs);
    try {
      const { exit, said } = await this.#answering(request, hello, isWanted).catch(failed);
      this.#send({ id: request.id, exit, said: said.slice(0, LONGEST_SAID) } satisfies Answer);
    } finally {
      clearInterval(signs);
    }
  }

  #send(message: object): void {
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(message)}\n`);
  }
}

/** Formats the end of a call as main.ts does. */
function failed(error: unknown): Reply {
  if (isBanctlError(error)) return { exit: error.exitCode, said: `banctl: ${lineOf(error)}` };
  const said = `banctl: ${String(error)}; this is a bug in banctl, please report it`;
  warn(said.slice('banctl: '.length));
  return { exit: EXIT.internal, said };
}
