// Servers that share their bans, over Redis (Debian 12) or Valkey (Debian 13), as docs/fleet.md says.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'Bans shared over the engine outlive its restart, the loss of all its data, and a reboot, here and there';

/** Redis is called Valkey in Debian 13. Apache reads no list of the other server. */
const WORDS = `
  ENGINE=$(basename "$(command -v valkey-server || command -v redis-server)")
  FLEET='"fleet": "redis://127.0.0.1:6379"'
  OTHER=/root/other
  engine() { "\${ENGINE%server}cli" "$@"; }
  has() { engine hget '{banctl}:holds' "$1" | grep -q .; }
  is_connected() { banctl fleet status | grep -q 'in the fleet banctl: connected'; }
  shared() { within 60 has "$1" && echo shared; }
  lifted() { within 60 lacks "$1" && echo lifted; }
  lacks() { ! has "$1"; }
  connected() { within 120 is_connected && echo connected; }`;
const HERE = "'203.0.113.55 manual@machine'";
const THERE = "'203.0.113.66 manual@other'";
/** Both holds are in the engine, and this server's Apache refuses both visitors. */
const BOTH = `connected; shared ${HERE}; shared ${THERE}; for a in 55 66; do until_code 203.0.113.$a 403; done`;
const ARE_SHARED = 'connected\nshared\nshared\n203.0.113.55 403\n203.0.113.66 403';

export async function run({ machine, expect: expectOf, say }: Scene): Promise<void> {
  const expect = (what: string, script: string, expected: string) =>
    expectOf(what, `${WORDS}\n${script}`, expected);
  await expect(
    'the engine and the resident start',
    `systemctl enable --now $ENGINE 2>/dev/null; systemctl is-active $ENGINE
     sed -i "0,/{/s||{ $FLEET,|" /etc/banctl.json
     systemctl enable --now banctl.service 2>/dev/null; connected`,
    'active\nconnected',
  );
  await expect(
    'a second server joins, with a ban of its own',
    `mkdir $OTHER; touch $OTHER/banlist.conf
     printf '{ %s, "fleet-host": "other", "fleet-state": "%s", "banlist": "%s", "socket": "%s" }' \\
       "$FLEET" $OTHER/state $OTHER/banlist.conf $OTHER/socket >$OTHER/banctl.json
     systemd-run --quiet --unit=other banctl serve --config=$OTHER/banctl.json
     banctl ban 203.0.113.66 --config=$OTHER/banctl.json --no-reload >/dev/null
     shared ${THERE}; until_code 203.0.113.66 403`,
    'shared\n203.0.113.66 403',
  );
  await expect(
    'a ban here',
    `banctl ban 203.0.113.55 >/dev/null; shared ${HERE}; within 60 grep -q 203.0.113.55 $OTHER/banlist.conf`,
    'shared',
  );
  await expect('the engine restarts', `systemctl restart $ENGINE; ${BOTH}`, ARE_SHARED);
  await expect(
    'the engine loses all its data',
    `systemctl stop $ENGINE; rm -rf /var/lib/\${ENGINE%-server}/*; systemctl start $ENGINE; ${BOTH}`,
    ARE_SHARED,
  );
  say('a reboot, after which the other server is gone');
  await machine.reboot();
  await expect('both bans are there', BOTH, ARE_SHARED);
  await expect(
    'an unban here lifts the ban of the server that is gone',
    `banctl unban 203.0.113.66 >/dev/null; until_code 203.0.113.66 200
     lifted ${THERE}; audit 180`,
    '203.0.113.66 200\nlifted\nclean',
  );
}
