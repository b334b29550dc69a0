// banctl setup: from a server without it to the first 403, and back.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type LayoutName, type Machine, startMachine } from './support/machine.ts';
import { until } from './support/wait.ts';

const attacker = '203.0.113.55';
const visitor = '198.51.100.7';
const jail = 'djangoapp-admin-login';

type Told = {
  changed: boolean;
  files: { path: string; status: string; reason?: string }[];
  todo: { code: string; message: string }[];
};

/** What each distribution's administrators type. */
const LAYOUTS: Record<
  LayoutName,
  {
    apache: string;
    snippets: string;
    enable: string[];
    disable: string[];
    enabled: string;
    graceful: string[];
  }
> = {
  debian: {
    apache: '/etc/apache2',
    snippets: '/etc/apache2/conf-available',
    enable: ['a2enconf', 'djangoapp-banlist'],
    disable: ['a2disconf', 'djangoapp-banlist'],
    enabled: '/etc/apache2/conf-enabled',
    graceful: ['apache2ctl', '-k', 'graceful'],
  },
  redhat: {
    apache: '/etc/httpd',
    snippets: '/etc/httpd/djangoapp',
    enable: ['ln', '-s', '/etc/httpd/djangoapp/djangoapp-banlist.conf', '/etc/httpd/conf.d/'],
    disable: ['rm', '/etc/httpd/conf.d/djangoapp-banlist.conf'],
    enabled: '/etc/httpd/conf.d',
    graceful: ['httpd', '-k', 'graceful'],
  },
};

/** `banctl setup` in a machine. */
async function setUp(machine: Machine, ...args: string[]): Promise<Told> {
  return JSON.parse(await machine.done('banctl', 'setup', '--json', ...args));
}

const codes = ({ todo }: Told) => todo.map(({ code }) => code);

suite('on a new server, as its administrator types it', { concurrency: true }, () => {
  for (const [layout, { apache, snippets, enable, disable, enabled, graceful }] of Object.entries(LAYOUTS)) {
    test(`${layout}: from the executable alone to the first 403, and back to the list alone`, async () => {
      await using machine = await startMachine(layout as LayoutName);
      await machine.startApache();
      const before = machine.files('/etc');
      const list = `${apache}/djangoapp/banlist.conf`;
      const [command = '', ...args] = enable;

      const first = await machine.done('banctl', 'setup');
      assert.match(first, new RegExp(`^/etc/fail2ban/jail\\.d/${jail}\\.local written$`, 'm'));
      assert.match(first, new RegExp(`^${list} written$`, 'm'));
      assert.ok(first.includes(enable.join(' ')), `it says what is to be typed: ${first}`);
      assert.deepEqual(codes(await setUp(machine)), ['not-included', 'fail2ban-down']);

      // Requests come through a proxy, of which Apache is not told yet.
      for (let request = 0; request < 12; request += 1) await machine.get(attacker);
      machine.write(
        `${enabled}/proxy.conf`,
        'RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.0/8\n',
      );
      await machine.done(command, ...args);
      assert.deepEqual(codes(await setUp(machine)), ['reload-pending', 'fail2ban-down']);
      await machine.done('banctl', 'reload');
      await machine.startFail2ban();

      const again = await machine.done('banctl', 'setup');
      assert.equal(again, 'nothing has changed\n');
      assert.equal(await machine.done('banctl', 'audit'), '');

      for (let tries = 0; tries < 5; tries += 1)
        assert.equal(await machine.get(attacker, '/admin/login/', 'POST'), 401);
      await until('the attacker to be refused', async () => (await machine.get(attacker)) === 403);
      assert.equal(await machine.get(visitor), 200);
      assert.match(machine.read(list), new RegExp(`^Require not ip ${attacker}$`, 'm'));
      assert.match(await machine.done('banctl', 'explain', attacker), new RegExp(`${list}, line`));

      const kept = await setUp(machine, '--remove');
      assert.deepEqual(
        kept.files.filter(({ status }) => status !== 'removed').map(({ path, status }) => ({ path, status })),
        [{ path: `${snippets}/djangoapp-banlist.conf`, status: 'in-use' }],
      );
      assert.ok(
        kept.files.some(({ reason }) => reason?.includes(disable.join(' '))),
        JSON.stringify(kept),
      );
      assert.deepEqual(codes(kept), ['fail2ban-reload', 'list-stays', 'program-stays']);
      await machine.done('fail2ban-client', 'reload');
      await until(
        'the jail to be gone',
        async () => !(await machine.done('fail2ban-client', 'status')).includes(jail),
      );
      const [undo = '', ...words] = disable;
      await machine.done(undo, ...words);
      const [control = '', ...controls] = graceful;
      await machine.done(control, ...controls);
      const removed = await setUp(machine, '--remove');
      assert.deepEqual(
        removed.files.map(({ status }) => status),
        ['removed'],
      );
      assert.deepEqual(
        machine.files('/etc').filter((path) => !before.includes(path) && !path.endsWith('/proxy.conf')),
        [list],
      );
      assert.deepEqual(machine.files('/var/lib/banctl'), []);
    });
  }
});
