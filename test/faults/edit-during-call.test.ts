// What others do who take no lock (an editor, a script, a deployment) while a call is under way: at any of its file
// system calls it is stopped, they do it, and it goes on.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { Change } from '../../src/bans/change.ts';
import { BanctlError } from '../../src/system/errors.ts';
import { FileChanged } from '../../src/system/held-lock.ts';
import { withLock } from '../../src/system/lock.ts';
import { replaceFile } from '../../src/system/write.ts';
import { addition, change, release } from '../lab/call.ts';
import { type Interruptible, interruptible } from '../lab/interruptible.ts';
import { TORTURE } from '../lab/torture.ts';

const A = '203.0.113.5';
const OLD = '198.51.100.1';
const EDITED = '# by an editor\nRequire not ip 198.51.100.7\n';

interface Story {
  readonly changes: readonly Change[];
  readonly isDirectory?: boolean;
}

const STORIES: Record<string, Story> = {
  'a ban in the list': { changes: [addition(A, 'web')] },
  'an unban in the list': { changes: [release(OLD, 'web')] },
  'a second hold in the directory': { changes: [addition(OLD, 'ssh')], isDirectory: true },
};

function site({ isDirectory }: Story) {
  const above = mkdtempSync(join(tmpdir(), 'banctl-edit-'));
  const directory = join(above, 'site');
  const banlist = join(directory, 'banlist.conf');
  const bandir = isDirectory ? join(directory, 'bans') : undefined;
  const file = bandir === undefined ? banlist : join(bandir, OLD);
  return {
    above,
    directory,
    banlist,
    bandir,
    /** The file that the call is about. */
    file,
    text: () => (existsSync(file) ? readFileSync(file, 'utf8') : ''),
    others: () =>
      readdirSync(directory, { recursive: true })
        .map(String)
        .filter((name) => /\.lock|banctl-|\.\d+$/.test(name) && name !== `bans/${OLD}`),
    [Symbol.dispose]: () => rmSync(above, { recursive: true }),
  };
}
type Site = ReturnType<typeof site>;

async function prepare({ directory, banlist, bandir }: Site): Promise<void> {
  mkdirSync(bandir ?? directory, { recursive: true });
  writeFileSync(banlist, '');
  await change(banlist, [addition(OLD, 'web')], bandir);
}

function isDone({ changes }: Story, text: string): boolean {
  return changes.every((one) => {
    const [address, holder] =
      one.verb === 'add'
        ? [one.target, one.hold.holder]
        : one.verb === 'release'
          ? [one.address, one.holder]
          : ['', ''];
    return text.includes(` ${holder} ${address} since `) === (one.verb === 'add');
  });
}

/** In a short run the one at `index`. */
function selected(index: number): [string, Story][] {
  return Object.entries(STORIES).filter((_story, at) => TORTURE > 1 || at === index);
}

/** For each call of the file system that the story makes; `edit` is done right before it. */
async function forEachStop(
  story: Story,
  edit: (place: Site) => void,
  look: (place: Site, call: number, victim: Interruptible) => void | Promise<void>,
  stride = 1,
): Promise<number> {
  let victim = await interruptible();
  try {
    const counted = site(story);
    await prepare(counted);
    const calls = await victim.count({ ...counted, changes: story.changes });
    counted[Symbol.dispose]();
    for (let call = 1; call <= calls; call += stride) {
      using place = site(story);
      await prepare(place);
      assert.equal(
        await victim.stopped({ ...place, changes: story.changes, before: [call], mayFail: true }),
        undefined,
      );
      edit(place);
      assert.notEqual(await victim.goesOn(), undefined);
      await look(place, call, victim);
      if (victim.child.signalCode !== null) victim = await interruptible();
    }
    return Math.ceil(calls / stride);
  } finally {
    victim[Symbol.dispose]();
  }
}

/** Between the last look at the file and its rename nothing can be kept apart: these calls, and no more. */
const MOST_LOST = 6;

