import type { ListFault } from './list.ts';

/** The codes are fixed: monitoring relies on them. */
export type FindingCode =
  | ListFault['code']
  | 'missing'
  | 'stale'
  | 'unknown-jail'
  | 'other-list'
  | 'reload-pending'
  | 'apache-down'
  | 'config-broken'
  | 'not-included'
  | 'bandir-unsearchable'
  | 'fail2ban-down'
  | 'shared-holder'
  | 'not-enforced'
  | 'proxy-banned'
  | 'no-audit'
  | 'unresolved-name'
  | 'leftover'
  | 'unsafe-permissions'
  | 'not-served'
  | 'list-in-use'
  | 'fleet-down'
  | 'fleet-cut'
  | 'fleet-behind'
  | 'fleet-clock'
  | 'fleet-twin'
  | 'fleet-refused';

export interface Finding {
  readonly code: FindingCode;
  readonly address?: string;
  readonly line?: number;
  /** The problem and, unless it is obvious, the remedy. */
  readonly message: string;
  /** The holder that it concerns; distinguishes findings. */
  readonly holder?: string;
  /** By what the holder counts, where that is not the address. */
  readonly id?: string | undefined;
}

export type Severity = 'error' | 'warning' | 'info';

/** An error: Apache admits a banned visitor, refuses a visitor who is not banned, or soon will. */
const SEVERITY: Readonly<Record<FindingCode, Severity>> = {
  'bad-line': 'error',
  'partial-address': 'error',
  'not-canonical': 'info',
  duplicate: 'info',
  shadowed: 'info',
  protected: 'error',
  expired: 'info',
  missing: 'error',
  stale: 'warning',
  'unknown-jail': 'warning',
  'other-list': 'warning',
  'reload-pending': 'error',
  'apache-down': 'error',
  'config-broken': 'error',
  'not-included': 'error',
  'bandir-unsearchable': 'error',
  'fail2ban-down': 'error',
  'shared-holder': 'warning',
  'not-enforced': 'error',
  'proxy-banned': 'error',
  'no-audit': 'warning',
  'unresolved-name': 'warning',
  leftover: 'info',
  'unsafe-permissions': 'warning',
  'not-served': 'info',
  'list-in-use': 'info',
  'fleet-down': 'error',
  'fleet-cut': 'error',
  'fleet-behind': 'warning',
  'fleet-clock': 'warning',
  'fleet-twin': 'warning',
  'fleet-refused': 'info',
};

/** True for useful hints that are not faults: an audit with nothing else is clean. */
export function isHint({ code }: Pick<Finding, 'code'>): boolean {
  return code === 'not-served' || code === 'list-in-use' || code === 'fleet-refused';
}

export const FINDING_CODES = Object.keys(SEVERITY) as FindingCode[];

export function severityOf({ code }: Finding): Severity {
  return SEVERITY[code];
}

/**
 * fail2ban records a ban before it runs the action, and a call changes the list before it reloads Apache. So a difference
 * counts only if it lasts this long. Milliseconds.
 */
export const SETTLING = 2000;
