import { lookup } from 'node:dns/promises';
import { dirname } from 'node:path';
import { type Address, compareAddresses, readAddress } from '../bans/address.ts';
import { isHostName } from '../bans/host-name.ts';
import { BanctlError, lineOf, systemCode } from '../system/errors.ts';
import { readText } from '../system/read.ts';
import { makeDirectory, replaceFile } from '../system/write.ts';
import { namesPath, type Protected, readNames } from './names.ts';

/** A name server that does not answer must not keep the audit from its other work. */
const LONGEST_WAIT_MS = 10_000;
const HEADER =
  '# Written by "banctl audit --fix": the host names in "protect" of the configuration, and their last known addresses.\n';

export interface ResolvedName {
  readonly name: string;
  /** What is protected: the new addresses, or the last known ones of a name that does not resolve. */
  readonly addresses: readonly Address[];
  /** Undefined for a name that resolved. */
  readonly why?: string;
  /** The addresses are not what the file has. */
  readonly isNew: boolean;
}

/** Asks the system's resolver for each host name in `protect`, all at once. */
export async function resolveNames({ protect, record }: Protected): Promise<ResolvedName[]> {
  const names = [...new Set(protect.filter(isHostName).map((name) => name.toLowerCase()))];
  if (names.length === 0) return [];
  const known = readNames(record);
  return Promise.all(names.map((name) => resolveOne(name, known.get(name))));
}

async function resolveOne(name: string, known: readonly Address[] | undefined): Promise<ResolvedName> {
  try {
    const answers = await inTime(lookup(name, { all: true }));
    const addresses = answers.flatMap(({ address }) => readAddress(address) ?? []).sort(compareAddresses);
    if (addresses.length === 0) throw new Error('it has no address');
    return { name, addresses, isNew: textOf(addresses) !== textOf(known ?? []) };
  } catch (error) {
    return { name, addresses: known ?? [], why: reasonOf(error), isNew: known === undefined };
  }
}

function inTime<T>(answer: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error('no answer within 10 s')), LONGEST_WAIT_MS);
  return Promise.race([answer, promise]).finally(() => clearTimeout(timer));
}

function reasonOf(error: unknown): string {
  const code = systemCode(error);
  if (code === 'ENOTFOUND') return 'no such name';
  if (code === 'EAI_AGAIN') return 'no name server answers';
  return code ?? (error instanceof Error ? error.message : String(error));
}

/**
 * Writes down what the names stand for now, unless the file says so already.
 *
 * @returns why it could not be written
 */
export function keepNames(record: string, names: readonly ResolvedName[]): string | undefined {
  const path = namesPath(record);
  const text = `${HEADER}${names.map(({ name, addresses }) => `${[name, textOf(addresses)].join(' ').trimEnd()}\n`).join('')}`;
  try {
    if (isSame(path, text)) return undefined;
    makeDirectory(dirname(path));
    replaceFile(path, [Buffer.from(text)], { lock: undefined });
    return undefined;
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    return lineOf(error);
  }
}

function isSame(path: string, text: string): boolean {
  try {
    return readText(path).text.toString() === text;
  } catch {
    return false;
  }
}

function textOf(addresses: readonly Address[]): string {
  return addresses.map(({ text }) => text).join(' ');
}
