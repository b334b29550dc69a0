import { existsSync, readdirSync, rmSync } from 'node:fs';
import { denyLines } from '../banlist/ban-lines.ts';
import { readText } from '../system/read.ts';
import type { FileReport } from './install.ts';
import { includingFiles, type Server } from './server.ts';
import type { SetupOptions } from './types.ts';

/*
 * The ban directory is the better place for new bans: they need no reload, and a reload ends slow requests of mod_wsgi. So
 * a server without bans gets it, in the configuration file, where the administrator can see and remove it.
 */

type Options = Pick<SetupOptions, 'banlist' | 'bandir' | 'config' | 'root' | 'listOnly' | 'dryRun'>;

export interface DirectoryChoice {
  /** The directory that applies from now on. */
  readonly bandir: string | undefined;
  /** The configuration's new text, if setup must write it. */
  readonly written: { readonly text: string; readonly report: FileReport } | undefined;
  /** The number of banning lines in the list; they keep the list in use. */
  readonly listed: number;
}

/** Prepares the ban directory for the configuration of a server without bans. Writes nothing. */
export function chooseDirectory(server: Server, options: Options): DirectoryChoice {
  const { banlist, bandir, config, listOnly } = options;
  const listed = denyLines(readText(server.at(banlist)).text).length;
  const keeps = { bandir, written: undefined, listed };
  if (bandir !== undefined || listOnly || listed > 0 || isListReadAlone(server, banlist)) return keeps;
  const chosen = server.layout.bandir;
  const present = readText(config);
  const text = withBandir(present.text.toString('utf8'), chosen);
  if (text === undefined) return keeps;
  const status = present.version === undefined ? 'written' : 'replaced';
  return { bandir: chosen, written: { text, report: { path: pathIn(options), status } }, listed };
}

/** The configuration's path for the server's own programs. */
function pathIn({ config, root }: Options): string {
  return root !== undefined && config.startsWith(`${root}/`) ? config.slice(root.length) : config;
}

/** Removes a configuration file that only setup has written, unless the directory has bans, and says why one stays. */
export function removeChoice(server: Server, options: Options): FileReport[] {
  const { config, bandir, dryRun } = options;
  const path = pathIn(options);
  const { version, text } = readText(config);
  if (version === undefined) return [];
  if (bandir === undefined || text.toString('utf8') !== configOf(bandir))
    return [{ path, status: 'in-use', reason: 'it says more than setup has written' }];
  if (namesIn(server.at(bandir)).length > 0)
    return [{ path, status: 'in-use', reason: `bans are in ${bandir}` }];
  if (!dryRun) rmSync(config, { force: true });
  return [{ path, status: 'removed' }];
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** The text of a configuration file that only setup has written. */
export function configOf(bandir: string): string {
  return `${JSON.stringify({ bandir }, null, 2)}\n`;
}

/** Undefined if the existing configuration cannot be extended. */
function withBandir(text: string, bandir: string): string | undefined {
  if (text.trim() === '') return configOf(bandir);
  try {
    const document: unknown = JSON.parse(text);
    if (typeof document !== 'object' || document === null || Array.isArray(document)) return undefined;
    return Object.hasOwn(document, 'bandir')
      ? undefined
      : `${JSON.stringify({ ...document, bandir }, null, 2)}\n`;
  } catch {
    return undefined;
  }
}

/** Apache includes the list and has no rule for the directory, so bans in the directory would have no effect. */
function isListReadAlone(server: Server, banlist: string): boolean {
  return includingFiles(server, banlist).some((text) => !text.includes(server.layout.bandir));
}
