import { isSamePlace } from '../system/links.ts';
import { run } from '../system/program.ts';
import { putThere, statFile } from '../system/read.ts';
import type { ApacheUser, Configuration } from './configuration.ts';
import { readTextOrEmpty } from './processes.ts';

/** Whether Apache looks addresses up in the ban directory. */
export interface DirectoryRule {
  readonly state: 'loaded' | 'not-loaded' | 'absent' | 'unknown';
  /** The paths in the rules: a link on the way may be closed to Apache. */
  readonly paths: readonly string[];
}

const SEARCH_LIMIT_SECONDS = 25;

/**
 * Looks for the directory's rule in the files that the configuration reads, and whether Apache has read them, and
 * those that include them, since they were changed or put there. A rule whose path is put together with `Define` is
 * not found.
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
  // The files of a container cannot be read from here.
  if (ruled.length === 0 && configuration.isElsewhere) return { state: 'unknown', paths: [] };
  const loaded = statFile(configuration.pidFile)?.modified ?? Number.POSITIVE_INFINITY;
  const isLoaded = ruled.some(({ files }) => files.every((file) => putThere(file) < loaded));
  return {
    state: isLoaded ? 'loaded' : ruled.length > 0 ? 'not-loaded' : 'absent',
    paths: ruled.flatMap(({ paths }) => paths),
  };
}

/** What is wrong where Apache does not enforce the directory; undefined if it does, or if that is not known. */
export function whyNotLookedUp(configuration: Configuration, bandir: string): string | undefined {
  const { state } = directoryRule(configuration, bandir);
  if (state === 'not-loaded') return `has not read the rule for ${bandir} yet; banctl reload --force`;
  const expected = `Require expr "! -e '${bandir}/%{REMOTE_ADDR}'"`;
  return state === 'absent'
    ? `does not look into ${bandir}; put ${expected} into the site's configuration`
    : undefined;
}

/** The directories in which `Require expr "! -e 'DIR/%{REMOTE_ADDR}'"` looks the visitor up (mod_authz_core, ap_expr). */
export function ruledDirectories(configuration: string): string[] {
  const lines = configuration.replace(/\\\r?\n/g, '').split('\n');
  return lines.flatMap((line) => {
    const rule = /^\s*Require\s+expr\s.*!\s*-e\s*'([^']*)\/+%\{REMOTE_ADDR\}'/i.exec(line);
    return rule?.[1] === undefined ? [] : [rule[1]];
  });
}

/**
 * Asks the system whether Apache's user may search a directory, as that user: mode bits tell neither groups nor access
 * lists nor the directories above. Undefined if it cannot be asked.
 */
export async function canSearch(directory: string, user: ApacheUser): Promise<boolean | undefined> {
  const { exitCode } = await run(
    'setpriv',
    [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', 'test', '-x', directory],
    SEARCH_LIMIT_SECONDS,
  );
  return exitCode === 0 ? true : exitCode === 1 ? false : undefined;
}
