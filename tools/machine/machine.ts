// A virtual machine with systemd, for test/machine: qemu without KVM, so it is slow but runs anywhere.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Where the image is, and the disk that is written to. */
export interface Image {
  /** The directory that build-image has filled. */
  readonly directory: string;
  readonly disk: string;
  /** A tar file that the machine sees as /dev/disk/by-id/virtio-files. */
  readonly files: string;
}

export interface BootOptions {
  /** A snapshot of the disk and the memory to go on from; without it the machine boots. */
  readonly snapshot?: string;
  /** The clock of the machine, as `-rtc base=` takes it. */
  readonly clock?: string;
  /** qemu's own options for more disks. */
  readonly disks?: readonly string[];
}

export interface Answer {
  readonly exitCode: number;
  readonly output: string;
}

const BOOT_LIMIT_MS = 600_000;
const RUN_LIMIT_SECONDS = 600;
const GUEST_LIBRARY = readFileSync(join(import.meta.dirname, 'guest.sh'), 'utf8');

export class Machine {
  private readonly image: Image;
  private readonly directory = mkdtempSync(join(tmpdir(), 'banctl-vm-'));
  private qemu: ChildProcess | undefined;
  private agent: Socket | undefined;

  constructor(image: Image) {
    this.image = image;
  }

  /** Everything that the machine has written on its console. */
  get console(): string {
    return join(this.directory, 'console');
  }

