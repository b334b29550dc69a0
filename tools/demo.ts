// Shows banctl's main job, with requests to a real Apache; see scripts/demo. With --fleet, two servers share their bans.
// Exits with 1 if a step fails.
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { styleText } from 'node:util';
import { type Apache, kit, startApache } from '../test/lab/apache.ts';
import { type Fail2ban, startFail2ban } from '../test/lab/fail2ban.ts';
import { startEngine, startHost } from '../test/lab/fleet.ts';
import { processesNaming } from '../test/lab/processes.ts';
import { execute, until } from '../test/lab/wait.ts';

const repository = join(import.meta.dirname, '..');
const jail = 'djangoapp-admin-login';
const attacker = '203.0.113.55';
const visitor = '198.51.100.7';
const scraper = '2001:db8::66';

/** Apache and fail2ban with the kit, as on a server, except for the places of the files. */
async function startServers(dir: string, stack: AsyncDisposableStack): Promise<[Apache, Fail2ban]> {
  const own = (name: string) => {
    mkdirSync(join(dir, name));
    return join(dir, name);
  };
  const server = kit('djangoapp-login-log.conf');
  const apache = stack.use(await startApache({ dir: own('apache2'), remoteip: true, server }));
  const log = join(apache.dir, 'djangoapp-login.log');
  const config = join(dir, 'banctl.json');
  writeFileSync(config, JSON.stringify({ banlist: apache.banlist, apachectl: apache.ctl }));
  // For this process and fail2ban, which passes it on to banctl.
  for (const name of Object.keys(process.env)) if (name.startsWith('BANCTL_')) delete process.env[name];
  process.env.BANCTL_CONFIG = config;
  process.env.PATH = [join(repository, 'dist'), process.env.PATH].join(delimiter);
  const fail2ban = stack.use(
    await startFail2ban({
      dir: own('fail2ban'),
      stock: true,
      jails: '',
      jailFiles: [`${jail}.local`, ['server.local', `[${jail}]\nlogpath = ${log}\n`]],
    }),
  );
  return [apache, fail2ban];
}

