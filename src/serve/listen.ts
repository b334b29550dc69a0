import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { BanctlError, EXIT, type Reason, reasonOf, systemCode } from '../system/errors.ts';
import { withLock } from '../system/lock.ts';

/** The first descriptor that systemd passes: sd_listen_fds(3). */
const FIRST_PASSED = 3;
/** Only root, or the user who runs banctl, may search the directory and open the socket. */
const DIRECTORY_MODE = 0o700;
const SOCKET_UMASK = 0o177;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
const LOCK_SECONDS = 5;

/**
 * Listens on the socket that systemd opened, or on one of its own.
 *
 * @throws BanctlError cannotWrite; lockBusy if another process answers there
 */
export async function listen(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onConnection);
  if (isPassed()) {
    forgetPassed();
    await listening(server, () => server.listen({ fd: FIRST_PASSED }), path);
    return server;
  }
  makePrivate(dirname(path));
  if (await isAnswered(path))
    throw new BanctlError(
      EXIT.lockBusy,
      `another banctl serves at ${path}`,
      'stop it, or give another --socket',
    );
  // Two servers that start at once must not remove each other's socket.
  const bind = () => {
    removeStale(path);
    const umask = process.umask(SOCKET_UMASK);
    try {
      return listening(server, () => server.listen(path), path);
    } finally {
      process.umask(umask);
    }
  };
  await withLock(path, { timeout: LOCK_SECONDS }, bind);
  return server;
}

/** True if systemd started this process for its socket, and keeps the socket when the process ends. */
export function isPassed(): boolean {
  const { LISTEN_FDS, LISTEN_PID } = process.env;
  return isKept || (LISTEN_PID === String(process.pid) && Number(LISTEN_FDS) >= 1);
}

let isKept = false;

/** Programs that banctl runs must not treat the socket as theirs. */
function forgetPassed(): void {
  isKept = true;
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete process.env[name];
}

/** The socket is bound when `start` returns; the lock and the umask must last until then. */
function listening(server: Server, start: () => void, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(path, reasonOf(error))));
    server.once('listening', resolve);
    start();
  });
}

function makePrivate(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
  } catch (error) {
    throw cannotListen(directory, reasonOf(error));
  }
  const { uid, mode } = lstatSync(directory);
  const isOurs = uid === 0 || uid === process.geteuid?.();
  if (!isOurs || ((mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0))
    throw cannotListen(directory, {
      why: 'other users could replace the socket there',
      hint: 'chmod 700 it, or give another --socket',
    });
}

function removeStale(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw cannotListen(path, { why: 'something else is in its place', hint: 'move it away' });
  try {
    unlinkSync(path);
  } catch (error) {
    throw cannotListen(path, reasonOf(error));
  }
}

/** The socket of a killed process refuses connections. */
export function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (isThere: boolean) => {
      socket.destroy();
      resolve(isThere);
    };
    socket.on('connect', () => end(true));
    // A full queue belongs to a living process.
    socket.on('error', (error) => end(systemCode(error) === 'EAGAIN'));
  });
}

function cannotListen(path: string, { why, hint }: Reason): BanctlError {
  return new BanctlError(EXIT.cannotWrite, `cannot listen at ${path}: ${why}`, hint);
}
