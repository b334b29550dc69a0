import { applyEdits, bansOf, denyLines, type Edit } from '../banlist/ban-lines.ts';
import { changeList } from '../banlist/change.ts';
import { correctDigest, type Digest, digestOf } from '../banlist/digest.ts';
import { now } from '../bans/hold.ts';
import { planReload } from '../reload/plan.ts';
import {
  afterChange,
  currentError,
  isPending,
  isSameButList,
  readState,
  settled,
  upToDate,
} from '../reload/state.ts';
import { type ReloadState, writeState } from '../reload/state-file.ts';
import { namesOf, type ReloadReport } from '../reload/types.ts';
import { hasAttributes } from '../system/attributes.ts';
import type { Lock } from '../system/held-lock.ts';
import { withLock } from '../system/lock.ts';
import { type FileContent, readText, statFile } from '../system/read.ts';
import { type OnLoss, replaceFile, versionWritten } from '../system/write.ts';
import { warn } from '../terminal/print.ts';
import type { Turn } from './turn.ts';
import type { ChangeOptions, ChangesFor, Store, Written } from './types.ts';

/** The outcome of the reload in a dry run. */
export const DRY_RUN: ReloadReport = { result: 'skipped', message: 'nothing was changed: this is a dry run' };

/** The list as the only place of bans. */
export function listStore(options: ChangeOptions): Store {
  return {
    read: () => bansOf(denyLines(readText(options.banlist).text)),
    change: (changesFor) => changeBanlist(options, changesFor),
  };
}

/**
 * Applies changes to the list in one step, under its lock.
 *
 * @throws BanctlError as of withLock, readText and replaceFile; nothing has changed then
 */
export async function changeBanlist(options: ChangeOptions, changesFor: ChangesFor): Promise<Written> {
  const { banlist, lockTimeout, dryRun } = options;
  if (dryRun) return foresee(options, changesFor);
  const work = (lock: Lock, turn?: Turn) => writeLocked(options, changesFor, lock, turn);
  return options.kept === undefined
    ? withLock(banlist, { timeout: lockTimeout }, work)
    : options.kept.withLock(banlist, lockTimeout, work);
}

function foresee({ banlist, widening }: ChangeOptions, changesFor: ChangesFor): Written {
  const { text } = readText(banlist);
  const { edits, outcomes } = changeList(
    text,
    changesFor(() => bansOf(denyLines(text))),
    now(),
    { widening },
  );
  return { outcomes, isChanged: edits.length > 0, plan: DRY_RUN };
}

function writeLocked(options: ChangeOptions, changesFor: ChangesFor, lock: Lock, turn?: Turn): Written {
  const { banlist } = options;
  const list = readText(banlist);
  const asked = changesFor(() => bansOf(denyLines(list.text)));
  const changes = options.isWanted === undefined ? asked : asked.filter(options.isWanted);
  const progress = options.progress?.(changes.length);
  const { edits, outcomes } = changeList(list.text, changes, now(), {
    widening: options.widening,
    onChange: progress?.step,
  });
  progress?.stop();
  const known = turn?.unwritten === undefined ? readState(banlist, list) : upToDate(turn.unwritten, list);
  const before = isPending(known, namesOf(options)) ? withoutOldError(known) : settled(known);
  const isChanged = edits.length > 0;
  const keeping = { isLost: false };
  const keepsAttributes = isChanged ? attributesKept(banlist, list, known, keeping) : undefined;
  if (isChanged) replaceFile(banlist, applyEdits(list.text, edits), { lock, seen: list, keepsAttributes });
  const version = isChanged ? versionWritten(banlist) : undefined;
  const looked =
    keepsAttributes === undefined
      ? { plain: version ?? null, attributed: null }
      : { plain: null, attributed: keeping.isLost ? null : (version ?? null) };
  const changed =
    version === undefined
      ? before
      : { ...afterChange(before, digestAfter(before, list.text, edits), version), ...looked };
  const { plan, state } = planReload(changed, options, options.isUrgent === true);
  const mayWait = turn !== undefined && plan !== 'reload' && isSameButList(known, state);
  if (state !== known && mayWait) turn.leave(state);
  else if (!mayWait && (state !== known || turn?.unwritten !== undefined)) {
    turn?.leave(undefined);
    writeState(banlist, state, lock);
  }
  const written = { outcomes, isChanged, plan };
  if (version === undefined) return written;
  const changeAgain = () => changeBanlist(options, changesFor);
  return { ...written, replaced: { before: list.text, version, keepsAttributes, changeAgain } };
}

/** Looks only at a version that banctl has not written itself: most lists have nothing that must be kept. */
function attributesKept(
  banlist: string,
  { version }: FileContent,
  { plain, attributed }: ReloadState,
  keeping: { isLost: boolean },
): OnLoss | undefined {
  if (version === undefined || version === plain) return undefined;
  const has = version === attributed || hasAttributes(banlist);
  // A list that has gone or changed by now is not written.
  if (typeof has === 'string' && statFile(banlist)?.version === version)
    warn(`cannot see whether ${banlist} has an access list, which it loses: ${has}`);
  if (has !== true) return undefined;
  return (why) => {
    keeping.isLost = true;
    warn(`${banlist} has lost its access list or extended attributes: ${why}`);
  };
}

/** A reading of the configuration by Apache ends every earlier error. */
function withoutOldError(state: ReloadState): ReloadState {
  return state.error === null || currentError(state) !== null ? state : { ...state, error: null };
}

function digestAfter({ digest, key }: ReloadState, text: Buffer, edits: readonly Edit[]): Digest {
  const corrected = edits.reduce<Digest | undefined>(
    (sum, { start, end, insert }) =>
      sum === undefined ? undefined : correctDigest(sum, key, text.subarray(start, end), Buffer.from(insert)),
    digest,
  );
  return corrected ?? digestOf(Buffer.concat(applyEdits(text, edits)), key);
}