suite('a file that others change while a call is under way', { concurrency: true }, () => {
  const EDITS: [string, (place: Site) => void][] = [
    [
      'replaced, as editors do',
      ({ file, text }) => {
        writeFileSync(`${file}~`, `${text()}${EDITED}`);
        renameSync(`${file}~`, file);
      },
    ],
    ['appended to, as shells do', ({ file }) => appendFileSync(file, EDITED)],
  ];
  for (const [index, [what, edit]] of EDITS.entries()) {
    for (const [name, story] of selected(2 * index)) {
      test(`${what}, at any file system call of ${name}: both changes are there`, async (t) => {
        const lost: number[] = [];
        const calls = await forEachStop(story, edit, (place, call, victim) => {
          assert.equal(victim.failure(), undefined);
          const text = place.text();
          assert.ok(isDone(story, text), `call ${call}: ${text}`);
          if (!text.includes(EDITED)) lost.push(call);
          assert.deepEqual(place.others(), [], `call ${call}`);
        });
        assert.ok(lost.length <= MOST_LOST, `lost at ${lost}`);
        assert.equal(
          (lost.at(-1) ?? 0) - (lost[0] ?? 1) + 1,
          lost.length,
          `at ${lost}, which are not next to each other`,
        );
        t.diagnostic(`at ${calls} calls; ${lost.length} of them between the last look and the rename`);
      });
    }
  }

  for (const [name, story] of selected(0)) {
    test(`deleted, at any file system call of ${name}: it is whole, or gone if that came last`, async (t) => {
      const calls = await forEachStop(
        story,
        ({ file }) => rmSync(file, { force: true }),
        (place, call, victim) => {
          assert.equal(victim.failure(), undefined, `call ${call}`);
          assert.match(
            place.text(),
            /^(?:# banctl(?: \| [^|\n]+)+\nRequire not ip [\d.]+\n)*$/,
            `call ${call}`,
          );
          assert.deepEqual(place.others(), [], `call ${call}`);
        },
      );
      t.diagnostic(`at ${calls} calls`);
    });
  }

  for (const [name, story] of selected(2)) {
    test(`with its directory moved away, at a file system call of ${name}: whole, and as before or done`, async (t) => {
      let told = 0;
      const calls = await forEachStop(
        story,
        ({ directory, above }) => renameSync(directory, join(above, 'moved')),
        async (place, call, victim) => {
          const failure = victim.failure();
          if (failure !== undefined) {
            told += 1;
            assert.ok(failure.exitCode === 73 || failure.exitCode === 78, `call ${call}: ${failure.message}`);
            assert.ok(
              failure.message.includes(place.directory) && !failure.message.includes('\n'),
              failure.message,
            );
          }
          // It may have begun anew in the place that its options name.
          const anew = place.text();
          if (existsSync(place.directory)) rmSync(place.directory, { recursive: true });
          renameSync(join(place.above, 'moved'), place.directory);
          const text = place.text();
          assert.match(text, /^(?:# banctl(?: \| [^|\n]+)+\nRequire not ip [\d.]+\n)*$/, `call ${call}`);
          if (failure === undefined)
            assert.ok(isDone(story, text) || isDone(story, anew), `call ${call}: ${text}, ${anew}`);
          // What was out of its reach by then is the next call's, once this one has ended.
          if (place.others().length > 0) {
            victim[Symbol.dispose]();
            await once(victim.child, 'exit');
          }
          await change(place.banlist, [addition(OLD, 'next')], place.bandir);
          assert.deepEqual(place.others(), [], `call ${call}`);
        },
        // Most of them need another process.
        TORTURE > 1 ? 1 : 3,
      );
      t.diagnostic(`at ${calls} calls: ${told} told, ${calls - told} done`);
    });
  }
});

test('a file that is changed by others all the time is exit 75, and theirs', () => {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-edit-'));
  try {
    const file = join(directory, 'banlist.conf');
    let times = 0;
    assert.throws(
      () =>
        withLock(file, { timeout: 5 }, (lock) => {
          writeFileSync(file, `${++times}\n`);
          replaceFile(file, [Buffer.from('banctl\n')], { lock, seen: { version: 'another' } });
        }),
      (error) => error instanceof BanctlError && error.exitCode === 75 && !(error instanceof FileChanged),
    );
    assert.equal(readFileSync(file, 'utf8'), `${times}\n`);
    assert.deepEqual(readdirSync(directory), ['banlist.conf']);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
