// Writes a version into package.json, its lock file and CHANGELOG.md: release.ts VERSION YYYY-MM-DD
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withRelease } from './release-notes.ts';

const [version = '', date = ''] = process.argv.slice(2);
const rewrite = (name: string, change: (text: string) => string) => {
  const path = join(import.meta.dirname, '..', name);
  writeFileSync(path, change(readFileSync(path, 'utf8')));
};

rewrite('CHANGELOG.md', (text) => withRelease(text, version, date));
rewrite('package.json', (text) => text.replace(/^ {2}"version": ".*"/m, `  "version": "${version}"`));
rewrite('package-lock.json', (text) => {
  const lock = JSON.parse(text);
  lock.version = version;
  lock.packages[''].version = version;
  return `${JSON.stringify(lock, null, 2)}\n`;
});
