// A disk with a log of every write and flush (qemu's blklogwrites, the format of the kernel's dm-log-writes), and what is
// left of it when power is lost at any moment.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const SECTOR = 512;
const MAGIC = 0x6a736677736872n;
const FLUSH = 1n;
const FUA = 2n;
const DISCARD = 4n;

interface Entry {
  /** Where it begins in the log. */
  readonly at: number;
  readonly sector: number;
  readonly bytes: number;
  readonly flags: bigint;
}

export class LoggedDisk {
  readonly log: string;
  /** The disk as a file that can be mounted, while {@link start} is in force. */
  readonly file: string;
  readonly bytes: number;
  readonly #data: string;
  #daemon: ChildProcess | undefined;

  /** An empty disk. */
  constructor(directory: string, name: string, bytes: number) {
    this.bytes = bytes;
    this.#data = join(directory, `${name}.data`);
    this.log = join(directory, `${name}.log`);
    this.file = join(directory, `${name}.disk`);
    for (const path of [this.#data, this.log, this.file]) writeFileSync(path, '');
    truncateSync(this.#data, bytes);
  }

  async start(): Promise<void> {
    const raw = (node: string, file: string) => [
      '--blockdev',
      `driver=file,filename=${file},node-name=${node}-file`,
      '--blockdev',
      `driver=raw,file=${node}-file,node-name=${node}`,
    ];
    const daemon = spawn(
      'qemu-storage-daemon',
      [
        ...raw('data', this.#data),
        ...raw('log', this.log),
        '--blockdev',
        `driver=blklogwrites,file=data,log=log,log-sector-size=${SECTOR},node-name=logged`,
        '--export',
        `type=fuse,id=disk,node-name=logged,mountpoint=${this.file},writable=on`,
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    this.#daemon = daemon;
    while (statSync(this.file).size !== this.bytes) {
      if (daemon.exitCode !== null) throw new Error('qemu-storage-daemon ended: see above');
      await sleep(50);
    }
  }

  /** What is written later is neither on the disk nor in the log. */
  async stop(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null) return;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill();
    await ended;
  }

  entries(): Entry[] {
    const log = openSync(this.log, 'r');
    try {
      const head = read(log, 0, SECTOR);
      if (head.readBigUInt64LE(0) !== MAGIC) throw new Error(`${this.log} is no log of writes`);
      const end = statSync(this.log).size;
      const entries: Entry[] = [];
      for (let at = SECTOR; at + SECTOR <= end; ) {
        const entry = read(log, at, 32);
        const [sector, sectors, flags] = [0, 8, 16].map((offset) => entry.readBigUInt64LE(offset)) as [
          bigint,
          bigint,
          bigint,
        ];
        // The log is longer than what is written of it where a write is under way.
        if (sectors === 0n && flags === 0n) break;
        const bytes = flags & DISCARD ? 0 : Number(sectors) * SECTOR;
        if (at + SECTOR + bytes > end) break;
        entries.push({ at, sector: Number(sector), bytes, flags });
        at += SECTOR + bytes;
      }
      return entries;
    } finally {
      closeSync(log);
    }
  }
}

/**
 * Makes the disk as it may be when power is lost: all that was written before the last flush is there, and of what came
 * later any part. Cuts must come in the order of the log.
 */
export class Replay {
  private readonly entries: readonly Entry[];
  private readonly log: number;
  private readonly base: string;
  private done = 0;

  constructor(disk: LoggedDisk, base: string) {
    this.entries = disk.entries();
    this.log = openSync(disk.log, 'r');
    this.base = base;
    writeFileSync(base, '');
    truncateSync(base, disk.bytes);
  }

  /** The indices of the entries that begin at this place of the log or later. */
  from(place: number): number[] {
    return this.entries.flatMap(({ at }, index) => (at >= place ? [index] : []));
  }

  placeOf(index: number): number {
    return this.entries[index]?.at ?? 0;
  }

  /** Writes to `target` what is left after a cut before this entry. */
  cut(index: number, target: string, random: () => number): void {
    const flushed = this.entries.slice(0, index).findLastIndex(({ flags }) => (flags & FLUSH) !== 0n);
    const end = Math.max(this.done, flushed);
    this.put(this.base, this.entries.slice(this.done, end));
    this.done = end;
    execFileSync('cp', ['--sparse=always', this.base, target]);
    const later = this.entries.slice(end, index);
    this.put(
      target,
      later.filter(({ flags }) => (flags & FUA) !== 0n || random() < 0.5),
    );
  }

  close(): void {
    closeSync(this.log);
    rmSync(this.base, { force: true });
  }

  private put(path: string, entries: readonly Entry[]): void {
    const file = openSync(path, 'r+');
    for (const { at, sector, bytes } of entries)
      if (bytes > 0) writeSync(file, read(this.log, at + SECTOR, bytes), 0, bytes, sector * SECTOR);
    closeSync(file);
  }
}

function read(file: number, at: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  readSync(file, buffer, 0, bytes, at);
  return buffer;
}
