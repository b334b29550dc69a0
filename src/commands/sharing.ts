import { hostname } from 'node:os';
import type { Settings } from '../cli/settings.ts';
import { VERSION } from '../cli/version.ts';
import type { EngineOptions } from '../fleet/engine.ts';
import { wideningOf } from '../protection/protection.ts';
import type { Sharing } from '../serve/types.ts';
import { EXIT } from '../system/errors.ts';
import { cannotReadInput, readInput } from '../system/read.ts';

/** Of a password or a chain of certificates. Bytes. */
const LONGEST_FILE = 2 ** 20;

/** How this host takes part in the fleet; undefined if it takes part in none. @throws BanctlError notUnderstood */
export function sharingOf(settings: Settings): Sharing | undefined {
  const { fleet } = settings;
  if (fleet === undefined) return undefined;
  const engine: EngineOptions = {
    url: fleet,
    user: settings.fleetUser,
    password: textOf('the password', settings.fleetPasswordFile)?.replace(/\r?\n$/, ''),
    ca: textOf('the certificate authority', settings.fleetCa),
    name: settings.fleetName,
  };
  const { banlist, bandir, prefixes, protect, record } = settings;
  return {
    options: { ...settings, widening: wideningOf(settings) },
    start: async (change) => {
      const { Agent } = await import('../fleet/agent.ts');
      const agent = new Agent(
        {
          banlist,
          bandir,
          prefixes,
          protect,
          record,
          engine,
          host: settings.fleetHost ?? hostName(),
          state: settings.fleetState,
          version: VERSION,
          fail2banClient: settings.asksFail2ban ? settings.fail2banClient : undefined,
        },
        change,
      );
      agent.start();
      return agent;
    },
  };
}

/** As a holder can have it. */
function hostName(): string {
  const name = hostname()
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
  return name.slice(0, 60) || 'host';
}

function textOf(what: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readInput(path, LONGEST_FILE);
  } catch (error) {
    throw cannotReadInput(`${what} in ${path}`, error, EXIT.notUnderstood);
  }
}
