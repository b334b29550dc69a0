// The changelog's part of a release, and its notes: pure.
//
//   release-notes.ts [VERSION]      prints the section of a version, without its heading; the newest by default
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const UNRELEASED = 'Unreleased';

/** MAJOR.MINOR.PATCH of Semantic Versioning, without a label, which packages would sort wrongly. */
export function isVersion(text: string): boolean {
  return /^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)$/.test(text);
}

/** The text of a section; undefined if it does not exist or is empty. */
export function notesOf(changelog: string, version?: string): string | undefined {
  const [, ...sections] = changelog.split(/^## /m);
  const section =
    version === undefined
      ? sections[0]
      : sections.find((one) => one.startsWith(`${version}\n`) || one.startsWith(`${version} - `));
  const notes = section?.replace(/^.*\n/, '').trim();
  return notes === '' ? undefined : notes;
}

/** The changelog with the unreleased section as this version, of this day (YYYY-MM-DD). */
export function withRelease(changelog: string, version: string, date: string): string {
  if (notesOf(changelog, UNRELEASED) === undefined)
    throw new Error('CHANGELOG.md has nothing under Unreleased');
  return changelog.replace(`## ${UNRELEASED}\n`, `## ${version} - ${date}\n`);
}

if (import.meta.main) {
  const changelog = readFileSync(join(import.meta.dirname, '..', 'CHANGELOG.md'), 'utf8');
  const [version] = process.argv.slice(2);
  const notes = notesOf(changelog, version);
  if (notes === undefined) throw new Error(`CHANGELOG.md has no section ${version}`);
  console.log(notes);
}
