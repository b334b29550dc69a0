// docs/jails.md says of the kit's jails what their files say.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const repository = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(repository, 'docs', 'jails.md'), 'utf8');
const units: Record<string, string> = { m: 'minute', h: 'hour', d: 'day' };
const spelled = (time: string) => {
  const [, count, unit = ''] = /^(\d+)([mhd])$/.exec(time) ?? [];
  return `${count} ${units[unit]}${count === '1' ? '' : 's'}`;
};

test('the page names each jail with its values', () => {
  for (const file of readdirSync(join(repository, 'jail.d'))) {
    const text = readFileSync(join(repository, 'jail.d', file), 'utf8');
    const value = (option: string) => new RegExp(`^${option} = (.*)$`, 'm').exec(text)?.[1] ?? '';
    const row =
      page.split('\n').find((line) => line.startsWith(`| \`${file.replace(/\.local$/, '')}\``)) ?? '';
    assert.ok(
      row.endsWith(
        `| ${value('maxretry')} in ${spelled(value('findtime'))} | ${spelled(value('bantime'))} |`,
      ),
      row,
    );
  }
});

test('the page prints what its command prints', () => {
  const [, command = '', output = ''] = /\n\$ (printf .*)\n(.*)\n/.exec(page) ?? [];
  assert.equal(execFileSync('sh', ['-c', command], { encoding: 'utf8' }), output);
});

test('the names of Apache’s logs and definitions on the page are those of the snippets', () => {
  const snippets = ['login', 'requests']
    .map((name) => readFileSync(join(repository, 'apache2', `djangoapp-${name}-log.conf`), 'utf8'))
    .join('');
  for (const [name] of page.matchAll(/DJANGOAPP_[A-Z_]+|djangoapp-[a-z]+\.log/g))
    assert.ok(snippets.includes(name), name);
});
