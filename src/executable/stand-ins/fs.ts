// Stands in for fs in write-file-atomic (see tools/bundle.ts), which opens the temporary file by its name at each step. In a
// directory that other users can write, such as node_exporter's, that name can lead to any other file by then, and root would
// empty it or give it away. So this creates the file exclusively, and uses its descriptor from then on. It also gives the
// temporary file a name that Apache does not read (src/system/hidden-name.ts).
import {
  closeSync as close,
  fchmodSync,
  fchownSync,
  openSync as open,
  renameSync as rename,
  type Stats,
  statSync as stat,
  unlinkSync as unlink,
} from 'node:fs';
import { hiddenName } from '../../system/hidden-name.ts';

export { fsyncSync, writeSync } from 'node:fs';

const NONE = -1;
let temporary = NONE;
/** What is replaced. */
let replaced = '';

export function openSync(path: string, _flags: string, mode: number): number {
  try {
    temporary = open(path, 'wx', mode);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    // The name depends on the pid, so a killed process has left the file.
    unlink(path);
    temporary = open(path, 'wx', mode);
  }
  return temporary;
}

/** Keeps the descriptor open until the rename: owner and mode are set through it later. */
export function closeSync(_descriptor: number): void {}

export function chownSync(_path: string, uid: number, gid: number): void {
  fchownSync(temporary, uid, gid);
}

export function chmodSync(_path: string, mode: number): void {
  fchmodSync(temporary, mode);
}

export function renameSync(path: string, _target: string): void {
  rename(path, replaced);
  forget();
}

export function unlinkSync(path: string): void {
  forget();
  unlink(path);
}

/**
 * The library puts its suffix behind this, and means the replaced file by it from then on. The caller has followed the links
 * that may be followed: src/system/write.ts.
 */
export function realpathSync(path: string): string {
  replaced = path;
  return hiddenName(path);
}

export function statSync(_path: string): Stats {
  return stat(replaced);
}

/**
 * The text was written, synced and closed through a descriptor of its own (src/system/write.ts), so an error here loses
 * nothing. After the rename it must not be reported: the new file is in place.
 */
function forget(): void {
  if (temporary === NONE) return;
  try {
    close(temporary);
  } catch {
    // Linux releases the descriptor even after an error.
  }
  temporary = NONE;
}
