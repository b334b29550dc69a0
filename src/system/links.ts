import { lstatSync, readlinkSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { BanctlError, EXIT } from './errors.ts';
import { cannotRead } from './read.ts';

const MOST_LINKS = 40;
/** Links and directories. A loop of links ends here. */
const LONGEST_WAY = 500;

/**
 * The target of a path through symbolic links, even if the last link's target does not exist yet. Replacing the target
 * keeps the links.
 */
export function followLinks(path: string): string {
  return follow(path, () => true);
}

/**
 * The same for a file that banctl writes. In a directory that other users can write, a link could lead to any file. So
 * only links that belong to root or the caller count.
 *
 * @throws BanctlError notUnderstood for a link of another user
 */
export function followOwnLinks(path: string): string {
  return follow(path, isOwn);
}

/** True for root, and for the user that banctl runs as. */
export function isOwn(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

function follow(path: string, isFollowed: (uid: number) => boolean): string {
  let target = resolve(path);
  for (let links = 0; links < MOST_LINKS; links += 1) {
    const stat = lstat(target);
    if (stat === undefined || !stat.isSymbolicLink()) return target;
    if (!isFollowed(stat.uid)) {
      const whose = `${target} is a symbolic link that belongs to user ${stat.uid}`;
      throw new BanctlError(EXIT.notUnderstood, whose, "nothing was changed, remove it, or make it root's");
    }
    target = resolve(dirname(target), readlinkSync(target));
  }
  throw new BanctlError(EXIT.notUnderstood, `${path} is a loop of symbolic links`, 'remove it');
}

/**
 * The target of a path for a program whose root directory is `root`: no link leads out of it. The path, or its end, need
 * not exist yet.
 */
export function followLinksBelow(root: string, path: string): string {
  const left = stepsOf(path);
  let reached: string[] = [];
  for (let links = 0; links < MOST_LINKS; ) {
    const step = left.pop();
    if (step === undefined) return join(root, ...reached);
    const here = join(root, ...reached, step);
    if (step === '..') reached.pop();
    else if (lstat(here)?.isSymbolicLink()) {
      const target = readlinkSync(here);
      if (target.startsWith('/')) reached = [];
      left.push(...stepsOf(target));
      links += 1;
    } else reached.push(step);
  }
  throw new BanctlError(EXIT.notUnderstood, `${join(root, path)} is a loop of symbolic links`, 'remove it');
}

/**
 * Identifies the links and directories on the way to a file: another text means that the path may have led to another file in
 * between. A link's time of change counts, which only the kernel sets; a directory's does not, since each new file changes it.
 * Empty if the way cannot be seen.
 */
export function wayTo(path: string): string {
  try {
    return linksAndDirectories(path).join(' ');
  } catch {
    return '';
  }
}

function linksAndDirectories(path: string): bigint[] {
  const left = stepsOf(resolve(path));
  const passed: bigint[] = [];
  let reached = '/';
  for (let step = left.pop(); step !== undefined && passed.length < LONGEST_WAY; step = left.pop()) {
    if (step === '..') {
      reached = dirname(reached);
      continue;
    }
    const here = join(reached, step);
    const stat = lstatSync(here, { bigint: true, throwIfNoEntry: false });
    if (stat?.isSymbolicLink() === true) {
      passed.push(stat.ino, stat.ctimeNs);
      const target = readlinkSync(here);
      if (target.startsWith('/')) reached = '/';
      left.push(...stepsOf(target));
    } else {
      if (stat?.isDirectory() === true) passed.push(stat.ino);
      reached = here;
    }
  }
  return passed;
}

/** The names in a path, the last one first. */
function stepsOf(path: string): string[] {
  return path
    .split('/')
    .filter((step) => step !== '' && step !== '.')
    .reverse();
}

/** True if two paths lead to the same place, whatever links they take. */
export function isSamePlace(one: string, other: string): boolean {
  if (followLinks(one) === followLinks(other)) return true;
  const [first, second] = [one, other].map((path) => statSync(path, { bigint: true, throwIfNoEntry: false }));
  return first !== undefined && first.dev === second?.dev && first.ino === second.ino;
}

export function lstat(path: string) {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw cannotRead(path, error);
  }
}
