// fail2ban's processor time for what an ordinary site logs: the kit's jails beside the stock apache jails. LINES=1000000
// measures more requests than the usual 100,000.
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { startFail2ban } from '../../test/lab/fail2ban.ts';
import { until } from '../../test/lab/wait.ts';
import { figure, type Result, told } from './measure.ts';

const LINES = Number(process.env.LINES ?? 100_000);
const VISITORS = 20_000;
/** Of /proc/PID/stat: clock ticks a second on Linux. */
const TICKS = 100;
const PATIENCE_MS = 1_200_000;
/** A log that is not seen open for so long has been read. */
const QUIET_MS = 3000;

/** What Apache writes for one request, by log. */
type Written = Partial<Record<'access' | 'login' | 'requests' | 'networks' | 'error', string>>;

/** Jails that run together in one fail2ban. */
interface Group {
  readonly what: string;
  readonly jails: readonly string[];
  readonly logs: readonly (keyof Written)[];
}

const GROUPS: readonly Group[] = [
  {
    what: "the kit's jails on logs of their own",
    jails: ['login', 'denied', 'probes', 'flood', 'networks'].map((name) => `djangoapp-${name}`),
    logs: ['login', 'requests', 'networks'],
  },
  { what: "the kit's jail on the access log", jails: ['djangoapp-admin-login'], logs: ['access'] },
  { what: "fail2ban's apache-badbots on the access log", jails: ['apache-badbots'], logs: ['access'] },
  {
    what: "fail2ban's apache jails on the error log",
    jails: ['auth', 'noscript', 'overflows', 'nohome', 'botsearch', 'shellshock'].map(
      (name) => `apache-${name}`,
    ),
    logs: ['error'],
  },
];

/** Which log a jail reads. */
const LOG_OF: Readonly<Record<string, keyof Written>> = {
  'djangoapp-login': 'login',
  'djangoapp-denied': 'requests',
  'djangoapp-probes': 'requests',
  'djangoapp-flood': 'requests',
  'djangoapp-networks': 'networks',
  'djangoapp-admin-login': 'access',
  'apache-badbots': 'access',
};

