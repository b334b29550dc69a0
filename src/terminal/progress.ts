import { fstatSync } from 'node:fs';

/** How far a long call is. */
export interface Progress {
  /** One more is done. */
  step(): void;
  stop(): void;
}

/** Begins to count to `total`. */
export type StartProgress = (total: number) => Progress;

const STANDARD_ERROR = 2;
/** Milliseconds. What takes no longer needs no bar. */
const QUIET = 1000;

/** A bar on a terminal, shown if the work takes longer than a second. Undefined where nobody watches. */
export async function terminalProgress(): Promise<StartProgress | undefined> {
  // Most calls are no terminal's, and to load node:tty takes longer than to change thousands of bans.
  if (!fstatSync(STANDARD_ERROR).isCharacterDevice()) return undefined;
  const { isatty } = await import('node:tty');
  if (!isatty(STANDARD_ERROR)) return undefined;
  const { SingleBar, Presets } = await import('cli-progress');
  return (total) => {
    const begin = Date.now();
    let count = 0;
    let bar: InstanceType<typeof SingleBar> | undefined;
    return {
      step() {
        count += 1;
        if (bar === undefined && Date.now() - begin > QUIET) {
          bar = new SingleBar({ clearOnComplete: true, format: '{bar} {value} of {total}' }, Presets.rect);
          bar.start(total, count);
        }
        bar?.update(count);
      },
      stop: () => bar?.stop(),
    };
  };
}
