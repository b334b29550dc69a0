import {
  COMMAND_NAMES,
  type CommandName,
  commandOf,
  type Offered,
  OPTION_NAMES,
  type OptionName,
  optionOf,
  optionsOf,
  type SHELLS,
} from './options.ts';

/*
 * Completion scripts for shells, generated from the one table of commands and options. They need no other package, and call
 * banctl only to complete banned addresses. yargs' own scripts support two of the shells, and would start banctl at each
 * Tab.
 */

type Shell = (typeof SHELLS)[number];

/** A word to complete, and its entry in the table. */
interface Completed {
  readonly offers?: Offered | undefined;
  readonly placeholder?: string | undefined;
}

/** What a shell completes for a value. */
type Kind = 'files' | 'directories' | 'programs' | 'banned addresses' | 'jails' | 'nothing';

const VISIBLE = OPTION_NAMES.filter((name) => optionOf(name).isHidden !== true);
const VALUED = VISIBLE.filter((name) => optionOf(name).kind !== 'flag');
const HELP = { help: 'show help', version: 'show the version' };

/** The characters of an address or a jail's name. No other reaches the shell, which could interpret it. */
const FIND_BANNED = `banctl list 2>/dev/null | sed -n 's|^\\([0-9a-f]*[.:][0-9a-f.:/]*\\) .*|\\1|p'`;
const FIND_JAILS = `fail2ban-client status 2>/dev/null | sed -n 's/.*Jail list:[[:space:]]*//p' | tr -cs 'A-Za-z0-9_.\\n-' '\\n'`;

export function completionScript(shell: Shell): string {
  return { bash, zsh, fish }[shell]();
}

function bash(): string {
  const cases = (names: readonly OptionName[], offered: (name: OptionName) => string) =>
    names.map((name) => `    --${name}) ${offered(name)} ;;`).join('\n');
  return `# bash completion for banctl, made by: banctl completion bash
_banctl() {
  # The whole word up to the cursor: readline's own ($2) begins after the last of its word breaks, such as = and :.
  local line=\${COMP_LINE:0:COMP_POINT}
  local current=\${line##*[[:blank:]]} value_of='' command='' found='' word value
  local -a words
  read -r -a words <<<"\${line%"$current"}"
  for word in "\${words[@]:1}"; do
    if [ -n "$value_of" ]; then
      value_of=''
      continue
    fi
    case $word in
      ${VALUED.map((name) => `--${name}`).join(' | ')}) value_of=$word ;;
      -*) ;;
      *) command=\${command:-$word} ;;
    esac
  done
  value=$current
  if [ -z "$value_of" ]; then
    case $current in
      --*=*) value_of=\${current%%=*} value=\${current#*=} ;;
    esac
  fi
  case $value_of in
${cases(VALUED, (name) => bashOffer(optionOf(name)))}
    *)
      case $current in
        -*) found=$(compgen -W "$(_banctl_options "$command")" -- "$value") ;;
        *)
          case $command in
            '') found=$(compgen -W '${COMMAND_NAMES.join(' ')}' -- "$value") ;;
${operands((name) => `            ${name}) ${bashOffer(commandOf(name))} ;;`)}
          esac
          ;;
      esac
      ;;
  esac
  # Readline puts what is found in the place of its own word.
  local before=\${current%"$2"}
  before=\${before#"\${current%"$value"}"}
  COMPREPLY=()
  while IFS= read -r word; do
    [ -z "$word" ] || COMPREPLY+=("\${word#"$before"}")
  done <<<"$found"
}
_banctl_options() {
  case $1 in
    '') echo '${flags(VISIBLE)} --version' ;;
${COMMAND_NAMES.map((name) => `    ${name}) echo '${flags(optionsOf(name))}' ;;`).join('\n')}
  esac
}
complete -F _banctl banctl
`;
}

function bashOffer(one: Completed): string {
  const words = (list: string) => `found=$(compgen -W "${list}" -- "$value")`;
  if (Array.isArray(one.offers)) return words(one.offers.join(' '));
  const found: Record<Kind, string> = {
    files: 'compopt -o filenames && found=$(compgen -f -- "$value")',
    directories: 'compopt -o filenames && found=$(compgen -d -- "$value")',
    programs: 'found=$(compgen -c -- "$value")',
    'banned addresses': words(`$(${FIND_BANNED})`),
    jails: words(`$(${FIND_JAILS})`),
    nothing: 'found=',
  };
  return found[kindOf(one)];
}

