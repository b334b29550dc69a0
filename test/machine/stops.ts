// An administrator stops or restarts Apache while bans come: the stop counts, whatever waits in systemd's queue.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'No stop is undone and no job cancelled, in any order of stop, restart, reload and ban';
export const isLong = true;

export async function run({ machine, expect }: Scene): Promise<void> {
  await machine.done('list_only; fresh');
  await expect(
    "a stop waits in systemd's queue, a ban comes",
    `begin_stop; banctl ban 203.0.113.55 --reload-interval 0 >/dev/null; echo "ban $?"
     end_stop; systemctl is-active apache2`,
    'ban 0\nstop 0\ninactive',
  );
  await expect(
    'the same where banctl may not signal Apache, and has systemd reload it',
    `begin_stop
     systemd-run --quiet --wait --pipe -p SystemCallFilter=~kill -p SystemCallErrorNumber=EPERM banctl ban 203.0.113.77 --reload-interval 0 >/dev/null 2>&1; echo "ban $?"
     end_stop; systemctl is-active apache2; lines`,
    'ban 69\nstop 0\ninactive\n2',
  );
  await expect(
    'control: a plain reload cancels the same stop',
    'begin_stop; systemctl reload apache2; end_stop; systemctl is-active apache2',
    /stop 1\nactive$/,
  );
  await expect(
    'a ban while Apache is down, then its start',
    `systemctl stop apache2; banctl ban 203.0.113.66 >/dev/null; echo $?
     systemctl start apache2; until_code 203.0.113.66 403; audit 0 --no-fail2ban`,
    '0\n203.0.113.66 403\nclean',
  );
  await expect(
    'a slow stop, a ban in the middle',
    `fresh; unit_options apache2 ExecStop= 'ExecStop=/bin/sleep 4' 'ExecStop=/usr/sbin/apachectl graceful-stop'
     (systemctl stop apache2; echo "stop $?" > /tmp/stop) & sleep 1
     banctl ban 203.0.113.55 --reload-interval 0 >/dev/null; echo "ban $?"
     wait; cat /tmp/stop; sleep 2; systemctl is-active apache2`,
    'ban 0\nstop 0\ninactive',
  );
  await expect(
    'a slow restart, a ban in the middle',
    `fresh
     (systemctl restart apache2; echo "restart $?" > /tmp/stop) & sleep 1
     banctl ban 203.0.113.55 --reload-interval 0 >/dev/null; echo "ban $?"
     wait; cat /tmp/stop; until_code 203.0.113.55 403; systemctl is-active apache2; audit 0 --no-fail2ban`,
    'ban 0\nrestart 0\n203.0.113.55 403\nactive\nclean',
  );
  await expect(
    'three stops at random moments of a series of bans',
    `rm /etc/systemd/system/apache2.service.d/scenario.conf; systemctl daemon-reload
     for round in 1 2 3; do
       systemctl reset-failed apache2; systemctl start apache2
       (for n in 1 2 3 4; do banctl ban 198.51.100.$((10 * round + n)) --reload-interval 0 >/dev/null || echo "ban $?"; done) &
       sleep $((RANDOM % 3)).$((RANDOM % 10)); systemctl stop apache2; wait; sleep 1
       echo "$(systemctl is-active apache2) $(pgrep -c -x apache2)"
     done | sort | uniq -c`,
    '3 inactive 0',
  );
  await expect(
    'five reloads and restarts by the administrator between bans',
    `fresh
     (for n in 1 2 3 4; do banctl ban 198.51.100.$n --reload-interval 0 >/dev/null || echo "ban $?"; done) &
     for what in reload restart reload restart reload; do systemctl $what apache2 || echo "$what $?"; done
     wait; banctl ban 203.0.113.77 >/dev/null; until_code 203.0.113.77 403; systemctl is-active apache2; audit 0 --no-fail2ban`,
    '203.0.113.77 403\nactive\nclean',
  );
}
