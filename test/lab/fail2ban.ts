// A real fail2ban-server for the tests, from a private directory, with the kit's action and filter.
//
//   await using fail2ban = await startFail2ban({ jails: '[web]\nenabled = true\n…' });
//   await fail2ban.client('set', 'web', 'banip', '203.0.113.5');
//   await fail2ban.awaitLog(/Ban 203\.0\.113\.5/);
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { AT_REST, daemon, execute, type Finished, tail, until } from './wait.ts';

const repository = join(import.meta.dirname, '..', '..');

/** Where tools/fail2ban-versions puts them. */
const versions = join(repository, 'node_modules', '.cache', 'banctl', 'fail2ban');

/** The last of each line of development, where they could be had. */
export const fail2banVersions: readonly string[] = existsSync(versions)
  ? readdirSync(versions).filter((name) => /^\d/.test(name))
  : [];

export type Fail2banOptions = {
  /** jail.local; `DIR` in it becomes the private directory. An empty DIR/access.log is there. The default backend here is polling (once a second). */
  jails: string;
  /** Of the repository's action.d, or paths of other files, or [name, text with DIR]. Default: apache-banlist.conf. */
  actionFiles?: (string | [name: string, text: string])[];
  /** Of filter.d, the same way. Default: those of failed logins. */
  filterFiles?: (string | [name: string, text: string])[];
  /** Files for jail.d, the same way: read after jail.conf, before jail.local. */
  jailFiles?: (string | [name: string, text: string])[];
  /** Debian's own jail.conf and filters under it, as on a server; else only the few defaults that are needed. */
  stock?: boolean;
  /** What runs its programs elsewhere, such as in a container: words before each. */
  through?: readonly string[];
  /** One of those that tools/fail2ban-versions fetches; else the one that is installed. */
  version?: string;
  /** More of the server's environment, and so of its actions'. */
  env?: Record<string, string>;
  /** Logs debug messages too (the output of actions that succeed). */
  debug?: boolean;
  /** An existing directory, which is kept; else a new temporary one, which is removed. */
  dir?: string;
};

export type Fail2ban = AsyncDisposable & {
  readonly dir: string;
  /** For `--fail2ban-client`. */
  readonly clientCommand: string;
  readonly db: string;
  readonly socket: string;
  pid(): number;
  running(): boolean;
  client(...args: string[]): Promise<Finished>;
  /** What `get JAIL banip` names, sorted. */
  banned(jail: string): Promise<string[]>;
  /** The whole log so far. */
  log(): string;
  /** Awaits a match in the log, from `from` on (a length of log()); gives the match. */
  awaitLog(pattern: RegExp, from?: number): Promise<RegExpExecArray>;
  /** Orderly: unbans run. */
  /** SIGKILL after the limit, in milliseconds. */
  stop(limit?: number): Promise<void>;
  /** SIGKILL: nothing runs. */
  kill(): Promise<void>;
  /** Again, same configuration and database; every jail has started, restored bans follow: awaitLog(/Restore Ban/). */
  start(): Promise<void>;
  /** Another jail.local, for the next start or `client('reload')`. */
  setJails(text: string): void;
};

const defaults = `
[DEFAULT]
backend = polling
usedns = no
logencoding = utf-8
ignoreself = false
enabled = false
bantime = 10m
findtime = 10m
maxretry = 5
maxmatches = %(maxretry)s
port = http,https
protocol = tcp
filter = %(__name__)s
action =
`;