async function tell(dir: string, stack: AsyncDisposableStack) {
  heading(
    'Starting a real Apache and a real fail2ban, with the action, filter, jail and snippets of this repository',
  );
  const [apache, fail2ban] = await startServers(dir, stack);
  say(
    `Apache listens on 127.0.0.1:${apache.port}. It reads the visitor's address from X-Forwarded-For, as behind a load`,
  );
  say('balancer, so the demo can play several visitors.');

  /** Requests `count` times, and shows the answers. */
  const visit = async (from: string, what: string, wanted: number, count = 1) => {
    const answers: number[] = [];
    for (let number = 0; number < count; number += 1) {
      answers.push(
        what.startsWith('POST') ? await apache.login(401, { from }) : await apache.get('/', { from }),
      );
    }
    show(`${from.padEnd(14)} ${what.padEnd(21)} ${answers.join(' ')}`, wanted >= 400 ? 'red' : 'green');
    expect(
      `${from} gets ${wanted}`,
      answers.every((answer) => answer === wanted),
    );
  };
  const type = async (command: string, wanted: RegExp, wantedCode = 0) => {
    const [program = '', ...words] = command.match(/'[^']*'|\S+/g) ?? [];
    const own = program === 'fail2ban-client' ? fail2ban.clientCommand.split(' ').slice(1) : [];
    show(`$ ${command}`, 'bold');
    const { exitCode, stdout, stderr } = await execute(program, [
      ...own,
      ...words.map((word) => word.replaceAll("'", '')),
    ]);
    for (const line of `${stdout}${stderr}`.trimEnd().split('\n')) show(line);
    expect(`${command} says ${wanted}`, exitCode === wantedCode && wanted.test(stdout + stderr));
  };
  const showList = (wanted: RegExp) => {
    const list = readFileSync(apache.banlist, 'utf8');
    for (const line of list.trimEnd().split('\n')) show(line || '(empty)');
    expect(`the list matches ${wanted}`, wanted.test(list));
  };
  const isListed = () => readFileSync(apache.banlist, 'utf8').includes(`Require not ip ${attacker}\n`);

  heading('An attacker guesses the password of the Django admin');
  await visit(attacker, 'GET /', 200);
  await visit(attacker, 'POST /admin/login/', 401, 5);

  heading('fail2ban sees the fifth failure in the log of failed logins, and calls banctl');
  await fail2ban.awaitLog(new RegExp(`\\[${jail}\\] Ban ${attacker}`));
  await until(
    `the next request of ${attacker} to be refused`,
    async () => (await apache.get('/', { from: attacker })) === 403,
  );
  say('Apache has loaded the list, which now contains:');
  showList(new RegExp(`^# banctl \\| ${jail} ${attacker} .*\nRequire not ip ${attacker}\n$`));

  heading('Apache refuses the attacker on the whole site, and no other visitor');
  await visit(attacker, 'GET /', 403);
  await visit(attacker, 'POST /admin/login/', 403);
  await visit(visitor, 'GET /', 200);

  heading('You can ban by hand, too');
  await type(`banctl ban ${scraper} --for 1h --reason 'copies the site'`, new RegExp(`^${scraper} banned`));
  await type('banctl reload', /loaded/);
  await visit(scraper, 'GET /', 403);
  showList(
    new RegExp(`Require not ip ${attacker}\n# banctl \\| manual ${scraper} .*\nRequire not ip ${scraper}\n$`),
  );
  await type('banctl ban 127.0.0.1', /is protected/, 77);

  heading('When the ban ends, or you lift it, the visitor gets in again');
  await type(`fail2ban-client set ${jail} unbanip ${attacker}`, /1/);
  await type(`banctl unban ${scraper}`, new RegExp(`^${scraper} unbanned`));
  await type('banctl reload', /loaded/);
  expect(`${attacker} is not listed any more`, !isListed());
  await visit(attacker, 'GET /', 200);
  await visit(scraper, 'GET /', 200);
  showList(/^$/);
  say(`Apache was reloaded ${apache.reloads()} times, gracefully: no connection was cut.`);
}

