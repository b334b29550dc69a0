import { closeSync, fsyncSync, openSync } from 'node:fs';

/** A rename, or a new directory, is on the disk once its parent directory is: fsync(2). */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
