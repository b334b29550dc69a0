// A machine of its own for the tests of what is installed: /etc, /var and /run are new, as packages leave them; programs
// are this machine's. Apache, fail2ban and banctl run there by their usual names, from their usual places.
//
//   await using machine = await startMachine('debian');
//   await machine.startApache();
//   await machine.run('banctl', 'setup');
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { freePort } from './apache.ts';
import { executable } from './banctl.ts';
import { AT_REST, type Daemon, daemon, execute, type Finished, tail, until } from './wait.ts';

/** As a distribution lays Apache out. */
export type LayoutName = 'debian' | 'redhat';

export type Machine = AsyncDisposable & {
  /** Its root directory, as seen from here. */
  readonly root: string;
  read(path: string): string;
  write(path: string, text: string): void;
  /** All below a directory that is no directory, by their paths in the machine. */
  files(directory: string): string[];
  /** Runs a program to its end. */
  run(program: string, ...args: string[]): Promise<Finished>;
  /** The same; another exit code than 0 fails the test. Gives what it said on standard output. */
  done(program: string, ...args: string[]): Promise<string>;
  startApache(): Promise<void>;
  startFail2ban(): Promise<void>;
  /** The answer to a request from this address, once Apache trusts a proxy; until then from loopback. */
  get(from: string, path?: string, method?: string): Promise<number>;
};

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const MODULES =
  'mpm_event alias authn_core authz_core authz_host authz_user dir mime remoteip setenvif reqtimeout'.split(
    ' ',
  );
/** What programs look for, whoever they are. */
const SYSTEM = 'passwd group nsswitch.conf hosts mime.types services ld.so.cache alternatives'.split(' ');
const HOME_PAGE = '<p>home</p>\n';
/** Every login fails, as the application would say it. */
const SITE = 'Redirect 401 /admin/login/\n';

