// An administrator's stop, restart and reload, in each order, with a ban that begins before, between or after them.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'In all 24 orders of stop, restart, reload and ban, Apache ends as its administrator said, no job fails, and the ban counts';
export const isLong = true;

/** The ban begins at a random moment, and goes on beside what comes next. */
const IN_ORDER = `
  in_order() {
    local should=active verb
    systemctl reset-failed apache2; systemctl start apache2
    banctl unban 203.0.113.55 --no-fail2ban --no-reload >/dev/null
    for verb in "$@"; do
      case $verb in
        ban)
          (banctl ban 203.0.113.55 --reload-interval 0 >/dev/null 2>/tmp/why || echo "ban: $? $(cat /tmp/why)") &
          sleep $((RANDOM % 2)).$((RANDOM % 10))
          continue
          ;;
        stop) should=inactive ;;
        restart) should=active ;;
        # systemd reloads no stopped service.
        reload) [ $should = active ] || continue ;;
      esac
      systemctl $verb apache2 2>&1 || echo "$verb: $?"
    done
    wait
    [ "$(systemctl is-active apache2)" = $should ] || echo "it is not $should"
    systemctl start apache2
    until_code 203.0.113.55 403 | grep -vx '203.0.113.55 403'
  }`;

export async function run({ machine, expect }: Scene): Promise<void> {
  await machine.done('list_only; fresh');
  for (const order of ordersOf(['stop', 'restart', 'reload']))
    for (let at = 0; at <= order.length; at += 1) {
      const words = order.toSpliced(at, 0, 'ban').join(' ');
      await expect(words, `${IN_ORDER}\nin_order ${words}`, '');
    }
}

function ordersOf(words: readonly string[]): string[][] {
  if (words.length === 0) return [[]];
  return words.flatMap((first) =>
    ordersOf(words.filter((word) => word !== first)).map((rest) => [first, ...rest]),
  );
}
