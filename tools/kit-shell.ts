// Writes every shell text of the kit into files, for shellcheck: kit-shell.ts DIRECTORY
//
// The commands of fail2ban's actions are expanded by fail2ban itself (fail2ban-client -d), which runs them with /bin/sh.
// The completion script for bash is as `banctl completion bash` prints it.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { completionScript } from '../src/cli/completion.ts';

const repository = join(import.meta.dirname, '..');
const [target = ''] = process.argv.slice(2);
const actions = readdirSync(join(repository, 'action.d')).filter((name) => name.endsWith('.conf'));

/** What `fail2ban-client -d` prints: one Python list a line. */
const READ_DUMP = `
import ast, json, sys
print(json.dumps([ast.literal_eval(line) for line in sys.stdin if line.startswith('[')]))
`;

/** Tags that are filled in for each ban become variables: fail2ban passes values with odd characters so. */
function asScript(text: string): string {
  const filled = text.replace(/<([a-z][\w.-]*)>/gi, '$f2bV_$1');
  return `#!/bin/sh\n# shellcheck disable=SC2154 # fail2ban sets f2bV_...\n:\n${filled}\n`;
}

const config = mkdtempSync(join(tmpdir(), 'banctl-kit-shell-'));
try {
  mkdirSync(join(config, 'filter.d'));
  cpSync(join(repository, 'action.d'), join(config, 'action.d'), { recursive: true });
  writeFileSync(join(config, 'fail2ban.conf'), '[Definition]\nloglevel = INFO\nlogtarget = STDERR\n');
  const jails = actions.map((name) => {
    const action = basename(name, '.conf');
    return `[${action}]\nenabled = true\nfilter =\nlogpath =\nbackend = polling\naction = ${action}\n`;
  });
  writeFileSync(join(config, 'jail.conf'), jails.join('\n'));
  const dump = execFileSync('fail2ban-client', ['-c', config, '-d'], { encoding: 'utf8', stdio: 'pipe' });
  const commands: unknown[][] = JSON.parse(
    execFileSync('python3', ['-c', READ_DUMP], { input: dump, encoding: 'utf8' }),
  );
  mkdirSync(target, { recursive: true });
  for (const [verb, jail, , , pairs] of commands) {
    if (verb !== 'multi-set' || !Array.isArray(pairs)) continue;
    for (const [name, text] of pairs)
      if (/^action[a-z]+$/.test(name) && text !== '')
        writeFileSync(join(target, `${jail}-${name}.sh`), asScript(text));
  }
} finally {
  rmSync(config, { recursive: true, force: true });
}
writeFileSync(join(target, 'completion.bash'), `#!/bin/bash\n${completionScript('bash')}\n`);
