// A real Apache and a real fail2ban whose jails ban in it by the kit's action, for the tests of how the two and the
// list, or the ban directory, are kept together.
//
//   await using site = await startSite({ jails: { one: '', two: 'bantime = 1h' } });
//   await site.bans('one', '203.0.113.5');
//   await site.answer(['203.0.113.5'], 403);
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Apache, type ApacheOptions, installedBandir, startApache } from './apache.ts';
import { banctl, executable } from './banctl.ts';
import { type Fail2ban, startFail2ban } from './fail2ban.ts';
import { banNames } from './served.ts';
import { type Finished, tail, until } from './wait.ts';

/** A site with too few children makes requests after a reload wait for Apache's next look at them. */
const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';

const kitAction = read(join(import.meta.dirname, '..', '..', 'action.d', 'apache-banlist.conf'));

/** Visitors, as many as Apache has threads for. */
const AT_ONCE = 20;

export type Hold = {
  holder: string | null;
  address: string;
  /** Where the jail counts by something else than the address. */
  id?: string;
  since: string | null;
  until: string | null;
  reason: string | null;
};
export type Ban = { address: string; holds: Hold[]; where: string };
export type Listed = {
  bans: Ban[];
  reload: { pending: boolean; last: string | null; error: string | null };
};

export type SiteOptions = {
  /** More lines of each jail's section, by its name. */
  jails?: Record<string, string>;
  /** More parameters of the action, as in `, ipv6_prefix=64`. DIR is fail2ban's directory. */
  parameters?: string;
  /** Single addresses are banned in the directory, as the action's parameter says, or the configuration file alone. */
  bandir?: boolean | 'configured';
  /** The jails have the Python action, which asks the server at the socket in Apache's directory. */
  isServed?: boolean;
  apache?: ApacheOptions;
};

export type Site = AsyncDisposable & {
  readonly apache: Apache;
  readonly fail2ban: Fail2ban;
  /** `jail.local` with these jails, and these parameters of the action. */
  jails(jails: Record<string, string>, parameters?: string): string;
  /** banctl by hand. */
  run(command: string, ...args: string[]): Promise<Finished>;
  /** The same; another exit code than 0 fails the test. Gives what it said on standard output. */
  done(command: string, ...args: string[]): Promise<string>;
  /** What is kept of the bans: the list, and after it each file of the directory. */
  list(): string;
  /** Deletes every ban without banctl; Apache has loaded that. */
  clear(): Promise<void>;
  /** The output of `list --json`. */
  listed(): Promise<Listed>;
  /** Who holds the address, sorted; empty if it is not banned. */
  holders(address: string): Promise<(string | null)[]>;
  get(from: string): Promise<number>;
  /** Fails the test unless each visitor gets this now. */
  answer(visitors: readonly string[], status: number): Promise<void>;
  /** Awaits that each visitor gets this. */
  seen(visitors: readonly string[], status: number): Promise<void>;
  /** `fail2ban-client set JAIL banip`, and awaits that the list has the jail's holds. */
  bans(jail: string, ...addresses: string[]): Promise<void>;
  /** The same without waiting. */
  tells(...args: string[]): Promise<string>;
};

