// Containers without a container engine: a second root in namespaces of its own for mounts and processes, into which
// directories of this machine are mounted. What docs/containers.md says is tried with them.
//
//   await using web = await startContainer([dir], ['apache2', '-f', config, '-DFOREGROUND']);
//   await execute('sh', ['-c', `${web.command} apache2 -v`]);
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.ts';

/** Words of a command line, the program first. */
export type Words = readonly [program: string, ...args: string[]];

export type Container = AsyncDisposable & {
  /** What runs a program in it, as `docker exec NAME` does: the begin of a command line. */
  readonly command: string;
  /** The same for a container with other volumes that shares its processes, as `docker run --pid=container:NAME`. */
  beside(volumes: readonly string[]): Words;
};

/*
 * The system's programs and settings are there, as in an image. Of all else there are the volumes alone, each at its own
 * path; none has a blank in it.
 */
const SCRIPT = `set -e
root=$1 volumes=$2
shift 2
mount -t tmpfs -o mode=755 none "$root"
for place in usr etc; do mkdir "$root/$place"; mount --bind -o ro "/$place" "$root/$place"; done
for link in bin sbin lib lib64; do [ ! -e "/$link" ] || cp -P "/$link" "$root/"; done
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/run" "$root/var/lib"
chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for volume in $volumes; do mkdir -p "$root$volume"; mount --bind "$volume" "$root$volume"; done
exec chroot "$root" "$@"`;

/** The program becomes process 1 of the container. */
export async function startContainer(volumes: readonly string[], program: Words): Promise<Container> {
  const root = mkdtempSync(join(tmpdir(), 'banctl-container-'));
  const own = ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', SCRIPT, 'sh'];
  const child = spawn('unshare', [...own, root, volumes.join(' '), ...program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const end = async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(root, { recursive: true, force: true });
  };
  try {
    const first = await until('the container', () => {
      if (child.exitCode !== null) throw new Error(`no container can be made:\n${output}`);
      const pid = read(`/proc/${child.pid}/task/${child.pid}/children`);
      return read(`/proc/${pid}/comm`) === program[0] && pid;
    });
    return {
      command: `nsenter --target ${first} --mount --pid --root`,
      beside: (others) => {
        const other = mkdtempSync(join(root, 'beside-'));
        const inside = ['unshare', '--mount', 'sh', '-c', SCRIPT, 'sh', other, others.join(' ')];
        return ['nsenter', '--target', first, '--pid', '--', ...inside];
      },
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Empty for a process that has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
