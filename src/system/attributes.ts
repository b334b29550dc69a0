/*
 * Access lists and extended attributes of a file, which a file that replaces it would lose. Node cannot see them, so
 * programs that every distribution has do: tar, whose header has them, and cp.
 */

/** Of tar's header. Bytes. */
const HEADER_BYTES = 65_536;
const LIMIT_MS = 10_000;
/** As tar names them in the header: access lists, and every attribute but those that the kernel gives a new file too. */
const ANY = /SCHILY\.(?:acl\.|xattr\.(?!security\.(?:selinux|ima|evm)=))/;

/** True if the file has an access list or attributes of its own. A text is why that cannot be seen. */
export function hasAttributes(path: string): boolean | string {
  const seen = programs().spawnSync(
    'tar',
    ['--acls', '--xattrs', '--xattrs-include=*', '--format=pax', '-P', '-cf', '-', '--', path],
    // It is stopped as soon as it has written more than the header.
    { maxBuffer: HEADER_BYTES, timeout: LIMIT_MS, encoding: 'latin1', stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const [header = ''] = /^[\s\S]{0,65536}/.exec(seen.stdout ?? '') ?? [];
  if (ANY.test(header)) return true;
  const isCut = seen.error !== undefined && 'code' in seen.error && seen.error.code === 'ENOBUFS';
  if (seen.status === 0 || isCut) return false;
  return failure('tar', seen);
}

/** Gives them to another file. A text is why they are lost. */
export function copyAttributes(from: string, to: string): string | undefined {
  const copied = programs().spawnSync('cp', ['--attributes-only', '--preserve=mode,xattr', '--', from, to], {
    timeout: LIMIT_MS,
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return copied.status === 0 ? undefined : failure('cp', copied);
}

function failure(
  program: string,
  { error, stderr }: { readonly error?: Error | undefined; readonly stderr: string | null },
): string {
  return error === undefined ? (stderr ?? '').trim().split('\n', 1)[0] || `${program} failed` : error.message;
}

/** Few lists have any of that: loading it would slow every ban. */
function programs(): typeof import('node:child_process') {
  return process.getBuiltinModule('node:child_process');
}
