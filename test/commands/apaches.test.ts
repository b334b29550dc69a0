// Apaches that banctl does not see, or not alone: several that read one list, reload commands, other namespaces.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { type Apache, type ApacheOptions, startApache } from '../lab/apache.ts';
import { banctl, banctlJson, executable } from '../lab/banctl.ts';
import { processesNaming } from '../lab/processes.ts';
import { daemon, execute, until } from '../lab/wait.ts';

interface Report {
  readonly reload: string;
}

const one = '203.0.113.1';
const two = '203.0.113.2';
const mpm = 'StartServers 4\nThreadsPerChild 8\nMinSpareThreads 8\nMaxSpareThreads 64\nMaxRequestWorkers 128';
const start = (options: ApacheOptions = {}) => startApache({ remoteip: true, mpm, ...options });
const now = '--reload-interval=0';

/** The configuration of one Apache, which includes another list. */
const including = (banlist: string) => () =>
  `<If "true">\nAuthMerging And\n<RequireAll>\nRequire all granted\nInclude ${banlist}\n</RequireAll>\n</If>\n`;

async function call(args: readonly string[], exitCode = 0): Promise<string> {
  return (await banctlJson<Report>(args, exitCode)).reload;
}

async function pending(banlist: string): Promise<boolean> {
  const listed = await banctlJson<{ reload: { pending: boolean } }>(['list', `--banlist=${banlist}`]);
  return listed.reload.pending;
}

