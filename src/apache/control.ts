import { realpathSync } from 'node:fs';
import { basename, isAbsolute, join } from 'node:path';
import { type ProgramResult, run } from '../system/program.ts';

/** Debian has apache2ctl, RHEL httpd. RHEL's apachectl does not pass on arguments, so it comes last. */
const CONTROLS = ['apache2ctl', 'httpd', 'apachectl'];
const OWN_NAME = /^(?:apache2(?:ctl)?|apachectl|httpd)(?:-[\w.]+)?$/;
const SYSTEM_DIRECTORIES = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/sbin', '/usr/local/bin'];
/** Programs that run a command in another root, process namespace or host, where paths and pids differ. */
const CROSSING =
  /^(?:docker|podman|nerdctl|kubectl|crictl|ctr|lxc|lxc-attach|incus|machinectl|nsenter|unshare|chroot|systemd-nspawn|ssh)$/;
/** Longest part of a foreign message that banctl prints and stores. Characters. */
const MOST_SAID = 500;

/** The program that answered, and how it ended. */
export interface ControlCall {
  readonly control: string;
  readonly outcome: ProgramResult;
}

/** Runs Apache's control program: the given one, or the first usual one that exists. */
export async function callControl(
  apachectl: string | undefined,
  args: readonly string[],
  limitSeconds: number,
): Promise<ControlCall> {
  const [first = '', ...others] = apachectl === undefined ? CONTROLS : [apachectl];
  let control = first;
  let outcome = await run(control, args, limitSeconds);
  for (const other of others) {
    if (outcome.isFound) break;
    outcome = await run(other, args, limitSeconds);
    if (outcome.isFound) control = other;
  }
  return { control, outcome };
}

/** True for `docker exec web httpd` and the like, whose PidFile is not a file of this host. */
export function crossesNamespaces(control: string): boolean {
  return control.split(/\s+/).some((word) => CROSSING.test(basename(word)));
}

/**
 * True for Apache's own program on this host. Its `-k graceful` signals whatever process the PidFile names, even one that
 * is not Apache (ap_signal_server, server/mpm_unix.c). Another script may know better where its Apache runs.
 */
export function isOwnProgram(control: string): boolean {
  const [program = ''] = control.split(/\s+/);
  if (!OWN_NAME.test(basename(program))) return false;
  if (!isAbsolute(program)) return !program.includes('/');
  try {
    return SYSTEM_DIRECTORIES.some((directory) => realpathSync(program).startsWith(`${directory}/`));
  } catch {
    return false;
  }
}

/**
 * The control program behind a reload command that is its own graceful reload, such as `/usr/sbin/apachectl graceful` or
 * `apache2 -f FILE -k graceful`. Run as it is, it would start a stopped Apache.
 */
export function controlBehind(reloadCommand: string): string | undefined {
  const [, control = ''] = /^\s*(\S.*?)\s+(?:-k\s+)?graceful\s*$/.exec(reloadCommand) ?? [];
  const [program = ''] = control.split(/\s+/);
  if (!OWN_NAME.test(basename(program))) return undefined;
  return withArguments(control, program);
}

/** RHEL's apachectl runs no test with arguments; httpd beside it does. */
function withArguments(control: string, program: string): string {
  if (basename(program) !== 'apachectl' || !isAbsolute(program)) return control;
  const httpd = join(program, '..', 'httpd');
  try {
    realpathSync(httpd);
    return control.replace(program, httpd);
  } catch {
    return control;
  }
}

/** The error in one line. Apache's first message names file and line. */
export function describe(command: string, outcome: ProgramResult, limitSeconds: number): string {
  if (!outcome.isFound) return outcome.stderr;
  if (outcome.isTimedOut) return `${command} has not ended within ${Math.round(limitSeconds)} s`;
  const lines = (outcome.stderr.trim() || outcome.stdout.trim()).split('\n', 2).join(' ');
  const said = lines.length > MOST_SAID ? `${lines.slice(0, MOST_SAID)}…` : lines;
  const code = outcome.exitCode === undefined ? '' : ` with exit code ${outcome.exitCode}`;
  return `${command} failed${code}: ${said || 'it printed nothing'}`;
}
