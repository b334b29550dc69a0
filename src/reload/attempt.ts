import { type Configuration, pathsTo, problemOf, type Refusal, whyNotRead } from '../apache/configuration.ts';
import {
  findApache,
  hasOlderChild,
  type RunningApache,
  type Sighting,
  servingChildren,
  wasStopped,
  youngestOf,
} from '../apache/processes.ts';
import { reloadGracefully, requestGraceful, runReloadCommand } from '../apache/reload-signal.ts';
import { EMPTY, isOrdered } from '../banlist/digest.ts';
import { describeOverruling, overruling } from '../banlist/overruling.ts';
import { monotonicMs } from '../system/process.ts';
import { readText } from '../system/read.ts';
import { record } from '../system/record.ts';
import { type Asked, ask } from './ask.ts';
import { updateState } from './locked.ts';
import { LONGEST_INTERVAL_SECONDS, shortestInterval } from './plan.ts';
import {
  isLoadedBy,
  knownApache,
  loadedNow,
  lookAtState,
  markOf,
  wayOf,
  withApache,
  withError,
} from './state.ts';
import type { KnownApache, ReloadState } from './state-file.ts';
import { type ReloadOptions, type ReloadReport, type Target, targetsOf } from './types.ts';

/* One reload in five steps: test each configuration, find each Apache, refuse what cannot work, signal, record. */

/**
 * The limit for a reload together with the wait for another one: fail2ban kills an action after 60 s, treats the ban as failed, and never
 * lifts it.
 */
const LONGEST_CALL_SECONDS = 55;
/** Of the list that are watched; nearly always there is one. */
const MOST_PATHS = 8;

/**
 * Reloads each Apache of these options once. A reload counts with its duration, even if it failed.
 *
 * @param before the state before the call
 * @param beganMs when the call began, by monotonicMs()
 */
export async function attemptReload(
  options: ReloadOptions,
  before: ReloadState,
  { isForced, beganMs }: { isForced: boolean; beganMs: number },
): Promise<ReloadReport> {
  const beginMs = monotonicMs();
  const report = await new Attempt(options, before, isForced, beganMs + LONGEST_CALL_SECONDS * 1000).run();
  const { result } = report;
  const seconds = Math.round(monotonicMs() - beginMs) / 1000;
  if (result === 'done' || result === 'failed') record(options.record, { did: 'reload', result, seconds });
  return report;
}

/** An Apache whose configuration passed its test, or which only a command knows. */
interface Found extends Asked {
  readonly is: Sighting['is'];
  readonly apache?: RunningApache;
  /** What hides it. */
  readonly setting?: string;
}

/** The result for one of them. */
interface Ending {
  readonly report: ReloadReport;
  /** What to record about it. */
  readonly known?: KnownApache;
  /** The list does not matter to it. */
  readonly error?: string;
  readonly isLingering?: boolean;
}

class Attempt {
  private readonly options: ReloadOptions;
  private readonly before: ReloadState;
  private readonly isForced: boolean;
  private readonly deadline: number;
  private commandRun: Promise<string | undefined> | undefined;

  constructor(options: ReloadOptions, before: ReloadState, isForced: boolean, deadline: number) {
    this.options = options;
    this.before = before;
    this.isForced = isForced;
    this.deadline = deadline;
  }

  async run(): Promise<ReloadReport> {
    const found: Found[] = [];
    for (const target of targetsOf(this.options)) {
      const asked = await ask(target, this.left());
      const refused = await this.refuse(asked);
      if (refused !== undefined) return refused;
      found.push(find(asked));
    }
    // If the list changed since the call began, Apache reads the new version now.
    this.options.endTurns?.();
    const now = lookAtState(this.options.banlist);
    const endings: Ending[] = [];
    for (const one of found) endings.push(await this.signal(one, now));
    return this.record(now, endings);
  }

  private async refuse({ target, configuration }: Asked): Promise<ReloadReport | undefined> {
    if (configuration === undefined || configuration.result === 'passed') return undefined;
    if (configuration.result === 'no-apache' && target.reloadCommand !== undefined) return undefined;
    const message = problemOf(configuration) ?? '';
    return this.failed(message, configuration.result === 'refused' ? configuration.refusal : undefined);
  }