function program(apache: Apache, name: string, text: string): string {
  const path = join(apache.dir, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

suite('several Apaches that read one list', { concurrency: 2 }, () => {
  test('are each tested, reloaded, and known to have loaded it', async () => {
    await using first = await start({ list: '' });
    await using second = await start({ site: including(first.banlist) });
    const place = `--banlist=${first.banlist}`;
    const [firstCtl, secondCtl] = [`--apachectl=${first.ctl}`, `--apachectl=${second.ctl}`];
    assert.equal(await call(['ban', one, place, firstCtl, secondCtl, now]), 'done');
    assert.deepEqual([await first.get('/', { from: one }), await second.get('/', { from: one })], [403, 403]);
    assert.equal(await call(['reload', place, firstCtl, secondCtl]), 'not-needed');

    // What one has loaded says nothing of the other.
    assert.equal(await call(['ban', two, place, firstCtl, now]), 'done');
    assert.deepEqual([await first.get('/', { from: two }), await second.get('/', { from: two })], [403, 200]);
    assert.equal(await call(['reload', place, firstCtl]), 'not-needed');
    assert.equal(await call(['reload', place, secondCtl]), 'done');
    assert.equal(await second.get('/', { from: two }), 403);
    assert.equal(await pending(first.banlist), false);
    assert.deepEqual([first.reloads(), second.reloads()], [2, 2]);
  });

  test('are both reloaded at the end of the interval, although each has a jail of its own', async () => {
    await using first = await start({ list: '' });
    await using second = await start({ site: including(first.banlist) });
    const place = `--banlist=${first.banlist}`;
    const both = [first, second].map(({ ctl }) => `--apachectl=${ctl}`);
    assert.equal(await call(['ban', one, place, ...both, now]), 'done');
    const interval = '--reload-interval=8';
    for (const ctl of both) assert.equal(await call(['ban', two, place, ctl, interval]), 'deferred');
    for (const apache of [first, second])
      await until('the ban', async () => (await apache.get('/', { from: two })) === 403);
    await until('the waiter to end', () => processesNaming(`${place} `).length === 0);
    assert.equal(await pending(first.banlist), false);
  });

  test('one whose test blames another file keeps the others from nothing but this reload', async () => {
    await using first = await start({ list: '' });
    await using second = await start({ site: including(first.banlist) });
    const place = `--banlist=${first.banlist}`;
    const both = [first, second].map(({ ctl }) => `--apachectl=${ctl}`);
    const config = readFileSync(second.config, 'utf8');
    writeFileSync(second.config, `${config}\nNonsense On\n`);
    assert.equal(await call(['ban', one, place, ...both, now], 69), 'failed');
    assert.match(readFileSync(first.banlist, 'utf8'), /^Require not ip 203\.0\.113\.1$/m);
    writeFileSync(second.config, config);
    assert.equal(await call(['ban', one, place, ...both, now]), 'done');
    assert.deepEqual([await first.get('/', { from: one }), await second.get('/', { from: one })], [403, 403]);
  });
});

suite('a reload command', { concurrency: 2 }, () => {
  test('alone is run whatever is known of another Apache, and its success is assumed to load the list', async () => {
    await using apache = await start();
    const calls = join(apache.dir, 'calls');
    const command = program(apache, 'reload', `echo x >> ${calls}; exec ${apache.ctl} -k graceful`);
    const given = [`--banlist=${apache.banlist}`, `--reload-command=${command}`, now];
    assert.equal(await call(['ban', one, ...given]), 'done');
    await until('the ban', async () => (await apache.get('/', { from: one })) === 403);
    assert.equal(await call(['ban', one, ...given]), 'not-needed');
    assert.equal(readFileSync(calls, 'utf8'), 'x\n');
    const { stdout } = await banctl(['list', `--banlist=${apache.banlist}`]);
    assert.match(stdout, /banctl assumes that apache has loaded the list/);
    const explained = await banctl(['explain', one, `--banlist=${apache.banlist}`]);
    assert.match(explained.stdout, /banctl assumes that apache has loaded the list/);
    const audit = await banctl(['audit', '--no-fail2ban', ...given]);
    assert.doesNotMatch(audit.stdout, /apache-down|not-included|reload-pending/);
    const shown = await execute('script', [
      '-qec',
      [executable, 'audit', '--no-fail2ban', ...given].map((word) => `'${word}'`).join(' '),
      '/dev/null',
    ]);
    assert.match(shown.stdout, /^all is well: .*Apache is assumed to have read the list/m);
    assert.match(shown.stdout, /^banctl assumes that apache has loaded the list/m);
  });

  test('alone: its failure is reported, and the ban is kept', async () => {
    await using apache = await start();
    const given = [`--banlist=${apache.banlist}`, '--reload-command=/bin/false', now];
    assert.equal(await call(['ban', one, ...given], 69), 'failed');
    assert.equal(await pending(apache.banlist), true);
  });

  test('that is the graceful reload of a control program starts no Apache that is stopped', async () => {
    await using apache = await start();
    const place = `--banlist=${apache.banlist}`;
    for (const graceful of [`${apache.ctl} -k graceful`, `/usr/sbin/${apache.ctl} -k graceful`]) {
      assert.equal(await call(['reload', '--force', place, `--reload-command=${graceful}`, now]), 'done');
    }
    await apache.stop();
    const given = [place, `--reload-command=${apache.ctl} -k graceful`, now];
    assert.equal(await call(['ban', one, ...given]), 'skipped');
    assert.deepEqual(processesNaming(apache.config), []);
    await apache.start();
    assert.equal(await apache.get('/', { from: one }), 403);
    assert.equal(await call(['ban', two, ...given]), 'done');
    assert.equal(await apache.get('/', { from: two }), 403);
  });

  test('with a control program is run in its place, once that program has tested', async () => {
    await using apache = await start();
    const calls = join(apache.dir, 'calls');
    const command = program(apache, 'reload', `echo x >> ${calls}; exec ${apache.ctl} -k graceful`);
    const given = [
      `--banlist=${apache.banlist}`,
      `--apachectl=${apache.ctl}`,
      `--reload-command=${command}`,
      now,
    ];
    assert.equal(await call(['ban', one, ...given]), 'done');
    assert.equal(await apache.get('/', { from: one }), 403);
    writeFileSync(apache.config, `${readFileSync(apache.config, 'utf8')}\nNonsense On\n`);
    assert.equal(await call(['ban', two, ...given], 69), 'failed');
    assert.equal(readFileSync(calls, 'utf8'), 'x\n');
  });
});

suite('an Apache in other namespaces', { concurrency: 2 }, () => {
  /** Starts it again as process 2 of its own namespace, with a private directory for its PidFile. */
  async function isolate(apache: Apache, hidden: string | undefined) {
    await apache.stop();
    if (hidden !== undefined) {
      mkdirSync(hidden);
      const config = readFileSync(apache.config, 'utf8');
      writeFileSync(apache.config, config.replace(/^PidFile .*$/m, `PidFile ${hidden}/inside/apache2.pid`));
    }
    const mount = hidden === undefined ? '' : `mount -t tmpfs none ${hidden} && mkdir ${hidden}/inside && `;
    const line = `${mount}apache2 -f ${apache.config} -DFOREGROUND & echo $! > /dev/null; wait`;
    const box = daemon('unshare', [
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      'sh',
      '-c',
      line,
    ]);
    const inside = await until('the namespace', () => {
      const pids = processesNaming(`${apache.config} -DFOREGROUND`);
      return pids.find((pid) => /^apache2/.test(readFileSync(`/proc/${pid}/comm`, 'utf8')));
    });
    await until('Apache', async () => (await apache.get('/').catch(() => 0)) === 200);
    return { box, control: `nsenter -t ${inside} -m -p ${apache.ctl}` };
  }

  for (const [what, isHidden] of [
    ['whose PidFile names a process of another namespace', false],
    ['whose PidFile is in a place that does not exist here', true],
  ] as const) {
    test(`${what} is reloaded by its own control program`, async () => {
      await using apache = await start();
      const { box, control } = await isolate(apache, isHidden ? join(apache.dir, 'hidden') : undefined);
      try {
        const wrapper = program(apache, 'control-of-the-box', `exec ${control} "$@"`);
        for (const [apachectl, address] of [
          [control, one],
          [wrapper, two],
        ] as const) {
          const given = [`--banlist=${apache.banlist}`, `--apachectl=${apachectl}`, now];
          assert.equal(await call(['ban', address, ...given]), 'done');
          await until('the ban', async () => (await apache.get('/', { from: address })) === 403);
          assert.equal(await call(['ban', address, ...given]), 'not-needed');
          const audit = await banctl(['audit', '--no-fail2ban', ...given]);
          assert.doesNotMatch(audit.stdout, /apache-down|reload-pending|not-included/);
        }
        const { stdout } = await banctl(['list', `--banlist=${apache.banlist}`]);
        assert.match(stdout, /banctl assumes that apache has loaded the list/);
      } finally {
        await box.end();
      }
    });
  }
});

test('explain says that no rule of Apache looks into the directory of a ban', async () => {
  await using apache = await start({ site: (dir) => including(join(dir, 'banlist.conf'))(), list: '' });
  const place = [`--banlist=${apache.banlist}`, `--bandir=${apache.bandir}`];
  const asked = [...place, `--apachectl=${apache.ctl}`];
  assert.equal(await call(['ban', one, ...asked]), 'not-needed');
  assert.equal(await apache.get('/', { from: one }), 200);
  const { stdout } = await banctl(['explain', one, ...asked]);
  assert.match(stdout, /^203\.0\.113\.1 is banned, but Apache may not enforce it yet\n/);
  assert.match(stdout, /^apache does not look into .*; put Require expr/m);
  assert.equal((await banctlJson<{ enforced: boolean }>(['explain', one, ...asked])).enforced, false);
});

suite('the process that waits', { concurrency: 2 }, () => {
  const waiters = (apache: Apache) => processesNaming(`reload --when-due --banlist=${apache.banlist} `);

  test('serves the shortest interval that was asked for', async () => {
    await using apache = await start();
    const given = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`];
    assert.equal(await call(['ban', one, ...given]), 'done');
    assert.equal(await call(['ban', two, ...given, '--reload-interval=600']), 'deferred');
    assert.equal(waiters(apache).length, 1);
    // By now the shorter interval may be over.
    await call(['ban', '203.0.113.3', ...given, '--reload-interval=5']);
    assert.ok(waiters(apache).length <= 1);
    for (const from of [two, '203.0.113.3'])
      await until('the ban', async () => (await apache.get('/', { from })) === 403);
    await until('the end of the waiter', () => waiters(apache).length === 0);
  });

  test('is one, although the state cannot be written', async () => {
    await using apache = await start();
    const given = [`--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`, '--reload-interval=60'];
    assert.equal(await call(['ban', one, ...given]), 'done');
    const state = `${apache.banlist}.state`;
    assert.equal((await execute('chattr', ['+i', state])).exitCode, 0);
    try {
      const burst = Array.from({ length: 8 }, (_, index) => `203.0.113.${index + 10}`);
      for (const address of burst) await banctl(['ban', address, ...given]);
      await until('one process that waits', () => waiters(apache).length <= 1);
      assert.ok(burst.every((address) => readFileSync(apache.banlist, 'utf8').includes(address)));
    } finally {
      await execute('chattr', ['-i', state]);
      for (const pid of waiters(apache)) process.kill(pid, 'SIGKILL');
    }
    assert.equal(await call(['reload', ...given]), 'done');
    assert.equal(await apache.get('/', { from: '203.0.113.17' }), 403);
  });

  test('is started in a scope of its own where systemd runs, and without one where systemd refuses', async () => {
    await using apache = await start();
    const calls = join(apache.dir, 'calls');
    const bin = join(apache.dir, 'bin');
    mkdirSync(bin);
    for (const [index, isRefused] of [false, true].entries()) {
      writeFileSync(
        join(bin, 'systemd-run'),
        `#!/bin/sh\necho "$*" >> ${calls}\n${isRefused ? 'exit 1' : `while [ "$1" != -- ]; do shift; done; shift; sleep 0.3; echo moved >> ${calls}; exec "$@"`}\n`,
        { mode: 0o755 },
      );
      const ban = (address: string, interval: number) =>
        `"${executable}" ban ${address} --banlist=${apache.banlist} "--apachectl=${apache.ctl}" --reload-interval=${interval} --json`;
      const [first, second] = [`203.0.113.${20 + 2 * index}`, `203.0.113.${21 + 2 * index}`];
      // systemd runs where this directory is: sd_booted(3).
      const script = `mount -t tmpfs none /run && mkdir -p /run/systemd/system && ${ban(first, 0)} && ${ban(second, 6)}`;
      const { exitCode, stdout, stderr } = await execute('env', [
        `PATH=${bin}:${process.env.PATH}`,
        'unshare',
        '--mount',
        'sh',
        '-c',
        script,
      ]);
      assert.equal(exitCode, 0, stderr);
      assert.match(stdout, /"deferred"/);
      // The end of the call may be the end of its unit, and of everything in it.
      assert.match(
        readFileSync(calls, 'utf8'),
        /\nmoved\n/,
        'the call ended before systemd had moved the process',
      );
      await until('the ban', async () => (await apache.get('/', { from: second })) === 403);
      await until('the end of the waiter', () => waiters(apache).length === 0);
    }
    const lines = readFileSync(calls, 'utf8')
      .trim()
      .split('\n')
      .filter((line) => line !== 'moved');
    assert.equal(lines.length, 2, 'once for each burst');
    assert.match(lines[0] ?? '', /^--scope --collect --quiet -- .*reload --when-due/);
    assert.ok(!existsSync(`${apache.banlist}.waiter.lock`));
  });
});
