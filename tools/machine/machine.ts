// A virtual machine with systemd, for test/machine: qemu without KVM, so it is slow but runs anywhere.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Image {
  /** The directory that build-image has filled. */
  readonly directory: string;
  /** The disk to start from. It is never written to: the machine has a layer of its own above it. */
  readonly base: string;
  /** The memory that belongs to that disk, to go on from; without it the machine boots. */
  readonly memory?: string;
  /** A tar file that the machine sees as /dev/disk/by-id/virtio-files. */
  readonly files: string;
}

export interface MachineOptions {
  /** Where the layer is; by default it goes with the machine. */
  readonly disk?: string;
  /** Whether {@link Machine.kill} may lose what the machine has not flushed, and only that. Costs time. */
  readonly losesPower?: boolean;
}

export interface BootOptions {
  /** The clock of the machine, as `-rtc base=` takes it. */
  readonly clock?: string;
}

export interface Answer {
  readonly exitCode: number;
  readonly output: string;
}

const BOOT_LIMIT_MS = 600_000;
const RUN_LIMIT_SECONDS = 600;
const GUEST_LIBRARY = readFileSync(join(import.meta.dirname, 'guest.sh'), 'utf8');
/** One processor each: the emulation of several would need locks for every shared access, and two machines run at once. */
const COMPUTER =
  '-accel tcg,tb-size=512 -cpu max,-la57 -smp 1 -m 1024 -nographic -nodefaults -no-reboot'.split(' ');
/** The mitigations protect from other users of the processor, and cost the emulation a third of its speed. */
const KERNEL_LINE = 'root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off nowatchdog audit=0';

export class Machine {
  private readonly image: Image;
  private readonly losesPower: boolean;
  private readonly directory = mkdtempSync(join(tmpdir(), 'banctl-vm-'));
  private readonly disk: string;
  private qemu: ChildProcess | undefined;
  private agent: Socket | undefined;

  constructor(image: Image, { disk, losesPower = false }: MachineOptions = {}) {
    this.image = image;
    this.losesPower = losesPower;
    this.disk = disk ?? join(this.directory, 'disk.qcow2');
    const layer = ['-q', '-f', 'qcow2', '-F', image.base.endsWith('.img') ? 'raw' : 'qcow2'];
    execFileSync('qemu-img', ['create', ...layer, '-b', image.base, this.disk]);
  }

  /** Goes on from the image's memory, or boots. */
  async start(): Promise<void> {
    const { memory } = this.image;
    if (memory === undefined) return this.boot();
    await this.power(['-incoming', `exec:cat '${memory}'`]);
  }

  /** Boots from the disk as it is now. */
  async boot({ clock }: BootOptions = {}): Promise<void> {
    await this.power(clock === undefined ? [] : ['-rtc', `base=${clock}`]);
    await this.send('systemctl is-system-running --wait', 300);
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

  /** Writes the memory to a file, and ends: others can go on from here. */
  async save(memory: string): Promise<void> {
    await this.monitor(
      // Not stopped before, or the others would have to be continued by hand.
      'migrate_set_parameter max-bandwidth 16g',
      `migrate "exec:cat > '${memory}'"`,
      'info migrate',
    );
    const { qemu } = this;
    const ended = new Promise((resolve) => qemu?.once('exit', resolve));
    // The disk is complete once qemu has ended in good order.
    qemu?.kill('SIGTERM');
    await ended;
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async power(options: readonly string[]): Promise<void> {
    // Detached, so that an interrupt of the terminal reaches only this process, which then ends it.
    const qemu = spawn('nice', ['-n', '5', 'qemu-system-x86_64', ...this.hardware(), ...options], {
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
  }

  private hardware(): string[] {
    const { directory, files } = this.image;
    const cache = this.losesPower ? 'writeback' : 'unsafe';
    return [
      COMPUTER,
      ['-kernel', join(directory, 'vmlinuz'), '-initrd', join(directory, 'initrd'), '-append', KERNEL_LINE],
      ['-drive', `file=${this.disk},format=qcow2,if=none,id=root,cache=${cache}`],
      ['-device', 'virtio-blk-pci,drive=root'],
      ['-drive', `file=${files},format=raw,if=none,id=files,readonly=on`],
      ['-device', 'virtio-blk-pci,drive=files,serial=files', '-device', 'virtio-rng-pci'],
      ['-chardev', `socket,path=${join(this.directory, 'agent')},server=on,wait=off,id=agent`],
      ['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=agent', '-nic', 'none'],
      ['-serial', `file:${this.console}`],
      ['-monitor', `unix:${join(this.directory, 'monitor')},server,nowait`],
    ].flat();
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

  /** Gives qemu's monitor these commands, one after the other. */
  private async monitor(...commands: readonly string[]): Promise<void> {
    const socket = await this.connected('monitor');
    const todo = [...commands];
    return new Promise((resolve, reject) => {
      let said = '';
      socket.setEncoding('utf8').on('data', (text) => {
        said += text;
        // The line is echoed in pieces; the prompt comes back when the command has ended.
        if (!/\(qemu\) $/.test(said)) return;
        if (/^(Error|Unknown|Migration status: (?!completed))/im.test(said)) reject(new Error(said));
        said = '';
        const command = todo.shift();
        if (command !== undefined) socket.write(`${command}\n`);
        else {
          socket.end();
          resolve();
        }
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

  /** Everything that the machine has written on its console. */
  private get console(): string {
    return join(this.directory, 'console');
  }

  private lastWords(): string {
    try {
      return `; its console ends with\n${readFileSync(this.console, 'utf8').split('\n').slice(-8).join('\n')}`;
    } catch {
      return '';
    }
  }
}
