// Completion in real shells: what Tab offers.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { COMMAND_NAMES, optionsOf, SHELLS } from '../../src/cli/options.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { startFail2ban } from '../lab/fail2ban.ts';
import { type Shell, startBash, startFish, startZsh } from '../lab/shells.ts';
import { writeScript } from '../lab/site.ts';
import { execute } from '../lab/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'banctl-completion-'));
after(() => rmSync(directory, { recursive: true }));
const files = join(directory, 'files');
mkdirSync(join(files, 'site-d'), { recursive: true });
for (const name of ['site-a.conf', 'site-b.conf']) writeFileSync(join(files, name), '');
const banlist = join(directory, 'banlist.conf');
writeFileSync(
  banlist,
  `Require not ip 203.0.113.5
# banctl | web-login 198.51.100.7 since 2026-11-22T16:01:14Z: $(reboot) 5 failures
Require not ip 198.51.100.7
Require not ip 2001:db8::/48
Require not ip 2001:db8:1::66
`,
);
const programs = join(directory, 'programs');
mkdirSync(programs);
const env = {
  ...process.env,
  HOME: directory,
  BANCTL_BANLIST: banlist,
  PATH: [programs, dirname(executable), process.env.PATH].join(delimiter),
};
const START: Record<(typeof SHELLS)[number], (script: string, env: NodeJS.ProcessEnv) => Shell> = {
  bash: startBash,
  zsh: startZsh,
  fish: startFish,
};

/** The script as banctl prints it. */
async function script(shell: string, name = `completion.${shell}`): Promise<string> {
  const { exitCode, stdout, stderr } = await banctl(['completion', shell]);
  assert.equal(exitCode, 0, stderr);
  const path = join(directory, name);
  writeFileSync(path, stdout);
  return path;
}

for (const name of SHELLS) {
  suite(name, () => {
    let shell: Shell;
    before(async () => {
      shell = START[name](await script(name), env);
    });
    after(() => shell[Symbol.asyncDispose]());
    const offers = async (line: string, wanted: readonly string[]) =>
      assert.deepEqual((await shell.press(line)).sort(), [...wanted].sort(), line);

    test('offers every command, and nothing after one that takes nothing', async () => {
      await offers('banctl ', COMMAND_NAMES);
      await offers('banctl m', ['migrate']);
      await offers('banctl list ', []);
      await offers('banctl ban ', []);
    });

    test('offers the options of the command that is typed, and no hidden one', async () => {
      for (const command of ['ban', 'audit', 'reload'] as const) {
        const names = [...optionsOf(command), 'help'].map((option) => `--${option}`);
        await offers(`banctl ${command} --`, names);
      }
      await offers('banctl --lock-timeout 3 unban --lock', ['--lock-timeout']);
    });

    test('offers the addresses that are banned, where one is to be lifted or explained', async () => {
      const banned = ['203.0.113.5', '198.51.100.7', '2001:db8::/48', '2001:db8:1::66'];
      await offers('banctl unban 19', ['198.51.100.7']);
      await offers('banctl explain 2001:db8:1', ['2001:db8:1::66']);
      await offers('banctl --no-fail2ban unban 203.0.113.9 198', ['198.51.100.7']);
      await offers('banctl unban ', banned);
    });

    test('offers the words of a value, after a blank and after an equals sign', async () => {
      await offers('banctl migrate --to ', ['bandir', 'banlist']);
      await offers('banctl migrate --to=banl', ['--to=banlist']);
      await offers('banctl completion f', ['fish']);
    });

    test('offers files, directories and programs', async () => {
      await offers(`banctl list --banlist ${files}/site-a`, [`${files}/site-a.conf`]);
      await offers(`banctl list --banlist=${files}/site-b`, [`--banlist=${files}/site-b.conf`]);
      assert.deepEqual(
        (await shell.press(`banctl list --bandir ${files}/site-`)).map((path) => path.replace(/\/$/, '')),
        [`${files}/site-d`],
      );
      await offers('banctl reload --apachectl fail2ban-cl', ['fail2ban-client']);
    });
  });
}

test('offers the jails of the running fail2ban', async () => {
  const jail = (name: string) =>
    `[${name}]\nenabled = true\nfilter = djangoapp-admin-login\nlogpath = DIR/access.log\n`;
  await using fail2ban = await startFail2ban({ jails: ['web-login', 'web-api', 'mail'].map(jail).join('') });
  const { stdout: client } = await execute('sh', ['-c', 'command -v fail2ban-client']);
  const own = fail2ban.clientCommand.replace('fail2ban-client', client.trim());
  writeScript(programs, 'fail2ban-client', `exec ${own} "$@"`);
  for (const name of SHELLS) {
    await using shell = START[name](await script(name), env);
    assert.deepEqual(await shell.press('banctl flush --jail mai'), ['mail'], name);
    assert.deepEqual(
      (await shell.press('banctl flush --jail ')).sort(),
      ['mail', 'web-api', 'web-login'],
      name,
    );
  }
});

suite('the script', () => {
  test('is that of the shell that the user has, unless one is named', async () => {
    const first = async (shell: string, ...named: string[]) => {
      const { stdout } = await execute('env', [`SHELL=${shell}`, executable, 'completion', ...named]);
      return stdout.split('\n', 1)[0] ?? '';
    };
    assert.match(await first('/usr/bin/fish'), /fish/);
    assert.match(await first('/usr/bin/fish', 'zsh'), /^#compdef banctl$/);
    assert.match(await first('/bin/dash'), /bash/);
    assert.match(await first(''), /bash/);
  });

  test('does not ask for the configuration', async () => {
    const { exitCode } = await execute('env', ['BANCTL_CONFIG=/nowhere', executable, 'completion', 'bash']);
    assert.equal(exitCode, 0);
  });

  for (const [operands, message] of [
    [['tcsh'], /^banctl: no completion for "tcsh"; give bash, zsh, fish\n$/],
    [['bash', 'zsh'], /^banctl: completion takes one shell: "zsh" is too much\n$/],
    [[''], /^banctl: no completion for ""; give /],
    [['bash', '--json'], /^banctl: --json is not an option of completion; /],
  ] as const) {
    test(`is refused for ${JSON.stringify(operands)}`, async () => {
      const { exitCode, stdout, stderr } = await banctl(['completion', ...operands]);
      assert.deepEqual([exitCode, stdout], [64, '']);
      assert.match(stderr, message);
    });
  }
});

test('zsh finds the script by its name where a package puts it', async () => {
  await using shell = startZsh(await script('zsh', '_banctl'), env);
  assert.deepEqual(await shell.press('banctl mig'), ['migrate']);
  // Once it is loaded, too.
  assert.deepEqual(await shell.press('banctl explain 2001:db8:1'), ['2001:db8:1::66']);
});
