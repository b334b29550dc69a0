import { type Hold, isOfOtherHost, isOver } from '../bans/hold.ts';
import {
  fieldOf,
  formatValue,
  hostOf,
  type Lifts,
  liftOf,
  runsLonger,
  sameValue,
  type Value,
} from './entry.ts';

/*
 * The rules of sharing: what a host does about one address. Pure; see docs/fleet.md.
 *
 * Absence is never a release, because a hold is absent after fail2ban stops, and after a list is lost. Only a lift releases: it
 * makes void each hold that did not begin later.
 */

/** A change for the engine, as its script takes it. */
export type Push =
  /** Sets a field, if it differs; with `over` only where this still stands, where `''` is nothing. */
  | {
      readonly push: 'hold';
      readonly field: string;
      readonly value: Value;
      readonly over: string | undefined;
    }
  /** Removes a field that still has this value. */
  | { readonly push: 'drop'; readonly field: string; readonly seen: string }
  | { readonly push: 'lift'; readonly key: string; readonly time: number };

export type Step =
  | Push
  /** Makes the hold of another host stand here, exactly so. */
  | { readonly here: 'set'; readonly hold: Hold }
  /** `isJails`: a jail of this host must forget the address too. */
  | { readonly here: 'release'; readonly hold: Hold; readonly isJails: boolean }
  /** It may not be banned here. */
  | { readonly here: 'refuse'; readonly field: string };

export interface View {
  readonly self: string;
  readonly address: string;
  /** What holds the address here, asked for under this name. */
  readonly here: readonly Hold[];
  /** What the engine has of it, by `HOLDER@HOST`; undefined: the engine is not known now. */
  readonly there: ReadonlyMap<string, Value> | undefined;
  /** All that this host remembers, and what the engine has. */
  readonly lifts: Lifts;
  /** Of this host's clock. Seconds. */
  readonly now: number;
  /** What the engine's clock shows. Seconds. */
  readonly engineNow: number;
  /** This host was in step with the fleet within the time that lifts are remembered. */
  readonly wasInStep: boolean;
  /** Banned here by a line without a holder: it stays as it is. */
  readonly isHeldByUnknown: boolean;
  /** Protected here, or too broad. */
  readonly isRefused: () => boolean;
  /** A lift of exactly this field that this host spoke: its fail2ban knows. */
  readonly isSpokenHere: (field: string) => boolean;
}

/** The engine keeps a hold this long after its end, because another host's clock may be behind. */
const OVER_SECONDS = 300;

export function decide(view: View): Step[] {
  const fields = new Map<string, { own?: Hold; others: Hold[]; copy?: Hold; there?: Value }>();
  const at = (field: string) => {
    const known = fields.get(field) ?? { others: [] };
    fields.set(field, known);
    return known;
  };
  for (const hold of view.here) {
    const known = at(fieldOf(hold, view.self));
    if (isOfOtherHost(hold.holder)) known.copy = hold;
    else {
      // A jail can hold an address once for each id. The other hosts know the hold that ends last.
      const isLast = known.own === undefined || runsLonger(hold, known.own);
      const other = isLast ? known.own : hold;
      if (other !== undefined) known.others.push(other);
      if (isLast) known.own = hold;
    }
  }
  for (const [holder, value] of view.there ?? []) at(`${view.address} ${holder}`).there = value;
  const steps: Step[] = [];
  for (const [field, { own, others, copy, there }] of fields) {
    if (own !== undefined) steps.push(...ownSteps(view, field, own, there));
    for (const other of others)
      if (isVoid(view, field, other)) steps.push(release(other, !view.isSpokenHere(field)));
    if (copy !== undefined)
      steps.push(...(own === undefined ? copySteps(view, field, copy, there) : [release(copy)]));
    if (own === undefined && copy === undefined && there !== undefined)
      steps.push(...missingSteps(view, field, there));
    if (there !== undefined) steps.push(...engineSteps(view, field, there));
  }
  return steps;
}

