import { logicalLines, otherSections } from './syntax.ts';

/** A directive in the list that makes Apache admit banned visitors. */
export interface Overruling {
  readonly line: number;
  readonly content: string;
}

/** mod_access_compat then asks for one of Allow and Require; mod_authz_core for one of this section and those before it. */
const ANY = /^(["']?)(?:satisfy\1\s+(["']?)any|authmerging\1\s+(["']?)or)\b/i;

/** The first such directive outside the sections that Apache may ignore. */
export function overruling(text: Buffer): Overruling | undefined {
  const isElsewhere = otherSections(text);
  for (const { start, number, content } of logicalLines(text))
    if (ANY.test(content) && !isElsewhere(start)) return { line: number, content };
  return undefined;
}

export function describeOverruling(path: string, { line, content }: Overruling): string {
  return `${path} line ${line} admits banned visitors: ${content}; remove it`;
}
