import { isHostName } from '../bans/host-name.ts';
import type { ResolvedName } from '../protection/resolve-names.ts';
import type { Finding } from './finding.ts';
import type { AuditOptions } from './types.ts';

/**
 * Resolves the host names in `protect`. With `--fix`, a ban reads the answers from now on; without it, what a ban does
 * not know yet is a finding.
 */
export async function nameFindings(settings: AuditOptions): Promise<Finding[]> {
  if (!settings.protect.some(isHostName)) return [];
  const { keepNames, resolveNames } = await import('../protection/resolve-names.ts');
  const names = await resolveNames(settings);
  const isKept = settings.fix && !settings.dryRun && settings.record !== undefined;
  const trouble = isKept ? keepNames(settings.record, names) : undefined;
  const isRead = isKept && trouble === undefined;
  const messages = names.flatMap((name) => messageOf(name, isRead));
  return [...messages, ...(trouble === undefined ? [] : [trouble])].map((message) => ({
    code: 'unresolved-name',
    message,
  }));
}

function messageOf({ name, addresses, why, isNew }: ResolvedName, isRead: boolean): string[] {
  const known = addresses.map(({ text }) => text).join(', ');
  if (why === undefined)
    return isRead || !isNew ? [] : [`${name} is ${known} now, not protected yet; run banctl audit --fix`];
  if (known !== '') return [`${name} does not resolve (${why}); its last address ${known} stays protected`];
  return [`${name} does not resolve (${why}) and protects nothing; correct it in "protect"`];
}
