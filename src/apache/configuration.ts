import { existsSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { isSamePlace } from '../system/links.ts';
import { callControl, crossesNamespaces, describe, isOwnProgram } from './control.ts';

/** Apache's test refuses the configuration. */
export interface Refusal {
  readonly message: string;
  /** The file that Apache blames; undefined if it blames none. */
  readonly blamed: string | undefined;
}

/** The user and group that Apache's children run as. */
export interface ApacheUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Apache's answer about the configuration on disk. */
export interface ReadableConfiguration {
  readonly result: 'passed';
  /** The control program that answered. */
  readonly control: string;
  readonly pidFile: string;
  readonly user: ApacheUser | undefined;
  /** Each file that it reads, after the files that include it, outermost first; undefined if Apache lists none. */
  readonly inclusions: readonly (readonly string[])[] | undefined;
  /** Its paths are inside a container or on another host. */
  readonly isElsewhere: boolean;
}

export type Configuration =
  | ReadableConfiguration
  | { readonly result: 'refused'; readonly refusal: Refusal }
  /** The test did not end by itself, so nothing is known about the configuration. */
  | { readonly result: 'unfinished'; readonly message: string }
  | { readonly result: 'no-apache'; readonly message: string };

const TEST_LIMIT_SECONDS = 25;
const QUESTION = ['-t', '-D', 'DUMP_RUN_CFG', '-D', 'DUMP_INCLUDES'];

/** Asks Apache once: does the configuration pass its test, where is the PidFile, which user serves, which files are read? */
export async function readConfiguration(
  apachectl: string | undefined,
  limitSeconds: number = TEST_LIMIT_SECONDS,
): Promise<Configuration> {
  const seconds = Math.min(limitSeconds, TEST_LIMIT_SECONDS);
  const { control, outcome } = await callControl(apachectl, QUESTION, seconds);
  if (!outcome.isFound)
    return {
      result: 'no-apache',
      message: `${control} not found; give --apachectl, --reload-command or --no-reload`,
    };
  if (outcome.exitCode !== 0) {
    const message = `${describe(`${control} -t`, outcome, seconds)}${hintAbout(outcome.stderr)}`;
    if (outcome.exitCode === undefined) return { result: 'unfinished', message };
    return {
      result: 'refused',
      refusal: { message, blamed: blamedFile(`${outcome.stdout}\n${outcome.stderr}`) },
    };
  }
  const pidFile = /^PidFile: "(.*)"$/m.exec(outcome.stdout)?.[1];
  if (pidFile === undefined)
    return { result: 'no-apache', message: `${control} ${QUESTION.join(' ')} names no PidFile` };
  const inclusions = readInclusions(outcome.stdout);
  return {
    result: 'passed',
    control,
    pidFile,
    user: readUser(outcome.stdout),
    inclusions: inclusions.length === 0 ? undefined : inclusions,
    isElsewhere: isElsewhere(control, pidFile, inclusions[0]?.[0]),
  };
}

/** Apache opens its sockets for a test, too. Otherwise the message would blame the configuration alone. */
function hintAbout(said: string): string {
  // EAFNOSUPPORT, see RestrictAddressFamilies= in systemd.exec(5).
  return /Address family not supported by protocol/.test(said)
    ? '; RestrictAddressFamilies= of this unit may lack AF_INET or AF_INET6'
    : '';
}

/** The error in one line; undefined if the test passed. */
export function problemOf(configuration: Configuration): string | undefined {
  if (configuration.result === 'passed') return undefined;
  return configuration.result === 'refused' ? configuration.refusal.message : configuration.message;
}

/** The innermost file counts: the outer ones only include it (`ap_process_config_tree`, server/config.c). */
function blamedFile(said: string): string | undefined {
  return [...said.matchAll(/ line \d+ of (.+?):(?= |$)/gm)].at(-1)?.[1];
}

/** `User: name="www-data" id=33`; an Apache that root did not start reports none. */
function readUser(dump: string): ApacheUser | undefined {
  const [, name, uid] = /^User: name="(.*)" id=(\d+)/m.exec(dump) ?? [];
  const [, gid] = /^Group: name=".*" id=(\d+)/m.exec(dump) ?? [];
  if (name === undefined || gid === undefined) return undefined;
  return { name, uid: Number(uid), gid: Number(gid) };
}

/** The dump is indented: each file is below the one that includes it. */
function readInclusions(dump: string): string[][] {
  const open: { depth: number; file: string }[] = [];
  return [...dump.matchAll(/^( *)\((?:\*|\d+)\) (.+)$/gm)].map(([, indent = '', file = '']) => {
    while ((open.at(-1)?.depth ?? -1) >= indent.length) open.pop();
    open.push({ depth: indent.length, file });
    return open.map((one) => one.file);
  });
}

function isElsewhere(control: string, pidFile: string, mainFile: string | undefined): boolean {
  if (crossesNamespaces(control)) return true;
  // Before its first start this host's own Apache has no directory for its PidFile either.
  if (isOwnProgram(control)) return false;
  return !existsSync(dirname(pidFile)) || (mainFile !== undefined && !existsSync(mainFile));
}

/** The files that the configuration reads; undefined if Apache could not list them. */
export function filesOf(configuration: Configuration): string[] | undefined {
  if (configuration.result !== 'passed') return undefined;
  return configuration.inclusions?.map((files) => files.at(-1) ?? '');
}

/** The paths by which the configuration reads a file; none if they are inside a container, or if Apache could not say. */
export function pathsTo(configuration: Configuration | undefined, path: string): string[] {
  if (configuration?.result !== 'passed' || configuration.isElsewhere) return [];
  const files = new Set(filesOf(configuration));
  return [...files].filter((file) => isSamePlace(file, path));
}

/** Whether the configuration reads a file, under any name; undefined if Apache could not say. */
export function readsFile(configuration: Configuration, path: string): boolean | undefined {
  const files = filesOf(configuration);
  if (files === undefined || configuration.result !== 'passed') return undefined;
  if (!configuration.isElsewhere) return pathsTo(configuration, path).length > 0;
  // A container mounts the list at another path.
  return files.some((file) => basename(file) === basename(path)) ? true : undefined;
}

/** A bare Include beside other Require lines would be refused, or admit the banned. */
export const ENABLE_SNIPPET = 'enable the snippet djangoapp-banlist: banctl setup says how';

/** The problem if Apache does not read the list; undefined if it does, or could not say. */
export function whyNotRead(configuration: Configuration, banlist: string): string | undefined {
  return readsFile(configuration, banlist) === false
    ? `does not read ${banlist}; ${ENABLE_SNIPPET}`
    : undefined;
}

/** Whether Apache blames this file. `apachectl` distinguishes a container's paths from this host's. */
export function blames({ blamed }: Refusal, path: string, apachectl: string | undefined): boolean {
  if (blamed === undefined) return false;
  if (isSamePlace(blamed, path)) return true;
  const isForeign = (apachectl !== undefined && crossesNamespaces(apachectl)) || !existsSync(blamed);
  return isForeign && basename(blamed) === basename(path);
}
