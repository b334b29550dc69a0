import type { Protected } from '../protection/names.ts';
import type { Asked } from '../reload/ask.ts';
import type { ReloadOptions } from '../reload/types.ts';
import type { PlaceOptions } from '../store/types.ts';
import type { AuditPlaces } from '../system/last-audit.ts';

/** What an audit needs to know. */
export interface AuditOptions extends PlaceOptions, ReloadOptions, AuditPlaces, Protected {
  readonly record?: string | undefined;
  readonly widenAfter: number | undefined;
  readonly prefixes: { readonly ipv4: number; readonly ipv6: number };
  readonly fail2banClient: string;
  readonly asksFail2ban: boolean;
  readonly fix: boolean;
  readonly dryRun: boolean;
  /** Apache's answers, if the caller has asked; otherwise each check asks again. */
  readonly asked?: readonly Asked[];
}
