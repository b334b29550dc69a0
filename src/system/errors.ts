/** Exit codes, by the numbers of sysexits.h where it has one. Scripts rely on them. */
export const EXIT = {
  done: 0,
  findings: 1,
  usage: 64,
  reloadRefused: 69,
  internal: 70,
  cannotWrite: 73,
  lockBusy: 75,
  notPermitted: 77,
  notUnderstood: 78,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A failure the administrator can act on: one line that names what is wrong and what to do about it. */
export class BanctlError extends Error {
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string) {
    super(message);
    this.name = 'BanctlError';
    this.exitCode = exitCode;
  }
}

/** True also for the error of another part of the executable, which has a class of its own. */
export function isBanctlError(error: unknown): error is BanctlError {
  return error instanceof Error && error.name === BanctlError.name && 'exitCode' in error;
}

/** What the codes of the system mean to the administrator, and what to do. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied; run banctl as root',
  EBUSY: 'it is a mount point, which cannot be replaced; mount its directory instead',
  EDQUOT: 'the disk quota is used up; free some space',
  EFBIG: 'a file may not become so large; raise the limit (ulimit -f)',
  EIO: 'the disk fails; look into the kernel log (dmesg)',
  ELOOP: 'it is a loop of symbolic links; remove it',
  EMFILE: 'too many files are open; raise the limit (ulimit -n)',
  ENAMETOOLONG: 'the path is too long; give a shorter one',
  ENFILE: 'too many files are open; raise the limit (fs.file-max)',
  ENOENT: 'its directory does not exist; create it, or give another path',
  ENOSPC: 'no space is left on the device; free some',
  ENOTDIR: 'what stands above it is not a directory',
  ENXIO: 'it is not a regular file; move it away',
  EPERM: 'not permitted; is the file or its directory immutable (lsattr)?',
  EROFS: 'the file system is read-only',
};

/** Why a call of the system failed, in one lower-case line; `special` are the codes that mean something else there. */
export function reasonOf(error: unknown, special: Readonly<Record<string, string>> = {}): string {
  const code = systemCode(error) ?? '';
  return special[code] ?? REASONS[code] ?? (error instanceof Error ? error.message : String(error));
}

/** The system's code of a failed call (`ENOENT`, `ENOSPC`, …), or undefined for any other failure. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
