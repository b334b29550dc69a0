import { type Hold, isByHand, isOver, untilOf } from './hold.ts';

/** The result for one address: the words of the JSON results. */
export type Status = 'banned' | 'already-banned' | 'unbanned' | 'not-banned' | 'still-held' | 'skipped';

/** A requested hold; undefined fields come from the holder's earlier hold, if that has not expired. */
export interface HoldRequest {
  readonly holder: string;
  /** Canonical text of the requested address. */
  readonly address: string;
  /** Seconds since the epoch; undefined: since now, or as long as the holder has held it already. */
  readonly since: number | undefined;
  /** Seconds; null is for ever. */
  readonly duration: number | null;
  readonly reason: string | null;
}

/** The holds of a ban after `request`: a holder has one hold for each requested address; the last request counts. */
export function addHold(holds: readonly Hold[], request: HoldRequest, now: number): Hold[] {
  const earlier = holds.find((hold) => isRequested(hold, request) && !isOver(hold, now));
  const { holder, address } = request;
  const since = request.since ?? earlier?.since ?? now;
  const until = untilOf(request.since ?? now, request.duration);
  const added = { holder, address, since, until, reason: request.reason ?? earlier?.reason ?? null };
  if (holds.length === 0) return [added];
  return [...holds.filter((hold) => !isRequested(hold, request) && !mayDrop(hold, now)), added];
}

/** The holds of a ban in which the holder's hold on the address is exactly `hold`. */
export function setHold(holds: readonly Hold[], hold: Hold, now: number): Hold[] {
  return [...holds.filter((other) => !isRequested(other, hold) && !mayDrop(other, now)), hold];
}

/** The holds of a ban without those that `released` names. */
export function releaseHolds(holds: readonly Hold[], released: (hold: Hold) => boolean, now: number): Hold[] {
  return holds.filter((hold) => !released(hold) && !mayDrop(hold, now));
}

export function sameHolds(one: readonly Hold[], other: readonly Hold[]): boolean {
  return one.length === other.length && one.every((hold, index) => sameHold(hold, other[index]));
}

export function sameHold(one: Hold, other: Hold | undefined): boolean {
  return (
    one.holder === other?.holder &&
    one.address === other.address &&
    one.since === other.since &&
    one.until === other.until &&
    one.reason === other.reason
  );
}

function isRequested(hold: Hold, request: Pick<Hold, 'holder' | 'address'>): boolean {
  return hold.holder === request.holder && hold.address === request.address;
}

/**
 * Any call may drop an expired hold by hand, but not a jail's: fail2ban can have prolonged its ban without a call
 * (`set JAIL bantime`), so only a caller that has asked fail2ban knows.
 */
function mayDrop(hold: Hold, now: number): boolean {
  return isByHand(hold.holder) && isOver(hold, now);
}
