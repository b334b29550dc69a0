import { basename, dirname, join } from 'node:path';

/** The same place under a name that `Include DIR/*` skips, and `ls`: Apache would read half of a list. */
export function hiddenName(path: string): string {
  return join(dirname(path), `.${basename(path)}`);
}
