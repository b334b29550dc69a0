// apache2/banctl-report.conf in a real Apache: the page is for those who log in, whatever else the site opens.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { kit, startApache } from '../lab/apache.ts';
import { banctl } from '../lab/banctl.ts';

const repository = join(import.meta.dirname, '..', '..');
const place = mkdtempSync(join(tmpdir(), 'banctl-report-'));
chmodSync(place, 0o755);
after(() => rmSync(place, { recursive: true }));
const report = join(place, 'report');
mkdirSync(report);
writeFileSync(join(report, 'index.html'), 'the page');
writeFileSync(join(place, 'users'), 'alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n');
chmodSync(join(place, 'users'), 0o644);

const login = { Authorization: `Basic ${Buffer.from('alice:password').toString('base64')}` };
const wrong = { Authorization: `Basic ${Buffer.from('alice:wrong').toString('base64')}` };
const snippet = readFileSync(join(repository, 'apache2', 'banctl-report.conf'), 'utf8')
  .replaceAll('/var/lib/banctl/report', report)
  .replaceAll('/etc/apache2/banctl.htpasswd', join(place, 'users'));

/** What a site may have that opens more than the report's own section closes. */
const OPEN = `
<Location "/">
  Require all granted
</Location>
<Location "/banctl/">
  Require all granted
</Location>
Alias "/other/" "${report}/"
<Directory "${report}">
  Require all granted
</Directory>
`;

suite('the report below /banctl/', () => {
  for (const [where, options] of Object.entries({
    'at server level': { server: snippet, site: kit('djangoapp-banlist.conf') + OPEN },
    'in the site': { site: snippet + kit('djangoapp-banlist.conf') + OPEN },
    'after the site': { site: kit('djangoapp-banlist.conf') + OPEN, after: snippet },
  }))
    test(`${where}: only who logs in sees it, and not if banned`, async () => {
      await using apache = await startApache({
        remoteip: true,
        list: 'Require not ip 203.0.113.5\n',
        ...options,
      });
      for (const path of [
        '/banctl/',
        '/banctl/index.html',
        '//banctl/index.html',
        '/banctl/%69ndex.html',
        '/other/index.html',
      ]) {
        assert.equal(await apache.get(path), 401, path);
        assert.equal(await apache.get(path, { headers: wrong }), 401, path);
        const { status, body, headers } = await apache.request(path, { headers: login });
        assert.deepEqual([status, body, headers['cache-control']], [200, 'the page', 'no-store'], path);
        assert.equal(await apache.get(path, { from: '203.0.113.5', headers: login }), 403, path);
      }
      assert.equal(await apache.get('/'), 200, 'the site itself stays open');
    });

  test('an address range is enough where it is named', async () => {
    const ranged = snippet.replace('# Require ip 192.0.2.0/24', 'Require ip 192.0.2.0/24');
    await using apache = await startApache({ remoteip: true, site: ranged + OPEN });
    assert.equal(await apache.get('/banctl/', { from: '192.0.2.7' }), 200);
    assert.equal(await apache.get('/banctl/', { from: '203.0.113.7' }), 401);
  });

  test('without the password file, no visitor sees it', async () => {
    await using apache = await startApache({
      site: snippet.replaceAll(join(place, 'users'), join(place, 'none')) + OPEN,
    });
    assert.notEqual(await apache.get('/banctl/'), 200);
    assert.notEqual(await apache.get('/banctl/', { headers: login }), 200);
  });

  test('setup prints the job and the snippet, and names the same file in each', async () => {
    for (const name of ['banctl-report.service', 'banctl-report.timer', 'cron-report', 'apache-report']) {
      const { exitCode, stdout } = await banctl(['setup', '--print', name]);
      assert.equal(exitCode, 0, name);
      if (name !== 'banctl-report.timer') assert.match(stdout, /\/var\/lib\/banctl\/report\//, name);
    }
  });

  test('the job of cron writes the page', async () => {
    const cron = readFileSync(join(repository, 'cron.d', 'banctl-report'), 'utf8');
    assert.match(cron, /^\*\/5 \* \* \* \* root mkdir -p (\S+) && banctl report --html \1\/index\.html$/m);
  });
});
