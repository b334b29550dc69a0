import { fstatSync } from 'node:fs';

/** The progress of a long call. */
export interface Progress {
  /** Counts one more. */
  step(): void;
  stop(): void;
}

/** Begins to count to `total`. */
export type StartProgress = (total: number) => Progress;

const STANDARD_ERROR = 2;
/** Shorter work needs no bar. */
const QUIET_MS = 1000;

/** A bar on a terminal, shown if the work takes longer than a second. Undefined without a terminal. */
export async function terminalProgress(): Promise<StartProgress | undefined> {
  // Most calls have no terminal, and loading node:tty takes longer than changing thousands of bans.
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
        if (bar === undefined && Date.now() - begin > QUIET_MS) {
          bar = new SingleBar({ clearOnComplete: true, format: '{bar} {value} of {total}' }, Presets.rect);
          bar.start(total, count);
        }
        bar?.update(count);
      },
      stop: () => bar?.stop(),
    };
  };
}
