import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { COMMANDS_PAGE, commandsPage } from '../../tools/commands-page.ts';

test('docs/commands.md says what the table of options says', () => {
  assert.equal(
    readFileSync(COMMANDS_PAGE, 'utf8'),
    commandsPage(),
    'it is out of date; run: node tools/commands-page.ts',
  );
});
