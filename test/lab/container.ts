// Containers without a container engine: a second root in namespaces of its own for mounts and processes, into which
// directories of this machine are mounted. What docs/containers.md says is tried with them.
//
//   await using web = await startContainer([dir], ['apache2', '-f', config, '-DFOREGROUND']);
//   await execute('sh', ['-c', `${web.command} apache2 -v`]);
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { readOrEmpty, startNamespaces } from './namespaces.ts';

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
  const container = await startNamespaces({
    what: 'container',
    script: SCRIPT,
    args: [volumes.join(' '), ...program],
    isReady: ({ first }) => readOrEmpty(`/proc/${first}/comm`) === program[0],
  });
  const { first, directory } = container;
  return {
    command: `nsenter --target ${first} --mount --pid --root`,
    beside: (others) => {
      const other = mkdtempSync(join(directory, 'beside-'));
      const inside = ['unshare', '--mount', 'sh', '-c', SCRIPT, 'sh', other, others.join(' ')];
      return ['nsenter', '--target', first, '--pid', '--', ...inside];
    },
    [Symbol.asyncDispose]: () => container[Symbol.asyncDispose](),
  };
}
