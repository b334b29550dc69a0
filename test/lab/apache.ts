// A real Apache for the tests: Debian's apache2 with the event MPM, in a private directory, on free loopback ports.
//
//   await using apache = await startApache({ remoteip: true });
//   await apache.get('/', { from: '203.0.113.5' });   // 200
//   appendFileSync(apache.banlist, 'Require not ip 203.0.113.5\n');
//   await apache.graceful();
//   await apache.get('/', { from: '203.0.113.5' });   // 403
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect, createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { runningApache, servingChildren, someListen } from '../../src/apache/processes.ts';
import { outlives } from '../../src/system/process.ts';
import { AT_REST, daemon, execute, type Finished, tail, until } from './wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const modulesDirectory = '/usr/lib/apache2/modules';

/** What Debian enables by default, as far as it matters here, and mod_rewrite for the login's answers. */
const modules = [
  'mpm_event access_compat alias auth_basic authn_core authn_file authz_core authz_host authz_user dir env',
  'filter headers mime reqtimeout rewrite setenvif',
].flatMap((line) => line.split(' '));

/** The list and the ban directory as the kit names them; the tests put the private ones in their place. */
export const installedBanlist = '/etc/apache2/djangoapp/banlist.conf';
export const installedBandir = '/etc/apache2/djangoapp/bans';
/** Where the kit's snippets have Apache write its logs; in the tests that is Apache's private directory. */
const installedLogs = `\${APACHE_LOG_DIR}`;

export type ApacheOptions = {
  /** Where everything goes: an existing directory, which is kept; else a new temporary one, which is removed. */
  dir?: string;
  /** At server level, before the virtual host. */
  server?: string | ((dir: string) => string);
  /**
   * In the virtual host. By default the kit's ban for the whole site.
   * In all texts the installed paths of the banlist and the ban directory are replaced by the private ones.
   */
  site?: string | ((dir: string) => string);
  /** At server level, after the virtual host. */
  after?: string | ((dir: string) => string);
  /** The banlist's text at the start; without it there is no such file. */
  list?: string;
  /** MPM settings instead of Debian's. */
  mpm?: string;
  /** mod_remoteip that trusts loopback, so that `get(…, { from })` can be any address. */
  remoteip?: boolean;
  /** More modules, without `mod_` and `.so`. */
  modules?: string[];
  /** Longest wait for the start, in milliseconds, 20,000 by default: Apache reads a long list for many seconds. */
  startLimit?: number;
  /** A LogFormat for access.log: a format string, or a nickname of Debian's (combined by default). */
  logFormat?: string;
};

export type RequestOptions = {
  /** The client's address: one of 127.0.0.0/8 is a real one, any other goes into X-Forwarded-For (`remoteip`). */
  from?: string;
  method?: string;
  headers?: Record<string, string>;
  /** Connect to [::1] instead of 127.0.0.1. */
  v6?: boolean;
};

export type Response = { status: number; headers: IncomingHttpHeaders; body: string };

export type Apache = AsyncDisposable & {
  readonly dir: string;
  readonly port: number;
  /** DIR/banlist.conf */
  readonly banlist: string;
  /** DIR/bans, which does not exist at the start. */
  readonly bandir: string;
  /** For `--apachectl`. */
  readonly ctl: string;
  readonly config: string;
  readonly pidFile: string;
  readonly accessLog: string;
  readonly errorLog: string;
  readonly documentRoot: string;
  /** The main process. */
  pid(): number;
  running(): boolean;
  /** The status of one request on a connection of its own. */
  get(path: string, options?: RequestOptions): Promise<number>;
  request(path: string, options?: RequestOptions): Promise<Response>;
  /** Failed login by default; 302, 401, 403 are answered in the same place (path /admin/login/). */
  login(answer: 200 | 302 | 401 | 403, options?: RequestOptions & { path?: string }): Promise<number>;
  /** apache2 -f CONFIG and these arguments. */
  ask(...args: string[]): Promise<Finished>;
  /** Reloads, and awaits that the configuration was read, and that whoever comes next is served by it. */
  graceful(): Promise<void>;
  /** How many reloads there were since the start. */
  reloads(): number;
  /** Stops Apache, keeps the directory. */
  stop(): Promise<void>;
  /** Starts it again, on the same ports and directory. */
  start(): Promise<void>;
};

