/** Exit codes, with the numbers of sysexits.h if it has one. Scripts rely on them. */
export const EXIT = {
  done: 0,
  findings: 1,
  usage: 64,
  takenBack: 65,
  reloadRefused: 69,
  internal: 70,
  cannotWrite: 73,
  lockBusy: 75,
  notPermitted: 77,
  notUnderstood: 78,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The bundle may give the class another name. */
const NAME = 'BanctlError';

/**
 * A failure that the administrator can act on: `message` names the problem and the input, `hint` the remedy or what has not
 * changed. They become one line only when they are printed.
 */
export class BanctlError extends Error {
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;

  constructor(exitCode: ExitCode, message: string, hint?: string) {
    super(message);
    this.name = NAME;
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

/** The printed form of an error: one line. */
export function lineOf({ message, hint }: Pick<BanctlError, 'message' | 'hint'>): string {
  return hint === undefined ? message : `${message}; ${hint}`;
}

/** The same error with a prefix that says where it happened. */
export function prefixed(prefix: string, { exitCode, message, hint }: BanctlError): BanctlError {
  return new BanctlError(exitCode, `${prefix}${message}`, hint);
}

/** True also for an error of another part of the executable, whose class is a different object. */
export function isBanctlError(error: unknown): error is BanctlError {
  return error instanceof Error && error.name === NAME && 'exitCode' in error;
}

/** Why a system call failed, in lower case, and what to do about it. */
export interface Reason {
  readonly why: string;
  readonly hint?: string;
}

const REASONS: Readonly<Record<string, Reason>> = {
  EACCES: { why: 'permission denied', hint: 'run banctl as root' },
  EBUSY: { why: 'it is a mount point, which cannot be replaced', hint: 'mount its directory instead' },
  EDQUOT: { why: 'the disk quota is used up', hint: 'free some space' },
  EFBIG: { why: 'the file would exceed the size limit', hint: 'raise the limit (ulimit -f)' },
  EIO: { why: 'the disk fails', hint: 'check the kernel log (dmesg)' },
  ELOOP: { why: 'it is a loop of symbolic links', hint: 'remove it' },
  EMFILE: { why: 'too many files are open', hint: 'raise the limit (ulimit -n)' },
  ENAMETOOLONG: { why: 'the path is too long', hint: 'give a shorter one' },
  ENFILE: { why: 'too many files are open', hint: 'raise the limit (fs.file-max)' },
  ENOENT: { why: 'its directory does not exist', hint: 'create it, or give another path' },
  ENOSPC: { why: 'no space is left on the device', hint: 'free some' },
  ENOTDIR: { why: 'a part of its path is not a directory' },
  ENXIO: { why: 'it is not a regular file', hint: 'move it away' },
  EROFS: {
    why: 'the file system is read-only',
    hint: 'remount it, or add the directory to ReadWritePaths= of the unit',
  },
};

const IMMUTABLE: Reason = {
  why: 'not permitted',
  hint: 'is the file or its directory immutable (lsattr)?',
};

/** Root without some of its capabilities, as in a hardened unit; these calls have no other reason to fail like this. */
function missingCapability(error: unknown): Reason | undefined {
  const call = error instanceof Error && 'syscall' in error ? String(error.syscall) : '';
  const name = /chown$/.test(call) && process.geteuid?.() === 0 ? 'CAP_CHOWN' : undefined;
  if (name === undefined) return undefined;
  const hint = `add it to CapabilityBoundingSet= of the unit, or make the file root's`;
  return { why: `${name} is missing, so the file cannot keep its owner`, hint };
}

/** `special` has the codes with another meaning in this case. */
export function reasonOf(error: unknown, special: Readonly<Record<string, Reason>> = {}): Reason {
  const code = systemCode(error) ?? '';
  if (code === 'EPERM') return missingCapability(error) ?? special.EPERM ?? IMMUTABLE;
  const unknown = { why: error instanceof Error ? error.message : String(error) };
  return special[code] ?? REASONS[code] ?? unknown;
}

/** The system's error code of a failed call (`ENOENT`, `ENOSPC`, …), or undefined for any other failure. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** True if `work` worked; for removals, where a failure means that another process has done it. */
export function succeeds(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
