import type { Directive, Section } from '../apache/directives.ts';
import { ruledDirectories } from '../apache/directory-rule.ts';
import { isSamePlace } from '../system/links.ts';
import type { Finding } from './finding.ts';

/*
 * The parts of Apache's own configuration that bypass the ban, as far as they are visible there. The section that Apache
 * merges last decides: its Require lines replace the ban's, unless "AuthMerging And" combines them (mod_authz_core).
 */

interface Places {
  readonly banlist: string;
  readonly bandir: string | undefined;
}

/** A directive that makes Apache refuse banned addresses, by its place in the order. */
interface Ban {
  readonly position: number;
  readonly directive: Directive;
}

/** The kinds of sections in Apache's merge order, whatever their order in the files. */
const MERGED: readonly (readonly string[])[] = [
  ['directory', 'directorymatch', 'proxy', 'proxymatch'],
  ['files', 'filesmatch'],
  ['location', 'locationmatch'],
  ['if', 'elseif', 'else'],
];

/** Conditions that admit no visitor, or only this host. */
const HARMLESS = /^(?:all\s+denied|local)$/i;

export function bypassFindings(directives: readonly Directive[], places: Places): Finding[] {
  const bans = directives.flatMap((directive, position) =>
    isBan(directive, places) ? [{ directive, position }] : [],
  );
  if (bans.length === 0) return [];
  return [
    ...cacheFindings(directives, bans),
    ...satisfyFindings(directives),
    ...mergingFindings(directives, bans),
    ...sectionFindings(directives, bans),
    ...bans.flatMap(({ directive }) => enclosingFindings(directive, directives)),
  ];
}

function isBan({ included, name, argument }: Directive, { banlist, bandir }: Places): boolean {
  if (included !== undefined) return isSamePlace(included, banlist);
  if (bandir === undefined || name !== 'require') return false;
  return ruledDirectories(`Require ${argument}`).some((path) => isSamePlace(path, bandir));
}

/**
 * mod_cache answers before Apache asks who may, unless its handler is a usual one. Each virtual host has its own setting,
 * or the server's. What a <Location> has cached is cached by the usual handler alone.
 */
function cacheFindings(directives: readonly Directive[], bans: readonly Ban[]): Finding[] {
  const hosts = new Set([undefined, ...directives.map((directive) => hostOf(directive)?.id)]);
  const quickHosts = [...hosts].filter((host) => isQuick(directives, host));
  const cached = directives.find((directive) => {
    if (directive.name !== 'cacheenable' || merged(directive.sections).length > 0) return false;
    return bans.some((ban) => quickHosts.some((host) => isOn(directive, host) && isOn(ban.directive, host)));
  });
  if (cached === undefined) return [];
  return [finding(cached, 'mod_cache serves banned visitors from its cache', 'set CacheQuickHandler off')];
}

function isQuick(directives: readonly Directive[], host: number | undefined): boolean {
  const settings = directives.filter(({ name }) => name === 'cachequickhandler');
  const of = (id: number | undefined) => settings.findLast((setting) => hostOf(setting)?.id === id);
  return !/^off$/i.test((of(host) ?? of(undefined))?.argument ?? 'on');
}

/** True if a directive counts on this virtual host; undefined is the server without one. */
function isOn(directive: Directive, host: number | undefined): boolean {
  const own = hostOf(directive)?.id;
  return own === undefined || own === host;
}

/** A visitor whom Allow admits needs nothing else. Without an Allow, that is every visitor (mod_access_compat). */
function satisfyFindings(directives: readonly Directive[]): Finding[] {
  return directives
    .filter(({ name, argument }) => name === 'satisfy' && /^any$/i.test(argument))
    .map((any) => finding(any, '"Satisfy Any" admits banned visitors', 'write it as <RequireAny>'));
}

/** "AuthMerging Or" in the ban's own section, or in the list, admits whom another section admits. */
function mergingFindings(directives: readonly Directive[], bans: readonly Ban[]): Finding[] {
  const own = new Set(bans.flatMap(({ directive }) => merged(directive.sections).at(-1)?.id ?? []));
  const idOf = ({ sections }: Directive) => merged(sections).at(-1)?.id;
  return [...own].flatMap((id) => {
    const last = directives.findLast((one) => one.name === 'authmerging' && idOf(one) === id);
    if (last === undefined || !/^or$/i.test(last.argument)) return [];
    const isAdmitted = directives.some((one) => isOwnRequire(one) && idOf(one) !== id);
    const what = '"AuthMerging Or" admits banned visitors whom another section admits';
    return isAdmitted ? [finding(last, what, 'write "AuthMerging And"')] : [];
  });
}

