import { parseAddress } from '../bans/address.ts';
import type { Change, Outcome, Outcomes, Placing } from '../bans/change.ts';
import { type Hold, isByHand, isOver, isSameAsked, WIDENED_PREFIX } from '../bans/hold.ts';
import { addHold, releaseHolds, sameHold, sameHolds, setHold } from '../bans/hold-changes.ts';
import { BanctlError, EXIT } from '../system/errors.ts';
import { LONGEST_TEXT_BYTES } from '../system/read.ts';
import {
  type Ban,
  bansOf,
  bansOfLine,
  type DenyLine,
  type Draft,
  denyLines,
  type Edit,
  foreignArguments,
  formatBan,
  insertionPoint,
  rewritten,
} from './ban-lines.ts';
import { type BanFinder, findAlone, findBans, indexBans } from './find.ts';
import { networkOf, recount, type Widening } from './networks.ts';
import type { DenyArgument } from './syntax.ts';

/** VARBUF_MAX_LEN in httpd's server/config.c is 16 MiB. Bytes. */
const LONGEST_LINE = 2 ** 24 - 2 ** 10;
const MOST_BYTES_A_UNIT = 3;

const NONE: readonly never[] = [];

export interface ListOptions {
  /** The only ban of the text, if it is known to have no other line. */
  readonly alone?: Ban | undefined;
  readonly widening?: Widening | undefined;
  /** Called for each change. */
  readonly onChange?: (() => void) | undefined;
}

/**
 * Applies changes to the list, pure and in the given order; returns an outcome for each that adds, sets or releases.
 *
 * @throws BanctlError cannotWrite for a ban with more holds than Apache can read
 */
export function changeList(
  text: Buffer,
  changes: readonly Change[],
  now: number,
  { alone, widening, onChange }: ListOptions = {},
): { edits: Edit[]; outcomes: Outcomes } {
  const isByHand = changes.some((change) => change.verb === 'release' && change.holder === null);
  const isWidened = alone === undefined && text.includes(WIDENED_PREFIX);
  const countsNetworks = isWidened || widening !== undefined;
  const needsLines = countsNetworks || (isByHand && alone === undefined);
  const lines = needsLines ? denyLines(text) : [];
  const foreign = new Set(lines.flatMap(foreignAddresses));
  const finder = needsLines ? indexBans(lines) : findIn(text, changes.length, alone);
  const drafts = new Map<string, Draft>();
  const drafting: Drafting = { finder, drafts, placed: new Map(), isWidened, now };
  const outcomes = new Map<Change, Outcome>();
  const releases = new Map<Change, () => Outcome>();
  for (const change of changes) {
    onChange?.();
    if (change.verb === 'count') continue;
    if (change.verb === 'add' || change.verb === 'set') outcomes.set(change, place(change, drafting));
    else if (change.verb === 'release') releases.set(change, release(change, drafting, foreign));
    else {
      const draft = draftOf(change.address, drafting);
      if (change.verb === 'adopt') adopt(change, draft);
      else if (change.verb === 'cede') cede(change, draft);
      else draft.holds = releaseHolds(draft.holds, () => false, now);
    }
  }
  if (countsNetworks) {
    const draftFor = (address: string) => draftOf(address, drafting);
    recount(changes, { bans: bansOf(lines), drafts, draftOf: draftFor, widening, now });
  }
  // The result of a release is known only at the end: a later change may have freed the range around the address too.
  for (const [change, answer] of releases) outcomes.set(change, answer());
  const all = [...drafts.values()];
  const edits = all.flatMap(editsOf);
  const added = all.filter((draft) => draft.lines.length === 0 && isAlive(draft));
  if (added.length > 0) {
    const at = insertionPoint(text);
    edits.push({
      start: at,
      end: at,
      insert: added.map(linesOf).join(''),
    });
  }
  edits.push(...foreignEdits(lines, changes, drafts));
  refuseTooLarge(text, edits);
  return { edits, outcomes };
}

function findIn(text: Buffer, count: number, alone: Ban | undefined): BanFinder {
  return alone === undefined ? findBans(text, count) : findAlone(alone);
}

/** @throws BanctlError cannotWrite for a text that grows beyond what banctl can read; a text that shrinks is fine */
function refuseTooLarge(text: Buffer, edits: readonly Edit[]): void {
  let growth = 0;
  for (const { start, end, insert } of edits) growth += Buffer.byteLength(insert) - (end - start);
  if (growth > 0 && text.length + growth > LONGEST_TEXT_BYTES)
    throw new BanctlError(
      EXIT.cannotWrite,
      'the list would grow beyond 64 MiB, the most that banctl reads',
      'nothing was changed; lift bans, or ban ranges',
    );
}

/** The changes that drop expired holds by hand. */
export function tidyOver(bans: readonly Ban[], now: number): Change[] {
  const over = bans.filter((ban) => ban.holds.some((hold) => isByHand(hold.holder) && isOver(hold, now)));
  return over.map(({ address }) => ({ verb: 'tidy', address }));
}