/** A hold of this host. Its end is fail2ban's, or the audit's. */
function ownSteps(view: View, field: string, own: Hold, there: Value | undefined): Step[] {
  if (isVoid(view, field, own)) return [release(own, !view.isSpokenHere(field))];
  if (isOver(own, view.now)) return [];
  // A hold that begins in the future could never be lifted: lifts never come from there. Nor does one begin earlier than it
  // did: the beginning shows which of two values is older.
  const newest = there === undefined || isVoid(view, field, there) ? 0 : there.since;
  const since = Math.min(Math.max(own.since, newest), view.engineNow);
  const value = { since, until: own.until, reason: own.reason };
  const steps: Step[] = since === own.since ? [] : [{ here: 'set', hold: { ...own, since } }];
  if (view.there === undefined || (there !== undefined && isSaid(value, there))) return steps;
  // Else a host that was away would bring the later end back. The lift would also void what the jail holds for an older id.
  if (own.id === undefined && there !== undefined && runsLonger(there, value) && there.since < since)
    steps.push({ push: 'lift', key: field, time: there.since });
  steps.push({ push: 'hold', field, value, over: undefined });
  return steps;
}

/**
 * True if the engine has it so. After fail2ban's restart, two differences are no news for others: fail2ban forgets why it
 * banned, and it keeps the time of a ban rounded up, which could be in the future when this host first shared the hold.
 */
function isSaid(value: Value, there: Value): boolean {
  const since = there.since === value.since - 1 ? there.since : value.since;
  return sameValue({ since, until: value.until, reason: value.reason ?? there.reason }, there);
}

/** What stands here for another host, or for this host's own hold after a flush. */
function copySteps(view: View, field: string, copy: Hold, there: Value | undefined): Step[] {
  if (isVoid(view, field, copy)) {
    const isReplaced = there !== undefined && !isVoid(view, field, there);
    return isReplaced ? [takeOver(copy, there)] : [release(copy)];
  }
  if (there !== undefined && isVoid(view, field, there)) return isOver(copy, view.now) ? [release(copy)] : [];
  if (there !== undefined && there.since < copy.since && view.wasInStep && !isOver(copy, view.now))
    return [{ push: 'hold', field, value: copy, over: formatValue(there) }];
  if (isOver({ ...copy, ...there }, view.now)) return [release(copy)];
  if (there !== undefined && !sameValue(copy, there)) return [takeOver(copy, there)];
  if (there !== undefined || view.there === undefined) return [];
  // It is the engine that lost it.
  return view.wasInStep ? [{ push: 'hold', field, value: copy, over: '' }] : [release(copy)];
}

function missingSteps(view: View, field: string, there: Value): Step[] {
  if (isVoid(view, field, there) || isOver(there, view.now) || view.isHeldByUnknown) return [];
  if (view.isRefused()) return [{ here: 'refuse', field }];
  const holder = field.slice(view.address.length + 1);
  return [{ here: 'set', hold: { holder, address: view.address, ...there } }];
}

/** Any host cleans up. */
function engineSteps(view: View, field: string, there: Value): Step[] {
  const lift = liftOf(view.lifts, view.address, field);
  const drop: Step = { push: 'drop', field, seen: formatValue(there) };
  if (lift !== undefined && there.since <= lift.time)
    return [{ push: 'lift', key: lift.key, time: lift.time }, drop];
  return there.until !== null && there.until + OVER_SECONDS <= view.engineNow ? [drop] : [];
}

function isVoid(view: View, field: string, { since }: Value): boolean {
  const lift = liftOf(view.lifts, view.address, field);
  return lift !== undefined && since <= lift.time;
}

function takeOver({ holder, address }: Hold, { since, until, reason }: Value): Step {
  return { here: 'set', hold: { holder, address, since, until, reason } };
}

function release(hold: Hold, isJails = false): Step {
  return { here: 'release', hold, isJails };
}

/** The lifts that the engine lacks, or has older. */
export function missingLifts(remembered: Lifts, there: Lifts): Push[] {
  return [...remembered]
    .filter(([key, time]) => time > (there.get(key) ?? -1))
    .map(([key, time]) => ({ push: 'lift', key, time }));
}

/** True for a field of this host. */
export function isOwnField(field: string, self: string): boolean {
  return hostOf(field) === self;
}
