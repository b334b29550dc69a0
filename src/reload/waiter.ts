import { CONFIG_FILE } from '../cli/values.ts';
import { identify, isRunning, type ProcessId } from '../system/process.ts';
import type { ReloadOptions } from './types.ts';

/**
 * Makes sure that one process waits to reload when the interval is over: the one that does already, or a new
 * one. It runs in a session of its own, so that it outlives its caller and whoever kills its process group.
 *
 * @returns undefined if it cannot be started; then the next call that may change something makes up for it
 */
export function ensureWaiter(current: ProcessId | null, options: ReloadOptions): ProcessId | null {
  if (current !== null && isRunning(current)) return current;
  // Looked up here because most calls start nothing, and loading it takes a millisecond.
  const { spawn } = process.getBuiltinModule('node:child_process');
  const { isSea } = process.getBuiltinModule('node:sea');
  const self = isSea() ? [] : [...process.execArgv, process.argv[1] ?? ''];
  const child = spawn(process.execPath, [...self, ...waiterArguments(options)], {
    detached: true,
    stdio: 'ignore',
  });
  child.on('error', () => {});
  child.unref();
  return child.pid === undefined ? null : (identify(child.pid) ?? null);
}

function waiterArguments(options: ReloadOptions): string[] {
  const args = [
    ['banlist', options.banlist],
    ['reload-interval', options.reloadInterval],
    ['lock-timeout', options.lockTimeout],
    ['apachectl', options.apachectl ?? ''],
    ['reload-command', options.reloadCommand ?? ''],
    ['record', options.record ?? ''],
    // The default need not be there, another one must.
    ['config', options.config === CONFIG_FILE ? '' : options.config],
  ];
  return ['reload', '--when-due', ...args.map(([name, value]) => `--${name}=${value}`)];
}
