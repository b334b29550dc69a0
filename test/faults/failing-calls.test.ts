// Every call of the file system that a change makes, let fail with every error that a disk has.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { Change } from '../../src/bans/change.ts';
import { addition, change, release } from '../lab/call.ts';
import { interruptible } from '../lab/interruptible.ts';
import { TORTURE } from '../lab/torture.ts';

const A = '203.0.113.5';
const OLD = '192.0.2.1';
const ERRORS = ['EIO', 'ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENAMETOOLONG'];

interface Story {
  readonly place: 'list' | 'directory';
  readonly changes: readonly Change[];
}

const STORIES: Record<string, Story> = {
  'a ban in the list': { place: 'list', changes: [addition(A, 'web')] },
  'an unban in the list': { place: 'list', changes: [release(OLD, 'web')] },
  'a ban in the directory': { place: 'directory', changes: [addition(A, 'web')] },
  'a second hold in the directory': { place: 'directory', changes: [addition(OLD, 'ssh')] },
  'an unban in the directory': { place: 'directory', changes: [release(OLD, 'web')] },
};

function site({ place }: Story) {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-failing-'));
  const banlist = join(directory, 'banlist.conf');
  const bandir = place === 'directory' ? join(directory, 'bans') : undefined;
  return {
    directory,
    banlist,
    bandir,
    /** Everything that bans, by name; the times of holds are not compared. */
    bans() {
      const files = [
        banlist,
        ...(bandir !== undefined && existsSync(bandir)
          ? readdirSync(bandir).map((name) => join(bandir, name))
          : []),
      ];
      const texts = files
        .filter((path) => existsSync(path) && !/\.lock$|\.banctl-\d+$/.test(path))
        .map((path) => [path.slice(directory.length), readFileSync(path, 'utf8').replace(/since \S+/g, '')]);
      return JSON.stringify(texts.sort());
    },
    names: () =>
      readdirSync(directory, { recursive: true })
        .map(String)
        .filter((name) => !name.endsWith('.state'))
        .sort(),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

async function prepare(place: ReturnType<typeof site>) {
  writeFileSync(place.banlist, '');
  if (place.bandir !== undefined) mkdirSync(place.bandir);
  await change(place.banlist, [addition(OLD, 'web')], place.bandir);
}

suite('any file system call that fails: done anyway, or reported, and as before', {
  concurrency: true,
}, () => {
  for (const [what, story] of Object.entries(STORIES)) {
    test(what, async (t) => {
      let victim = await interruptible();
      let tried = 0;
      let told = 0;
      try {
        const undisturbed = async () => {
          using place = site(story);
          await prepare(place);
          const calls = await victim.count({ ...place, changes: story.changes });
          return { calls, after: place.bans(), names: place.names() };
        };
        const { calls, after, names } = await undisturbed();
        for (let call = 1; call <= calls; call += 1) {
          for (const error of TORTURE > 1 ? ERRORS : [ERRORS[call % ERRORS.length] ?? '']) {
            using place = site(story);
            await prepare(place);
            const before = place.bans();
            const failure = await victim.fails({ ...place, changes: story.changes, error, before: [call] });
            const where = `${error} in call ${call}: ${JSON.stringify(failure)}, ${place.names()}`;
            tried += 1;
            if (failure === undefined) assert.equal(place.bans(), after, where);
            else {
              told += 1;
              assert.ok(failure.exitCode === 73 || failure.exitCode === 78, where);
              assert.ok(failure.message.includes(place.directory), where);
              assert.doesNotMatch(failure.message, /injected|\n/, where);
              // Where nothing of the list is to change, it need not be locked.
              assert.doesNotMatch(failure.message, /done; then: cannot lock/, where);
              const isDone = /was changed, but may not be on the disk: |1 of 1 addresses are done; then: /;
              assert.equal(place.bans(), isDone.test(failure.message) ? after : before, where);
            }
            // What could not be cleared away is the next call's, once this one has ended.
            if (place.names().some((name) => !names.includes(name) && !before.includes(name))) {
              victim[Symbol.dispose]();
              await once(victim.child, 'exit');
              victim = await interruptible();
            }
            // An unban of who is not banned looks at no lock.
            const banned = story.changes
              .filter(({ verb }) => verb === 'release')
              .map(() => addition(OLD, 'web'));
            if (banned.length > 0) await victim.count({ ...place, changes: banned });
            await victim.count({ ...place, changes: story.changes });
            assert.deepEqual([place.bans(), place.names()], [after, names], `${where}, the next call`);
          }
        }
        t.diagnostic(`${calls} calls, ${tried} failures of one: ${told} told, ${tried - told} without harm`);
      } finally {
        victim[Symbol.dispose]();
      }
    });
  }
});
