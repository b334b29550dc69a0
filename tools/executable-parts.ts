// Lists the parts of a banctl executable, each with its SHA-256: executable-parts.ts EXECUTABLE
//
// Two builds of the same sources have the same parts, wherever and whenever they were made, except V8's code caches
// (NAME.cache), which differ from build to build.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** From Node's src/node_sea.cc: the number at the beginning of its data, and its flags. */
const MAGIC = 0x143da20;
const HAS_CODE_CACHE = 1 << 2;
const HAS_ASSETS = 1 << 3;
const HAS_EXEC_ARGV = 1 << 4;
/** Sections with Node's own code and constants; postject changes neither. */
const SECTIONS = ['.text', '.rodata'];

export interface Part {
  readonly name: string;
  readonly content: Buffer;
}

/** The parts, in file order. */
export function partsOf(executable: string): Part[] {
  return [
    ...SECTIONS.map((name) => ({ name: `node${name}`, content: sectionOf(executable, name) })),
    ...seaParts(executable).parts,
  ];
}

/** The assets, each a part of the file's buffer at its place in the file. */
export function assetsOf(executable: string): Part[] {
  return seaParts(executable).assets;
}

function sectionOf(executable: string, name: string): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-parts-'));
  try {
    const file = join(directory, 'section');
    execFileSync('objcopy', ['-O', 'binary', `--only-section=${name}`, executable, file]);
    return readFileSync(file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Fields are little-endian; a text is its length in eight bytes, then its bytes. */
function seaParts(executable: string): { parts: Part[]; assets: Part[] } {
  const bytes = readFileSync(executable);
  let at = bytes.lastIndexOf(Buffer.from([0x20, 0xda, 0x43, 0x01]));
  if (at < 0 || bytes.readUInt32LE(at) !== MAGIC)
    throw new Error(`${executable} holds no data of a single executable`);
  const number = () => {
    at += 8;
    return Number(bytes.readBigUInt64LE(at - 8));
  };
  const text = () => {
    const length = number();
    at += length;
    return bytes.subarray(at - length, at);
  };
  const flags = bytes.readUInt32LE(at + 4);
  // The last byte says what NODE_OPTIONS and the like may add.
  at += 9;
  text(); // the path of the main script at the build
  const parts: Part[] = [{ name: 'launcher.cjs', content: text() }];
  if (flags & HAS_CODE_CACHE) parts.push({ name: 'launcher.cache', content: text() });
  const assets: Part[] = [];
  if (flags & HAS_ASSETS)
    for (let left = number(); left > 0; left -= 1) assets.push({ name: text().toString(), content: text() });
  parts.push(...assets);
  if (flags & HAS_EXEC_ARGV)
    for (let left = number(); left > 0; left -= 1) parts.push({ name: 'option', content: text() });
  return { parts, assets };
}

if (import.meta.main) {
  for (const { name, content } of partsOf(process.argv[2] ?? ''))
    console.log(`${createHash('sha256').update(content).digest('hex')}  ${name}`);
}
