// Shared by the formats: options, and a tree with the package's files.
import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Contents } from './contents.ts';

export interface PackageOptions {
  readonly output: string;
  readonly version: string;
  readonly compression: 'best' | 'fast' | 'none';
  /** The time of all files, so that the same input gives the same bytes. */
  readonly epochSeconds: number;
}

/** RFC 2606 reserves this domain, so the address belongs to no person. */
export const MAINTAINER = 'The banctl authors <banctl@authors.invalid>';
export const SUMMARY = 'bans attackers in Apache for fail2ban';

/** Puts the files into a directory that exists during `work`; `touch` sets modes and times. */
export function withTree<T>(
  contents: Contents,
  { output, epochSeconds }: PackageOptions,
  work: (root: string, touch: () => void) => T,
): T {
  const root = mkdtempSync(join(tmpdir(), 'banctl-package-'));
  try {
    chmodSync(root, 0o755);
    for (const [path, { content, mode }] of contents) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), content);
      chmodSync(join(root, path), mode);
    }
    mkdirSync(output, { recursive: true });
    return work(root, () => {
      for (const path of ['.', ...(readdirSync(root, { recursive: true }) as string[])]) {
        if (statSync(join(root, path)).isDirectory()) chmodSync(join(root, path), 0o755);
        lutimesSync(join(root, path), epochSeconds, epochSeconds);
      }
    });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