/** A list during its changes. */
interface Drafting {
  readonly finder: BanFinder;
  readonly drafts: Map<string, Draft>;
  /** Ranges for addresses that this call asked for, which the list does not contain yet. */
  readonly placed: Map<string, Set<string>>;
  /** Whether the list has networks that are banned instead of addresses. */
  readonly isWidened: boolean;
  readonly now: number;
}

function place(change: Placing, drafting: Drafting): Outcome {
  const { hold } = change;
  const { isWidened, placed, now } = drafting;
  const network = isWidened ? networkOf(change.target)?.text : undefined;
  const isInNetwork = network !== undefined && draftOf(network, drafting).widenedAfter !== undefined;
  const target = isInNetwork ? network : change.target;
  const draft = draftOf(target, drafting);
  if (target !== hold.address) placed.set(hold.address, (placed.get(hold.address) ?? new Set()).add(target));
  const { holds: before } = draft;
  // Who made this ban is not known, so nothing may become its only holder: with that it would end.
  if (change.verb === 'set' && draft.unknownHolder)
    return { address: hold.address, status: 'already-banned', heldBy: NONE, isChanged: false };
  const status = isAlive(draft) ? 'already-banned' : 'banned';
  draft.holds = change.verb === 'add' ? addHold(before, change.hold, now) : setHold(before, change.hold, now);
  const isChanged = status === 'banned' || !sameHolds(before, draft.holds);
  draft.unknownHolder = false;
  for (const elsewhere of draftsNaming(hold.address, drafting)) {
    if (elsewhere.address !== target) {
      elsewhere.holds = releaseHolds(elsewhere.holds, (other) => isSameAsked(other, hold), now);
    }
  }
  return { address: hold.address, status, heldBy: NONE, isChanged };
}

/** An existing hold of the same holder is newer. */
function adopt({ holds }: Extract<Change, { verb: 'adopt' }>, draft: Draft): void {
  const isHere = (hold: Hold) => draft.holds.some((other) => isSameAsked(other, hold));
  if (!isAlive(draft)) draft.unknownHolder = holds.length === 0;
  draft.holds = [...draft.holds, ...holds.filter((hold) => !isHere(hold))];
}

function cede({ holds }: Extract<Change, { verb: 'cede' }>, draft: Draft): void {
  draft.holds = draft.holds.filter((hold) => !holds.some((known) => sameHold(known, hold)));
  draft.unknownHolder = false;
}

function release(
  change: Extract<Change, { verb: 'release' }>,
  drafting: Drafting,
  foreign: ReadonlySet<string>,
): () => Outcome {
  const { finder, drafts, now } = drafting;
  const { address, holder, seen } = change;
  const named = draftsNaming(address, drafting).filter(isAlive);
  const hasId = isReleasedId(change, named);
  const isForeign = holder === null && foreign.has(address);
  let isChanged = isForeign;
  const isReleased = (hold: Hold, banned = hold.address) =>
    (hold.address === address || (holder === null && banned === address)) &&
    (holder === null || (hold.holder === holder && hasId(hold))) &&
    (seen === undefined || seen.some((known) => sameHold(known, hold)));
  for (const draft of named) {
    const { holds: before, unknownHolder } = draft;
    draft.holds = releaseHolds(before, (hold) => isReleased(hold, draft.address), now);
    if (draft.address === address) draft.unknownHolder = false;
    isChanged ||= draft.holds.length < before.length || draft.unknownHolder !== unknownHolder;
  }
  return () => {
    // A network that was banned instead of the address has returned the hold by now.
    const left = new Set([
      ...named,
      ...(drafts.get(address) === undefined ? [] : [draftOf(address, drafting)]),
    ]);
    const holders = [...left].flatMap((draft) => draft.holds.map((hold) => hold.holder));
    const wider = finder.covering(parseAddress(address)).filter(isStillThere(drafting));
    const heldBy = [...new Set([...holders, ...wider])];
    if (heldBy.length > 0) return { address, status: 'still-held', heldBy, isChanged };
    return { address, status: named.length > 0 || isForeign ? 'unbanned' : 'not-banned', heldBy, isChanged };
  };
}

/** An older banctl kept no ids: where no hold has the id, the one without is meant. */
function isReleasedId(
  { address, holder, id }: Extract<Change, { verb: 'release' }>,
  named: readonly Draft[],
): (hold: Hold) => boolean {
  if (id === undefined) return () => true;
  const isKept = named.some(({ holds }) =>
    holds.some((hold) => hold.holder === holder && hold.address === address && hold.id === id),
  );
  const released = isKept ? id : undefined;
  return (hold) => hold.id === released;
}

