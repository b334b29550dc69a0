// fail2ban's bans are what the list holds: while it starts and restores them, while others change them, and whatever its
// jails are called.
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { type Site, startSite, writeScript } from '../lab/site.ts';
import { execute, until } from '../lab/wait.ts';

const inOrder = { concurrency: 1 };
const ipv4 = '203.0.113.5';
const ipv6 = '2001:db8::5';

const places = [
  { place: 'the list', bandir: false },
  { place: 'the ban directory', bandir: true },
];

const isListed = (site: Site, address: string, holder = 'web') =>
  site.list().includes(`| ${holder} ${address} since `);

for (const { place, bandir } of places) {
  suite(`while fail2ban restores its bans, with ${place}`, inOrder, () => {
    const attackers = Array.from({ length: 10 }, (_, index) => `203.0.113.${index + 1}`);
    const dir = mkdtempSync(join(tmpdir(), 'banctl-restore-'));
    const gate = join(dir, 'gate');
    let site: Site;
    before(async () => {
      // While the gate is there, a ban's action takes its time, as it does on a busy server. Each restored ban is a call, as
      // if none were in the list yet.
      const program = writeScript(
        dir,
        'banctl',
        `[ "$1" != ban ] || while [ -e ${gate} ]; do sleep 0.1; done; exec ${executable} "$@"`,
      );
      const parameters = `, banctl="${program}", _listed=false, timeout=600`;
      site = await startSite({ bandir, jails: { web: 'bantime = 1h' }, parameters });
      await site.bans('web', ...attackers);
    });
    after(async () => {
      rmSync(gate, { force: true });
      await site[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    });

    test('neither audit --fix nor sync lifts one of them', async () => {
      const list = site.list();
      await site.fail2ban.kill();
      writeFileSync(gate, '');
      const from = site.fail2ban.log().length;
      await site.fail2ban.start();
      await until('the first ban', () => /Restore Ban/.test(site.fail2ban.log().slice(from)));
      for (const command of ['audit --fix', 'sync --jail=web']) {
        const [name = '', ...args] = command.split(' ');
        const { stdout } = await site.run(name, ...args);
        assert.doesNotMatch(stdout, /stale|unbanned/);
        assert.equal((await site.fail2ban.banned('web')).length, 1, 'the others are not restored yet');
        for (const address of attackers) assert.ok(isListed(site, address), `${address}\n${list}`);
      }
      rmSync(gate);
      await until('all', async () => (await site.fail2ban.banned('web')).length === attackers.length, {
        limit: 60_000,
      });
      await site.answer(attackers, 403);
    });
  });
}

suite('beside a fail2ban that goes on', inOrder, () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-beside-'));
  let site: Site;
  before(async () => {
    site = await startSite();
  });
  after(async () => {
    await site[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  /** A client that lets fail2ban do something right after it has answered what the jail holds, once. */
  function interrupted(work: string): string {
    const { clientCommand } = site.fail2ban;
    rmSync(join(dir, 'done'), { recursive: true, force: true });
    return writeScript(
      dir,
      'client',
      `${clientCommand} "$@"; code=$?
case "$*" in *"get web banip"*) if mkdir ${dir}/done 2>/dev/null; then ${work}; fi;; esac
exit $code`,
    );
  }

  const tell = (...words: string[]) => `${site.fail2ban.clientCommand} ${words.join(' ')} >/dev/null`;
  const awaits = (condition: string) => `for i in $(seq 200); do ${condition} && break; sleep 0.1; done`;
  const isThere = () => `grep -qs '| web ${ipv4} ' ${site.apache.banlist}`;

  for (const command of ['sync --jail=web', 'audit --fix']) {
    const [name = '', ...args] = command.split(' ');

    test(`${command}: a ban that comes after the answer stays`, async () => {
      await site.tells('unban', '--all');
      const client = interrupted(`${tell('set', 'web', 'banip', ipv4)}; ${awaits(isThere())}`);
      const { exitCode, stderr } = await site.run(name, ...args, `--fail2ban-client=${client}`);
      assert.equal(exitCode, 0, stderr);
      assert.ok(isListed(site, ipv4), `${site.list()}\n${site.fail2ban.log().slice(-3000)}`);
      await site.answer([ipv4], 403);
    });

    test(`${command}: what is unbanned after the answer does not come back`, async () => {
      await site.tells('unban', '--all');
      await until('no ban', () => !isListed(site, ipv4));
      await site.bans('web', ipv4);
      if (name === 'audit') await site.done('unban', ipv4, '--jail=web');
      const client = interrupted(`${tell('set', 'web', 'unbanip', ipv4)}; ${awaits(`! ${isThere()}`)}`);
      await site.run(name, ...args, `--fail2ban-client=${client}`);
      assert.ok(!isListed(site, ipv4));
      await site.answer([ipv4], 200);
    });
  }

  test('audit --fix: what is unbanned while it bans does not come back', async () => {
    await site.tells('unban', '--all');
    await site.bans('web', ipv4, ipv6);
    await site.done('unban', ipv4, ipv6, '--jail=web');
    // The second answer is the last before the change.
    const client = interrupted(
      `(${awaits(`[ -e ${dir}/second ]`)}; ${tell('set', 'web', 'unbanip', ipv4)}) & true`,
    );
    const counting = writeScript(
      dir,
      'counting',
      `${client} "$@"; code=$?; case "$*" in *"get web banip"*) [ -e ${dir}/first ] && touch ${dir}/second; touch ${dir}/first;; esac; exit $code`,
    );
    await site.run('audit', '--fix', `--fail2ban-client=${counting}`);
    await until('the unban', async () => (await site.fail2ban.banned('web')).length === 1);
    await until('its end', () => !isListed(site, ipv4));
    assert.ok(isListed(site, ipv6));
  });
});

suite('two jails with one name', inOrder, () => {
  let site: Site;
  before(async () => {
    site = await startSite({ jails: { one: '', two: '' }, parameters: ', jail=djangoapp' });
  });
  after(() => site[Symbol.asyncDispose]());

  test('keep both their bans, and the audit says what to write', async () => {
    await site.tells('set', 'one', 'banip', ipv4);
    await site.tells('set', 'two', 'banip', ipv6);
    await until('both', () => isListed(site, ipv4, 'djangoapp') && isListed(site, ipv6, 'djangoapp'));
    const list = site.list();
    for (let round = 0; round < 2; round += 1) {
      const { exitCode, stdout } = await site.run('audit', '--fix');
      assert.equal(exitCode, 1);
      assert.match(stdout, /^shared-holder: jails one, two [^\n]*jail=%\(__name__\)s[^\n]*\n$/);
      assert.equal(site.list(), list);
    }
    await site.answer([ipv4, ipv6], 403);
  });

  test('have in the list what either holds, after sync and after a start', async () => {
    assert.doesNotMatch(await site.done('sync', '--jail=djangoapp'), /unbanned/);
    await site.fail2ban.kill();
    await site.fail2ban.start();
    await until('both', () => isListed(site, ipv4, 'djangoapp') && isListed(site, ipv6, 'djangoapp'));
    await site.answer([ipv4, ipv6], 403);
  });
});

suite('a start of fail2ban', inOrder, () => {
  let site: Site;
  before(async () => {
    site = await startSite({ jails: { short: 'bantime = 1h', half: 'bantime = 1h' } });
  });
  after(() => site[Symbol.asyncDispose]());

  test('with shorter ban times lifts what has ended by them, and shortens the others', async () => {
    await site.bans('short', ipv4);
    await site.bans('half', ipv6);
    await site.fail2ban.kill();
    site.fail2ban.setJails(site.jails({ short: 'bantime = 1', half: 'bantime = 30m' }));
    await site.fail2ban.start();
    await until('the end of the ban', () => !isListed(site, ipv4, 'short'), { limit: 10_000 });
    await site.seen([ipv4], 200);
    await site.seen([ipv6], 403);
    await until('what is restored', async () => (await site.fail2ban.banned('half')).includes(ipv6));
    assert.deepEqual(await site.fail2ban.banned('short'), []);
    const { bans } = await site.listed();
    const { since, until: end } = bans[0]?.holds[0] ?? {};
    assert.equal(Date.parse(end ?? '') - Date.parse(since ?? ''), 30 * 60_000);
    assert.doesNotMatch((await site.run('audit', '--fix')).stdout, /stale|missing/);
  });
});

suite('a start of a private fail2ban, whose client is all that the action names', inOrder, () => {
  const parameters = ', fail2ban_client="fail2ban-client -c DIR/config", dbfile=""';
  let site: Site;
  before(async () => {
    site = await startSite({ jails: { short: 'bantime = 1h', sshd: 'bantime = 1h' }, parameters });
  });
  after(() => site[Symbol.asyncDispose]());

  test('lifts what a shorter ban time has ended, and restores what the list lacks', async () => {
    await site.bans('short', ipv4);
    await site.bans('sshd', ipv6);
    await site.fail2ban.kill();
    await site.done('unban', ipv6, '--jail=sshd');
    site.fail2ban.setJails(site.jails({ short: 'bantime = 1', sshd: 'bantime = 30m' }, parameters));
    await site.fail2ban.start();
    await until(
      'the bans of the database',
      () => isListed(site, ipv6, 'sshd') && !isListed(site, ipv4, 'short'),
    );
    await site.seen([ipv4], 200);
    await site.seen([ipv6], 403);
  });

  test('report counts the bans in its database, while it runs and when it has stopped', async () => {
    const { fail2ban, apache } = site;
    const own = [`--fail2ban-client=${fail2ban.clientCommand}`, `--banlist=${apache.banlist}`];
    const history = async () => {
      const told = await banctlJson<{ history: { database: { file: string }; byJail: { name: string }[] } }>([
        'report',
        ...own,
        `--apachectl=${apache.ctl}`,
      ]);
      const { database, byJail } = told.history;
      return { file: database.file, jails: byJail.map(({ name }) => name).sort() };
    };
    const expected = { file: fail2ban.db, jails: ['short', 'sshd'] };
    assert.deepEqual(await history(), expected);
    await fail2ban.kill();
    assert.deepEqual(await history(), expected);
  });
});

const stamp = () => {
  const [, day, month, year, time] = new Date().toUTCString().split(/,? /);
  return `[${day}/${month}/${year}:${time} +0000]`;
};

for (const { place, bandir } of places) {
  suite(`a jail that counts by <F-ID>, with ${place}`, inOrder, () => {
    // What a client writes can be an id: it must not get out of the shell, the comment or the list.
    const ids = ['alice', 'bob|\'$(id)"%7C%id=;', `${'x'.repeat(300)}`];
    let site: Site;
    before(async () => {
      const failregex = '^user=<F-ID>\\S+</F-ID> from <ADDR> .*$';
      site = await startSite({ bandir, jails: { ids: `maxretry = 1\nfailregex = ${failregex}` } });
    });
    after(() => site[Symbol.asyncDispose]());

    const heldIds = async () => {
      const { bans } = await site.listed();
      const holds = bans.flatMap((ban) => (ban.address === ipv4 ? ban.holds : []));
      return holds.map((hold) => (hold.id ?? '').slice(0, 20)).sort();
    };
    const short = ids.map((id) => id.slice(0, 20)).sort();
    const unbans = (id: string) => site.tells('set', 'ids', 'unbanip', id);

    test('has a hold for each id of one address', async () => {
      for (const id of ids)
        appendFileSync(join(site.fail2ban.dir, 'access.log'), `user=${id} from ${ipv4} ${stamp()} "\n`);
      await until('the bans', async () => (await heldIds()).length === ids.length);
      assert.deepEqual(await heldIds(), short);
      assert.deepEqual(await site.fail2ban.banned('ids'), [...ids].sort());
      await until('the rows', async () => !/missing|stale/.test((await site.run('audit')).stdout));
      assert.match(await site.done('explain', ipv4), /by ids for "alice" since/);
    });

    test('loses none of them to audit and sync, also where the list has none of the ids', async () => {
      const list = site.list();
      assert.doesNotMatch((await site.run('audit', '--fix')).stdout, /missing|stale/);
      assert.doesNotMatch(await site.done('sync', '--jail=ids'), /unbanned/);
      assert.equal(site.list(), list);
      // As an older version has written it, with one hold for all.
      const line = `# banctl | ids ${ipv4} since 2026-01-01T00:00:00Z for ever: 1 failures\n${list.slice(list.indexOf('Require not ip'))}`;
      writeFileSync(bandir ? join(site.apache.bandir, ipv4) : site.apache.banlist, line);
      assert.doesNotMatch(await site.done('sync', '--jail=ids'), /unbanned/);
      assert.deepEqual((await heldIds()).filter(Boolean), short);
      await site.run('audit', '--fix');
      assert.deepEqual(await heldIds(), short);
      await site.answer([ipv4], 403);
    });

    test('keeps the address banned until the last is unbanned, over a start of fail2ban too', async () => {
      const [first = '', second = '', third = ''] = ids;
      await unbans(first);
      await until('the end of one', async () => (await heldIds()).length === 2);
      await site.fail2ban.kill();
      // A fail2ban that was killed reads again what it had not noted as read.
      writeFileSync(join(site.fail2ban.dir, 'access.log'), '');
      const from = site.fail2ban.log().length;
      await site.fail2ban.start();
      await until('the others', () => site.fail2ban.log().slice(from).split('Restore Ban').length > 2, {
        detail: () => site.fail2ban.log(),
      });
      assert.deepEqual(
        await heldIds(),
        short.filter((id) => id !== first),
      );
      await site.answer([ipv4], 403);
      assert.doesNotMatch((await site.run('audit', '--fix')).stdout, /missing|stale/);
      await unbans(second);
      await unbans(third);
      // fail2ban 1.0 cannot call an action for what it has restored by an id: "'str' object has no attribute 'familyStr'".
      await site.run('audit', '--fix');
      await site.seen([ipv4], 200);
    });

    test('forgets every id with an unban by hand', async () => {
      for (const id of ['carol', 'dave'])
        appendFileSync(join(site.fail2ban.dir, 'access.log'), `user=${id} from ${ipv4} ${stamp()} "\n`);
      await until('the bans', async () => (await heldIds()).length === 2, {
        detail: () => site.fail2ban.log(),
      });
      assert.match(await site.done('unban', ipv4), /unbanned/);
      assert.deepEqual(await site.fail2ban.banned('ids'), []);
      await site.seen([ipv4], 200);
    });
  });
}

suite('a jail that goes on', inOrder, () => {
  let site: Site;
  before(async () => {
    site = await startSite({ jails: { ids: '' } });
    await site.bans('ids', ipv4);
  });
  after(() => site[Symbol.asyncDispose]());

  test('says on a terminal that all is well', async () => {
    const config = join(site.apache.dir, 'banctl.json');
    const line = `${executable} audit --banlist=${site.apache.banlist} --apachectl='${site.apache.ctl}' --fail2ban-client='${site.fail2ban.clientCommand}' --config=${config}`;
    const { stdout } = await execute('script', ['-qec', line, '/dev/null']);
    assert.match(stdout, /^all is well: 1 ban; jail ids; Apache read the list \S+Z\r?\n$/);
  });

  test('says on a terminal what an audit does after an unban for the jail alone', async () => {
    await site.bans('ids', '203.0.113.9');
    const line = `${executable} unban 203.0.113.9 --jail=ids --banlist=${site.apache.banlist} --no-reload --fail2ban-client='${site.fail2ban.clientCommand}'`;
    const { stdout } = await execute('script', ['-qec', line, '/dev/null']);
    assert.match(
      stdout,
      /^banctl: jail ids still holds 203\.0\.113\.9: audit --fix bans it again; .*\r?\n203/,
    );
  });
});

suite('a hold by hand that is to end', inOrder, () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-late-'));
  const options = [
    `--banlist=${join(dir, 'banlist.conf')}`,
    `--record=${join(dir, 'var', 'record')}`,
    '--no-reload',
  ];
  const late = new Date(Date.now() - 16 * 60_000);
  before(() => {
    mkdirSync(join(dir, 'var'));
    writeFileSync(join(dir, 'var', 'audited'), '');
    utimesSync(join(dir, 'var', 'audited'), late, late);
  });
  after(() => rmSync(dir, { recursive: true }));

  test('is reported where no audit has run for 15 minutes, when it is made and by audit', async () => {
    const warning = /no audit has run for 15 minutes/;
    assert.match((await banctl(['ban', ipv4, '--for=5m', ...options])).stderr, warning);
    assert.equal((await banctl(['ban', ipv6, ...options])).stderr, '', 'this one does not end');
    const audit = (...args: string[]) =>
      banctl(['audit', '--no-fail2ban', '--apachectl=true', ...args, ...options]);
    assert.match((await audit()).stdout, new RegExp(`^no-audit: ${ipv4}: ${warning.source}`, 'm'));
    assert.doesNotMatch((await audit('--fix')).stdout, /no-audit/);
    assert.doesNotMatch((await audit()).stdout, /no-audit/, 'an audit has run by now');
    assert.equal((await banctl(['ban', ipv4, '--for=5m', ...options])).stderr, '');
  });
});
