import { existsSync } from 'node:fs';

/*
 * The configuration as Apache reads it: the directives of all files in order, each with its enclosing sections. Omits the
 * sections that Apache omits (<IfModule>, <IfDefine>, <IfFile>).
 */

export interface Section {
  /** In lower case: `virtualhost`, `location`, `if`. */
  readonly name: string;
  readonly argument: string;
  /** Distinguishes sections of the same text. */
  readonly id: number;
}

export interface Directive {
  readonly file: string;
  readonly line: number;
  /** In lower case. A section is also a directive, before its content. */
  readonly name: string;
  readonly argument: string;
  /** Outermost first, without sections that only test a condition. */
  readonly sections: readonly Section[];
  /** The file that replaces it. */
  readonly included?: string;
}

interface Line {
  readonly number: number;
  readonly text: string;
}

/** A file that Apache reads, after the files that include it. */
type Inclusion = readonly string[];

const CONDITIONS = new Set(['ifmodule', 'ifdefine', 'iffile', 'ifversion', 'ifdirective', 'ifsection']);

/**
 * @param inclusions in Apache's own order
 * @param read returns the text of a file
 */
export function directivesOf(
  inclusions: readonly Inclusion[],
  read: (path: string) => string,
): readonly Directive[] {
  const [main] = inclusions;
  if (main === undefined) return [];
  const texts = new Map(inclusions.map((files) => [files.at(-1) ?? '', '']));
  for (const path of texts.keys()) texts.set(path, read(path));
  return new Reader(inclusions, texts).read(main);
}

/**
 * True if an Include could read the file, if it existed: under any condition, since the file itself may be one (<IfFile>), and
 * under any path that has a variable or a macro's parameter.
 *
 * @param read returns the text of a file
 */
export function mayInclude(
  inclusions: readonly Inclusion[],
  read: (path: string) => string,
  path: string,
): boolean {
  return inclusions.some((files) =>
    linesOf(read(files.at(-1) ?? '')).some(({ text }) => {
      const [, name = '', argument = ''] = /^(\S+)\s+(.*)$/.exec(text) ?? [];
      if (!isInclude(name.toLowerCase())) return false;
      return argument.includes('$') || patternOf(unquote(argument)).test(path);
    }),
  );
}

function isInclude(name: string): boolean {
  return name === 'include' || name === 'includeoptional';
}

class Reader {
  readonly #inclusions: readonly Inclusion[];
  readonly #texts: ReadonlyMap<string, string>;
  readonly #modules: ReadonlySet<string>;
  readonly #defined: ReadonlySet<string>;
  readonly #directives: Directive[] = [];
  readonly #open: (Section & { readonly isSkipped: boolean })[] = [];
  #at = 0;

  constructor(inclusions: readonly Inclusion[], texts: ReadonlyMap<string, string>) {
    this.#inclusions = inclusions;
    this.#texts = texts;
    const all = [...texts.values()].flatMap(linesOf);
    const words = (directive: RegExp) =>
      new Set(all.flatMap(({ text }) => directive.exec(text)?.[1]?.toLowerCase() ?? []));
    this.#modules = words(/^loadmodule\s+(\S+)/i);
    this.#defined = words(/^define\s+(\S+)/i);
  }

  read(files: Inclusion): Directive[] {
    const file = files.at(-1) ?? '';
    this.#at += 1;
    for (const { number, text } of linesOf(this.#texts.get(file) ?? '')) {
      const [, closing] = /^<\/(\w+)/.exec(text) ?? [];
      if (closing !== undefined) this.#open.pop();
      else this.#readLine(files, file, number, text);
    }
    return this.#directives;
  }

  #readLine(files: Inclusion, file: string, line: number, text: string): void {
    const [, bracket = '', word = '', rest = ''] = /^(<?)(\S+?)(?:\s+(.*?))?>?$/.exec(text) ?? [];
    const name = word.toLowerCase();
    const isSkipped = this.#open.some((section) => section.isSkipped);
    const sections = this.#open.filter((section) => !CONDITIONS.has(section.name));
    const directive = { file, line, name, argument: unquote(rest), sections };
    if (bracket === '<') {
      const skips = isSkipped || !this.#isTrue(name, directive.argument);
      if (!skips && !CONDITIONS.has(name)) this.#directives.push(directive);
      const id = this.#open.length + this.#directives.length * 1000;
      this.#open.push({ name, argument: directive.argument, id, isSkipped: skips });
    } else if (!isSkipped && isInclude(name)) this.#include(files, directive);
    else if (!isSkipped) this.#directives.push(directive);
  }

  #include(files: Inclusion, directive: Directive): void {
    const pattern = patternOf(directive.argument);
    for (;;) {
      const next = this.#inclusions[this.#at];
      const path = next?.at(-1) ?? '';
      if (next === undefined || next.length !== files.length + 1 || !pattern.test(path)) return;
      this.#directives.push({ ...directive, included: path });
      this.read(next);
    }
  }

  #isTrue(name: string, argument: string): boolean {
    const isNot = argument.startsWith('!');
    const subject = argument.replace(/^!\s*/, '');
    const isTrue = {
      ifmodule: () => this.#hasModule(subject.toLowerCase()),
      ifdefine: () => this.#defined.has(subject.toLowerCase()),
      iffile: () => existsSync(subject),
    }[name];
    return isTrue === undefined || isTrue() !== isNot;
  }

  /** `mod_rewrite.c` or `rewrite_module`. */
  #hasModule(name: string): boolean {
    const [, short] = /^mod_(.+)\.c$/.exec(name) ?? [];
    return this.#modules.has(short === undefined ? name : `${short}_module`);
  }
}

/** Without comments and empty lines; joins a line that ends in a backslash with the next. */
function linesOf(text: string): Line[] {
  const lines: Line[] = [];
  let start = 0;
  let joined = '';
  text.split(/\r?\n/).forEach((line, index) => {
    if (joined === '') start = index + 1;
    joined += line.replace(/\\$/, '');
    if (line.endsWith('\\')) return;
    const content = joined.trim();
    if (content !== '' && !content.startsWith('#')) lines.push({ number: start, text: content });
    joined = '';
  });
  return lines;
}

function unquote(argument: string): string {
  const [, , quoted] = /^(["'])(.*)\1$/.exec(argument.trim()) ?? [];
  return quoted ?? argument.trim();
}

/** The files that an Include names: a relative path starts at the server's root, a directory means all its files. */
function patternOf(argument: string): RegExp {
  const text = argument
    .replace(/\/+$/, '')
    .replace(/[.+^()|\\]/g, '\\$&')
    .replace(/\$\{[^}]*\}/g, '.*')
    .replace(/\$$/, '\\$')
    .replace(/(?<!\.)\*/g, '[^/]*')
    .replace(/\?/g, '[^/]')
    .replace(/\[!/g, '[^');
  try {
    return new RegExp(`${argument.startsWith('/') ? '^' : '(?:^|/)'}${text}(?:/.*)?$`);
  } catch {
    return /^/;
  }
}