  private async signal(found: Found, now: ReloadState): Promise<Ending> {
    const { target, is, apache, configuration, setting } = found;
    const known = knownApache(now, target.name);
    const pidFile = apache?.pidFile ?? (is === 'stopped' ? pidFileOf(configuration) : null);
    if (is === 'stopped') {
      const message = 'apache is not running; it reads the list when it starts';
      return { report: { result: 'skipped', message }, known: this.remember(target, pidFile, known) };
    }
    if (is === 'hidden') {
      const message = `${setting} of this unit hides the apache of ${pidFileOf(configuration)}`;
      return { report: { result: 'failed', message }, error: message };
    }
    const notRead =
      apache === undefined || configuration === undefined || now.list === null
        ? undefined
        : whyNotRead(configuration, this.options.banlist);
    if (notRead !== undefined && !this.isForced) {
      const message = `apache ${notRead}`;
      // Without a ban in the list, Apache admits no visitor that banctl reports as banned.
      const result = now.digest === EMPTY ? 'skipped' : 'failed';
      return {
        report: { result, message },
        known: this.remember(target, pidFile, known),
        error: message,
      };
    }
    const twin = now.apaches.find((other) => pidFile !== null && other.pidFile === pidFile);
    if (!this.isForced && twin !== undefined && isLoadedBy(now, twin))
      return { report: { result: 'done' }, known: { ...twin, name: target.name } };
    const children = apache === undefined ? [] : servingChildren(apache);
    const isLingering =
      apache !== undefined &&
      twin?.process === apache.process &&
      twin.generation !== null &&
      hasOlderChild(apache, twin.generation);
    const paths = pathsTo(configuration, this.options.banlist).slice(0, MOST_PATHS);
    const way = wayOf(paths);
    const failure = await this.ask(target, apache);
    if (failure !== undefined && apache !== undefined && wasStopped(apache)) {
      const message = 'apache was stopped; it reads the list when it starts';
      return { report: { result: 'skipped', message }, known: this.remember(target, pidFile, known) };
    }
    if (failure !== undefined) return { report: { result: 'failed', message: failure }, error: failure };
    const but = notRead ?? this.overruled(now);
    return {
      report: {
        result: 'done',
        ...(but === undefined ? {} : { message: `apache was reloaded, but ${but}` }),
      },
      known: {
        name: target.name,
        pidFile,
        // If a link was switched during the reload, Apache may have read another file.
        loaded: notRead === undefined && wayOf(paths) === way ? loadedNow(now, pidFile) : null,
        ...markOf(pidFile),
        paths,
        way,
        process: apache?.process ?? null,
        generation: youngestOf(children),
      },
      isLingering,
      ...(notRead === undefined ? {} : { error: `apache ${notRead}` }),
    };
  }

  private overruled({ digest }: ReloadState): string | undefined {
    const { banlist } = this.options;
    const found = isOrdered(digest) ? overruling(readText(banlist).text) : undefined;
    return found === undefined ? undefined : describeOverruling(banlist, found);
  }

  private async ask(target: Target, apache: RunningApache | undefined): Promise<string | undefined> {
    const { reloadCommand, apachectl } = target;
    if (apache !== undefined) return reloadGracefully(apache, target, this.left());
    if (reloadCommand === undefined) return requestGraceful(apachectl, this.left());
    // One command reloads all of them.
    this.commandRun ??= runReloadCommand(reloadCommand, this.left());
    return this.commandRun;
  }

  private remember(target: Target, pidFile: string | null, known: KnownApache | undefined): KnownApache {
    if (known !== undefined && known.pidFile === pidFile) return known;
    const { name } = target;
    return { name, pidFile, loaded: null, ...markOf(pidFile), process: null, generation: null };
  }

  private async record(seen: ReloadState, endings: readonly Ending[]): Promise<ReloadReport> {
    const report = worstOf(endings.map((ending) => ending.report));
    await updateState(this.options, (state) => {
      // If the list changed during the reload, Apache may have read the old or the new version.
      const isSeen = state.list === seen.list && state.digest === seen.digest;
      // A hold may have changed: banctl has followed the file since it wrote it under the lock.
      const isFollowed = [seen, state].every(({ mark }) => mark.count === this.before.mark.count);
      const isSame = isSeen || (isFollowed && state.digest === seen.digest);
      const keep = (known: KnownApache): KnownApache => {
        if (isSeen || known.loaded === null) return known;
        return { ...known, loaded: isSame ? { ...known.loaded, list: state.list } : null, wasAtRest: false };
      };
      let recorded = state;
      for (const { known } of endings) if (known !== undefined) recorded = withApache(recorded, keep(known));
      const now = Date.now();
      const isDone = endings.some((ending) => ending.report.result === 'done');
      const spaced = isDone ? { ...this.spacing(endings), lastReload: now } : {};
      const error = endings.find((ending) => ending.error !== undefined)?.error ?? null;
      return [withError({ ...recorded, ...spaced, lastTry: now }, error), undefined];
    });
    return report;
  }

  private spacing(endings: readonly Ending[]): Pick<ReloadState, 'spacing' | 'isLingering'> {
    const { before, options } = this;
    const interval = shortestInterval(before, options);
    const isLingering = endings.some((ending) => ending.isLingering === true);
    const doubled = 2 * (before.isLingering ? before.spacing : interval);
    const spacing = isLingering ? Math.max(interval, Math.min(LONGEST_INTERVAL_SECONDS, doubled)) : interval;
    return { spacing, isLingering };
  }

  private async failed(message: string, refusal: Refusal | undefined): Promise<ReloadReport> {
    await updateState(this.options, (state) => [
      withError({ ...state, lastTry: Date.now() }, message),
      undefined,
    ]);
    return { result: 'failed', message, ...(refusal === undefined ? {} : { refusal }) };
  }

  private left(): number {
    return Math.max(1, (this.deadline - monotonicMs()) / 1000);
  }
}

function find(asked: Asked): Found {
  if (asked.configuration?.result !== 'passed') return { ...asked, is: 'unseen' };
  return { ...asked, ...findApache(asked.configuration) };
}

export function pidFileOf(configuration: Configuration | undefined): string | null {
  return configuration?.result === 'passed' ? configuration.pidFile : null;
}

/** Of several Apaches: one that failed, else one that was reloaded; messages about the others are appended. */
export function worstOf(reports: readonly ReloadReport[]): ReloadReport {
  const [first, ...others] = [...reports].sort((one, other) => rank(one) - rank(other));
  if (first === undefined) return { result: 'not-needed' };
  const message = first.message ?? others.find((report) => report.message !== undefined)?.message;
  return message === undefined ? first : { ...first, message };
}

function rank({ result }: ReloadReport): number {
  return ['failed', 'done'].indexOf(result) >>> 0;
}
