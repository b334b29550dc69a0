// Real shells at a terminal, in which the key for completion is pressed.
import { spawn } from 'node:child_process';
import { basename, dirname } from 'node:path';
import { execute, until } from './wait.ts';

export type Shell = AsyncDisposable & {
  /** The words that the shell offers for the last word of the line, which may be empty. */
  press(line: string): Promise<string[]>;
};

/** bash, without anything of the machine's or the user's own. */
export function startBash(script: string, env: NodeJS.ProcessEnv): Shell {
  return startAtTerminal('bash --norc --noprofile -i', env, [
    `source ${script}`,
    `bind '"\\C-t": insert-completions'`,
  ]);
}

/** zsh, which finds a script that is named _banctl by itself, as a package has it, and reads another one. */
export function startZsh(script: string, env: NodeJS.ProcessEnv): Shell {
  const isFound = basename(script) === '_banctl';
  return startAtTerminal('zsh -f -i', env, [
    'unsetopt BEEP PROMPT_CR PROMPT_SP',
    ...(isFound ? [`fpath=(${dirname(script)} $fpath)`] : []),
    'autoload -Uz compinit && compinit -D -u',
    ...(isFound ? [] : [`source ${script}`]),
    "zstyle ':completion:all:*' completer _all_matches _complete",
    "zstyle ':completion:all:*' old-matches no; zstyle ':completion:all:*' insert yes",
    "zle -C all complete-word _generic; bindkey '^T' all",
  ]);
}

/** fish has a command that prints its completions. */
export function startFish(script: string, env: NodeJS.ProcessEnv): Shell {
  const words = Object.entries(env).map(([name, value]) => `${name}=${value ?? ''}`);
  return {
    async press(line) {
      const { exitCode, stdout, stderr } = await execute('env', [
        ...['-i', ...words, 'fish', '--no-config', '-c'],
        `source ${script}; complete --do-complete $argv[1]`,
        line,
      ]);
      if (exitCode !== 0 || stderr !== '') throw new Error(`fish ended with ${exitCode}: ${stderr}`);
      return stdout.split('\n').flatMap((offered) => offered.split('\t')[0] || []);
    },
    async [Symbol.asyncDispose]() {},
  };
}

const KEY = '\x14'; // Control-T: inserts all that is offered
const TO_THE_START = '\x01';

function startAtTerminal(command: string, env: NodeJS.ProcessEnv, settings: string[]): Shell {
  const child = spawn('script', ['-qefc', command, '/dev/null'], {
    env: { ...env, TERM: 'dumb', LANG: 'C.UTF-8', HISTFILE: '' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const show = `show() { printf '\\nOFFERED'; printf '<%s>' "$@"; echo; }`;
  for (const line of ['stty cols 2000', show, ...settings]) child.stdin.write(`${line}\n`);
  let answers = 0;
  return {
    async press(line) {
      // The line is a call of banctl until the key has been pressed, and of show when it is run.
      child.stdin.write(`${line}${KEY}${TO_THE_START}show \n`);
      answers += 1;
      const answer = await until(
        `what is offered for ${line}`,
        () => /^(.*)[\r\n]/.exec(output.split(/[\r\n]OFFERED/)[answers] ?? '')?.[1],
        { detail: () => output },
      );
      const typed = line.split(' ');
      const last = typed.pop() ?? '';
      const words = [...answer.matchAll(/<([^>]*)>/g)].map(([, word = '']) => word).slice(typed.length);
      return words.length === 1 && words[0] === last ? [] : words;
    },
    async [Symbol.asyncDispose]() {
      // The terminal goes with it, and so does the shell.
      child.kill('SIGKILL');
      await ended;
    },
  };
}
