// The manual page, the help and the README say what the one table says, and the examples do what they say.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { EXAMPLES, EXIT_MEANINGS } from '../../src/cli/manual.ts';
import {
  COMMAND_NAMES,
  type CommandName,
  commandOf,
  defaultOf,
  OPTION_NAMES,
  optionOf,
  optionsOf,
} from '../../src/cli/options.ts';
import { EXIT } from '../../src/system/errors.ts';
import { kit } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { type PrivateRoot, startPrivateRoot } from '../lab/private-root.ts';
import { execute } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'banctl-manual-'));
after(() => rmSync(directory, { recursive: true }));

suite('the manual page', () => {
  const page = join(directory, 'banctl.8');
  /** As it is read, in lines that are not broken. */
  let read = '';
  before(async () => {
    const script = join(repository, 'tools', 'manual-page.ts');
    const { exitCode, stdout, stderr } = await execute(process.execPath, [script, '--date=2026-11-22']);
    assert.equal(exitCode, 0, stderr);
    writeFileSync(page, stdout);
    ({ stdout: read } = await execute('groff', ['-man', '-Tascii', '-P-cbou', '-rLL=1000n', page]));
  });

  test('is right for groff and for mandoc', async () => {
    const groff = await execute('groff', ['-man', '-ww', '-z', '-Tutf8', page]);
    assert.deepEqual([groff.exitCode, groff.stdout, groff.stderr], [0, '', '']);
    const mandoc = await execute('mandoc', ['-T', 'lint', '-W', 'warning', page]);
    assert.deepEqual([mandoc.exitCode, mandoc.stdout, mandoc.stderr], [0, '', '']);
  });

  test('lists each command, with its options and an example', () => {
    for (const name of COMMAND_NAMES) {
      const { operands, describe } = commandOf(name);
      const at = read.indexOf(`\n       ${`${name} ${operands}`.trim()}`);
      assert.notEqual(at, -1, name);
      const [told = ''] = read.slice(at).split(/\n {7}(?=\w)(?<!^.*)/s, 1);
      assert.ok(told.toLowerCase().includes(describe.toLowerCase()), `${name}: ${told}`);
      for (const option of optionsOf(name)) assert.ok(told.includes(`--${option}`), `${name} --${option}`);
      assert.ok(read.includes(`\n              ${EXAMPLES[name].line}\n`), name);
    }
  });

  test('lists each option, with its default', () => {
    for (const name of OPTION_NAMES.filter((option) => optionOf(option).isHidden !== true)) {
      const { placeholder, describe } = optionOf(name);
      const usual = defaultOf(name);
      const at = read.indexOf(`\n       --${name}${placeholder === undefined ? '' : ` ${placeholder}`}`);
      assert.notEqual(at, -1, name);
      const told = read.slice(at, read.indexOf('\n\n', at + 1));
      assert.ok(told.toLowerCase().includes(describe.toLowerCase()), told);
      assert.ok(usual === undefined || told.includes(`Default: ${usual}.`), told);
    }
  });

  test('lists each exit code', () => {
    for (const [name, code] of Object.entries(EXIT)) {
      const meaning = EXIT_MEANINGS[name as keyof typeof EXIT].replaceAll('`', '');
      assert.match(read.toLowerCase(), new RegExp(`\n {7}${code} +${meaning.toLowerCase()}\\.\n`));
    }
  });
});

test('the help of each command ends with its example', async () => {
  for (const name of COMMAND_NAMES) {
    const { stdout } = await banctl([name, '--help']);
    assert.ok(stdout.includes(`Example, ${EXAMPLES[name].describe}:\n\n  ${EXAMPLES[name].line}\n`), stdout);
  }
});

suite('an example', () => {
  let root: PrivateRoot;
  before(async () => {
    root = await startPrivateRoot();
    cpSync(executable, root.path('/usr/bin/banctl'));
    for (const folder of ['action.d', 'filter.d', 'jail.d'])
      cpSync(join(repository, folder), root.path(`/etc/fail2ban/${folder}`), { recursive: true });
    writeFileSync(
      root.path('/etc/apache2/conf-available/djangoapp-banlist.conf'),
      kit('djangoapp-banlist.conf'),
    );
    // Without the log that its jail reads, fail2ban does not start.
    await root.done(
      'install -d /etc/apache2/djangoapp && : > /var/log/apache2/djangoapp-login.log && a2enconf djangoapp-banlist && service apache2 start',
    );
    await root.done('service fail2ban start');
  });
  after(() => root[Symbol.asyncDispose]());

  /** What each says, and what is to be banned then; by their order each finds what it needs. */
  const SAYS: Record<CommandName, RegExp> = {
    ban: /^203\.0\.113\.55 banned\n$/,
    list: /"address":"203\.0\.113\.55"/,
    explain: /^203\.0\.113\.55 is banned\n/,
    unban: /^203\.0\.113\.55 unbanned\n/,
    sync: /^203\.0\.113\.66 banned\n/,
    flush: /^203\.0\.113\.66 unbanned\n/,
    audit: /^missing: 203\.0\.113\.66: .*\(repaired\)\n$/,
    report: /^$/,
    reload: /loaded/,
    migrate: /^1 ban moved to \/etc\/apache2\/djangoapp\/bans\n/,
    ranges: /^\/etc\/apache2\/djangoapp\/cloudfront-proxies has 1 range: 1 added, 0 removed\n/,
    setup: /^\/etc\/apache2\/conf-available\/djangoapp-banlist-admin\.conf would be written\n/m,
    serve: /^$/,
    fleet: /^this server shares no bans: .*\nbanctl: cut off\n$/,
    completion: /^$/,
  };

  for (const name of Object.keys(EXAMPLES) as CommandName[]) {
    test(`of ${name} does what it says: ${EXAMPLES[name].line}`, async () => {
      // The list is lost behind fail2ban's back, which is what sync is for.
      if (name === 'sync')
        await root.done(
          'fail2ban-client set djangoapp-admin-login banip 203.0.113.66 && : > /etc/apache2/djangoapp/banlist.conf',
        );
      if (name === 'ranges')
        writeFileSync(
          root.path('/root/ip-ranges.json'),
          '{"prefixes":[{"ip_prefix":"192.0.2.0/24","service":"CLOUDFRONT_ORIGIN_FACING"}],"ipv6_prefixes":[]}',
        );
      writeFileSync(root.path('/root/example'), `${EXAMPLES[name].line}\n`);
      assert.match(await root.done('bash ./example'), SAYS[name]);
    });
  }
});