export async function startFail2ban(options: Fail2banOptions): Promise<Fail2ban> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'banctl-fail2ban-'));
  const config = join(dir, 'config');
  const socket = join(dir, 'fail2ban.sock');
  const db = join(dir, 'fail2ban.sqlite3');
  const logFile = join(dir, 'fail2ban.log');
  const put = (folder: string, files: (string | [string, string])[]) => {
    mkdirSync(join(config, folder), { recursive: true });
    for (const file of files) {
      const [name, text] =
        typeof file === 'string'
          ? [basename(file), readFileSync(file.includes('/') ? file : join(repository, folder, file), 'utf8')]
          : file;
      writeFileSync(
        join(config, folder, name),
        typeof file === 'string' ? text : text.replaceAll('DIR', dir),
      );
    }
  };
  const setJails = (text: string) => writeFileSync(join(config, 'jail.local'), text.replaceAll('DIR', dir));

  const root = options.version ? join(versions, options.version) : '/';
  const program = (name: string): [string, ...string[]] =>
    options.version
      ? [
          'env',
          `PYTHONPATH=${join(root, 'usr/lib/python3/dist-packages')}:${join(import.meta.dirname, 'python')}`,
          '/usr/bin/python3',
          '-B',
          join(root, 'usr/bin', name),
        ]
      : [name];

  if (options.stock) {
    cpSync(join(root, 'etc/fail2ban'), config, { recursive: true });
    // Debian's choice: sshd, whose log is not here.
    rmSync(join(config, 'jail.d'), { recursive: true, force: true });
  } else {
    mkdirSync(config, { recursive: true });
    writeFileSync(join(config, 'jail.conf'), defaults);
  }
  writeFileSync(
    join(config, 'fail2ban.conf'),
    `[Definition]
loglevel = ${options.debug ? 'DEBUG' : 'INFO'}
logtarget = ${logFile}
syslogsocket = auto
socket = ${socket}
pidfile = ${join(dir, 'fail2ban.pid')}
dbfile = ${db}
dbpurgeage = 1d
dbmaxmatches = 10
[Thread]
`,
  );
  put('action.d', options.actionFiles ?? ['apache-banlist.conf']);
  put('filter.d', options.filterFiles ?? ['djangoapp-admin-login.conf', 'djangoapp-login.conf']);
  put('jail.d', options.jailFiles ?? []);
  setJails(options.jails);
  writeFileSync(join(dir, 'access.log'), '', { flag: 'a' }); // a jail without a log does not start

  let server = daemon('true', []);
  const log = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '');
  const detail = () => `${server.output()}\n${tail(log(), 30)}`;
  const own = ['-c', config, '-s', socket, '-p', join(dir, 'fail2ban.pid')];
  // Actions ask for this fail2ban's configuration, not for the machine's.
  const clientCommand = [...program('fail2ban-client'), ...own].join(' ');
  const through = (words: readonly string[]): [string, ...string[]] => {
    const [first = '', ...others] = [...(options.through ?? []), ...words];
    return [first, ...others];
  };
  const [clientProgram, ...clientWords] = through(program('fail2ban-client'));
  const client = (...args: string[]) => execute(clientProgram, [...clientWords, ...own, ...args]);
  const [serverProgram, ...serverWords] = through(program('fail2ban-server'));

  async function start() {
    const from = log().length;
    // -x: the socket of a killed server is no hindrance.
    server = daemon(serverProgram, [...serverWords, ...own, '-f', '-x', 'start'], {
      BANCTL_FAIL2BAN_CLIENT: clientCommand,
      ...options.env,
    });
    await until('fail2ban to be ready', () => !server.running() || server.output().includes('Server ready'), {
      detail,
    });
    if (!server.running()) throw new Error(`fail2ban does not start:\n${detail()}`);
    // By their number: fail2ban writes a name in two ways.
    const count = (pattern: RegExp) => log().slice(from).match(pattern)?.length ?? 0;
    await until('each jail to start', () => count(/ Jail .* started$/gm) >= count(/ Creating new jail /g), {
      detail,
    });
  }

  const dispose = async () => {
    await server.end('SIGKILL');
    if (!options.dir) rmSync(dir, AT_REST);
  };
  try {
    await start();
  } catch (error) {
    await dispose();
    throw error;
  }

  return {
    dir,
    clientCommand,
    db,
    socket,
    pid: () => server.pid,
    running: () => server.running(),
    client,
    async banned(jail) {
      const { exitCode, stdout, stderr } = await client('get', jail, 'banip');
      if (exitCode) throw new Error(`get ${jail} banip: ${stdout}${stderr}`);
      return stdout.split(/\s+/).filter(Boolean).sort();
    },
    log,
    awaitLog: (pattern, from = 0) =>
      until(`${pattern} in fail2ban's log`, () => new RegExp(pattern).exec(log().slice(from)) ?? undefined, {
        detail,
      }),
    stop: (limit = 60_000) => server.end('SIGTERM', limit),
    kill: () => server.end('SIGKILL'),
    start,
    setJails,
    [Symbol.asyncDispose]: dispose,
  };
}
