import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '..', '..');

test("no value in fail2ban's files holds a blank and a semicolon, where fail2ban begins a comment", () => {
  const cut = ['action.d', 'filter.d', 'jail.d'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => /\.(?:conf|local)$/.test(name))
      .flatMap((name) => readFileSync(join(root, folder, name), 'utf8').split('\n'))
      .filter((line) => /^[^#]*\s;/.test(line)),
  );
  assert.deepEqual(cut, []);
});
