// What the scenarios of the package's life share: bans go on while apt works. Scripts that run in the machine.
const INSTALL =
  'apt-get install -y --no-install-recommends --allow-downgrades -o Dpkg::Options::=--force-confold';
export const SNIPPET = '/etc/apache2/conf-available/djangoapp-banlist.conf';
export const ACTION = '/etc/fail2ban/action.d/apache-banlist.conf';
export const SWITCH = '/etc/fail2ban/jail.d/$JAIL.local';
export const VERSION = `dpkg-query -f '\${Version}\\n' -W`;
const BANS_IN_A_STORM = 8;

/** Runs a command that only has something to say when it fails. */
export const quietly = (command: string) => `${command} >/tmp/apt.log 2>&1 || tail -n 5 /tmp/apt.log`;

/** Bans go on while apt works; each must succeed, except in the moment in which there is no banctl. */
export const storm = (net: string, apt: string) => `
  (for n in $(seq ${BANS_IN_A_STORM}); do
     until banctl ban ${net}.$n >/dev/null 2>/tmp/why; do
       status=$?; [ $status = 127 ] || { echo "ban $n: $status $(cat /tmp/why)"; break; }
     done
   done) &
  ${apt}
  wait; ${bansOf(net)}
  ${VERSION} banctl; systemctl is-active apache2 fail2ban; until_code 203.0.113.55 403`;
export const after = (version: string) => `${BANS_IN_A_STORM}\n${version}\nactive\nactive\n203.0.113.55 403`;

/** How many addresses of this network the list has. */
function bansOf(net: string): string {
  return `banctl list --json | grep -o '"address": *"${net.replaceAll('.', '[.]')}[.][0-9]*"' | sort -u | wc -l`;
}

/** Prints the holds from before the upgrade that are not in the list as they were, and how many changed files are. */
export const KEPT = `grep -vxFf $LIST /root/list-before; grep -l '# kept' ${SNIPPET} ${ACTION} | wc -l`;

/** Installs a package of banctl; files that were changed stay as they are. */
export const install = (file: string) => quietly(`${INSTALL} /root/${file}.deb`);

/** Changes the package's files, gives the list four holds, and keeps a copy of it. */
export const CHANGED = `
  for file in ${SNIPPET} ${ACTION}; do echo '# kept' >>$file; done
  fail2ban_bans 203.0.113.55
  banctl ban 203.0.113.66 --for 1d --reason 'a reason' >/dev/null
  banctl ban 203.0.113.77 --jail another >/dev/null; banctl ban 2001:db8::/48 >/dev/null; banctl reload >/dev/null
  until_code 203.0.113.55 403; cp $LIST /root/list-before; lines`;
export const IS_CHANGED = '203.0.113.55 403\n4';
/** What the audit says of these holds: fail2ban has no jail of the name of one. */
export const AUDITED = 'unknown-jail: another holds bans, but fail2ban has no such jail';
