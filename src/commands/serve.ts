import { parseAddress } from '../bans/address.ts';
import type { Outcome } from '../bans/change.ts';
import { holderOf } from '../bans/hold.ts';
import { resolveSettings, type Settings } from '../cli/settings.ts';
import { VERSION } from '../cli/version.ts';
import { wideningOf } from '../protection/protection.ts';
import type { ReloadReport } from '../reload/types.ts';
import type { Hello, Request } from '../serve/protocol.ts';
import { serve } from '../serve/serve.ts';
import type { Said, Work } from '../serve/types.ts';
import { BanctlError, EXIT, type ExitCode } from '../system/errors.ts';
import { surviveEndings } from '../system/program.ts';
import { planBan } from './ban.ts';
import { releaseHeldBy } from './flush.ts';
import { recordChange } from './record-change.ts';
import { describeChange } from './show-change.ts';
import { planSync } from './sync.ts';
import { planRelease } from './unban.ts';

/** `banctl serve`: answers the Python action on a socket, until a signal ends it. */
export function serveCommand(settings: Settings): Promise<ExitCode> {
  surviveEndings();
  return serve(settings, { prepare, describe }, VERSION);
}

async function prepare(request: Request, hello: Hello): Promise<Work | Said> {
  const settings = resolveSettings(request.given, hello.env);
  const { jail } = settings;
  if (jail === undefined || settings.all)
    throw new BanctlError(EXIT.usage, `${request.command} is served for a jail alone`, 'give --jail NAME');
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
      const address = addressOf(request);
      return work(planBan(settings, [address]), { needs: { holder, address: address.text } });
    }
    case 'unban':
      return work(planRelease(jail, [addressOf(request)]));
    case 'flush':
      return work((bansNow) => releaseHeldBy(holder, bansNow()), urgently);
    default: {
      const plan = await planSync(settings, jail);
      if (typeof plan === 'string') return describe([], { result: 'not-needed', message: plan });
      return work(plan.changes, { ...urgently, skipped: plan.skipped });
    }
  }
}

function addressOf({ command, address }: Request) {
  if (address === undefined) throw new BanctlError(EXIT.usage, `${command} needs an address`);
  return parseAddress(address);
}

/** What a call prints, standard error included, and its exit code. */
function describe(outcomes: readonly Outcome[], reload: ReloadReport): Said {
  const { said, exitCode } = describeChange(outcomes, reload);
  return { exit: exitCode, said };
}
