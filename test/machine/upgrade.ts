// From 0.1.0 to the present version and a later one, in the middle of bans.
import type { Scene } from '../../tools/machine/scenario.ts';
import {
  AUDITED,
  after,
  CHANGED,
  IS_CHANGED,
  install,
  KEPT,
  quietly,
  SWITCH,
  storm,
  VERSION,
} from '../../tools/machine/storm-of-bans.ts';

export const expects =
  'Upgrades from 0.1.0 and to a later version during a storm of bans lose no ban, no hold and no changed file';
export const isLong = true;

export async function run({ machine, expect }: Scene): Promise<void> {
  const present = (await machine.done(`${VERSION} banctl`)).trim();
  await expect(
    '0.1.0 is installed by its own README',
    `rm ${SWITCH}; ${quietly('fail2ban-client reload')}; ${quietly('apt-get purge -y banctl')}
     rm -rf /etc/apache2/djangoapp /etc/banctl.json
     ${install('banctl-old')}
     a2enconf -q djangoapp-banlist >/dev/null; systemctl reload apache2
     printf '[%s]\\nenabled = true\\n' $JAIL >${SWITCH}; restart_fail2ban; ${VERSION} banctl`,
    '0.1.0',
  );
  await expect('it gets a list of holds, and its configuration files are changed', CHANGED, IS_CHANGED);
  await expect('upgrade in the middle of bans', storm('198.51.100', install('banctl')), after(present));
  await expect('holds and changed files are kept', KEPT, '2');
  await expect(
    "0.1.0's action file, which was changed, bans and unbans with the present banctl",
    `fail2ban_bans 203.0.113.88; until_code 203.0.113.88 403
     fail2ban_unbans 203.0.113.88; until_code 203.0.113.88 200; audit 60`,
    `203.0.113.88 403\n203.0.113.88 200\n${AUDITED}`,
  );
  await expect('upgrade to a later version', storm('192.0.100', install('banctl-next')), after('9.9.9'));
}
