// Each setting of systemd.exec(5) that hardened units use, one at a time; then fail2ban with all that it can have itself.
import type { Scene } from '../../tools/machine/scenario.ts';

export const expects =
  'Under each hardening setting banctl makes the ban, or refuses in one line that names it';
export const isLong = true;

/** Settings, by | where they belong together, under which banctl makes the ban and Apache refuses the visitor. */
const FOR_FAIL2BAN = [
  // Those of the drop-in file in the documentation.
  'CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_KILL CAP_SYS_PTRACE CAP_SETUID CAP_SETGID CAP_NET_ADMIN CAP_NET_RAW',
  'KeyringMode=private',
  'LimitNPROC=64',
  'LockPersonality=yes',
  'MemoryMax=400M',
  'NoNewPrivileges=yes',
  'PrivateDevices=yes',
  'PrivateIPC=yes',
  'PrivateMounts=yes',
  'PrivateTmp=yes',
  'ProcSubset=pid',
  'ProtectClock=yes',
  'ProtectControlGroups=yes',
  'ProtectHome=yes',
  'ProtectHostname=yes',
  'ProtectKernelLogs=yes',
  'ProtectKernelModules=yes',
  'ProtectKernelTunables=yes',
  'ProtectProc=invisible',
  'ProtectSystem=strict|ReadWritePaths=/etc/apache2/djangoapp',
  'RemoveIPC=yes',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  'RestrictFileSystems=@basic-api @common-block',
  'RestrictNamespaces=yes',
  'RestrictNetworkInterfaces=lo',
  'RestrictRealtime=yes',
  'RestrictSUIDSGID=yes',
  'SystemCallArchitectures=native',
  'SystemCallFilter=@system-service',
  'UMask=0077',
];

/** Those that contradict one of the above, or that fail2ban itself cannot work with. */
const ALONE = [
  'CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_CHOWN CAP_KILL CAP_SETUID CAP_SETGID',
  'InaccessiblePaths=/proc/uptime',
  'PrivateNetwork=yes',
  'PrivateUsers=yes',
  'ProtectHome=read-only',
  'ProtectHome=tmpfs',
  'ProtectProc=noaccess',
  'ProtectProc=ptraceable',
  'ProtectProc=invisible|CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_CHOWN CAP_KILL',
  'ProtectSystem=yes',
  'SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap',
];

/** What the line of banctl says that refuses, and whether the ban is in the list all the same. */
interface Refusal {
  readonly setting: string;
  readonly words: RegExp;
  readonly isListed: boolean;
  /** The first version of systemd that knows the setting. */
  readonly since?: number;
}

const REFUSED: readonly Refusal[] = [
  { setting: 'ProtectSystem=full', words: /ReadWritePaths=/, isListed: false },
  { setting: 'ProtectSystem=strict', words: /ReadWritePaths=/, isListed: false },
  { setting: 'ReadOnlyPaths=/etc', words: /ReadWritePaths=/, isListed: false },
  // Apache tests its configuration with sockets.
  { setting: 'RestrictAddressFamilies=AF_UNIX', words: /RestrictAddressFamilies=/, isListed: true },
  {
    setting: 'RestrictAddressFamilies=~AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET',
    words: /RestrictAddressFamilies=/,
    isListed: true,
  },
  { setting: 'PrivatePIDs=yes', words: /PrivatePIDs=/, isListed: true, since: 257 },
];

/** Each ban is of another address, so that each needs its reload. */
const FIRST_VISITOR = 100;
const FAIL2BAN_WRITES = ['/run/fail2ban', '/var/lib/fail2ban', '/var/log'];

export async function run(scene: Scene): Promise<void> {
  const failures = [...(await bans(scene)), ...(await refusals(scene))];
  await hardenedFail2ban(scene);
  if (failures.length > 0) throw new Error(failures.join('\n'));
}

