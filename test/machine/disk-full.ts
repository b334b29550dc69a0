// The disk is full when the machine boots.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'With a full disk at boot old bans hold, a new one is refused in one line, and works once there is room';

/** Leaves no block and no rest of one, not even for root. */
const FILL = `
  tune2fs -r 0 /dev/vda >/dev/null 2>&1
  fallocate -l $(df --output=avail -B1 / | tail -n 1) /full 2>/dev/null
  dd if=/dev/zero of=/full-more bs=4k >/dev/null 2>&1
  for n in $(seq 400); do echo x >/full-$n || break; done 2>/dev/null`;

export async function run({ machine, expect, say }: Scene): Promise<void> {
  await machine.done(`list_only; banctl ban 203.0.113.55 --reload-interval 0 >/dev/null; ${FILL}; sync`);
  say('boots');
  await machine.reboot();
  await expect('the disk is full', `${FILL}; df --output=avail / | tail -n 1 | tr -d ' '`, '0');
  await expect('the old ban holds', 'systemctl is-active apache2; code 203.0.113.55', 'active\n403');
  await expect(
    'a new one is refused in one line',
    `cksum <$LIST >/dev/shm/before
     banctl ban 203.0.113.66 2>&1; echo $?
     cksum <$LIST | cmp - /dev/shm/before && echo same`,
    /^banctl: [^\n]*no space[^\n]*\n73\nsame$/i,
  );
  await expect(
    'with room again',
    `rm -f /full /full-*
     banctl ban 203.0.113.66 >/dev/null; echo $?; until_code 203.0.113.66 403
     restart_fail2ban; audit 180; leftovers`,
    '0\n203.0.113.66 403\nclean',
  );
}
