// fail2ban's own test suite with the kit in its configuration: the samples of each filter, the stock filters, actions and
// jails. It has the same failures as without the kit, if any.
import assert from 'node:assert/strict';
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { execute } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const samples = join(import.meta.dirname, 'samples');
const installed = '/usr/lib/python3/dist-packages/fail2ban';
const dir = mkdtempSync(join(tmpdir(), 'banctl-testcases-'));
after(() => rmSync(dir, { recursive: true }));

/** What of fail2ban's tests says anything of filters, actions and jails. */
const SELECTED = 'testSampleRegexs|StockJail|StockAction|testStock|testReadStock|clientreadertestcase';

/** Runs the tests in a copy of what is installed; gives those that fail, and how many there were. */
async function run(name: string, withKit: boolean) {
  const place = join(dir, name);
  cpSync(installed, join(place, 'fail2ban'), { recursive: true });
  cpSync('/etc/fail2ban', join(place, 'config'), { recursive: true });
  for (const part of ['jail.d', 'jail.local'])
    rmSync(join(place, 'config', part), { recursive: true, force: true });
  if (withKit) {
    for (const part of ['action.d', 'filter.d', 'jail.d'])
      cpSync(join(repository, part), join(place, 'config', part), { recursive: true });
    for (const jail of readdirSync(join(place, 'config', 'jail.d')))
      logsIn(place, join(place, 'config', 'jail.d', jail));
    cpSync(samples, join(place, 'fail2ban', 'tests', 'files', 'logs'), { recursive: true });
    // Each filter has to be named by a jail; these are for those who write their own.
    appendFileSync(
      join(place, 'config', 'jail.conf'),
      ['admin-login', 'login']
        .map((name) => `\n[own-${name}]\nfilter = djangoapp-${name}\nlogpath = %(apache_access_log)s\n`)
        .join(''),
    );
  }
  const { stderr } = await execute(
    'env',
    [
      ...[`--chdir=${place}`, `PYTHONPATH=${place}`, '/usr/bin/python3', '-B', '/usr/bin/fail2ban-testcases'],
      ...['--no-network', '--verbosity=2', SELECTED],
    ],
    '',
    240_000,
  );
  const count = Number(/^Ran (\d+) tests/m.exec(stderr)?.[1]);
  assert.ok(count > 50, stderr);
  const failed = [...stderr.matchAll(/^(?:FAIL|ERROR): (\S+)/gm)].map(([, one]) => one);
  return { failed, count, stderr };
}

/** As in the packages: off, and with logs, should a test switch them on. */
function logsIn(place: string, jail: string): void {
  const text = readFileSync(jail, 'utf8')
    .replaceAll('/var/log/apache2/', `${place}/`)
    .replace(/^enabled = true$/m, 'enabled = false');
  writeFileSync(jail, text);
  for (const [, log = ''] of text.matchAll(/^logpath = (.*)$/gm)) writeFileSync(log, '');
}

test("fail2ban's own tests pass with the kit's filters, actions, jails and samples", async () => {
  const [without, withKit] = await Promise.all([run('without', false), run('with', true)]);
  const added = withKit.failed.filter((one) => !without.failed.includes(one));
  assert.deepEqual(added, [], withKit.stderr);
  const filters = readdirSync(join(repository, 'filter.d')).length;
  assert.equal(withKit.count - without.count, filters, 'a test for each filter');
  assert.equal(readdirSync(samples).length, filters);
});