async function bans({ machine, say }: Scene): Promise<string[]> {
  const settings = [...FOR_FAIL2BAN, ...ALONE];
  const visitors = `$(seq ${FIRST_VISITOR} ${FIRST_VISITOR + settings.length})`;
  await machine.done(
    `list_only; fresh; for n in ${visitors}; do ip -n visitors address add 203.0.113.$n/32 dev visitors; done`,
  );
  const failures: string[] = [];
  for (const [index, setting] of settings.entries()) {
    const address = `203.0.113.${FIRST_VISITOR + index}`;
    const { output } = await machine.run(
      `${unitOf(setting)} banctl ban ${address} --reload-interval 0 2>&1; echo $?; until_code ${address} 403 60`,
    );
    const isBanned = output.trim() === `${address} banned\n0\n${address} 403`;
    say(`${setting}: ${isBanned ? 'banned' : output}`);
    if (!isBanned) failures.push(`${setting}: ${output}`);
  }
  return failures;
}

async function refusals({ machine, say }: Scene): Promise<string[]> {
  const version = Number(await machine.done("systemctl --version | grep -om1 '[0-9]*' | head -n 1"));
  const failures: string[] = [];
  for (const { setting, words, isListed, since = 0 } of REFUSED) {
    if (version < since) continue;
    const { output } = await machine.run(
      `before=$(lines)
       ${unitOf(setting)} banctl ban 203.0.113.55 --reload-interval 0 2>&1 >/dev/null; echo "$? $(($(lines) - before))"
       banctl unban 203.0.113.55 >/dev/null 2>&1`,
    );
    const isOneLine = new RegExp(`^banctl: [^\\n]+\\n\\d+ ${isListed ? 1 : 0}$`).test(output.trim());
    const isRefused = isOneLine && words.test(output);
    say(`${setting}: ${isRefused ? 'refused: ' : ''}${output.trim()}`);
    if (!isRefused) failures.push(`${setting}: does not say ${words} in one line: ${output}`);
  }
  return failures;
}

async function hardenedFail2ban({ expect }: Scene): Promise<void> {
  const lines = [
    ...FOR_FAIL2BAN.flatMap((setting) => setting.split('|')),
    ...FAIL2BAN_WRITES.map((path) => `ReadWritePaths=${path}`),
  ];
  await expect(
    'fail2ban with all that it can have bans and unbans',
    `list_only; fresh; unit_options fail2ban ${lines.map((line) => `'${line}'`).join(' ')}
     : >/var/log/fail2ban.log; restart_fail2ban
     fail2ban_bans 203.0.113.55; until_code 203.0.113.55 403
     fail2ban_bans 203.0.113.66; until_code 203.0.113.66 403
     fail2ban_unbans 203.0.113.55; until_code 203.0.113.55 200
     grep ERROR /var/log/fail2ban.log; audit 180`,
    '203.0.113.55 403\n203.0.113.66 403\n203.0.113.55 200\nclean',
  );
  await expect(
    'fail2ban with MemoryDenyWriteExecute=yes: one line in its log names the setting',
    `rm /etc/systemd/system/fail2ban.service.d/scenario.conf; systemctl daemon-reload; restart_fail2ban; fresh
     unit_options fail2ban MemoryDenyWriteExecute=yes; restart_fail2ban
     fail2ban_bans 203.0.113.77; within 180 grep -q 'cannot start: Memor[y]' /var/log/fail2ban.log
     grep -om1 'banctl cannot start: .* forbids it' /var/log/fail2ban.log; lines`,
    'banctl cannot start: MemoryDenyWriteExecute=yes or LimitAS= of fail2ban.service forbids it\n0',
  );
  await expect(
    'the drop-in file of the documentation lifts it',
    `banctl setup --print fail2ban-banctl >/etc/systemd/system/fail2ban.service.d/zz-banctl.conf
     systemctl daemon-reload; restart_fail2ban; until_code 203.0.113.77 403
     fail2ban_bans 203.0.113.66; until_code 203.0.113.66 403`,
    '203.0.113.77 403\n203.0.113.66 403',
  );
}

function unitOf(setting: string): string {
  const options = setting.split('|').map((line) => `-p '${line}'`);
  return `systemd-run --quiet --wait --pipe ${options.join(' ')}`;
}
