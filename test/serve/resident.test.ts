// What banctl serve costs a server while it waits: memory with 10,000 bans, and processor time.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { ownMegabytes, startServer, unitEnvironment } from '../lab/served.ts';
import { type Daemon, daemon, until } from '../lab/wait.ts';

const BANS = 10_000;
/** Megabytes of the process alone. The program itself is mapped from its file, and shared with every call. */
const OWN = 20;
const MORE_THAN_EMPTY = 12;
const REST_MS = 10_000;

const dir = mkdtempSync(join(tmpdir(), 'banctl-resident-'));
after(() => rmSync(dir, { recursive: true }));

const env = unitEnvironment();

const ban = (address: string) =>
  `# banctl | web ${address} since 2026-01-01T00:00:00Z until 2126-01-01T00:00:00Z: 5 failures\nRequire not ip ${address}\n`;
const addresses = Array.from({ length: BANS }, (_, n) => `198.18.${n >> 8}.${n & 255}`);

function makeList(): string {
  const list = join(dir, 'list.conf');
  writeFileSync(list, addresses.map(ban).join(''));
  return list;
}

function makeDirectory(): string {
  const bandir = join(dir, 'bans');
  mkdirSync(bandir);
  for (const address of addresses) writeFileSync(join(bandir, address), ban(address));
  return bandir;
}

/** How often the threads of a process have begun to run, and how long they have. */
function activity({ pid }: Daemon): string {
  return readdirSync(`/proc/${pid}/task`)
    .map((thread) => {
      const of = (file: string) => readFileSync(`/proc/${pid}/task/${thread}/${file}`, 'latin1');
      const [, , , , , , , , , , , user, system] = of('stat').replace(/.*\) /s, '').split(' ');
      return `${thread}: ${/^voluntary.*\t(\d+)/m.exec(of('status'))?.[1]} ${user} ${system}`;
    })
    .join('\n');
}

/** One of Node without a program. */
async function emptyMegabytes(): Promise<number> {
  const empty = daemon(process.execPath, ['-e', 'setInterval(() => {}, 1e9); console.log("ready")'], env);
  try {
    await until('the empty program', () => empty.output().includes('ready'));
    return ownMegabytes(empty);
  } finally {
    await empty.end('SIGKILL');
  }
}

suite(`with ${BANS} bans`, { concurrency: 1 }, () => {
  let empty = 0;
  before(async () => {
    empty = await emptyMegabytes();
  });
  // Over a thousand requests V8 compiles what it has seen often, which once took 20 MB more.
  for (const [place, requests, options, more] of [
    ['the list', 40, { banlist: makeList() }, {}],
    ['the directory', 2000, { banlist: join(dir, 'none.conf') }, { bandir: makeDirectory() }],
  ] as const)
    test(`in ${place} it keeps at most ${OWN} MB after ${requests} requests, and rests`, async (context) => {
      const given = { jail: 'web', ...options, ...more };
      const words = Object.entries({ ...options, ...more }).map(([name, value]) => `--${name}=${value}`);
      await using server = await startServer({ dir, options: [...words, '--no-reload'], env });
      await using client = await server.connect();
      for (let n = 0; n < requests / 2; n += 1) {
        const address = `203.0.113.${n % 256}`;
        const request = { address, options: { ...given, 'no-reload': true } };
        assert.equal((await client.ask('ban', request)).exit, 0);
        assert.equal((await client.ask('unban', request)).exit, 0);
      }
      const process = server.daemon();
      let [seen, since] = ['', 0];
      const rests = () => {
        const now = activity(process);
        if (now !== seen) [seen, since] = [now, performance.now()];
        return performance.now() - since > REST_MS;
      };
      await until('it to rest', rests, { limit: 120_000, detail: () => activity(process) });
      const own = ownMegabytes(process);
      const figures = `${own.toFixed(1)} MB, an empty program ${empty.toFixed(1)} MB`;
      context.diagnostic(figures);
      assert.ok(own <= OWN && own <= empty + MORE_THAN_EMPTY, figures);
    });
});
