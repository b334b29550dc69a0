// The disk and its cache before a measurement.
import { executable } from '../../test/lab/banctl.ts';
import { execute } from '../../test/lab/wait.ts';

/**
 * Puts what was written before on the disk, which would slow later syncs, and takes the executable out of the kernel's cache:
 * the kernel maps a file that was just written or copied in larger pieces than one that it reads after a boot.
 */
export async function settleDisk(): Promise<void> {
  await execute('sync', []);
  await execute('dd', [`if=${executable}`, 'of=/dev/null', 'iflag=nocache', 'count=0']);
}
