// What of Apache's configuration gets past the ban, by its text alone. test/kit/bypass.test.ts asks Apache the same.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { directivesOf } from '../../src/apache/directives.ts';
import { bypassFindings } from '../../src/audit/bypass.ts';
import { ban, harmless, past } from '../lab/bypasses.ts';

const places = { banlist: '/x/banlist.conf', bandir: '/x/bans' };

/** The lines of the configuration that are named. */
function found(files: Record<string, string>, inclusions: string[][]): string[] {
  const directives = directivesOf(inclusions, (path) => files[path] ?? '');
  return bypassFindings(directives, places).map(({ message }) => message);
}

function inHost(text: string): string[] {
  const files = { '/c': `<VirtualHost *>\n${text}\n</VirtualHost>\n` };
  return found(files, [['/c'], ['/c', '/x/banlist.conf']]);
}

suite('gets past', () => {
  for (const [what, text] of Object.entries(past))
    test(what, () => assert.equal(inHost(text(ban)).length, 1, inHost(text(ban)).join('\n')));
});

test('directives in the list itself are named by their lines', () => {
  const granted = '<Location />\nRequire all granted\n</Location>\n';
  const listed = (list: string) => {
    const files = { '/c': `${granted}${ban}`, '/x/banlist.conf': list };
    return found(files, [['/c'], ['/c', '/x/banlist.conf']]);
  };
  const line = 'Require not ip 203.0.113.5\n';
  for (const directive of ['Satisfy Any', 'satisfy  "any"', 'AuthMerging Or'])
    assert.match(
      listed(`${line}${directive}\n`).join(),
      /^\/x\/banlist\.conf line 2: .* admits banned visitors/,
    );
  for (const directive of ['Satisfy All', 'AuthMerging Off', 'Require all granted', `# Satisfy Any`])
    assert.deepEqual(listed(`${line}${directive}\n`), []);
});

suite('does not get past', () => {
  for (const [what, text] of Object.entries(harmless))
    test(what, () => assert.deepEqual(inHost(text(ban)), []));
});

test('the finding names file, line, and what to do', () => {
  const files = {
    '/c': `Include /c.d/*.conf\n<VirtualHost *>\n${ban}</VirtualHost>\n`,
    '/c.d/a.conf': '# nothing\n\n<IfModule mod_none.c>\nSatisfy Any\n</IfModule>\n',
    '/c.d/b.conf': '<Location /x>\n  Satisfy \\\n any\n</Location>\n',
  };
  const inclusions = [['/c'], ['/c', '/c.d/a.conf'], ['/c', '/c.d/b.conf'], ['/c', '/x/banlist.conf']];
  assert.deepEqual(found(files, inclusions), [
    '/c.d/b.conf line 2: "Satisfy Any" admits banned visitors; write it as <RequireAny>',
  ]);
});

test('without a ban in the configuration there is nothing to get past', () => {
  assert.deepEqual(found({ '/c': 'Satisfy Any\n' }, [['/c']]), []);
});

test('another virtual host, which has no ban of its own, gets past nothing', () => {
  const open = '<If "true">\nRequire all granted\n</If>\n';
  const files = {
    '/c': `<VirtualHost a>\n${ban}</VirtualHost>\n<VirtualHost b>\n${open}</VirtualHost>\n${open}`,
  };
  assert.deepEqual(found(files, [['/c'], ['/c', '/x/banlist.conf']]), []);
});

suite('mod_cache answers first where its own virtual host lets it', () => {
  const cache = 'CacheEnable disk /\n';
  const off = 'CacheQuickHandler off\n';
  const host = (text: string) => `<VirtualHost *>\n${text}</VirtualHost>\n`;
  const cases: [string, string, number][] = [
    ['another host has it off', host(cache + ban) + host(off), 1],
    ['the host has it off', host(cache + ban + off) + host('CacheQuickHandler on\n'), 0],
    ['the server has it off', host(cache + ban) + off, 0],
    ['the host has it on again', off + cache + ban + host('CacheQuickHandler on\n'), 1],
    ['another host caches', host(ban) + host(cache), 0],
    ['the server caches, a host bans', cache + host(ban), 1],
  ];
  for (const [what, text, count] of cases)
    test(what, () => assert.equal(found({ '/c': text }, [['/c'], ['/c', '/x/banlist.conf']]).length, count));
});
