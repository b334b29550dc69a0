import type { AuditOptions } from '../audit/types.ts';

/** What setup needs to know. */
export interface SetupOptions extends AuditOptions {
  /** The root of the system to set up; undefined is this host's own. */
  readonly root: string | undefined;
  readonly remove: boolean;
  /** Switch the jail on. */
  readonly enableJail: boolean;
  /** Have the kit's jails use the Python action, and start its server. */
  readonly enableServe: boolean;
  /** Do not configure the ban directory. */
  readonly listOnly: boolean;
}
