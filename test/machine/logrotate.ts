// Two months of daily rotations in minutes: each one reloads Apache, and tells fail2ban to open its logs again.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'Sixty rotations, each with a reload of Apache, beside bans: no ban is lost, and logins are still counted';
export const isLong = true;

const ROUNDS = 3;
const ROTATIONS_EACH = 20;
const BANS_EACH = 4;

export async function run({ machine, expect }: Scene): Promise<void> {
  await machine.done('list_only; fresh');
  for (let round = 1; round <= ROUNDS; round += 1)
    await expect(
      `${ROTATIONS_EACH} rotations and ${BANS_EACH} bans at once`,
      `(for n in $(seq ${BANS_EACH}); do
          banctl ban 198.51.${round}.$n --reload-interval 1 >/dev/null 2>/tmp/why || echo "ban $n: $? $(cat /tmp/why)"
        done) &
       for n in $(seq ${ROTATIONS_EACH}); do
         logrotate -f /etc/logrotate.d/apache2 >/dev/null 2>/tmp/rotate || { echo "rotation $n"; head -n 3 /tmp/rotate; }
       done
       logrotate -f /etc/logrotate.d/fail2ban
       wait; systemctl is-active apache2; lines`,
      `active\n${BANS_EACH * round}`,
    );
  await expect('the audit', 'audit 180', 'clean');
  await expect(
    'five failed logins',
    `jail_runs
     for n in 1 2 3 4 5; do URL=http://192.0.2.1/admin/login/ code 203.0.113.77 -d password=wrong >/dev/null; done
     until_code 203.0.113.77 403`,
    '203.0.113.77 403',
  );
}
