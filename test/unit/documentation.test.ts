// What the documentation says about itself: its links, its size, and the tables that name codes.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { FINDING_CODES } from '../../src/audit/finding.ts';
import { parseCommandLine } from '../../src/cli/parse.ts';
import { EXIT } from '../../src/system/errors.ts';

const repository = join(import.meta.dirname, '..', '..');
const read = (page: string) => readFileSync(join(repository, page), 'utf8');
const pages = [
  ...readdirSync(repository).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(repository, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

suite('the documentation', () => {
  for (const page of pages) {
    test(`${page} links to nothing that does not exist`, () => {
      const links = [...read(page).matchAll(/\]\((?!https?:|mailto:)([^)#]+)(?:#[^)]*)?\)/g)];
      for (const [, link = ''] of links)
        assert.ok(existsSync(join(repository, dirname(page), link)), `${page}: ${link}`);
    });

    test(`${page} names no file of the repository that does not exist`, () => {
      const named = read(page).matchAll(
        /`((?:src|test|tools|scripts|apache2|docs|action\.d|filter\.d|jail\.d)\/[\w./-]+)`/g,
      );
      for (const [, path = ''] of named) assert.ok(existsSync(join(repository, path)), `${page}: ${path}`);
    });

    test(`${page} has no table row of 400 characters`, () => {
      for (const line of read(page).split('\n'))
        assert.ok(!(line.startsWith('|') && line.length > 400), line);
    });
  }

  test('each call of banctl in an example is one that banctl understands', () => {
    let calls = 0;
    for (const page of pages) {
      for (const [, block = ''] of read(page).matchAll(/^```(?:console|sh)\n(.*?)^```/gms)) {
        for (const [, call = ''] of block.matchAll(/(?:^(?:[\w]*[#$] )?|[|&] )banctl ([^|&<>\n(]+)/gm)) {
          const words = [...call.trim().matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
            ([, double, single, bare]) => double ?? single ?? bare ?? '',
          );
          const isAnswer = words[0]?.startsWith('(') || words[0] === 'audit:';
          if (isAnswer || words.includes('--help') || words.includes('--version')) continue;
          calls += 1;
          assert.doesNotThrow(() => parseCommandLine(words), `${page}: banctl ${call}`);
        }
      }
    }
    assert.ok(calls > 20, `${calls} calls`);
  });

  test('the operations page explains each code that audit can report', () => {
    const operations = read('docs/operations.md');
    for (const code of FINDING_CODES) assert.match(operations, new RegExp(`^\\| \`${code}\` \\|`, 'm'));
  });

  test('the operations page explains each exit code', () => {
    const operations = read('docs/operations.md');
    for (const code of Object.values(EXIT)) assert.match(operations, new RegExp(`^\\| ${code} \\|`, 'm'));
  });
});
