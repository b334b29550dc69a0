// A `banctl serve`, the program of the executable (shipped.ts), that kills itself right before one of its calls: of the file
// system in its directory, or of the engine. It answers each message with the number of calls so far.
//
//   killed-agent.ts DIRECTORY PORT CALL CONFIG
import { Socket } from 'node:net';
import { watchedFileSystem } from './file-calls.ts';
import { shippedProgram } from './shipped.ts';

const [directory = '', port, before, config] = process.argv.slice(2);
const STANDARD_ERROR = 2;
let calls = 0;

function count(): void {
  calls += 1;
  if (calls !== Number(before)) return;
  process.kill(process.pid, 'SIGKILL');
  // Another thread may take the signal: until it has, this one may not go on.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
}

const fileSystem = watchedFileSystem((_name, [subject], call) => {
  const isHere =
    typeof subject === 'number' ? subject > STANDARD_ERROR : String(subject).startsWith(directory);
  if (isHere) count();
  return call();
});

const { write } = Socket.prototype;
Socket.prototype.write = function (this: Socket, ...args: Parameters<typeof write>) {
  if (this.remotePort === Number(port)) count();
  return write.apply(this, args);
} as typeof write;

process.on('message', () => process.send?.(calls));
void shippedProgram({ fs: fileSystem })(['serve', `--config=${config}`]);
