import { parseAddress } from '../bans/address.ts';
import type { Outcome } from '../bans/change.ts';
import { holderOf } from '../bans/hold.ts';
import type { Given } from '../cli/arguments.ts';
import { resolveSettings, type Settings, withGiven } from '../cli/settings.ts';
import { VERSION } from '../cli/version.ts';
import { wideningOf } from '../protection/protection.ts';
import type { ReloadReport } from '../reload/types.ts';
import { preferMemory } from '../serve/heap.ts';
import type { Hello, Request } from '../serve/protocol.ts';
import { serve } from '../serve/serve.ts';
import type { Commands, Reply, Work } from '../serve/types.ts';
import { Lifts } from '../store/lifts.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { monotonicMs } from '../system/process.ts';
import { surviveEndings } from '../system/program.ts';
import { idOf, planBan } from './ban.ts';
import { releaseHeldBy } from './flush.ts';
import { recordChange } from './record-change.ts';
import { sharingOf } from './sharing.ts';
import { describeChange } from './show-change.ts';
import { planSync } from './sync.ts';
import { noteRelease, planRelease } from './unban.ts';

/** A jail sends the same options in each request. Links and the configuration may change at any time. */
const SETTINGS_KEPT_MS = 1000;
/** Options that differ from request to request. */
const OF_ONE_BAN = ['id', 'since', 'for', 'reason'] as const;

/** `banctl serve`: answers the Python action on a socket, until a signal ends it. */
export function serveCommand(settings: Settings): Promise<ExitCode> {
  preferMemory();
  surviveEndings();
  return serve(
    settings,
    { prepare, describe, recordEnded: recorderOfEnds(settings) },
    VERSION,
    sharingOf(settings),
  );
}

/** Expired bans count as ended by the audit, whichever of the two finds them. */
function recorderOfEnds(settings: Settings): Commands['recordEnded'] {
  return (addresses) => {
    const ended = addresses.map(
      (address): Outcome => ({ address, status: 'unbanned', heldBy: [], isChanged: true }),
    );
    recordChange('audit', ended, { ...settings, jail: undefined });
  };
}

async function prepare(request: Request, hello: Hello): Promise<Work | Reply> {
  const settings = settingsOf(request.given, hello);
  const { jail } = settings;
  if (jail === undefined || settings.all)
    throw new BanctlError(EXIT.usage, `${request.command} needs a jail here`, 'give --jail NAME');
  const holder = holderOf(jail);
  const options = { ...settings, widening: wideningOf(settings) };
  const work = (changes: Work['changes'], more: Partial<Work> = {}): Work => ({
    options,
    changes,
    needs: undefined,
    skipped: [],
    onDone: (outcomes) => recordChange(request.command, outcomes, settings),
    ...more,
  });
  const urgently = { options: { ...options, isUrgent: true } };
  switch (request.command) {
    case 'ban': {
      const { text } = addressOf(request);
      return work(planBan(settings, [addressOf(request)]), {
        needs: { holder, address: text, id: idOf(settings, text) },
      });
    }
    case 'unban': {
      const addresses = [addressOf(request)];
      if (settings.fleet !== undefined) await noteRelease(settings, jail, addresses);
      return work(planRelease(jail, addresses, settings.id));
    }
    case 'flush':
      return work((bansNow) => releaseHeldBy(holder, bansNow()), urgently);
    default: {
      using opened = new DisposableStack();
      const lifts = opened.use(new Lifts(settings));
      const plan = await planSync(settings, jail);
      if (typeof plan === 'string') return describe([], { result: 'not-needed', message: plan });
      const repairing = { ...urgently.options, ...lifts.options };
      return work(plan.changes, { options: repairing, skipped: plan.skipped, lifts: opened.move() });
    }
  }
}

const kept = new Map<string, { readonly settings: Settings; readonly until: number }>();

function settingsOf(given: Given, { env }: Hello): Settings {
  const own: Record<string, Given[keyof Given]> = {};
  const shared: Record<string, Given[keyof Given]> = { ...given };
  for (const name of OF_ONE_BAN) {
    if (given[name] !== undefined) own[name] = given[name];
    delete shared[name];
  }
  const key = JSON.stringify([shared, env]);
  const known = kept.get(key);
  if (known !== undefined && monotonicMs() < known.until) return withGiven(known.settings, own);
  for (const [other, { until }] of kept) if (until < monotonicMs()) kept.delete(other);
  const settings = resolveSettings(shared, env);
  kept.set(key, { settings, until: monotonicMs() + SETTINGS_KEPT_MS });
  return withGiven(settings, own);
}

function addressOf({ command, address }: Request) {
  if (address === undefined) throw new BanctlError(EXIT.usage, `${command} needs an address`);
  return parseAddress(address);
}

/** A call's output, including standard error, and its exit code. */
function describe(outcomes: readonly Outcome[], reload: ReloadReport): Reply {
  const { said, exitCode } = describeChange(outcomes, reload);
  return { exit: exitCode, said };
}