function sectionFindings(directives: readonly Directive[], bans: readonly Ban[]): Finding[] {
  const opening = new Map<number, { directive: Directive; position: number }>();
  const merging = new Set<number>();
  directives.forEach((directive, position) => {
    const inner = merged(directive.sections).at(-1);
    if (inner === undefined) return;
    if (isOwnRequire(directive) && !opening.has(inner.id)) opening.set(inner.id, { directive, position });
    if (directive.name !== 'authmerging') return;
    if (/^and$/i.test(directive.argument)) merging.add(inner.id);
    else merging.delete(inner.id);
  });
  return [...opening].flatMap(([id, { directive, position }]) => {
    const isPast = !merging.has(id) && bans.some((ban) => getsPast(ban, directive, position));
    const inner = merged(directive.sections).at(-1);
    if (!isPast || inner === undefined) return [];
    const what = `${textOf(inner)} has its own Require lines, which admit banned visitors`;
    return [finding(directive, what, 'add "AuthMerging And" to it')];
  });
}

/** Sections around a ban, within which Apache does not ask for it always. */
function enclosingFindings(ban: Directive, directives: readonly Directive[]): Finding[] {
  const inner = merged(ban.sections).at(-1);
  return ban.sections.flatMap((section, at): Finding[] => {
    if (/^limit(?:except)?$/.test(section.name))
      return [
        finding(
          ban,
          `<${section.name}> bans for some methods of requests alone`,
          'write the ban outside of it',
        ),
      ];
    // Lines that stand side by side in a section are alternatives, as in a <RequireAny>.
    const isImplicit = section.id === inner?.id;
    if (section.name !== 'requireany' && !isImplicit) return [];
    const own = ban.sections[at + 1]?.id;
    const isChoice = directives.some(
      (other) =>
        other !== ban &&
        isRequire(other) &&
        other.sections.some(({ id }) => id === section.id) &&
        !other.sections.some(({ id }) => id === own) &&
        merged(other.sections).at(-1)?.id === inner?.id,
    );
    const name = isImplicit ? textOf(section) : '<requireany>';
    return isChoice
      ? [finding(ban, `${name} lets in the banned whom another line of it admits`, 'write <RequireAll>')]
      : [];
  });
}

function textOf({ name, argument }: Section): string {
  return `<${name}${argument === '' ? '' : ` ${argument}`}>`;
}

function isOwnRequire(directive: Directive): boolean {
  return isRequire(directive) && !/^not\s/i.test(directive.argument);
}

function isRequire({ name, argument }: Directive): boolean {
  return name === 'require' && !HARMLESS.test(argument);
}

/** True if Apache merges this section after the ban's. */
function getsPast({ directive: ban, position: banAt }: Ban, own: Directive, at: number): boolean {
  const [banSection] = merged(ban.sections);
  const sections = merged(own.sections);
  const [outer] = sections;
  const inner = sections.at(-1);
  if (banSection === undefined || outer === undefined || inner === undefined) return false;
  if (merged(ban.sections).at(-1)?.id === inner.id) return false;
  const host = hostOf(ban);
  if (host !== undefined && hostOf(own) !== undefined && hostOf(own)?.id !== host.id) return false;
  // An <If> inside another section is merged at the end of that section.
  const rank = sections.length > 1 ? MERGED.length : rankOf(inner);
  if (rank !== rankOf(banSection)) return rank > rankOf(banSection);
  if (rankOf(inner) < 3 && !isBelow(banSection, inner)) return false;
  // A virtual host's sections come after the server's.
  const isOnHost = hostOf(own) !== undefined;
  if (isOnHost !== (host !== undefined)) return isOnHost;
  return rankOf(inner) === 0 ? inner.argument !== banSection.argument : at > banAt;
}

function merged(sections: readonly Section[]): Section[] {
  return sections.filter((section) => rankOf(section) >= 0);
}

function rankOf({ name }: Section): number {
  return MERGED.findIndex((names) => names.includes(name));
}

function hostOf({ sections }: Directive): Section | undefined {
  return sections.find(({ name }) => name === 'virtualhost');
}

/** True if both sections can apply to the same request. */
function isBelow(ban: Section, own: Section): boolean {
  const isPattern = [ban, own].some(
    ({ name, argument }) => name.endsWith('match') || /^~/.test(argument) || /[*?[]/.test(argument),
  );
  const above = ban.argument.replace(/\/+$/, '');
  return isPattern || own.argument === above || own.argument.startsWith(`${above}/`);
}

function finding({ file, line }: Directive, what: string, remedy: string): Finding {
  return { code: 'not-enforced', message: `${file} line ${line}: ${what}; ${remedy}` };
}
