import { isSamePlace } from '../system/links.ts';
import { run } from '../system/program.ts';
import { putThere, statFile } from '../system/read.ts';
import type { ApacheUser, Configuration } from './configuration.ts';
import { readTextOrEmpty } from './processes.ts';

/** Whether Apache looks up addresses in the ban directory. */
export interface DirectoryRule {
  readonly state: 'loaded' | 'not-loaded' | 'absent' | 'unknown';
  /** The paths in the rules, before links are followed: Apache may not be able to search a link's directory. */
  readonly paths: readonly string[];
}

const SEARCH_LIMIT_SECONDS = 25;

/**
 * Searches the files that the configuration reads for the directory's rule. Checks that Apache has read them, and the files
 * that include them, since they changed or appeared. Does not find a rule whose path is built with `Define`.
 */
export function directoryRule(configuration: Configuration, bandir: string): DirectoryRule {
  if (configuration.result !== 'passed' || configuration.inclusions === undefined)
    return { state: 'unknown', paths: [] };
  const ruled = configuration.inclusions.flatMap((files) => {
    const paths = ruledDirectories(readTextOrEmpty(files.at(-1) ?? '')).filter((path) =>
      isSamePlace(path, bandir),
    );
    return paths.length === 0 ? [] : [{ files, paths }];
  });
  // A container's files cannot be read from here.
  if (ruled.length === 0 && configuration.isElsewhere) return { state: 'unknown', paths: [] };
  const loaded = statFile(configuration.pidFile)?.modified ?? Number.POSITIVE_INFINITY;
  const isLoaded = ruled.some(({ files }) => files.every((file) => putThere(file) < loaded));
  return {
    state: isLoaded ? 'loaded' : ruled.length > 0 ? 'not-loaded' : 'absent',
    paths: ruled.flatMap(({ paths }) => paths),
  };
}

/** The problem if Apache does not enforce the directory; undefined if it does, or if that is unknown. */
export function whyNotLookedUp(configuration: Configuration, bandir: string): string | undefined {
  const { state } = directoryRule(configuration, bandir);
  if (state === 'not-loaded') return `has not read the rule for ${bandir} yet; banctl reload --force`;
  const expected = `Require expr "! -e '${bandir}/%{REMOTE_ADDR}'"`;
  return state === 'absent'
    ? `does not look into ${bandir}; put ${expected} into a <RequireAll>, as in the snippet djangoapp-banlist`
    : undefined;
}

/** The directories in rules `Require expr "! -e 'DIR/%{REMOTE_ADDR}'"` (mod_authz_core, ap_expr). */
export function ruledDirectories(configuration: string): string[] {
  const lines = configuration.replace(/\\\r?\n/g, '').split('\n');
  return lines.flatMap((line) => {
    const rule = /^\s*Require\s+expr\s.*!\s*-e\s*'([^']*)\/+%\{REMOTE_ADDR\}'/i.exec(line);
    return rule?.[1] === undefined ? [] : [rule[1]];
  });
}

/**
 * Asks the kernel, as Apache's user, whether that user may search a directory: mode bits show neither groups, access lists
 * nor the directories above. Undefined if that is impossible.
 */
export async function canSearch(directory: string, user: ApacheUser): Promise<boolean | undefined> {
  const { exitCode } = await run(
    'setpriv',
    [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', 'test', '-x', directory],
    SEARCH_LIMIT_SECONDS,
  );
  return exitCode === 0 ? true : exitCode === 1 ? false : undefined;
}