export async function startSite(options: SiteOptions = {}): Promise<Site> {
  const apache = await startApache({ mpm, remoteip: true, ...options.apache });
  const [action, socket] = options.isServed
    ? ['apache-banlist.py', `, socket="${join(apache.dir, 'socket')}"`]
    : ['apache-banlist', ''];
  const section = (name: string, more: string, parameters = '') =>
    `[${name}]
enabled = true
filter = djangoapp-admin-login
logpath = DIR/access.log
action = ${action}[jail=%(__name__)s, banctl="${executable}", banlist="${apache.banlist}", apachectl="${apache.ctl}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3"${options.bandir === true ? `, bandir="${apache.bandir}"` : ''}${socket}${parameters}]
${more}
`;
  const jails: Site['jails'] = (sections, parameters) =>
    Object.entries(sections)
      .map(([name, more]) => section(name, more, parameters))
      .join('\n');
  const config = join(apache.dir, 'banctl.json');
  writeFileSync(config, options.bandir ? JSON.stringify({ bandir: apache.bandir }) : '{}');
  /** The directory is where the kit has it, so that the action finds it without a parameter. */
  const configured = {
    env: { BANCTL_CONFIG: config },
    actionFiles: [
      ['apache-banlist.conf', kitAction.replaceAll(installedBandir, apache.bandir)] satisfies [
        string,
        string,
      ],
    ],
  };
  let fail2ban: Fail2ban;
  try {
    fail2ban = await startFail2ban({
      jails: jails(options.jails ?? { web: '' }, options.parameters),
      ...(options.bandir === 'configured' ? configured : {}),
      ...(options.isServed ? { actionFiles: ['apache-banlist.py'] } : {}),
    });
  } catch (error) {
    await apache[Symbol.asyncDispose]();
    throw error;
  }

  const place = [`--banlist=${apache.banlist}`, ...(options.bandir ? [`--config=${config}`] : [])];
  const reloading = [...place, `--apachectl=${apache.ctl}`, '--reload-interval=0'];
  const asking = [...reloading, `--fail2ban-client=${fail2ban.clientCommand}`];
  /** What every call of a command by hand is given. */
  const given: Record<string, string[]> = { list: place, explain: place, ban: reloading, reload: reloading };
  const list = () => {
    const bans = banNames(apache.bandir);
    return [apache.banlist, ...bans.map((name) => join(apache.bandir, name))].map(read).join('');
  };
  const detail = () => `${list()}\n${tail(fail2ban.log(), 20)}`;
  const run = (command: string, ...args: string[]) =>
    banctl([
      command,
      ...args,
      ...(given[command] ?? asking).filter(
        (option) => !args.some((arg) => arg.startsWith(option.replace(/=.*/, '='))),
      ),
    ]);
  const done = async (command: string, ...args: string[]) => {
    const { exitCode, stdout, stderr } = await run(command, ...args);
    assert.equal(exitCode, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };
  const listed = async () => JSON.parse(await done('list', '--json')) as Listed;
  const get = (from: string) => apache.get('/', { from });
  const tells = async (...args: string[]) => {
    const { exitCode, stdout, stderr } = await fail2ban.client(...args);
    assert.equal(exitCode, 0, `fail2ban-client ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };
  return {
    apache,
    fail2ban,
    jails,
    run,
    done,
    list,
    listed,
    async clear() {
      writeFileSync(apache.banlist, '');
      rmSync(apache.bandir, { recursive: true, force: true });
      await done('reload');
    },
    async holders(address) {
      const bans = (await listed()).bans.filter((ban) => ban.address === address);
      return bans.flatMap((ban) => ban.holds.map((hold) => hold.holder)).sort();
    },
    get,
    async answer(visitors, status) {
      const wrong: string[] = [];
      for (let at = 0; at < visitors.length; at += AT_ONCE) {
        const some = visitors.slice(at, at + AT_ONCE);
        const answers = await Promise.all(some.map(get));
        wrong.push(...some.filter((_, index) => answers[index] !== status));
      }
      assert.deepEqual(wrong, [], `these do not get ${status}\n${detail()}`);
    },
    async seen(visitors, status) {
      for (const from of visitors)
        await until(`${from} to get ${status}`, async () => (await get(from)) === status, { detail });
    },
    async bans(jail, ...addresses) {
      await tells('set', jail, 'banip', ...addresses);
      for (const address of addresses)
        await until(
          `the hold of ${jail} on ${address}`,
          () => list().includes(`| ${jail} ${address} since `),
          {
            detail,
          },
        );
    },
    tells,
    async [Symbol.asyncDispose]() {
      await fail2ban[Symbol.asyncDispose]();
      await apache[Symbol.asyncDispose]();
    },
  };
}

/** The text of a file, which may go at any time; empty if there is none. */
export function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** An executable script for sh; gives its path. */
export function writeScript(dir: string, name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}
