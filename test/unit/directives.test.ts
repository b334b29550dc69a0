// Whether Apache could read a file that does not exist yet.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { mayInclude } from '../../src/apache/directives.ts';

const LIST = '/etc/apache2/djangoapp/banlist.conf';

const isRead = (texts: Record<string, string>) =>
  mayInclude(
    Object.keys(texts).map((file) => [file]),
    (path) => texts[path] ?? '',
    LIST,
  );

suite('a file that does not exist', () => {
  for (const [what, text] of Object.entries({
    'by its name': `IncludeOptional ${LIST}`,
    'in quotes, and any case': `include "${LIST}"`,
    'by a pattern': 'IncludeOptional /etc/apache2/*/*.conf',
    'by its directory': 'Include /etc/apache2/djangoapp/',
    'by a path below the root of the server': 'IncludeOptional djangoapp/banlist.conf',
    'by a path with a variable': `IncludeOptional \${LISTS}/banlist.conf`,
    "by a macro's parameter": `<Macro Bans $f>\nIncludeOptional $f\n</Macro>\nUse Bans ${LIST}`,
    'only if it exists': `<IfFile ${LIST}>\nInclude ${LIST}\n</IfFile>`,
    'only under a condition that is not seen': `<IfDefine PRODUCTION>\n Include ${LIST}\n</IfDefine>`,
    'on a line that goes on': `IncludeOptional \\\n  ${LIST}`,
  }))
    test(`may be included ${what}`, () => assert.ok(isRead({ '/c': 'Listen 80', '/d': text })));

  for (const [what, text] of Object.entries({
    'another name': 'IncludeOptional /etc/apache2/djangoapp/bannlist.conf',
    'a comment': `# IncludeOptional ${LIST}`,
    'a directive that only begins alike': `Includes ${LIST}`,
    'another directory': 'IncludeOptional /etc/apache2/conf-enabled/*.conf',
    'an Include without a path': 'Include',
  }))
    test(`is not included by ${what}`, () => assert.ok(!isRead({ '/c': 'Listen 80', '/d': text })));
});
