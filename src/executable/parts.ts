import { Script } from 'node:vm';

/** Libraries that most calls do not load. */
export const LIBRARIES = ['cli-progress', 'execa', 'iovalkey', 'yargs'];
/** What a ban does not load: src/full.ts. */
export const FULL = 'full';
/** What only a page needs: src/report/page.ts, with the libraries for charts and templates. */
export const PAGE = 'page';
/** The resident: src/commands/serve.ts. */
export const SERVE = 'serve';
export const MAIN = 'banctl';

/** Each is a separate script, which is read on demand. */
const CALLED_FOR = [...LIBRARIES, FULL, PAGE, SERVE];

export interface Part {
  readonly source: string;
  /** V8's compiled code of it, see tools/code-cache.ts. */
  readonly cachedData?: Buffer;
}

interface Module {
  exports: unknown;
}

/**
 * Runs the program as tools/bundle.ts built it: its parts are functions that get Node's module arguments.
 *
 * @param scripts compiled scripts by name, so that a second start compiles nothing again
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
