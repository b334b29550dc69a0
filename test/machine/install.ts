// By the README and docs/install.md alone: from Debian's package to the first ban, in a fresh Debian.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'The package installs; five failed logins get 403, a neighbour gets 200; the audit is clean';

export async function run({ machine, expect, packages }: Scene): Promise<void> {
  await machine.done(
    `cd /root && tar -xf /dev/disk/by-id/virtio-files && mv ${packages.present} banctl.deb && mv ${packages.next} banctl-next.deb && mv ${packages.old} banctl-old.deb`,
  );
  const install =
    'apt-get install -y --no-install-recommends /root/banctl.deb >/tmp/apt.log 2>&1 || tail /tmp/apt.log';
  await expect('install the package', install, '');
  await expect(
    'a site with a login page, and the snippets',
    'mkdir -p /var/www/html/admin/login && echo form > /var/www/html/admin/login/index.html; a2enconf -q djangoapp-banlist djangoapp-login-log && apache2ctl configtest 2>&1 && systemctl reload apache2',
    /Syntax OK$/,
  );
  const jail = `printf '[%s]\\nenabled = true\\n' $JAIL > /etc/fail2ban/jail.d/$JAIL.local`;
  await expect(
    'switch the jail on',
    `${jail}; systemctl restart fail2ban && within 60 fail2ban-client status $JAIL && echo on`,
    'on',
  );
  await expect('nobody is banned yet', 'code 203.0.113.55', '200');
  await expect(
    'five failed logins',
    'for n in 1 2 3 4 5; do URL=http://192.0.2.1/admin/login/ code 203.0.113.55 -d password=wrong >/dev/null; done; until_code 203.0.113.55 403',
    '203.0.113.55 403',
  );
  await expect('a neighbour', 'code 203.0.113.66', '200');
  await expect('banctl names the jail', 'banctl explain 203.0.113.55', /djangoapp-admin-login/);
  await expect('the audit', 'audit 60', 'clean');
  // On a slow machine fail2ban answers later than banctl waits, which banctl reports.
  await expect(
    'unban',
    "banctl unban 203.0.113.55 2>&1 >/dev/null | grep -v 'has not answered within 10 s'; until_code 203.0.113.55 200",
    '203.0.113.55 200',
  );
  await expect(
    'fail2ban agrees',
    `within 60 bash -c "! fail2ban-client get $JAIL banip | grep -q 203.0.113.55"`,
    '',
  );
  await expect('both services run', 'systemctl is-active apache2 fail2ban', 'active\nactive');
}