  async boot({ snapshot, clock, disks = [] }: BootOptions = {}): Promise<void> {
    const { directory, disk } = this.image;
    const file = (name: string) => join(directory, name);
    const options = [
      [
        '-accel',
        'tcg,thread=multi',
        '-cpu',
        'max',
        '-smp',
        '2',
        '-m',
        '1024',
        '-nographic',
        '-nodefaults',
        '-no-reboot',
      ],
      ['-kernel', file('vmlinuz'), '-initrd', file('initrd')],
      ['-append', 'root=/dev/vda rw console=ttyS0 quiet net.ifnames=0'],
      [
        '-drive',
        `file=${disk},format=qcow2,if=none,id=root,cache=writeback`,
        '-device',
        'virtio-blk-pci,drive=root',
      ],
      ['-drive', `file=${this.image.files},format=raw,if=none,id=files,readonly=on`],
      ['-device', 'virtio-blk-pci,drive=files,serial=files', '-device', 'virtio-rng-pci'],
      ['-chardev', `socket,path=${join(this.directory, 'agent')},server=on,wait=off,id=agent`],
      ['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=agent', '-nic', 'none'],
      [
        '-serial',
        `file:${this.console}`,
        '-monitor',
        `unix:${join(this.directory, 'monitor')},server,nowait`,
      ],
      ...(snapshot === undefined ? [] : [['-loadvm', snapshot]]),
      ...(clock === undefined ? [] : [['-rtc', `base=${clock}`]]),
      disks,
    ];
    // Detached, so that an interrupt of the terminal reaches only this process, which then ends it.
    const qemu = spawn('nice', ['-n', '5', 'qemu-system-x86_64', ...options.flat()], {
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    let said = '';
    qemu.stderr.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
    qemu.on('exit', () => {
      this.qemu = undefined;
    });
    this.qemu = qemu;
    const ended = new Promise<never>((_, reject) =>
      qemu.once('exit', () => reject(new Error(`qemu ended: ${said}${this.lastWords()}`))),
    );
    ended.catch(() => {});
    this.agent = await Promise.race([this.connected('agent'), ended]);
    await Promise.race([this.send('true', BOOT_LIMIT_MS / 1000), ended]);
    // A machine that goes on from a snapshot is as it was; one that boots still starts its services.
    if (snapshot === undefined) await this.send('systemctl is-system-running --wait', 300);
  }

  /** Runs a script of bash as root, with the functions of guest.sh. */
  async run(script: string, limitSeconds = RUN_LIMIT_SECONDS): Promise<Answer> {
    return this.send(`${GUEST_LIBRARY}\n${script}\n`, limitSeconds);
  }

  /** The output of a script that must not fail. */
  async done(script: string, limitSeconds?: number): Promise<string> {
    const { exitCode, output } = await this.run(script, limitSeconds);
    if (exitCode !== 0) throw new Error(`exit code ${exitCode} of\n${script}\n${output}`);
    return output;
  }

  /** For small files; see {@link Image.files} for others. */
  async copy(file: string, destination: string): Promise<void> {
    await this.done(`base64 -d > ${destination} <<'END'\n${readFileSync(file).toString('base64')}\nEND`);
  }

  /** A reboot in good order: the machine ends its services and starts again. */
  async reboot(options: BootOptions = {}): Promise<void> {
    await this.send('systemctl reboot', 20);
    const deadline = performance.now() + BOOT_LIMIT_MS;
    while (this.qemu !== undefined) {
      if (performance.now() > deadline) throw new Error(`the machine does not go down${this.lastWords()}`);
      await sleep(100);
    }
    await this.boot(options);
  }

  /** Power is lost: whatever the machine had not handed to its disk is gone. */
  async kill(): Promise<void> {
    const { qemu } = this;
    if (qemu === undefined) return;
    const ended = new Promise((resolve) => qemu.once('exit', resolve));
    qemu.kill('SIGKILL');
    await ended;
  }

  /** Keeps disk and memory as they are now. */
  async save(snapshot: string): Promise<void> {
    await this.run('sync');
    await this.monitor(`savevm ${snapshot}`);
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async connected(name: string): Promise<Socket> {
    for (;;) {
      const socket = connect(join(this.directory, name));
      const isOpen = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
      });
      // qemu ends with the machine, and its sockets with it.
      if (isOpen) return socket.on('error', () => {});
      await sleep(50);
    }
  }

  private async monitor(command: string): Promise<void> {
    const socket = await this.connected('monitor');
    return new Promise((resolve, reject) => {
      let said = '';
      socket.setEncoding('utf8').on('data', (text) => {
        const isFirst = !said.includes('(qemu)');
        said += text;
        if (!said.includes('(qemu)')) return;
        if (isFirst) {
          socket.write(`${command}\n`);
          return;
        }
        // The line is echoed in pieces; the prompt comes back when the command has ended.
        if (!/\n\(qemu\) $/.test(said)) return;
        socket.end();
        if (/error/i.test(said)) reject(new Error(said));
        else resolve();
      });
    });
  }

  /** Has the agent run a script: see agent.py. */
  private send(script: string, limitSeconds: number): Promise<Answer> {
    const { agent } = this;
    if (agent === undefined) throw new Error('the machine has not booted');
    const text = Buffer.from(script);
    return new Promise((resolve, reject) => {
      let said = Buffer.alloc(0);
      const timer = setTimeout(
        () => end(new Error(`no answer within ${limitSeconds} s${this.lastWords()}`)),
        (limitSeconds + 60) * 1000,
      );
      const end = (result: Answer | Error) => {
        clearTimeout(timer);
        agent.off('data', add).off('close', close);
        if (result instanceof Error) reject(result);
        else resolve(result);
      };
      // A machine that goes down answers no more.
      const close = () => end({ exitCode: -1, output: said.toString() });
      const add = (data: Buffer) => {
        said = Buffer.concat([said, data]);
        const [, code, bytes] = /^(-?\d+) (\d+)\n/.exec(said.subarray(0, 40).toString('latin1')) ?? [];
        if (bytes === undefined) return;
        const output = said.subarray(said.indexOf('\n') + 1);
        if (output.length >= Number(bytes)) end({ exitCode: Number(code), output: output.toString() });
      };
      agent.on('data', add).once('close', close);
      agent.write(Buffer.concat([Buffer.from(`${limitSeconds} ${text.length}\n`), text]));
    });
  }

  private lastWords(): string {
    try {
      return `; its console ends with\n${readFileSync(this.console, 'utf8').split('\n').slice(-8).join('\n')}`;
    } catch {
      return '';
    }
  }
}
