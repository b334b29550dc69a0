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

/** The system's code of a failed call (`ENOENT`, `ENOSPC`, …), or undefined for any other failure. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
