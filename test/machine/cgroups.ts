// The reload that waits for the end of the interval outlives the unit, session or service that asked for it.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects = 'A deferred reload happens whatever becomes of the cgroup that asked for it';

/** The first ban reloads at once; the second is deferred, and is the last thing that its cgroup does. */
const two = (asks: string) =>
  `list_only; fresh; banctl ban 203.0.113.66 >/dev/null; ${asks}; lines; until_code 203.0.113.55 403`;
const DEFERRED = '203.0.113.55 --reload-interval 5';

export async function run({ expect, say }: Scene): Promise<void> {
  await expect(
    'a oneshot service that ends with its ban',
    two(`systemd-run --quiet --wait -p Type=oneshot banctl ban ${DEFERRED}`),
    '2\n203.0.113.55 403',
  );
  await expect(
    'three more of them',
    `for n in 1 2 3; do
       banctl unban 203.0.113.55 --no-fail2ban --reload-interval 0 >/dev/null
       systemd-run --quiet --wait -p Type=oneshot banctl ban 203.0.113.55 --reload-interval 3
       until_code 203.0.113.55 403
     done | sort | uniq -c`,
    '3 203.0.113.55 403',
  );
  await expect(
    'a session that ends, with KillUserProcesses=yes',
    `mkdir -p /etc/systemd/logind.conf.d; printf '[Login]\\nKillUserProcesses=yes\\nKillExcludeUsers=\\n' > /etc/systemd/logind.conf.d/scenario.conf
     systemctl restart systemd-logind; systemctl start ssh; ssh-keygen -q -t ed25519 -N '' -f /root/own; cat /root/own.pub >> /root/.ssh/authorized_keys
     ${two(`ssh -i /root/own -o StrictHostKeyChecking=no -o LogLevel=ERROR 127.0.0.1 "(sleep 300; touch /tmp/survived) </dev/null >/dev/null 2>&1 & banctl ban ${DEFERRED} >/dev/null"`)}
     pgrep -f 'sleep 30[0]' >/dev/null && echo 'control: a process of the session is still there'`,
    '2\n203.0.113.55 403',
  );
  await expect(
    'fail2ban is killed with all its processes, and stays down',
    `echo '{"reload-interval": 20}' > /etc/banctl.json; fresh; unit_options fail2ban Restart=no; systemctl restart fail2ban; within 180 fail2ban-client status $JAIL
     banctl ban 203.0.113.66 --reload-interval 0 >/dev/null
     fail2ban-client set $JAIL banip 203.0.113.55 >/dev/null; within 180 grep -q 203.0.113.55 $LIST; within 180 grep -q 203.0.113.55 /var/log/fail2ban.log
     within 180 pgrep -f 'reload --when-du[e]'; sleep 0.3; systemctl kill -s KILL fail2ban; within 180 bash -c '! systemctl -q is-active fail2ban'
     until_code 203.0.113.55 403`,
    '203.0.113.55 403',
  );
  const price = await expect(
    'the price of the call that starts the waiting process: the first of these',
    `list_only; fresh; banctl ban 198.51.100.1 >/dev/null
     for n in 2 3 4; do t=$(date +%s%N); banctl ban 198.51.100.$n --reload-interval 30 >/dev/null; echo "$(( ($(date +%s%N) - t) / 1000000 )) ms"; done; banctl reload >/dev/null`,
    /^(\d+ ms\s*){3}$/,
  );
  say(price.replaceAll('\n', ', '));
}