function zsh(): string {
  const options = (names: readonly OptionName[], indent: string) =>
    [
      `'(- *)--help[${HELP.help}]'`,
      ...names.map((name) => {
        const { kind, describe, placeholder } = optionOf(name);
        const spec = `${kind === 'values' ? '*' : ''}--${name}${kind === 'flag' ? '' : '='}[${zshText(describe)}]`;
        return quoted(kind === 'flag' ? spec : `${spec}:${placeholder}:${zshOffer(optionOf(name))}`);
      }),
    ]
      .map((spec) => `${indent}${spec} \\`)
      .join('\n');
  const commandCases = COMMAND_NAMES.map((name) => {
    const { operands, offers } = commandOf(name);
    const rest =
      operands === ''
        ? "'*:nothing more: '"
        : quoted(
            `${operands.endsWith('...') ? '*' : '1'}:${operands.replace('...', '')}:${zshOffer(offers === undefined ? {} : { offers })}`,
          );
    return `    ${name})
      _arguments \\
${options(optionsOf(name), '        ')}
        ${rest}
      ;;`;
  });
  return `#compdef banctl
# zsh completion for banctl, made by: banctl completion zsh
_banctl() {
  local curcontext=$curcontext state line
  local -A opt_args
  local -a names=(
${COMMAND_NAMES.map((name) => `    ${quoted(`${name}:${commandOf(name).describe}`)}`).join('\n')}
  )
  _arguments -C \\
    '(- *)--version[${HELP.version}]' \\
${options(VISIBLE, '    ')}
    '1:command:->command' \\
    '*::argument:->argument' && return
  if [[ $state == command ]]; then
    _describe command names
    return
  fi
  case $line[1] in
${commandCases.join('\n')}
  esac
}
_banctl_banned() {
  local -a found=(\${(f)"$(${FIND_BANNED})"})
  local expl
  _wanted addresses expl 'banned address' compadd -a found
}
_banctl_jails() {
  local -a found=(\${(f)"$(${FIND_JAILS})"})
  local expl
  _wanted jails expl jail compadd -a found
}
# Found by zsh as a file of its name, or read by a line in .zshrc.
if [[ $funcstack[1] == _banctl ]]; then
  _banctl "$@"
else
  compdef _banctl banctl
fi
`;
}

function zshOffer(one: Completed): string {
  if (Array.isArray(one.offers)) return `(${one.offers.join(' ')})`;
  const found: Record<Kind, string> = {
    files: '_files',
    directories: '_files -/',
    programs: '_command_names -e',
    'banned addresses': '_banctl_banned',
    jails: '_banctl_jails',
    nothing: ' ',
  };
  return found[kindOf(one)];
}

/** Text inside the brackets of an _arguments specification. */
function zshText(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, '\\$&');
}

function fish(): string {
  const line = (words: (string | undefined)[]) => ['complete -c banctl', ...words.filter(Boolean)].join(' ');
  const at = (names: readonly string[]) => `-n ${quoted(`__banctl_at ${names.join(' ')}`)}`;
  const described = (text: string) => `-d ${fishQuoted(text)}`;
  const options = VISIBLE.map((name) => {
    const { commands, kind, describe } = optionOf(name);
    return line([
      at(commands),
      `-l ${name}`,
      kind === 'flag' ? undefined : fishOffer(optionOf(name)),
      described(describe),
    ]);
  });
  const values = COMMAND_NAMES.map((name) => {
    const { operands, offers } = commandOf(name);
    return operands === '' || offers === undefined
      ? undefined
      : line([`-n ${quoted(`test (__banctl_command) = ${name}`)}`, fishOffer({ offers })]);
  });
  return `# fish completion for banctl, made by: banctl completion fish
function __banctl_command
    set -l is_value no
    for word in (commandline -opc)[2..-1]
        if test $is_value = yes
            set is_value no
            continue
        end
        switch $word
            case ${VALUED.map((name) => `--${name}`).join(' ')}
                set is_value yes
            case '-*'
            case '*'
                echo $word
                return
        end
    end
    echo none
end
function __banctl_at
    contains -- (__banctl_command) none $argv
end
function __banctl_banned
    ${FIND_BANNED}
end
function __banctl_jails
    ${FIND_JAILS}
end
complete -c banctl -f
complete -c banctl -l help ${described(HELP.help)}
${line([at(['none']), '-l version', described(HELP.version)])}
${COMMAND_NAMES.map((name) => line([at(['none']).replace('__banctl_at none', 'test (__banctl_command) = none'), `-a ${name}`, described(commandOf(name).describe)])).join('\n')}
${options.join('\n')}
${values.filter(Boolean).join('\n')}
`;
}

function fishOffer(one: Completed): string {
  if (Array.isArray(one.offers)) return `-x -a '${one.offers.join(' ')}'`;
  const found: Record<Kind, string> = {
    files: '-r -F',
    directories: "-x -a '(__fish_complete_directories)'",
    programs: "-x -a '(__fish_complete_command)'",
    'banned addresses': "-x -a '(__banctl_banned)'",
    jails: "-x -a '(__banctl_jails)'",
    nothing: '-x',
  };
  return found[kindOf(one)];
}

function kindOf({ offers, placeholder }: Completed): Kind {
  if (offers === 'banned addresses' || offers === 'jails') return offers;
  const kinds: Record<string, Kind> = { FILE: 'files', DIR: 'directories', CMD: 'programs' };
  return kinds[placeholder ?? ''] ?? 'nothing';
}

/** The commands with words that a shell can complete. */
function operands(text: (name: CommandName) => string): string {
  return COMMAND_NAMES.filter((name) => commandOf(name).offers !== undefined)
    .map(text)
    .join('\n');
}

function flags(names: readonly OptionName[]): string {
  return [...names, 'help'].map((name) => `--${name}`).join(' ');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll(/['\\]/g, '\\$&')}'`;
}