export async function startMachine(layout: LayoutName): Promise<Machine> {
  const root = mkdtempSync(join(tmpdir(), 'banctl-machine-'));
  chmodSync(root, 0o755); // everybody has to be able to search /
  const place = (path: string) => join(root, path);
  const write: Machine['write'] = (path, text) => {
    mkdirSync(dirname(place(path)), { recursive: true });
    writeFileSync(place(path), text);
  };
  const port = await freePort();
  for (const path of [
    'usr',
    'proc',
    'dev',
    'tmp',
    'run/lock',
    'var/lib/fail2ban',
    'etc/cron.d',
    'run/fail2ban',
  ])
    mkdirSync(place(path), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64'])
    if (existsSync(`/${name}`)) symlinkSync(readlinkSync(`/${name}`), place(name));
  symlinkSync('../run', place('var/run'));
  for (const name of SYSTEM.filter((one) => existsSync(join('/etc', one))))
    cpSync(join('/etc', name), place(`etc/${name}`), { recursive: true, verbatimSymlinks: true });
  cpSync('/etc/fail2ban', place('etc/fail2ban'), { recursive: true });
  // Debian's choice: sshd, whose log is not here.
  for (const name of readdirSync(place('etc/fail2ban/jail.d'))) rmSync(place(`etc/fail2ban/jail.d/${name}`));
  write('/var/www/html/index.html', HOME_PAGE);
  (layout === 'debian' ? layOutDebian : layOutRedHat)({ place, write, port });

  const holder = daemon('unshare', ['--mount', 'sh', '-e', '-c', MOUNTS, 'sh', root, executable, layout]);
  const daemons: Daemon[] = [holder];
  const inside = (program: string, args: readonly string[]) => [
    `--mount=/proc/${holder.pid}/ns/mnt`,
    ...['chroot', root, 'env', '-i', `PATH=${PATH}`, program, ...args],
  ];
  const run: Machine['run'] = (program, ...args) => execute('nsenter', inside(program, args));
  const start = async (what: string, program: string, args: string[], isUp: () => boolean) => {
    const server = daemon('nsenter', inside(program, args));
    daemons.push(server);
    const logs = () =>
      ['apache2/error.log', 'httpd/error_log', 'fail2ban.log'].map((name) => place(`var/log/${name}`));
    const detail = () =>
      [
        server.output(),
        ...logs().map((path) => (existsSync(path) ? tail(readFileSync(path, 'utf8')) : '')),
      ].join('\n');
    await until(`${what} to be up`, () => !server.running() || isUp(), { detail });
    if (!server.running()) throw new Error(`${what} does not start:\n${detail()}`);
  };
  const log = () => (existsSync(place('var/log/fail2ban.log')) ? machine.read('/var/log/fail2ban.log') : '');
  const machine: Machine = {
    root,
    read: (path) => readFileSync(place(path), 'utf8'),
    write,
    files(directory) {
      if (!existsSync(place(directory))) return [];
      return readdirSync(place(directory))
        .sort()
        .map((name) => join(directory, name))
        .flatMap((path) => (lstatSync(place(path)).isDirectory() ? machine.files(path) : [path]));
    },
    run,
    async done(program, ...args) {
      const { exitCode, stdout, stderr } = await run(program, ...args);
      if (exitCode !== 0)
        throw new Error(
          `${program} ${args.join(' ')} ended with ${exitCode}: ${stdout}${stderr}\n${tail(log())}`,
        );
      return stdout;
    },
    startApache: () =>
      layout === 'debian'
        ? start('Apache', 'sh', ['-c', '. /etc/apache2/envvars; exec apache2 -DFOREGROUND'], () =>
            existsSync(place('run/apache2/apache2.pid')),
          )
        : start('Apache', 'httpd', ['-DFOREGROUND'], () => existsSync(place('run/httpd/httpd.pid'))),
    startFail2ban: () =>
      start('fail2ban', 'fail2ban-server', ['-f', '-x', 'start'], () =>
        /Server ready/.test(daemons.at(-1)?.output() ?? ''),
      ),
    get: (from, path = '/', method = 'GET') =>
      new Promise((resolve, reject) => {
        const sent = request(
          {
            host: '127.0.0.1',
            port,
            path,
            method,
            agent: false,
            headers: { Host: 'localhost', 'X-Forwarded-For': from },
          },
          (answer) => answer.resume().on('end', () => resolve(answer.statusCode ?? 0)),
        );
        sent.on('error', (error) => reject(new Error(`${method} ${path} of ${from}`, { cause: error })));
        sent.end();
      }),
    async [Symbol.asyncDispose]() {
      for (const one of daemons.reverse()) await one.end('SIGTERM', 20_000);
      rmSync(root, AT_REST);
    },
  };
  try {
    await until('the machine to be there', () => !holder.running() || holder.output().includes('ready'), {
      detail: () => holder.output(),
    });
    if (!holder.running()) throw new Error(`the machine cannot be made:\n${holder.output()}`);
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
  return machine;
}

/** Its mounts are seen by its own processes alone, and go with the last of them. */
const MOUNTS = `
root=$1 banctl=$2 layout=$3
mount --bind /usr "$root/usr"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/usr/local"
mkdir "$root/usr/local/bin" "$root/usr/local/sbin" "$root/usr/local/libexec"
touch "$root/usr/local/bin/banctl"
mount --bind "$banctl" "$root/usr/local/bin/banctl"
if [ "$layout" = redhat ]; then
  # Apache is called httpd there, has its configuration elsewhere, and there is no apache2ctl.
  ln -s /usr/sbin/apache2 "$root/usr/local/libexec/httpd"
  printf '%s\\n' '#!/bin/sh' 'exec /usr/local/libexec/httpd -d /etc/httpd -f conf/httpd.conf "$@"' >"$root/usr/local/sbin/httpd"
  chmod 755 "$root/usr/local/sbin/httpd"
  mount --bind "$root/etc/not-a-program" "$root/usr/sbin/apache2ctl"
fi
echo ready
exec sleep infinity
`;

type Parts = { place: (path: string) => string; write: Machine['write']; port: number };

function layOutDebian({ place, write, port }: Parts) {
  for (const name of ['apache2.conf', 'envvars', 'magic', 'mods-available', 'conf-available'])
    cpSync(join('/etc/apache2', name), place(`etc/apache2/${name}`), {
      recursive: true,
      verbatimSymlinks: true,
    });
  for (const name of ['conf-enabled', 'mods-enabled', 'sites-enabled'])
    mkdirSync(place(`etc/apache2/${name}`));
  for (const file of MODULES.flatMap((name) => [`${name}.load`, `${name}.conf`]))
    if (existsSync(place(`etc/apache2/mods-available/${file}`)))
      symlinkSync(`../mods-available/${file}`, place(`etc/apache2/mods-enabled/${file}`));
  write('/etc/apache2/ports.conf', `Listen 127.0.0.1:${port}\nServerName localhost\n`);
  write(
    '/etc/apache2/sites-enabled/site.conf',
    `<VirtualHost *:${port}>\nDocumentRoot /var/www/html\nCustomLog \${APACHE_LOG_DIR}/access.log combined\n${SITE}</VirtualHost>\n`,
  );
  // As the package leaves them.
  for (const name of ['access.log', 'error.log']) write(`/var/log/apache2/${name}`, '');
  for (const path of ['var/lib/apache2', 'run/apache2', 'run/lock/apache2', 'var/lock'])
    mkdirSync(place(path), { recursive: true });
}

/** After RHEL's httpd.conf. */
function layOutRedHat({ place, write, port }: Parts) {
  for (const path of ['etc/httpd/conf.d', 'var/log/httpd', 'run/httpd'])
    mkdirSync(place(path), { recursive: true });
  symlinkSync('../../var/log/httpd', place('etc/httpd/logs'));
  symlinkSync('/run/httpd', place('etc/httpd/run'));
  symlinkSync('/usr/lib/apache2/modules', place('etc/httpd/modules'));
  for (const file of ['passwd', 'group'])
    writeFileSync(
      place(`etc/${file}`),
      file === 'passwd' ? 'apache:x:48:48::/:/bin/false\n' : 'apache:x:48:\n',
      {
        flag: 'a',
      },
    );
  writeFileSync(place('etc/not-a-program'), '', { mode: 0o644 });
  write(
    '/etc/httpd/conf.modules.d/00-base.conf',
    MODULES.map((name) => `LoadModule ${name}_module modules/mod_${name}.so\n`).join(''),
  );
  write(
    '/etc/httpd/conf/httpd.conf',
    `ServerRoot "/etc/httpd"
Listen 127.0.0.1:${port}
Include conf.modules.d/*.conf
User apache
Group apache
ServerName localhost
PidFile run/httpd.pid
DefaultRuntimeDir run
TypesConfig /etc/mime.types
<Directory />
  AllowOverride none
  Require all denied
</Directory>
DocumentRoot "/var/www/html"
<Directory "/var/www">
  Require all granted
</Directory>
${SITE}ErrorLog "logs/error_log"
LogFormat "%h %l %u %t \\"%r\\" %>s %b \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined
CustomLog "logs/access_log" combined
IncludeOptional conf.d/*.conf
`,
  );
}