export async function filters(): Promise<Result> {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-bench-filters-'));
  try {
    const seconds: { what: string; seconds: number }[] = [];
    for (const [index, group] of GROUPS.entries()) {
      const own = join(dir, String(index));
      mkdirSync(own);
      seconds.push({ what: group.what, seconds: await measure(own, group) });
      rmSync(own, { recursive: true });
    }
    return {
      name: 'filters',
      title: `fail2ban's processor time for ${LINES.toLocaleString('en')} requests of an ordinary site`,
      figures: seconds.map((one) => figure(one.what, 's', [one.seconds])),
      targets: seconds.map((one) => told(`${one.what}: microseconds a request`, (one.seconds / LINES) * 1e6)),
      remarks: [
        'Of 1,000 requests: 30 answers 404, 2 denied, 1 failed login, 1 probe; 3 of 10 visitors by IPv6. No address is banned.',
      ],
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Starts a fail2ban with these jails, then writes the logs, and waits until they have been read. */
async function measure(dir: string, { jails, logs }: Group): Promise<number> {
  const pathOf = (log: keyof Written) => join(dir, `${log}.log`);
  for (const log of logs) writeFileSync(pathOf(log), '');
  const kit = jails.filter((jail) => jail.startsWith('djangoapp-'));
  await using fail2ban = await startFail2ban({
    dir,
    stock: true,
    filterFiles: kit.map((jail) => `${jail}.conf`),
    jails: jails.map((jail) => jailText(jail, pathOf(LOG_OF[jail] ?? 'error'))).join('\n'),
  });
  const before = processorSeconds(fail2ban.pid());
  writeTraffic(logs, pathOf);
  let lastOpenMs = performance.now();
  await until(
    'the end of the logs',
    async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (isOpen(fail2ban.pid(), logs.map(pathOf))) lastOpenMs = performance.now();
      return performance.now() - lastOpenMs > QUIET_MS;
    },
    { limit: PATIENCE_MS },
  );
  if (/ERROR| Ban /.test(fail2ban.log())) throw new Error(fail2ban.log());
  const used = processorSeconds(fail2ban.pid()) - before;
  await fail2ban.stop();
  checkRead(fail2ban.db, logs.map(pathOf));
  return used;
}

/** fail2ban's database has how far each log was read. */
function checkRead(path: string, logs: readonly string[]): void {
  const database = new DatabaseSync(path, { readOnly: true });
  const rows = database.prepare('SELECT path, lastfilepos FROM logs').all();
  database.close();
  for (const log of logs) {
    const read = rows.filter(({ path }) => path === log).map(({ lastfilepos }) => lastfilepos);
    if (read.length === 0 || read.some((position) => position !== statSync(log).size))
      throw new Error(`fail2ban has read ${log} to ${read}, of ${statSync(log).size}`);
  }
}

/** With the usual values, and no action: reading is measured. */
function jailText(jail: string, log: string): string {
  return `[${jail}]\nenabled = true\nfilter = ${jail}\nlogpath = ${log}\nbackend = polling\nmaxretry = 1000\nfindtime = 10m\naction =\n`;
}

function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function isOpen(pid: number, paths: readonly string[]): boolean {
  return readdirSync(`/proc/${pid}/fd`).some((descriptor) => {
    try {
      return paths.includes(readlinkSync(`/proc/${pid}/fd/${descriptor}`));
    } catch {
      return false;
    }
  });
}

function writeTraffic(logs: readonly (keyof Written)[], pathOf: (log: keyof Written) => string): void {
  const piece = 10_000;
  for (let from = 0; from < LINES; from += piece) {
    const requests = Array.from({ length: Math.min(piece, LINES - from) }, (_, at) => written(from + at));
    for (const log of logs) appendFileSync(pathOf(log), requests.map((one) => one[log] ?? '').join(''));
  }
}

const AGENT = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';

/** The lines of one request, all of them now: what is older than ten minutes, fail2ban skips. */
function written(index: number): Written {
  const at = new Date();
  const of = index % 1000;
  const address = addressOf((index * 7919) % VISITORS);
  const line = (class_: string, rest: string, suffix = '') =>
    `${address}${suffix} [${ownTime(at)}] ${class_}${rest}\n`;
  const access = (method: string, path: string, status: number) =>
    `${address} - - [${accessTime(at)}] "${method} ${path} HTTP/1.1" ${status} 5320 "https://www.example.org/" "${AGENT}"\n`;
  const network = (class_: string, rest: string): Written =>
    address.includes(':') ? { networks: line(class_, rest, '/64') } : {};
  if (of < 29)
    return {
      access: access('GET', `/old/${index}/`, 404),
      requests: line('flood ', `GET 404 /old/${index}/`),
    };
  if (of === 29)
    return {
      access: access('GET', '/.env', 404),
      requests: line('flood ', 'GET 404 /.env') + line('probe ', 'GET 404 /.env'),
      ...network('probe ', 'GET 404 /.env'),
    };
  if (of < 32)
    return {
      access: access('GET', '/private/', 403),
      requests: line('denied ', 'GET 403 /private/'),
      error: `[${errorTime(at)}] [authz_core:error] [pid 812:tid 140] [client ${address}:50312] AH01630: client denied by server configuration: /srv/private/\n`,
    };
  if (of === 32)
    return {
      access: access('POST', '/admin/login/?next=/admin/', 200),
      login: line('', 'POST 200 /admin/login/'),
      ...network('login ', 'POST 200 /admin/login/'),
    };
  if (of < 40) return { access: access('POST', '/admin/login/?next=/admin/', 302) };
  if (of < 60) return { access: access('GET', '/admin', 301) };
  return { access: access('GET', `/articles/${index % 500}/?page=${index % 9}`, of % 5 === 0 ? 304 : 200) };
}

function addressOf(visitor: number): string {
  const [high, low] = [visitor >> 8, visitor & 255];
  return visitor % 10 < 3
    ? `2001:db8:${high.toString(16)}:${low.toString(16)}:1c2e:b2ff:fe0a:5`
    : `198.${18 + (high & 1)}.${high}.${low}`;
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const DAYS = 'Sun Mon Tue Wed Thu Fri Sat'.split(' ');

function ownTime(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace('T', ' ')} +0000`;
}

function accessTime(at: Date): string {
  const [year, month, rest] = at.toISOString().split('-');
  return `${rest?.slice(0, 2)}/${MONTHS[Number(month) - 1]}/${year}:${rest?.slice(3, 11)} +0000`;
}

/** Apache writes it in local time. */
function errorTime(at: Date): string {
  const pad = (value: number) => String(value).padStart(2, '0');
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.000000`;
  return `${DAYS[at.getDay()]} ${MONTHS[at.getMonth()]} ${pad(at.getDate())} ${time} ${at.getFullYear()}`;
}