export async function startApache(options: ApacheOptions = {}): Promise<Apache> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'banctl-apache-'));
  chmodSync(dir, 0o755); // the children run as www-data
  const banlist = join(dir, 'banlist.conf');
  const bandir = join(dir, 'bans');
  const config = join(dir, 'httpd.conf');
  const pidFile = join(dir, 'apache2.pid');
  const errorLog = join(dir, 'error.log');
  const accessLog = join(dir, 'access.log');
  const documentRoot = join(dir, 'www');
  writePages(documentRoot);
  if (options.list !== undefined) writeFileSync(banlist, options.list);

  const read = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const text = (part: string | ((dir: string) => string) | undefined) =>
    (typeof part === 'function' ? part(dir) : (part ?? ''))
      .replaceAll(installedBanlist, banlist)
      .replaceAll(installedBandir, bandir)
      .replaceAll(installedLogs, dir);
  const write = (port: number) =>
    writeFileSync(config, configuration({ dir, documentRoot, port, options, text }));

  let port = await freePort();
  let server = daemon('true', []);
  const detail = () => `${server.output()}\n${tail(read(errorLog))}`;
  // Without a request, so that the access log holds those of the test alone.
  const listening = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
  // It writes its PidFile some milliseconds before it can bear a signal.
  const hasStarted = () => existsSync(pidFile) && outlives(server.pid, constants.signals.SIGTERM);
  const taken = () => /could not bind|no listening sockets/i.test(server.output());

  async function start() {
    for (let attempt = 1; ; attempt++) {
      rmSync(pidFile, { force: true });
      server = daemon('apache2', ['-f', config, '-DFOREGROUND']);
      await until(
        'Apache to answer',
        async () => !server.running() || (hasStarted() && (await listening())),
        { detail, limit: options.startLimit ?? 20_000 },
      );
      if (server.running()) return;
      if (!taken() || attempt === 5) throw new Error(`Apache does not start:\n${detail()}`);
      port = await freePort(); // another process took it
      write(port);
    }
  }

  function request(path: string, how: RequestOptions = {}): Promise<Response> {
    const headers: Record<string, string> = { Host: 'localhost', ...how.headers };
    const loopback = how.from?.startsWith('127.') && !how.v6;
    if (how.from && !loopback) {
      if (!options.remoteip)
        throw new Error(`startApache({ remoteip: true }) is needed to come from ${how.from}`);
      headers['X-Forwarded-For'] = how.from;
    }
    return new Promise((resolve, reject) => {
      const sent = httpRequest({
        host: how.v6 ? '::1' : '127.0.0.1',
        ...(loopback && how.from ? { localAddress: how.from } : {}),
        port,
        path,
        method: how.method ?? 'GET',
        headers,
        agent: false,
        timeout: 20_000,
      });
      sent.on('timeout', () => sent.destroy(new Error(`no answer to ${path}\n${detail()}`)));
      sent.on('error', reject);
      sent.on('response', (answer) => {
        let body = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk) => {
          body += chunk;
        });
        answer.on('error', reject);
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body }));
      });
      sent.end();
    });
  }

  const version = () => {
    const { ino, mtimeMs } = statSync(pidFile);
    return `${ino} ${mtimeMs}`;
  };
  const ask = (...args: string[]) => execute('apache2', ['-f', config, ...args]);
  // Logged before the configuration is read again, so that it is there as soon as the PidFile is new.
  const reloads = () => read(errorLog).split('Doing graceful restart').length - 1 - reloadsBefore;
  let reloadsBefore = 0;
  reloadsBefore = reloads(); // a given directory may have an older log

  write(port);
  try {
    await start();
  } catch (error) {
    await server.end();
    if (!options.dir) rmSync(dir, AT_REST);
    throw error;
  }

  return {
    dir,
    get port() {
      return port;
    },
    banlist,
    bandir,
    ctl: `apache2 -f ${config}`,
    config,
    pidFile,
    accessLog,
    errorLog,
    documentRoot,
    pid: () => server.pid,
    running: () => server.running(),
    request,
    get: async (path, how) => (await request(path, how)).status,
    login: async (answer, { path = '/admin/login/?next=/admin/', ...how } = {}) =>
      (await request(path, { method: 'POST', ...how, headers: { ...how.headers, 'X-Answer': `${answer}` } }))
        .status,
    ask,
    async graceful() {
      const before = version();
      const seen = runningApache(pidFile);
      const children = seen === undefined ? [] : servingChildren(seen);
      const { exitCode, stderr } = await ask('-k', 'graceful');
      if (exitCode) throw new Error(`graceful: exit ${exitCode}\n${stderr}`);
      await until('a new PidFile', () => existsSync(pidFile) && version() !== before, { detail });
      // On a busy machine a child of before may take one more visitor.
      const stillListen = () => seen !== undefined && someListen(seen, children);
      await until('the children of before to stop listening', () => !stillListen(), { detail });
    },
    reloads,
    stop: () => server.end(),
    start,
    async [Symbol.asyncDispose]() {
      await server.end();
      if (!options.dir) rmSync(dir, AT_REST);
    },
  };
}

