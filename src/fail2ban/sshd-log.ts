import { existsSync, readdirSync, readFileSync } from 'node:fs';

/*
 * fail2ban does not start at all if one jail that is on has no log. Debian 12 switches its own sshd jail on, which reads
 * /var/log/auth.log, and comes without rsyslog, which would write it.
 */

const FAIL2BAN = '/etc/fail2ban';
const AUTH_LOG = '/var/log/auth.log';
const REMEDY = "printf '[sshd]\\nbackend = systemd\\n' > /etc/fail2ban/jail.d/sshd-journal.local";

/**
 * Why fail2ban cannot start, with the line that helps; undefined if the sshd jail is not what keeps it.
 *
 * @param at where a path of the server is read from here
 */
export function whySshdJailFails(at: (path: string) => string = (path) => path): string | undefined {
  if (existsSync(at(AUTH_LOG))) return undefined;
  const sections = configurationFiles(at).flatMap((path) => sectionsOf(read(path)));
  const settingOf = (key: string) =>
    sections
      .filter(({ name }) => name === 'sshd' || name === 'DEFAULT')
      .flatMap(({ lines }) => lines.filter((line) => line.key === key))
      .at(-1)?.value;
  const isOn = sections
    .filter(({ name }) => name === 'sshd')
    .flatMap(({ lines }) => lines.filter(({ key }) => key === 'enabled'))
    .at(-1);
  if (!/^(?:true|yes|on|1)$/i.test(isOn?.value ?? '')) return undefined;
  if ([settingOf('backend'), settingOf('sshd_backend')].some((backend) => /systemd/.test(backend ?? '')))
    return undefined;
  const logs = settingOf('logpath') ?? AUTH_LOG;
  if (!/auth\.log|sshd_log/.test(logs)) return undefined;
  return `fail2ban does not start: its sshd jail has no ${AUTH_LOG}; ${REMEDY}, then systemctl restart fail2ban (python3-systemd has to be installed)`;
}

/** In the order in which fail2ban reads them, without jail.conf: that one is the distribution's, and has no jail on. */
function configurationFiles(at: (path: string) => string): string[] {
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
