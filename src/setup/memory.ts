import { createHash } from 'node:crypto';
import type { Lock } from '../system/lock.ts';
import { readText } from '../system/read.ts';
import { replaceFile } from '../system/write.ts';

/*
 * Checksums of everything that any version of setup has written on this server, by path. A file with a known checksum is
 * unchanged, and the next version replaces it. The administrator changed any other file, and setup keeps it.
 */

export const MEMORY = '/var/lib/banctl/setup.json';

/** Checksums (SHA-256) of all texts that setup has written to a path. */
export type Memory = Readonly<Record<string, readonly string[]>>;

/** Without the memory, setup cannot distinguish changed files from old ones, and keeps them all. */
export function readMemory(path: string): Memory {
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

export function writeMemory(path: string, memory: Memory, lock: Lock): void {
  replaceFile(path, [Buffer.from(`${JSON.stringify({ files: memory }, null, 1)}\n`)], { lock });
}

/** The memory with these texts added. The same object if it has them all. */
export function remember(memory: Memory, texts: readonly { path: string; text: string }[]): Memory {
  const news = texts.filter(({ path, text }) => !isRemembered(memory, path, Buffer.from(text)));
  if (news.length === 0) return memory;
  const added = news.map(
    ({ path, text }) => [path, [...(memory[path] ?? []), checksum(Buffer.from(text))]] as const,
  );
  return { ...memory, ...Object.fromEntries(added) };
}

export function isRemembered(memory: Memory, path: string, text: Uint8Array): boolean {
  return memory[path]?.includes(checksum(text)) === true;
}

function checksum(text: Uint8Array): string {
  return createHash('sha256').update(text).digest('hex');
}