/** The text of a file of the kit's apache2/. */
export function kit(name: string): string {
  return readFileSync(join(repository, 'apache2', name), 'utf8');
}

/** /, /index.html, /static/app.css, /admin/, /admin/login/, /other/login/, /slow.bin. */
function writePages(root: string) {
  for (const page of ['', 'static', 'admin', 'admin/login', 'other/login', 'admin-like']) {
    mkdirSync(join(root, page), { recursive: true });
    writeFileSync(join(root, page, 'index.html'), `<p>page /${page}</p>\n`);
  }
  writeFileSync(join(root, 'static', 'app.css'), 'p { color: black }\n');
  // More than all buffers between Apache and a visitor who does not read can take; most of it takes no place.
  writeFileSync(join(root, 'slow.bin'), '');
  truncateSync(join(root, 'slow.bin'), 256 << 20);
}

type Parts = {
  dir: string;
  documentRoot: string;
  port: number;
  options: ApacheOptions;
  text: (part: ApacheOptions['site']) => string;
};

function configuration({ dir, documentRoot, port, options, text }: Parts): string {
  const wanted = [...modules, ...(options.remoteip ? ['remoteip'] : []), ...(options.modules ?? [])];
  const format = options.logFormat ?? 'combined';
  const logFormat = format.includes('%') ? JSON.stringify(format) : format;
  return `
ServerRoot ${dir}
ServerName localhost
${[...new Set(wanted)].map((name) => `LoadModule ${name}_module ${modulesDirectory}/mod_${name}.so`).join('\n')}
User www-data
Group www-data
PidFile ${dir}/apache2.pid
DefaultRuntimeDir ${dir}
Listen 127.0.0.1:${port}
Listen [::1]:${port}
ErrorLog ${dir}/error.log
LogLevel warn mpm_event:notice
Timeout 60
GracefulShutdownTimeout 1
TypesConfig /etc/mime.types
DirectoryIndex index.html
${options.mpm ?? 'StartServers 1\nMinSpareThreads 25\nMaxSpareThreads 75\nThreadLimit 64\nThreadsPerChild 25\nMaxRequestWorkers 150'}
LogFormat "%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\"" vhost_combined
LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined
LogFormat "%h %l %u %t \\"%r\\" %>s %O" common
${options.remoteip ? 'RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.0/8 ::1' : ''}
<Directory />
  AllowOverride None
  Require all denied
</Directory>
<Directory ${documentRoot}>
  Options FollowSymLinks
  Require all granted
  # The application's answer, asked for by the test; after authorization, as Django's would be, and not for an ErrorDocument.
  RewriteEngine On
  RewriteCond %{HTTP:X-Answer} =302
  RewriteCond %{ENV:REDIRECT_STATUS} ^$
  RewriteRule ^ /admin/ [R=302,L]
  RewriteCond %{HTTP:X-Answer} =401
  RewriteCond %{ENV:REDIRECT_STATUS} ^$
  RewriteRule ^ - [R=401,L]
  RewriteCond %{HTTP:X-Answer} =403
  RewriteCond %{ENV:REDIRECT_STATUS} ^$
  RewriteRule ^ - [R=403,L]
</Directory>
${text(options.server)}
<VirtualHost *:${port}>
  ServerName localhost
  DocumentRoot ${documentRoot}
  CustomLog ${dir}/access.log ${logFormat}
${text(options.site ?? (() => kit('djangoapp-banlist.conf')))}
</VirtualHost>
${text(options.after)}
`;
}

export async function freePort(): Promise<number> {
  const bind = (port: number, host: string) =>
    new Promise<number>((resolve, reject) => {
      const server = createServer();
      server.on('error', reject);
      server.listen(port, host, () => {
        const address = server.address();
        server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
      });
    });
  return until('a port that is free for IPv4 and IPv6', async () => {
    const port = await bind(0, '127.0.0.1');
    return bind(port, '::1').catch(() => undefined);
  });
}
