import { untilOf } from '../bans/hold.ts';
import type { HeldBan } from './answers.ts';
import type { BanRow } from './database.ts';

/** {@link BanTimes} in seconds; null is for ever, or no bound. */
export interface BanSeconds {
  readonly usual: number | null;
  readonly isGrowing: boolean;
  readonly longest: number | null;
}

/** The value in fail2ban's database for an unknown ban time. */
const UNKNOWN = -2;

/**
 * The bans that a jail restores from its rows in the database. As in fail2ban, a ban time above the jail's present one is
 * cut to that (Jail.restoreCurrentBans, Fail2BanDb.getCurrentBans in fail2ban). Times are seconds since the epoch.
 */
export function restoredBans(rows: readonly BanRow[], times: BanSeconds, now: number): HeldBan[] {
  const bound = times.isGrowing ? times.longest : times.usual;
  return rows.flatMap(({ id, address, since, lasts }) => {
    const unbounded = lasts === UNKNOWN ? times.usual : lasts < 0 ? null : lasts;
    const seconds = bound === null ? unbounded : Math.min(unbounded ?? Number.POSITIVE_INFINITY, bound);
    const until = untilOf(since, seconds);
    return until !== null && until <= now ? [] : [{ id, address, since, until }];
  });
}
