// The machine's own system, seen through a layer of its own: what is installed or written there is gone at the end, and
// touches neither the machine nor the other tests. Apache and fail2ban run in it at their usual places.
//
//   await using root = await startPrivateRoot();
//   await root.run('dpkg -i banctl.deb');
import { startNamespaces } from './namespaces.ts';
import { execute, type Finished } from './wait.ts';

export type PrivateRoot = AsyncDisposable & {
  /** A line for sh, as root. `from` runs it as on another machine, whose requests come from this address. */
  run(line: string, from?: string): Promise<Finished>;
  /** The same; another exit code than 0 fails the test. Gives what it said, standard error included. */
  done(line: string): Promise<string>;
  /** Where a path of the private root is seen from here, to read and write. */
  path(path: string): string;
};

/** The address that the server has in its network, by the name www.example.org. */
const SERVER = '198.51.100.10';
/** Networks whose addresses requests can come from. The server takes none of them for its own. */
const ELSEWHERE = ['203.0.113.0/24', '198.51.100.128/25'];

/*
 * An overlay over /, in namespaces for mounts, processes and the network, so that ports and pid files are its own. As on
 * a server fresh from its installation: nothing runs, and what Debian makes at boot is there, but no systemd. The
 * machine's own settings of Apache and fail2ban are not looked at: it may be anybody's.
 */
const SCRIPT = `set -e
mount -t tmpfs -o mode=755 none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
for place in run tmp var/tmp root; do mount -t tmpfs none $place; done
chmod 1777 tmp var/tmp
mount --rbind /dev dev
mkdir -p run/lock run/fail2ban
rm -f usr/sbin/policy-rc.d
rm -rf var/log/apache2/* var/lib/fail2ban/* etc/apache2/djangoapp etc/banctl.json etc/fail2ban/jail.local
find etc/fail2ban/jail.d etc/apache2/sites-enabled -mindepth 1 ! -name defaults-debian.conf ! -name 000-default.conf -delete
: >> var/log/auth.log
mkdir -p var/www/html/admin/login
echo Welcome > var/www/html/index.html
echo 'Please log in' > var/www/html/admin/login/index.html
echo 'ServerName www.example.org' > etc/apache2/conf-available/name.conf
ln -sf ../conf-available/name.conf etc/apache2/conf-enabled/name.conf
echo '127.0.0.1 localhost' > etc/hosts.private
echo '${SERVER} www.example.org' >> etc/hosts.private
mount --bind etc/hosts.private etc/hosts
ip link set lo up
ip address add ${SERVER}/32 dev lo
${ELSEWHERE.map((network) => `ip route add local ${network} dev lo`).join('\n')}
# Process 1 has to reap the servers that end, or whoever stops them would wait for ever.
exec chroot . sh -c 'echo ready; sleep infinity & wait'
`;

export async function startPrivateRoot(): Promise<PrivateRoot> {
  const root = await startNamespaces({
    what: 'private-root',
    own: ['--net'],
    script: SCRIPT,
    isReady: ({ output }) => /^ready$/m.test(output),
  });
  const { first: pid } = root;
  const path = (name: string) => `/proc/${pid}/root${name}`;
  const run: PrivateRoot['run'] = (line, from) =>
    execute('nsenter', [
      ...['--target', pid, '--mount', '--net', '--pid', '--root', '--', 'env', '-i', '--chdir=/root'],
      ...['HOME=/root', 'LANG=C.UTF-8', 'DEBIAN_FRONTEND=noninteractive'],
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      ...(from === undefined ? [] : [`CURL_HOME=/run/from-${from}`]),
      ...[
        'sh',
        '-c',
        `${from === undefined ? '' : `mkdir -p $CURL_HOME; echo interface=${from} >$CURL_HOME/.curlrc; `}${line}`,
      ],
    ]);
  return {
    run,
    async done(line) {
      const { exitCode, stdout, stderr } = await run(line);
      if (exitCode !== 0) throw new Error(`${line} ended with ${exitCode}: ${stdout}${stderr}`);
      return `${stdout}${stderr}`;
    },
    path,
    [Symbol.asyncDispose]: () => root[Symbol.asyncDispose](),
  };
}
