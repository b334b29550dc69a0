import { Script } from 'node:vm';

/** Libraries that most calls do without. */
export const LIBRARIES = ['cli-progress', 'execa', 'yargs'];
/** What a ban does without: src/full.ts. */
export const FULL = 'full';
/** What only a page needs: src/report/page.ts, with the libraries that draw and fill it in. */
export const PAGE = 'page';
/** The resident: src/commands/serve.ts. */
export const SERVE = 'serve';
export const MAIN = 'banctl';

/** Each is a script of its own, which is read when it is called for. */
const CALLED_FOR = [...LIBRARIES, FULL, PAGE, SERVE];

export interface Part {
  readonly source: string;
  /** What V8 has compiled of it, see tools/code-cache.ts. */
  readonly cachedData?: Buffer;
}

interface Module {
  exports: unknown;
}

/**
 * Runs the program as tools/bundle.ts has made it: its parts are functions that get what Node's modules get.
 *
 * @param scripts what was compiled, by name: a second start compiles nothing twice
 */
export function startProgram(
  read: (name: string) => Part,
  requireBuiltIn: (name: string) => unknown,
  scripts = new Map<string, Script>(),
): void {
  const called = new Map<string, Module>();
  const run = (name: string): Module => {
    let script = scripts.get(name);
    if (script === undefined) {
      const { source, cachedData } = read(name);
      script = new Script(source, { filename: `${name}.cjs`, cachedData });
      scripts.set(name, script);
    }
    const module = { exports: {} };
    script.runInThisContext()(require, module);
    return module;
  };
  const require = (name: string): unknown => {
    if (!CALLED_FOR.includes(name)) return requireBuiltIn(name);
    const part = called.get(name) ?? run(name);
    called.set(name, part);
    return part.exports;
  };
  run(MAIN);
}
