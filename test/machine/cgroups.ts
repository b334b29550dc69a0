// The reload that waits for the end of the interval outlives the service that asked for it.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects = 'A deferred reload happens whatever becomes of the cgroup that asked for it';

/** The first ban reloads at once; the second is deferred, and is the last thing that its cgroup does. */
const two = (asks: string) => `
  list_only; fresh; banctl ban 203.0.113.66 >/dev/null
  ${asks}
  lines; until_code 203.0.113.55 403`;
const DEFERRED = '203.0.113.55 --reload-interval 5';

/**
 * An administrator who can log in by ssh and become root, and a logind that ends what a session leaves behind. It never ends
 * what root's own sessions leave.
 */
const KILLED_AT_LOGOUT = `
  mkdir -p /etc/systemd/logind.conf.d
  printf '[Login]\\nKillUserProcesses=yes\\n' >/etc/systemd/logind.conf.d/scenario.conf
  systemctl restart systemd-logind; systemctl start ssh; useradd -m -s /bin/bash admin
  ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
  install -d -o admin -m 700 ~admin/.ssh; install -o admin -m 600 /root/.ssh/id_ed25519.pub ~admin/.ssh/authorized_keys`;

/** The call that starts the waiting process may take this much longer than the next. */
const MOST_MORE_MS = 2000;

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
    'fail2ban is killed with all its processes, and stays down',
    `echo '{"reload-interval": 20}' >/etc/banctl.json; fresh; unit_options fail2ban Restart=no; restart_fail2ban
     banctl ban 203.0.113.66 --reload-interval 0 >/dev/null
     fail2ban_bans 203.0.113.55
     within 180 grep -q 203.0.113.55 $LIST; within 180 pgrep -f 'reload --when-du[e]'
     systemctl kill -s KILL fail2ban; within 180 bash -c '! systemctl -q is-active fail2ban'
     until_code 203.0.113.55 403`,
    '203.0.113.55 403',
  );
  await expect(
    'a session that ends after its ban, with KillUserProcesses=yes: all else that it started is killed',
    `${KILLED_AT_LOGOUT}
     ${two(`ssh -n -o StrictHostKeyChecking=no -o LogLevel=ERROR admin@127.0.0.1 '
       sleep $((600 + 1)) >/dev/null 2>&1 & su -c "banctl ban ${DEFERRED} >/dev/null"; jobs -r | wc -l'`)}
     within 60 bash -c '! pgrep -f "sleep 60[1]"'`,
    '1\n2\n203.0.113.55 403',
  );
  const durations = await expect(
    'the price of the call that starts the waiting process: the first of these',
    `list_only; fresh; banctl ban 198.51.100.1 >/dev/null
     for n in 2 3 4; do
       t=$(date +%s%N); banctl ban 198.51.100.$n --reload-interval 30 >/dev/null
       echo "$(( ($(date +%s%N) - t) / 1000000 )) ms"
     done
     banctl reload >/dev/null`,
    /^(\d+ ms\s*){3}$/,
  );
  say(durations.replaceAll('\n', ', '));
  const [first = 0, ...others] = [...durations.matchAll(/\d+/g)].map(Number);
  if (first - Math.max(...others) > MOST_MORE_MS)
    throw new Error(`the first deferred ban takes ${first} ms, the next ${others.join(' and ')} ms`);
}
