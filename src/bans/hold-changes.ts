import { type Hold, isByHand, isOver, isSameAsked, untilOf } from './hold.ts';

/** The result for one address: the words of the JSON results. */
export type Status = 'banned' | 'already-banned' | 'unbanned' | 'not-banned' | 'still-held' | 'skipped';

/** A requested hold; undefined fields come from the holder's earlier hold, if that has not expired. */
export interface HoldRequest {
  readonly holder: string;
  /** Canonical text of the requested address. */
  readonly address: string;
  /** As in {@link Hold}. */
  readonly id?: string | undefined;
  /** Seconds since the epoch; undefined: since now, or as long as the holder has held it already. */
  readonly since: number | undefined;
  /** Seconds; null is for ever. */
  readonly duration: number | null;
  readonly reason: string | null;
}

/** The holds of a ban after `request`: a holder has one hold for each requested address and id; the last request counts. */
export function addHold(holds: readonly Hold[], request: HoldRequest, now: number): Hold[] {
  const earlier = holds.find((hold) => isSameAsked(hold, request) && !isOver(hold, now));
  const { holder, address, id } = request;
  const since = request.since ?? earlier?.since ?? now;
  const until = untilOf(request.since ?? now, request.duration);
  const reason = request.reason ?? earlier?.reason ?? null;
  // A spread of the id would take longer than all the rest.
  const added =
    id === undefined
      ? { holder, address, since, until, reason }
      : { holder, address, id, since, until, reason };
  if (holds.length === 0) return [added];
  return [...holds.filter((hold) => !isSameAsked(hold, request) && !mayDrop(hold, now)), added];
}

/** The holds of a ban in which the holder's hold on the address is exactly `hold`. */
export function setHold(holds: readonly Hold[], hold: Hold, now: number): Hold[] {
  return [...holds.filter((other) => !isSameAsked(other, hold) && !mayDrop(other, now)), hold];
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
    other !== undefined &&
    isSameAsked(one, other) &&
    one.since === other.since &&
    one.until === other.until &&
    one.reason === other.reason
  );
}

/**
 * Any call may drop an expired hold by hand, but not a jail's: fail2ban can have prolonged its ban without a call
 * (`set JAIL bantime`), so only a caller that has asked fail2ban knows.
 */
function mayDrop(hold: Hold, now: number): boolean {
  return isByHand(hold.holder) && isOver(hold, now);
}