function isStillThere({ drafts }: Drafting): (address: string) => boolean {
  return (address) => {
    const draft = drafts.get(address);
    return draft === undefined || isAlive(draft);
  };
}

/** `seen` are bans found under another name: a range's line can have another spelling. */
function draftOf(address: string, { finder, drafts }: Drafting, seen: readonly Ban[] = NONE): Draft {
  const known = drafts.get(address);
  if (known !== undefined) return known;
  const named = seen.length === 0 ? finder.naming(address) : [...finder.naming(address), ...seen];
  const own = named.length === 0 ? NONE : named.filter((ban) => ban.address === address);
  const lines = own.length < 2 ? own : [...new Map(own.map((ban) => [ban.start, ban])).values()];
  const draft = {
    address,
    lines,
    holds: lines.length === 0 ? NONE : lines.flatMap((line) => line.holds),
    widenedAfter: lines.find((line) => line.widenedAfter !== undefined)?.widenedAfter,
    unknownHolder: lines.some((line) => line.holds.length === 0),
  };
  drafts.set(address, draft);
  return draft;
}

/** The bans of an address, and the bans that were asked for it. */
function draftsNaming(address: string, drafting: Drafting): Draft[] {
  const bans = drafting.finder.naming(address);
  const placed = drafting.placed.get(address) ?? NONE;
  if (bans.length === 0 && placed === NONE) return [draftOf(address, drafting)];
  const names = new Set([address, ...placed, ...bans.map((ban) => ban.address)]);
  return [...names].map((name) => draftOf(name, drafting, bans));
}

function isAlive(draft: Draft): boolean {
  return draft.holds.length > 0 || draft.unknownHolder;
}

function editsOf(draft: Draft): readonly Edit[] {
  const [first] = draft.lines;
  if (first === undefined) return NONE;
  const duplicates = draft.lines.slice(1);
  const whole = duplicates.filter(({ joined }) => joined === undefined);
  const removals = whole.map(({ start, end }) => ({ start, end, insert: '' }));
  if (first.joined !== undefined) return removals;
  if (!isAlive(draft)) return [{ start: first.start, end: first.end, insert: '' }, ...removals];
  if (first.widenedAfter === draft.widenedAfter && sameHolds(first.holds, draft.holds)) return removals;
  return [{ start: first.start, end: first.end, insert: linesOf(draft) }, ...removals];
}

/** @throws BanctlError cannotWrite if the comment would be a line that Apache refuses, together with the whole list */
function linesOf({ address, holds, widenedAfter }: Draft): string {
  const lines = formatBan(address, holds, widenedAfter);
  if (lines.length * MOST_BYTES_A_UNIT > LONGEST_LINE && Buffer.byteLength(lines) > LONGEST_LINE)
    throw new BanctlError(
      EXIT.cannotWrite,
      `${address} would have more holds than fit into a line of Apache's`,
      'nothing was changed, ban the whole range',
    );
  return lines;
}

function foreignAddresses(line: DenyLine): string[] {
  return foreignArguments(line).flatMap(({ address }) => address?.text ?? []);
}

/** Changes to lines that banctl did not write: a release by hand changes any, and another change those with its bans. */
function foreignEdits(
  lines: readonly DenyLine[],
  changes: readonly Change[],
  drafts: ReadonlyMap<string, Draft>,
): Edit[] {
  const released = new Set(
    changes.flatMap((change) =>
      change.verb === 'release' && change.holder === null ? [change.address] : [],
    ),
  );
  const isNamed = ({ address }: DenyArgument) => released.has(address?.text ?? '');
  const foreign = lines.filter((line) => foreignArguments(line).some(isNamed));
  const joined = [...drafts.values()].flatMap((draft) => draft.lines.flatMap((ban) => ban.joined ?? []));
  const each = new Map([...foreign, ...joined].map((line) => [line.banStart, line]));
  return [...each.values()].flatMap((line) => foreignEdit(line, isNamed, drafts));
}

function foreignEdit(
  line: DenyLine,
  isRemoved: (argument: DenyArgument) => boolean,
  drafts: ReadonlyMap<string, Draft>,
): Edit[] {
  const others = foreignArguments(line);
  const kept = others.filter((argument) => !isRemoved(argument));
  const bans = bansOfLine(line).map((ban) => {
    const draft = drafts.get(ban.address);
    if (draft === undefined)
      return { text: formatBan(ban.address, ban.holds, ban.widenedAfter), isSame: true };
    const isHere = isAlive(draft) && draft.lines[0]?.start === ban.start;
    const isSame = isHere && sameHolds(ban.holds, draft.holds) && ban.widenedAfter === draft.widenedAfter;
    return { text: isHere ? linesOf(draft) : '', isSame };
  });
  const isUnchanged = kept.length === others.length && bans.every(({ isSame }) => isSame);
  return isUnchanged
    ? []
    : [
        rewritten(
          line,
          bans.map(({ text }) => text),
          kept,
        ),
      ];
}
