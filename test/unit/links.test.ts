import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { wayTo } from '../../src/system/links.ts';

suite('the way to a file is another one', () => {
  const top = mkdtempSync(join(tmpdir(), 'banctl-links-'));
  after(() => rmSync(top, { recursive: true }));
  let count = 0;
  function place(): { at: (name: string) => string; list: string } {
    count += 1;
    const at = (name: string) => join(top, String(count), name);
    mkdirSync(at('one'), { recursive: true });
    mkdirSync(at('other'));
    for (const name of ['one', 'other']) writeFileSync(at(`${name}/list`), '');
    return { at, list: at('way/list') };
  }
  function lead(path: string, target: string): void {
    rmSync(path, { force: true });
    symlinkSync(target, path);
  }

  test('when a link to it, or to a directory above it, was switched away and back', () => {
    const { at } = place();
    for (const [path, link, targets] of [
      [at('link'), at('link'), ['one/list', 'other/list']],
      [at('way/list'), at('way'), ['one', at('other')]],
      [at('far/list'), at('way'), ['one', at('other')]],
    ] as const) {
      if (path === at('far/list')) lead(at('far'), 'one/../way');
      const seen = [...targets, ...targets].map((target) => {
        lead(link, target);
        return wayTo(path);
      });
      assert.equal(new Set(seen).size, 4, path);
    }
  });

  test('when another directory has taken its place', () => {
    const { at } = place();
    const before = wayTo(at('one/list'));
    renameSync(at('one'), at('old'));
    renameSync(at('other'), at('one'));
    assert.notEqual(wayTo(at('one/list')), before);
  });

  test('and not when files change or appear beside it', () => {
    const { at, list } = place();
    lead(at('way'), 'one');
    const before = wayTo(list);
    writeFileSync(at('way/new'), '');
    renameSync(at('way/new'), list);
    assert.equal(wayTo(list), before);
  });

  test('also to a file that does not exist, and around a loop', () => {
    const { at } = place();
    assert.equal(wayTo(at('none/list')), wayTo(at('nothing')));
    lead(at('loop'), 'loop');
    assert.equal(wayTo(at('loop')), wayTo(at('loop')));
  });
});
