// The clock is wrong at boot, and is set later: days ahead, years back.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'A clock that is years wrong at boot and jumps later lifts no ban and delays no reload';

const BANS = `for a in 55 66; do echo "$a $(code 203.0.113.$a)"; done`;

export async function run({ machine, expect, say }: Scene): Promise<void> {
  await machine.done(
    'list_only; banctl ban 203.0.113.55 --reload-interval 0 >/dev/null; banctl ban 203.0.113.66 --for 400d --reload-interval 0 >/dev/null; sync',
  );
  say('boots with a clock of 2001');
  await machine.reboot({ clock: '2001-01-01T00:00:00' });
  // systemd sets a clock that is older than itself to its own date, which is before these bans, too.
  await expect(
    'the bans hold',
    `${BANS}; [ $(date +%s) -lt ${Math.round(Date.now() / 1000) - 86_400} ] && echo early`,
    '55 403\n66 403\nearly',
  );
  await expect(
    'a ban is enforced at once',
    'banctl ban 203.0.113.77 >/dev/null; echo $?; until_code 203.0.113.77 403',
    '0\n203.0.113.77 403',
  );
  await expect(
    'the clock is set: a ban that is deferred is enforced all the same',
    `sleep 2; banctl ban 198.51.100.1 >/dev/null; banctl ban 203.0.113.88 --reload-interval 5 >/dev/null
    date -s '2027-01-01 00:00:00' >/dev/null; until_code 203.0.113.88 403; ${BANS}; audit 180`,
    '203.0.113.88 403\n55 403\n66 403\nclean',
  );
  await expect(
    'the clock is set back by three hours',
    `banctl ban 198.51.100.2 >/dev/null; banctl unban 203.0.113.88 --reload-interval 5 >/dev/null; date -s '-3 hours' >/dev/null; until_code 203.0.113.88 200; ${BANS}`,
    '203.0.113.88 200\n55 403\n66 403',
  );
  await expect(
    'what ends, ends by the new clock',
    `banctl ban 203.0.113.88 --for 1d >/dev/null; until_code 203.0.113.88 403; date -s '+2 days' >/dev/null; banctl audit --fix >/dev/null; until_code 203.0.113.88 200; ${BANS}`,
    '203.0.113.88 403\n203.0.113.88 200\n55 403\n66 403',
  );
}