/** Two servers behind one load balancer, each with an Apache; the first has fail2ban. */
async function tellOfFleet(dir: string, stack: AsyncDisposableStack) {
  heading('Starting two web servers that share their bans over a Redis, and fail2ban on the first');
  const own = (name: string) => {
    mkdirSync(join(dir, name));
    return join(dir, name);
  };
  for (const name of Object.keys(process.env)) if (name.startsWith('BANCTL_')) delete process.env[name];
  const engine = stack.use(await startEngine([], own('redis')));
  const server = kit('djangoapp-login-log.conf');
  const start = async (name: string) =>
    stack.use(await startApache({ dir: own(name), remoteip: true, server }));
  const apaches = { web1: await start('web1'), web2: await start('web2') } as const;
  const names = ['web1', 'web2'] as const;
  const configOf = (name: (typeof names)[number]) => join(dir, name, 'banctl.json');
  process.env.BANCTL_CONFIG = configOf('web1');
  process.env.PATH = [join(repository, 'dist'), process.env.PATH].join(delimiter);
  const fail2ban = stack.use(
    await startFail2ban({
      dir: own('fail2ban'),
      stock: true,
      jails: '',
      jailFiles: [
        `${jail}.local`,
        ['server.local', `[${jail}]\nlogpath = ${join(apaches.web1.dir, 'djangoapp-login.log')}\n`],
      ],
    }),
  );
  for (const name of names) {
    const { banlist, bandir, ctl } = apaches[name];
    const client = name === 'web1' ? { 'fail2ban-client': fail2ban.clientCommand } : { 'no-fail2ban': true };
    const config = { apachectl: [ctl], ...client };
    const host = { name, engine, dir: join(dir, name), places: { banlist, bandir }, config };
    await stack.use(await startHost(host)).connected();
  }
  say(
    'Each server has a list and a ban directory of its own, and says in /etc/banctl.json where the Redis is.',
  );

  const visit = async (from: string, wanted: number) => {
    for (const name of names) {
      const isAnswered = async () => (await apaches[name].get('/', { from })) === wanted;
      await until(`${from} to get ${wanted} at ${name}`, isAnswered);
      show(`${from.padEnd(14)} GET ${name}/   ${wanted}`, wanted >= 400 ? 'red' : 'green');
    }
  };
  const type = async (name: (typeof names)[number], command: string, wanted: RegExp) => {
    show(`${name} $ banctl ${command}`, 'bold');
    const words = [...command.split(' '), `--config=${configOf(name)}`];
    const { stdout, stderr } = await execute('banctl', words);
    for (const line of `${stdout}${stderr}`.trimEnd().split('\n')) show(line);
    expect(`banctl ${command} says ${wanted}`, wanted.test(stdout + stderr));
  };

  heading('An attacker guesses passwords at web1');
  await visit(attacker, 200);
  for (let tries = 0; tries < 5; tries += 1) await apaches.web1.login(401, { from: attacker });
  await fail2ban.awaitLog(new RegExp(`\\[${jail}\\] Ban ${attacker}`));

  heading('Both servers refuse the attacker, and only the attacker');
  await visit(attacker, 403);
  await visit(visitor, 200);
  await type('web2', `explain ${attacker}`, new RegExp(`by ${jail}@web1 since`));
  await type('web2', 'fleet status', /web2 in the fleet banctl: connected/);

  heading('An unban on web2 lifts the ban on both, and fail2ban on web1 forgets it');
  await type('web2', `unban ${attacker}`, new RegExp(`^${attacker} unbanned`));
  await visit(attacker, 200);
  await until('fail2ban to forget', async () => !(await fail2ban.banned(jail)).includes(attacker));
}

class NotShown extends Error {}

/** True: the demo ends early, and no further step may begin. */
let isInterrupted = false;

/** Ends a process, which may have ended already. */
function end(pid: number) {
  try {
    process.kill(pid, 'SIGTERM');
  } catch {}
}

function expect(what: string, isTrue: boolean) {
  if (!isTrue) throw new NotShown(`it should be that ${what}`);
}

function heading(text: string) {
  print(`\n${styleText('bold', `== ${text}`)}`);
}

function say(text: string) {
  print(text);
}

/** A typed command, a program's output, or a request. */
function show(text: string, style: 'bold' | 'red' | 'green' | 'reset' = 'reset') {
  print(style === 'reset' ? `   ${text}` : `   ${styleText(style, text)}`);
}

/** Each step begins with a line. */
function print(line: string) {
  if (isInterrupted) throw new NotShown('interrupted');
  console.log(line);
}

const dir = mkdtempSync(join(tmpdir(), 'banctl-demo-'));
chmodSync(dir, 0o755); // Apache's children run as www-data
const stack = new AsyncDisposableStack();
const interrupted = new Promise<NodeJS.Signals>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve(signal));
});
let exitCode = 0;
try {
  const signal = await Promise.race([
    process.argv.includes('--fleet') ? tellOfFleet(dir, stack) : tell(dir, stack),
    interrupted,
  ]);
  if (signal !== undefined) {
    isInterrupted = true;
    exitCode = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }[signal as 'SIGINT'];
  }
} catch (error) {
  console.error(`\ndemo: ${error instanceof NotShown ? error.message : error}`);
  exitCode = 1;
}
await stack.disposeAsync();
// Processes that are still starting, and a banctl that waits for its next reload.
await until('everything to end', () => {
  const rest = processesNaming(dir);
  for (const pid of rest) end(pid);
  return rest.length === 0;
});
rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
if (exitCode === 0) heading('Done. The demo has cleaned up after itself');
process.exit(exitCode);
