// Back to earlier versions in the middle of bans, off the server, and on it again.
import type { Scene } from '../../tools/machine/scenario.ts';
import {
  ACTION,
  after,
  CHANGED,
  IS_CHANGED,
  install,
  KEPT,
  quietly,
  SNIPPET,
  storm,
  VERSION,
} from '../../tools/machine/storm-of-bans.ts';

export const expects =
  'Downgrades during a storm of bans, removal, purge and a new installation keep the list, and Apache starts in each state';
export const isLong = true;

const ENABLE = 'a2enconf -q djangoapp-banlist >/dev/null; systemctl reload apache2';
/** The lines of bans that were in the list before and are not now, and how many there are. */
const SAME_LIST = `grep -h '^Require not ip' /root/list-before | grep -vxFf $LIST; cmp $LIST /root/list-removed; lines`;
const BANNED_BY_FAIL2BAN = `restart_fail2ban; fail2ban_bans 203.0.113.88; until_code 203.0.113.88 403
     fail2ban_unbans 203.0.113.88; until_code 203.0.113.88 200`;
const IS_BANNED_BY_FAIL2BAN = '203.0.113.88 403\n203.0.113.88 200';

export async function run({ machine, expect }: Scene): Promise<void> {
  const present = (await machine.done(`${VERSION} banctl`)).trim();
  await expect(
    'a list of holds, and changed configuration files',
    `list_only; fresh; ${CHANGED}`,
    IS_CHANGED,
  );
  await expect('a later version', `${install('banctl-next')}; ${VERSION} banctl`, '9.9.9');
  await expect(
    'downgrade from it in the middle of bans',
    storm('198.51.100', install('banctl')),
    after(present),
  );
  await expect('holds and changed files are kept', KEPT, '2');
  await expect(
    'downgrade to 0.1.0 in the middle of bans',
    `sed -i '/# kept/d' ${ACTION}\n${storm('192.0.100', install('banctl-old'))}`,
    after('0.1.0'),
  );
  await expect('holds and the changed file are kept', KEPT, '1');
  await expect("0.1.0's own action bans and unbans", BANNED_BY_FAIL2BAN, IS_BANNED_BY_FAIL2BAN);
  await expect(
    'removal: Apache admits everybody, starts, and the list stays',
    `${install('banctl')}; ${quietly('apt-get remove -y banctl')}; cp $LIST /root/list-removed
     until_code 203.0.113.55 200; systemctl restart apache2; systemctl is-active apache2 fail2ban
     command -v banctl; ${SAME_LIST}`,
    /^203[.]0[.]113[.]55 200\nactive\nactive\n\d+$/,
  );
  await expect(
    'installation: everybody in the list is refused again',
    `${install('banctl')}; ${SAME_LIST}; ${ENABLE}; until_code 203.0.113.55 403; grep -c '# kept' ${SNIPPET}`,
    /^\d+\n203[.]0[.]113[.]55 403\n1$/,
  );
  await expect(
    'purge: Apache starts, and the list stays',
    `${quietly('apt-get purge -y banctl')}; cp $LIST /root/list-removed
     until_code 203.0.113.55 200; systemctl restart apache2; systemctl is-active apache2; ls /etc/banctl.json 2>&1
     ${SAME_LIST}`,
    /^203[.]0[.]113[.]55 200\nactive\nls: [^\n]* No such file or directory\n\d+$/,
  );
  await expect(
    'installation after it: the server keeps to its list, whose bans are in force again',
    `${install('banctl')}; ls /etc/banctl.json 2>/dev/null; ${SAME_LIST}; ${ENABLE}; until_code 203.0.113.55 403
     ${BANNED_BY_FAIL2BAN}`,
    new RegExp(`^\\d+\\n203[.]0[.]113[.]55 403\\n${IS_BANNED_BY_FAIL2BAN}$`),
  );
}
