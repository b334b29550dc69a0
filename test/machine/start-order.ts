// fail2ban starts before Apache, after it, or never.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  "fail2ban's bans are enforced whichever of the two starts first; the audit names a fail2ban that never starts";
export const isLong = true;

const BANNED = '203.0.113.55 403';
const IS_BANNED = 'jail_runs; until_code 203.0.113.55 403';

export async function run({ machine, expect, say }: Scene): Promise<void> {
  await machine.done('list_only; fail2ban_bans 203.0.113.55; until_code 203.0.113.55 403');
  for (const order of ['Before=apache2.service', 'After=apache2.service']) {
    const dropIn = '/etc/systemd/system/fail2ban.service.d';
    await machine.done(
      `mkdir -p ${dropIn}; printf '[Unit]\\n%s\\n' ${order} >${dropIn}/order.conf; : >$LIST; sync`,
    );
    say(`boots with fail2ban ${order}, and an empty list`);
    await machine.reboot();
    await expect('the ban that fail2ban restores is enforced', IS_BANNED, BANNED);
  }
  await expect(
    'Apache starts long after',
    `systemctl stop apache2 fail2ban; : >$LIST
     systemctl start fail2ban; jail_runs; within 180 grep -q 203.0.113.55 $LIST; systemctl is-active apache2
     systemctl start apache2; ${IS_BANNED}; audit 180`,
    `inactive\n${BANNED}\nclean`,
  );
  await expect(
    'bans, a stop and a start of fail2ban, within one interval',
    `list_only; fresh; fail2ban_bans 203.0.113.66 203.0.113.77; restart_fail2ban
     for a in 66 77; do until_code 203.0.113.$a 403; done`,
    '203.0.113.66 403\n203.0.113.77 403',
  );
  await expect(
    'three restarts, one right after the other',
    `for n in 1 2 3; do systemctl restart fail2ban; done; jail_runs
     for a in 66 77; do until_code 203.0.113.$a 403; done`,
    '203.0.113.66 403\n203.0.113.77 403',
  );
  const broken = String.raw`[broken]\nenabled = true\nfilter = sshd\nlogpath = /none\n`;
  await machine.done(`systemctl stop fail2ban; printf '${broken}' >/etc/fail2ban/jail.d/broken.local; sync`);
  say('boots with a fail2ban that never starts');
  await machine.reboot();
  await expect(
    'the audit names it',
    'within 180 systemctl -q is-failed fail2ban; banctl audit | grep -o ^fail2ban-down',
    'fail2ban-down',
  );
}
