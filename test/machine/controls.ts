// What these scenarios are to find must be found: 0.1.0 has each of these faults, and shows it here.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'Control: 0.1.0 cancels a stop, fails where /proc/uptime is hidden, and loses the reload of a service that ends';

const OLD = '/root/old/usr/bin/banctl';

export async function run({ machine, expect }: Scene): Promise<void> {
  await machine.done('list_only; fresh; dpkg-deb -x /root/banctl-old.deb /root/old; rm -f $LIST.state');
  await expect(
    "a stop waits in systemd's queue, a ban comes: the stop is cancelled",
    `begin_stop; ${OLD} ban 203.0.113.55 --reload-interval 0 >/dev/null 2>&1; end_stop; within 180 bash -c '[ $(systemctl is-active apache2) = active ]'; systemctl is-active apache2`,
    'stop 1\nactive',
  );
  await expect(
    'ProcSubset=pid: a mistake in banctl',
    `systemd-run --quiet --wait --pipe -p ProcSubset=pid ${OLD} ban 203.0.113.66 2>&1; echo $?`,
    /\/proc\/uptime[\s\S]*\n70$/,
  );
  await expect(
    'a oneshot service that ends with its ban: the ban is in the list, and Apache never loads it',
    `${OLD} flush --all >/dev/null; ${OLD} reload >/dev/null; sleep 2.2; ${OLD} ban 203.0.113.66 >/dev/null
     systemd-run --quiet --wait -p Type=oneshot ${OLD} ban 203.0.113.55 --reload-interval 3
     lines; until_code 203.0.113.55 403 12`,
    /^2\n203[.]0[.]113[.]55 200$/m,
  );
}
