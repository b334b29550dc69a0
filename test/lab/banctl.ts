// The built executable, as users run it.
import { join } from 'node:path';
import { execute, type Finished } from './wait.ts';

export const executable = join(import.meta.dirname, '..', '..', 'dist', 'banctl');

/** Runs `banctl ARGS` to its end. */
export function banctl(args: readonly string[], input = ''): Promise<Finished> {
  return execute(executable, [...args], input);
}

/** How the executable for arm64 is run on this machine: by qemu, with Debian's libraries of that architecture. */
export const emulatedCommand = [
  'qemu-aarch64-static',
  '-L',
  '/usr/aarch64-linux-gnu',
  `${executable}-arm64`,
] as const;

/** Runs `banctl ARGS`, built for arm64, to its end. */
export function emulated(args: readonly string[]): Promise<Finished> {
  const [qemu, ...words] = emulatedCommand;
  return execute(qemu, [...words, ...args]);
}

/** Runs it and gives the JSON document; an exit code other than `exitCode` fails the test, with what was said. */
export async function banctlJson<T>(args: readonly string[], exitCode = 0): Promise<T> {
  const finished = await banctl([...args, '--json']);
  if (finished.exitCode !== exitCode) {
    throw new Error(
      `banctl ${args.join(' ')} ended with ${finished.exitCode}: ${finished.stderr}${finished.stdout}`,
    );
  }
  return JSON.parse(finished.stdout) as T;
}
