// From the shell action to banctl, by the steps in docs/upgrade.md, on a site that is in use: a real Apache and a real fail2ban.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { installedBanlist, kit, startApache } from '../lab/apache.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { shellAction } from '../lab/shell-action.ts';
import { writeScript } from '../lab/site.ts';
import { execute, tail, until } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const [guide = ''] = readFileSync(join(repository, 'docs', 'upgrade.md'), 'utf8').split('\n## ');
const steps = [...guide.matchAll(/^# (.*)$/gm)].map((match) => match[1] ?? '').slice(1);

/** Banned by fail2ban, of both families. */
const held = ['203.0.113.5', '2001:db8::5'];
const byHand = '198.51.100.0/24';
/** Its ban ended while fail2ban was dead, and the shell left its line. */
const left = '203.0.113.77';
const duplicate = '203.0.113.78';
const newcomer = '203.0.113.99';
const visitor = '192.0.2.9';

/** A site with too few children makes requests after a reload wait for Apache's next look at them. */
const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';

/** What the shell days had in Apache's configuration. */
const shellSection = `<Location "/">
<RequireAll>
Require all granted
Include ${installedBanlist}
</RequireAll>
</Location>
`;

suite('the steps from the shell action to banctl', () => {
  test('admit no banned visitor, lock no other visitor out, and lose nothing', async () => {
    await using apache = await startApache({
      mpm,
      remoteip: true,
      site: shellSection,
      // By hand, twice, and without a final newline, as an editor leaves it.
      list: `# by hand\nRequire not ip ${byHand}\nRequire not ip ${left}\nRequire not ip ${duplicate}\nRequire not ip ${duplicate}\n`,
    });
    const bin = join(apache.dir, 'bin');
    const dir = join(apache.dir, 'fail2ban');
    for (const folder of [bin, dir]) mkdirSync(folder);
    const path = [bin, process.env.PATH].join(delimiter);
    const environment = {
      PATH: path,
      BANCTL_APACHECTL: apache.ctl,
      BANCTL_RELOAD_INTERVAL: '0',
      BANCTL_BANLIST: apache.banlist,
      BANCTL_FAIL2BAN_DB: join(dir, 'fail2ban.sqlite3'),
    };
    const jail = (more = '') => `[logins]
enabled = true
filter = djangoapp-admin-login
logpath = ${apache.accessLog}
bantime = 1h
action = apache-banlist[name=djangoapp, banlist=${apache.banlist}, apache_reload_cmd="${apache.ctl} -k graceful"${more}]
`;
    await using fail2ban = await startFail2ban({
      dir,
      jails: jail(),
      actionFiles: [['apache-banlist.conf', shellAction]],
      env: environment,
    });
    // Not itself, which comes first in PATH.
    writeScript(bin, 'fail2ban-client', `PATH='${process.env.PATH}'; exec ${fail2ban.clientCommand} "$@"`);

    const get = (from: string) => apache.get('/', { from });
    const detail = () => `${readFileSync(apache.banlist, 'utf8')}\n${tail(fail2ban.log(), 20)}`;
    const seen = (from: string, status: number) =>
      until(`${from} to get ${status}`, async () => (await get(from)) === status, { detail });
    await fail2ban.client('set', 'logins', 'banip', ...held);
    for (const from of held) await seen(from, 403);
    const before = readFileSync(apache.banlist, 'utf8');

    // All of them come by again and again, as long as the steps take.
    const wrong: string[] = [];
    let rounds = 0;
    let isOver = false;
    const everybody = [
      ...[...held, '198.51.100.7', left, duplicate].map((address) => [address, 403] as const),
      [visitor, 200] as const,
    ];
    const comingBy = (async () => {
      for (; !isOver; rounds += 1) {
        for (const [from, status] of everybody) {
          const answer = await get(from).catch(String);
          if (answer !== status) wrong.push(`${from} got ${answer}`);
        }
        await setTimeout(20); // the others are to get on
      }
    })();
    // Whatever becomes of the steps, Apache ends after them.
    await using visitors = {
      async [Symbol.asyncDispose]() {
        isOver = true;
        await comingBy;
      },
    };

    const said: Record<string, string> = {};
    for (const step of steps) {
      if (step === 'systemctl stop fail2ban') {
        await fail2ban.stop();
        // The guide's second remark; an attacker also tries passwords while fail2ban is stopped.
        fail2ban.setJails(jail(', jail=%(__name__)s'));
        for (let count = 0; count < 5; count += 1) await apache.login(401, { from: newcomer });
      } else if (step === 'systemctl start fail2ban') {
        await fail2ban.start();
        await fail2ban.awaitLog(new RegExp(`Restore Ban ${held[0]}`));
      } else {
        const { exitCode, stdout, stderr } = await execute('env', [
          '-C',
          repository,
          ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
          'sh',
          '-c',
          step
            .replaceAll(installedBanlist.replace(/\/[^/]*$/, ''), apache.dir)
            .replaceAll('/usr/local/bin', bin)
            .replaceAll('/etc/fail2ban', join(dir, 'config')),
        ]);
        assert.equal(exitCode, 0, `${step}: ${stdout}${stderr}`);
        said[step] = stdout;
      }
    }
    await seen(newcomer, 403);
    // The last remark: the section in Apache's configuration.
    const configuration = readFileSync(apache.config, 'utf8');
    const old = shellSection.replaceAll(installedBanlist, apache.banlist);
    assert.ok(configuration.includes(old));
    const ours = kit('djangoapp-banlist.conf').replaceAll(installedBanlist, apache.banlist);
    writeFileSync(apache.config, configuration.replace(old, ours));
    await apache.graceful();
    const enough = rounds + 2;
    await until('two more rounds', () => rounds >= enough);
    await visitors[Symbol.asyncDispose]();
    assert.deepEqual(wrong, []);

    assert.match(said['fail2ban-client get logins actions'] ?? '', /^apache-banlist-djangoapp$/m);
    assert.equal(readFileSync(join(apache.dir, 'banlist.before'), 'utf8'), before);
    const { stdout } = await execute('env', [
      ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
      'banctl',
      'list',
      '--json',
    ]);
    const { bans, reload } = JSON.parse(stdout);
    assert.equal(reload.pending, false);
    assert.deepEqual(
      Object.fromEntries(
        bans.map(({ address, holds }: { address: string; holds: { holder: string | null }[] }) => [
          address,
          holds.map(({ holder }) => holder),
        ]),
      ),
      {
        [byHand]: [null],
        [left]: [null],
        [duplicate]: [null],
        [held[0] ?? '']: ['logins'],
        [held[1] ?? '']: ['logins'],
        [newcomer]: ['logins'],
      },
    );
    assert.match(said['banctl list'] ?? '', new RegExp(`^${left} +\\?$`, 'm'));
    assert.match(readFileSync(apache.banlist, 'utf8'), /^# by hand\n/);

    // From here on it is banctl that lifts.
    await fail2ban.client('set', 'logins', 'unbanip', held[0] ?? '');
    await seen(held[0] ?? '', 200);
    await execute('env', [
      ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
      'banctl',
      'unban',
      left,
    ]);
    assert.equal(await get(left), 200);
    assert.doesNotMatch(fail2ban.log(), / ERROR /);
  });
});
