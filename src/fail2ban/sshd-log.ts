import { existsSync } from 'node:fs';
import { jailSetting, ownSetting, type Place } from './jail-files.ts';

/*
 * fail2ban does not start at all if one jail that is on has no log. Debian 12 switches its own sshd jail on, which reads
 * /var/log/auth.log, and comes without rsyslog, which would write it.
 */

const AUTH_LOG = '/var/log/auth.log';
const REMEDY = "printf '[sshd]\\nbackend = systemd\\n' > /etc/fail2ban/jail.d/sshd-journal.local";

/**
 * Why fail2ban cannot start, with the line that helps; undefined if the sshd jail is not what keeps it.
 *
 * @param at where a path of the server is read from here
 */
export function whySshdJailFails(at: Place = (path) => path): string | undefined {
  if (existsSync(at(AUTH_LOG))) return undefined;
  if (!/^(?:true|yes|on|1)$/i.test(ownSetting(at, 'sshd', 'enabled') ?? '')) return undefined;
  const backends = ['backend', 'sshd_backend'].map((key) => jailSetting(at, 'sshd', key) ?? '');
  if (backends.some((backend) => /systemd/.test(backend))) return undefined;
  const logs = jailSetting(at, 'sshd', 'logpath') ?? AUTH_LOG;
  if (!/auth\.log|sshd_log/.test(logs)) return undefined;
  return `fail2ban does not start: its sshd jail has no ${AUTH_LOG}; ${REMEDY}, then systemctl restart fail2ban (python3-systemd has to be installed)`;
}
