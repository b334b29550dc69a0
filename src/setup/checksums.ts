import { createHash } from 'node:crypto';
import type { Lock } from '../system/held-lock.ts';
import { readText } from '../system/read.ts';
import { replaceFile } from '../system/write.ts';

/*
 * Checksums of everything that any version of setup has written on this server, by path. A file with a known checksum is
 * unchanged, and the next version replaces it. The administrator changed any other file, and setup keeps it.
 */

export const CHECKSUMS = '/var/lib/banctl/setup.json';

/** Checksums (SHA-256) of all texts that setup has written to a path. */
export type Checksums = Readonly<Record<string, readonly string[]>>;

/** Without the checksums, setup cannot distinguish changed files from old ones, and keeps them all. */
export function readChecksums(path: string): Checksums {
  try {
    const { files } = JSON.parse(readText(path).text.toString('utf8'));
    const known = Object.entries(files as object).filter(
      ([file, sums]) => file.startsWith('/') && Array.isArray(sums),
    );
    return Object.fromEntries(known.map(([file, sums]) => [file, sums.map(String)]));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return {};
    throw error;
  }
}

export function writeChecksums(path: string, checksums: Checksums, lock: Lock): void {
  replaceFile(path, [Buffer.from(`${JSON.stringify({ files: checksums }, null, 1)}\n`)], { lock });
}

/** The checksums with these texts added. The same object if it has them all. */
export function remember(checksums: Checksums, texts: readonly { path: string; text: string }[]): Checksums {
  const news = texts.filter(({ path, text }) => !isRemembered(checksums, path, Buffer.from(text)));
  if (news.length === 0) return checksums;
  const added = news.map(
    ({ path, text }) => [path, [...(checksums[path] ?? []), checksum(Buffer.from(text))]] as const,
  );
  return { ...checksums, ...Object.fromEntries(added) };
}

export function isRemembered(checksums: Checksums, path: string, text: Uint8Array): boolean {
  return checksums[path]?.includes(checksum(text)) === true;
}

function checksum(text: Uint8Array): string {
  return createHash('sha256').update(text).digest('hex');
}
