import { type Configuration, filesOf, readConfiguration } from '../apache/configuration.ts';
import { controlBehind } from '../apache/control.ts';
import { type ApacheCommands, type Target, targetsOf } from './types.ts';

/** An Apache and its answer about its configuration; undefined for one that only a reload command knows. */
export interface Asked {
  readonly target: Target;
  readonly configuration: Configuration | undefined;
}

/** Asks each Apache once. */
export async function askAll(commands: ApacheCommands): Promise<Asked[]> {
  const asked: Asked[] = [];
  for (const target of targetsOf(commands)) asked.push(await ask(target));
  return asked;
}

/** A reload command that is a control program's own graceful reload means that program. */
export async function ask(target: Target, limitSeconds?: number): Promise<Asked> {
  const standing = behind(target);
  const isOfCommand = standing.apachectl === undefined && standing.reloadCommand !== undefined;
  const configuration = isOfCommand ? undefined : await readConfiguration(standing.apachectl, limitSeconds);
  return { target: standing, configuration };
}

function behind(target: Target): Target {
  const { reloadCommand, apachectl } = target;
  const control = reloadCommand === undefined ? undefined : controlBehind(reloadCommand);
  if (control === undefined) return target;
  return { ...target, apachectl: apachectl ?? control, reloadCommand: undefined };
}

/** The files that the Apaches read; undefined if none could list them. */
export function filesOfAll(asked: readonly Asked[]): string[] | undefined {
  const lists = asked.flatMap(({ configuration }) => {
    const files = configuration === undefined ? undefined : filesOf(configuration);
    return files === undefined ? [] : [files];
  });
  return lists.length === 0 ? undefined : lists.flat();
}
