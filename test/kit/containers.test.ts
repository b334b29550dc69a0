// What docs/containers.md says: Apache in a container, fail2ban on the host or in another container, with the list and with
// the directory. A container is a second root with namespaces of its own.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type Apache, startApache } from '../lab/apache.ts';
import { executable } from '../lab/banctl.ts';
import { type Container, startContainer } from '../lab/container.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { tail, until } from '../lab/wait.ts';

const listed = '203.0.113.1';
const filed = '203.0.113.2';
const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'containers.md'), 'utf8');

suite('Apache in a container', { concurrency: 1 }, () => {
  const base = mkdtempSync(join(tmpdir(), 'banctl-containers-'));
  let apache: Apache;
  let web: Container;
  before(async () => {
    mkdirSync(join(base, 'web'));
    apache = await startApache({ dir: join(base, 'web'), remoteip: true, list: '' });
    await apache.stop();
    web = await startContainer([apache.dir], ['apache2', '-f', apache.config, '-DFOREGROUND']);
    await until('Apache', async () => (await apache.get('/').catch(() => 0)) === 200);
  });
  after(async () => {
    await web[Symbol.asyncDispose]();
    await apache[Symbol.asyncDispose]();
    rmSync(base, { recursive: true });
  });

  /** A jail that bans in the list, and one that bans in the directory. */
  const jails = (parameters: string) =>
    [
      ['list', ''],
      ['directory', `, bandir="${apache.bandir}"`],
    ]
      .map(
        ([name, place]) => `[${name}]
enabled = true
filter = djangoapp-admin-login
logpath = DIR/access.log
action = apache-banlist[jail=%(__name__)s, banctl="${executable}", banlist="${apache.banlist}"${place}, reload_interval=0, dbfile="DIR/fail2ban.sqlite3", ${parameters}]
`,
      )
      .join('\n');

  async function bansAndUnbans(parameters: string, through: readonly string[], dir: string) {
    await using fail2ban = await startFail2ban({ jails: jails(parameters), through, dir });
    const tells = async (jail: string, verb: string, address: string) =>
      assert.equal((await fail2ban.client('set', jail, verb, address)).exitCode, 0);
    const detail = () => `${tail(fail2ban.log())}\n${readFileSync(apache.banlist, 'utf8')}`;
    const gets = (from: string, status: number) =>
      until(`${from} to get ${status}`, async () => (await apache.get('/', { from })) === status, { detail });
    await tells('list', 'banip', listed);
    await tells('directory', 'banip', filed);
    await gets(listed, 403);
    await gets(filed, 403);
    await tells('list', 'unbanip', listed);
    await tells('directory', 'unbanip', filed);
    await gets(listed, 200);
    await gets(filed, 200);
    assert.doesNotMatch(fail2ban.log(), /ERROR/);
  }

  const directoryFor = (name: string) => {
    const dir = join(base, name);
    mkdirSync(dir);
    return dir;
  };

  test('is banned in by a fail2ban on the host', async () => {
    assert.match(page, /"apachectl": "docker exec web httpd"/);
    const control = `apachectl="${web.command} apache2 -f ${apache.config}"`;
    await bansAndUnbans(control, [], directoryFor('host'));
  });

  test('is banned in by a fail2ban in another container that shares its processes', async () => {
    const [, command = ''] = /"reload-command": "([^"]*)"/.exec(page) ?? [];
    assert.match(command, /^kill /);
    const dir = directoryFor('beside');
    const beside = web.beside([apache.dir, dir, dirname(executable)]);
    await bansAndUnbans(`apache_reload_cmd="${command}"`, beside, dir);
  });
});
