import { existsSync, readdirSync, readFileSync } from 'node:fs';

/*
 * What fail2ban's files say of a jail, for when fail2ban does not run. Without jail.conf, which is the distribution's own
 * and switches no jail on, and without what a value refers to by %(name)s.
 */

const FAIL2BAN = '/etc/fail2ban';

/** Where a path of the server is read from here. */
export type Place = (path: string) => string;

/** The value that counts, the jail's own before the default of all jails; undefined if the files set none. */
export function jailSetting(at: Place, jail: string, key: string): string | undefined {
  return ownSetting(at, jail, key) ?? ownSetting(at, 'DEFAULT', key);
}

/** The value that counts in this section alone. */
export function ownSetting(at: Place, section: string, key: string): string | undefined {
  return configurationFiles(at)
    .flatMap((path) => sectionsOf(read(path)))
    .filter(({ name }) => name === section)
    .flatMap(({ lines }) => lines.filter((line) => line.key === key))
    .at(-1)?.value;
}

/** In the order in which fail2ban reads them. */
function configurationFiles(at: Place): string[] {
  const directory = `${FAIL2BAN}/jail.d`;
  const names = existsSync(at(directory)) ? readdirSync(at(directory)).sort() : [];
  const ending = (end: string) =>
    names.filter((name) => name.endsWith(end)).map((name) => `${directory}/${name}`);
  return [...ending('.conf'), `${FAIL2BAN}/jail.local`, ...ending('.local')].map(at);
}

interface Section {
  readonly name: string;
  readonly lines: readonly { readonly key: string; readonly value: string }[];
}

function sectionsOf(text: string): Section[] {
  const [, ...parts] = text.split(/^\[/m);
  return parts.map((part) => ({
    name: part.slice(0, part.indexOf(']')),
    lines: [...part.matchAll(/^([a-z_]+)[ \t]*[=:][ \t]*(.*)$/gim)].map(([, key = '', value = '']) => ({
      key: key.toLowerCase(),
      value: value.trim(),
    })),
  }));
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
