import { layoutOf } from '../apache/layout.ts';
import type { Settings } from '../cli/settings.ts';
import { BESIDE, type FileReport, installFiles, removeFiles } from '../setup/files.ts';
import { isInstalled, kitFile, readKit, render } from '../setup/kit.ts';
import { serverAt } from '../setup/server.ts';
import { reasonsToKeep, type Todo, todoAfterInstall, todoAfterRemoval } from '../setup/todo.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { print, printLines, showJson } from '../terminal/print.ts';

/** What is told of a file, where anything is. */
function lineOf({ path, status, reason }: FileReport, { dryRun, remove }: Settings): string | undefined {
  const would = dryRun ? 'would be ' : '';
  switch (status) {
    case 'written':
    case 'removed':
      return `${path} ${would}${status}`;
    case 'replaced':
      return `${path} ${would}replaced; nobody had changed the old one`;
    case 'laid-beside':
    case 'kept':
      return `${path} kept, because it was changed${remove ? '' : `; the new one ${would && status !== 'kept' ? 'would be' : 'is'} ${path}${BESIDE}`}`;
    case 'packaged':
      return `${path} kept, because it belongs to the Debian package banctl`;
    case 'in-use':
      return `${path} kept: ${reason}`;
    case 'unchanged':
      return undefined;
  }
}

const CHANGES: readonly FileReport['status'][] = ['written', 'replaced', 'laid-beside', 'removed'];

/** `banctl setup`: the kit installed, shown or removed, and what is left to do by hand. Asks nothing. */
export async function setup(settings: Settings): Promise<ExitCode> {
  const { print: name, remove } = settings;
  if (name !== undefined && remove)
    throw new BanctlError(EXIT.usage, 'setup takes --print or --remove, not both');
  if (name !== undefined) return showFile(settings, name);
  const server = serverAt(settings);
  const kit = readKit().filter(isInstalled);
  const files = remove
    ? removeFiles(kit, server, await reasonsToKeep(server, settings), settings)
    : installFiles(kit, server, settings);
  const todo = remove
    ? await todoAfterRemoval(server, settings)
    : await todoAfterInstall(server, files, settings);
  tell(files, todo, settings);
  return EXIT.done;
}

function showFile(settings: Settings, name: string): ExitCode {
  const text = render(kitFile(readKit(), name), layoutOf(settings.root), settings);
  printLines([text.replace(/\n$/, '')]);
  return EXIT.done;
}

function tell(files: readonly FileReport[], todo: readonly Todo[], settings: Settings): void {
  const { json, dryRun, remove } = settings;
  const isChanged = files.some(({ status }) => CHANGES.includes(status));
  if (json) {
    showJson({ changed: isChanged && !dryRun, files, todo });
    return;
  }
  for (const line of files.flatMap((file) => lineOf(file, settings) ?? [])) print(line);
  if (remove && files.length === 0) print('there is nothing to remove');
  else if (!isChanged) print('nothing has changed');
  if (todo.length > 0) print('left to do by hand:');
  for (const { code, message } of todo) print(`  ${code}: ${message}`);
}
