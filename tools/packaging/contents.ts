// The contents of a package in any format: the executable, generated files (manual page, completions, licences), and the kit
// for the server's layout.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Layout } from '../../src/apache/layout.ts';
import { completionScript } from '../../src/cli/completion.ts';
import { configOf } from '../../src/setup/directory-config.ts';
import { KIT_DIRECTORIES, type KitFile, kitOf, render } from '../../src/setup/kit.ts';

export const repository = join(import.meta.dirname, '..', '..');
export const source = (name: string) => readFileSync(join(repository, name), 'utf8');

export interface PackagedFile {
  readonly content: string | Buffer;
  readonly mode: number;
}

/** Files by their paths below the root, without a leading slash. */
export type Contents = Map<string, PackagedFile>;

/** The files that are the same in every format. */
export function commonContents(executable: string, epochSeconds: number, layout: Layout): Contents {
  return new Map([
    [DEFAULT_CONFIG, text(configOf(layout.bandir))],
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

/** gzip's header would contain the time; Debian's policy asks for level 9. */
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
 * Switches the jail off: on a server behind a proxy, a jail that is on could ban the proxy. The distributions' own jails are
 * off, too.
 */
function offUntilEnabled(jail: string, name: string): string {
  return replaced(jail, /^enabled = (?:true|false)$/m, 'enabled = false').replace(
    /^# Notes: {3}whether fail2ban runs this jail\.$/m,
    `# Notes:   whether fail2ban runs this jail. Leave this file as it is, and write ${name}.local beside it:
#            [${name}]
#            enabled = true`,
  );
}

export function replaced(content: string, pattern: RegExp, by: string): string {
  if (!pattern.test(content)) throw new Error(`${pattern} matches nothing to replace`);
  return content.replace(pattern, by);
}

/** A script of a package, with the parts that both formats share. */
export function script(name: string): string {
  return ['remove-notes', 'make-log', 'choose-directory'].reduce((whole, part) => {
    const text = source(`packaging/${part}.sh`).replace(/^# shellcheck.*\n/, '');
    return whole.replace(new RegExp(`^ *# ${part.toUpperCase()}$`, 'm'), () => text.trimEnd());
  }, source(name));
}

/**
 * The shell line that runs the audit. Before the first ban there is nothing to audit, unless the administrator has
 * configured something.
 */
export function auditIfInUse({ banlist, bandir }: Layout): string {
  const isConfigured = `[ -e /etc/banctl.json ] && ! cmp -s /${DEFAULT_CONFIG} /etc/banctl.json`;
  return `if [ -e ${banlist} ] || [ -e ${bandir} ] || { ${isConfigured}; }; then banctl audit --fix; fi`;
}

/** The first installation's /etc/banctl.json on a server without bans. */
export const DEFAULT_CONFIG = 'usr/share/banctl/banctl.json';

/** A systemd unit that runs the audit with that line. */
export function unitIfInUse(unit: string, name: string, layout: Layout): string {
  if (name !== 'banctl-audit.service') return unit;
  return replaced(unit, /^ExecStart=.*$/m, `ExecStart=/bin/sh -c '${auditIfInUse(layout)}'`);
}

/** The kit files below /etc/fail2ban, the same in every format: path and text; undefined for other files. */
export function fail2banFile(
  { directory, file }: KitFile,
  rendered: string,
): [string, PackagedFile] | undefined {
  if (directory === 'action.d' || directory === 'filter.d')
    return [`etc/fail2ban/${directory}/${file}`, text(rendered)];
  if (directory !== 'jail.d') return undefined;
  const jail = file.replace(/\.local$/, '');
  return [`etc/fail2ban/jail.d/${jail}.conf`, text(offUntilEnabled(rendered, jail))];
}
