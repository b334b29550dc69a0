import { layoutOf } from '../apache/layout.ts';
import type { Settings } from '../cli/settings.ts';
import { chooseDirectory, removeChoice } from '../setup/directory-config.ts';
import { BESIDE, type FileReport, installFiles, logLeft, removeFiles } from '../setup/install.ts';
import { isInstalled, type KitFile, kitFile, readKit, render } from '../setup/kit.ts';
import { type Server, serverAt, withRpmFiles } from '../setup/server.ts';
import { reasonsToKeep, type Todo, todoAfterInstall, todoAfterRemoval, toMigrate } from '../setup/todo.ts';
import { startUnits, stopUnits } from '../setup/units.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { print, printLines, showJson } from '../terminal/print.ts';

/** What setup reports about a file, if anything. */
function lineOf({ path, status, reason }: FileReport, { dryRun, remove }: Settings): string | undefined {
  const would = dryRun ? 'would be ' : '';
  switch (status) {
    case 'written':
    case 'removed':
      return `${path} ${would}${status}`;
    case 'replaced':
      return `${path} ${would}replaced`;
    case 'laid-beside':
    case 'kept':
      return `${path} kept, because it was changed${remove ? '' : `; the new one ${would && status !== 'kept' ? 'would be' : 'is'} ${path}${BESIDE}`}`;
    case 'packaged':
      return `${path} kept, because it belongs to the package banctl`;
    case 'in-use':
      return `${path} kept: ${reason}`;
    case 'unchanged':
      return undefined;
  }
}

const CHANGES: readonly FileReport['status'][] = ['written', 'replaced', 'laid-beside', 'removed'];

/** `banctl setup`: installs, shows or removes the kit, and prints the remaining steps. Asks no questions. */
export async function setup(settings: Settings): Promise<ExitCode> {
  const { print: name, remove } = settings;
  if (name !== undefined && remove)
    throw new BanctlError(EXIT.usage, 'setup takes --print or --remove, not both');
  if (name !== undefined) return showFile(settings, name);
  const server = await withRpmFiles(serverAt(settings), settings.root);
  const kit = readKit().filter(isInstalled);
  if (remove) await uninstall(kit, server, settings);
  else await install(kit, server, settings);
  return EXIT.done;
}

async function install(kit: readonly KitFile[], server: Server, settings: Settings): Promise<void> {
  const { bandir, written, listed } = chooseDirectory(server, settings);
  const chosen = { ...settings, bandir };
  const files = [
    ...installFiles(kit, server, chosen, written?.text),
    ...(written === undefined ? [] : [written.report]),
    ...(await startUnits(server, settings)),
  ];
  const todo = await todoAfterInstall(server, files, chosen);
  const isOffered = todo.some(({ code }) => code === 'list-in-use');
  const isMoveOffered = listed > 0 && bandir === undefined && !settings.listOnly && !isOffered;
  tell(files, isMoveOffered ? [...todo, toMigrate(server, listed, settings)] : todo, settings);
  if (written !== undefined && !settings.json)
    print(
      `new bans ${settings.dryRun ? 'would ' : ''}go into the directory ${bandir}, without reloads; setup --list-only uses the list only`,
    );
}

async function uninstall(kit: readonly KitFile[], server: Server, settings: Settings): Promise<void> {
  await stopUnits(server, settings);
  const files = [
    ...removeFiles(kit, server, await reasonsToKeep(server, settings), settings),
    ...removeChoice(server, settings),
    ...logLeft(server),
  ];
  tell(files, await todoAfterRemoval(server, settings), settings);
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
  if (remove && files.length === 0) print('nothing to remove');
  else if (!isChanged) print('nothing has changed');
  if (todo.length > 0) print('remaining steps:');
  for (const { code, message } of todo) print(`  ${code}: ${message}`);
}
