// What a reboot, in good order or not, leaves of bans and of their enforcement.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'After a reboot and a loss of power every ban is enforced as soon as Apache answers, the first ban is as fast as the next, and nothing is left over';
export const losesPower = true;

const AFTER = `
  systemctl is-active apache2
  for a in 55 66 77; do echo "$a $(code 203.0.113.$a)"; done
  jail_runs; audit 180`;
const ENFORCED = 'active\n55 403\n66 403\n77 403\nclean';

/**
 * Two bans that each reload Apache: each one's duration in milliseconds, and what Apache then answers. A reload, and one that is
 * deferred, remove what calls that were cut off have left: their locks.
 */
const NEXT_TWO = `
  for a in 88 56; do
    t=$(date +%s%N); banctl ban 203.0.113.$a --reload-interval 0 >/dev/null || echo "exit code $?"
    echo "$(( ($(date +%s%N) - t) / 1000000 )) ms $(code 203.0.113.$a)"
  done
  banctl unban 203.0.113.88 203.0.113.56 --reload-interval 15 >/dev/null; within 60 no_leftovers || leftovers`;
const MOST_TIMES_SLOWER = 3;
/** A busy computer makes any one call wait. */
const NOISE_MS = 3000;

const STORM = 'for n in $(seq 200); do banctl ban 198.51.100.$n --reload-interval 1; done';
/** So many are acknowledged before power is lost. */
const BANS_BEFORE = 4;

export async function run({ machine, expect, say }: Scene): Promise<void> {
  // One ban in the directory, one that a reload has shown to Apache, one that no Apache has loaded.
  await machine.done(
    `banctl ban 203.0.113.55 >/dev/null; list_only; banctl ban 203.0.113.66 >/dev/null
     banctl ban 203.0.113.77 --no-reload >/dev/null; ip -n visitors address add 203.0.113.56/32 dev visitors; sync`,
  );
  say('a reboot');
  await machine.reboot();
  await isAsBefore();
  await machine.done(
    `setsid bash -c '${STORM}' </dev/null >/root/said 2>&1 & within 180 grep -q '[.]${BANS_BEFORE} banned' /root/said`,
  );
  const said = await machine.done('cat /root/said');
  await machine.kill();
  const acknowledged = [...said.matchAll(/^(\S+) banned$/gm)].map(([, address]) => address);
  say(`power is lost, after ${acknowledged.length} more bans`);
  await machine.boot();
  await isAsBefore();
  await expect(
    'what was acknowledged is in the list',
    `for a in ${acknowledged.join(' ')}; do grep -q "^Require not ip $a$" $LIST || echo "$a is lost"; done`,
    '',
  );

  async function isAsBefore(): Promise<void> {
    await expect('all three are enforced', AFTER, ENFORCED);
    await machine.done('ip -n visitors address replace 203.0.113.56/32 dev visitors');
    const took = await expect('the next two bans', NEXT_TWO, /^\d+ ms 403\n\d+ ms 403$/);
    say(took.replace('\n', ', '));
    const [first = 0, second = 0] = [...took.matchAll(/^\d+/gm)].map(Number);
    if (first > MOST_TIMES_SLOWER * second + NOISE_MS)
      throw new Error(`the first ban after a boot takes ${first} ms, the next ${second} ms`);
  }
}
