// What is in a package, whatever its format: the executable, what is generated (manual page, completions, licences), and
// the kit as a server of the layout needs it.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Layout } from '../../src/apache/layout.ts';
import { completionScript } from '../../src/cli/completion.ts';
import { KIT_DIRECTORIES, type KitFile, kitOf, render } from '../../src/setup/kit.ts';

export const repository = join(import.meta.dirname, '..', '..');
export const source = (name: string) => readFileSync(join(repository, name), 'utf8');

export interface PackagedFile {
  readonly content: string | Buffer;
  readonly mode: number;
}

/** Files by their paths below the root, without a slash in front. */
export type Contents = Map<string, PackagedFile>;

/** The files that are the same in every format. */
export function commonContents(executable: string, epochSeconds: number): Contents {
  return new Map([
    ['usr/bin/banctl', { content: readFileSync(executable), mode: 0o755 }],
    ['usr/share/man/man8/banctl.8.gz', text(compressed(manualPage(epochSeconds)))],
    ['usr/share/bash-completion/completions/banctl', text(completionScript('bash'))],
    ['usr/share/fish/vendor_completions.d/banctl.fish', text(completionScript('fish'))],
  ]);
}

function manualPage(epochSeconds: number): Buffer {
  const date = new Date(epochSeconds * 1000).toISOString().slice(0, 10);
  return execFileSync(process.execPath, [join(repository, 'tools', 'manual-page.ts'), `--date=${date}`]);
}

export function text(content: string | Buffer): PackagedFile {
  return { content, mode: 0o644 };
}

/** gzip's header would hold the time of its making; level 9 is what Debian's policy asks for. */
export function compressed(content: string | Buffer): Buffer {
  return gzipSync(content, { level: 9 });
}

/** The kit's files, each with its text for the layout. */
export function kitFiles(layout: Layout): { file: KitFile; text: string }[] {
  const texts = KIT_DIRECTORIES.flatMap((directory) =>
    readdirSync(join(repository, directory))
      .sort()
      .map((name) => [`${directory}/${name}`, source(`${directory}/${name}`)]),
  );
  const places = { banlist: layout.banlist, bandir: undefined };
  return kitOf(Object.fromEntries(texts)).map((file) => ({ file, text: render(file, layout, places) }));
}

/**
 * A jail that is on would ban the proxy of a server that stands behind one. So it waits for the administrator, as the
 * distributions' own jails do.
 */
export function offUntilEnabled(jail: string, name: string): string {
  return replaced(jail, /^enabled = (?:true|false)$/m, 'enabled = false').replace(
    /^# Notes: {3}whether fail2ban runs this jail\.$/m,
    `# Notes:   whether fail2ban runs this jail. Leave this file as it is, and write ${name}.local beside it:
#            [${name}]
#            enabled = true`,
  );
}

export function replaced(content: string, pattern: RegExp, by: string): string {
  if (!pattern.test(content)) throw new Error(`${pattern} is not there to be replaced`);
  return content.replace(pattern, by);
}

/** A script of a package, with the part that both formats share. */
export function script(name: string): string {
  return replaced(
    source(name),
    /^ *# REMOVE-NOTES$/m,
    source('packaging/remove-notes.sh')
      .replace(/^# shellcheck.*\n/, '')
      .trimEnd(),
  );
}
