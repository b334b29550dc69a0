// Several processes at once, killed at random moments, beside a model of what must be there. `scripts/test --torture`
// does it longer.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { banctlJson, executable } from './support/banctl.ts';
import { TORTURE } from './support/torture.ts';
import { execute } from './support/wait.ts';

const WORKERS = 4;
const STEPS = 40 * TORTURE;
const ADDRESSES = ['203.0.113.1', '203.0.113.2', '203.0.113.3', '2001:db8::1', '2001:db8::2'];
/** Longest life of a call that is to be killed: some end before. Milliseconds. */
const LIFE = 60;
/** Whoever waits longer than this for a dead one gives up, which fails the test. Seconds. */
const LONGEST_WAIT = 5;

interface Place {
  readonly name: string;
  options(directory: string): string[];
  /** What has to be gone when everything is unbanned and no call is under way. */
  readonly left: readonly string[];
}

const places: readonly Place[] = [
  { name: 'the list', options: () => [], left: ['banlist.conf', 'banlist.conf.state'] },
  {
    name: 'the directory',
    options: (directory) => [`--bandir=${join(directory, 'bans')}`],
    left: ['bans'],
  },
];

/** Starts it, and kills it after `life` ms, if it still runs. Undefined if it was killed. */
function call(args: readonly string[], life: number | undefined): Promise<number | undefined> {
  const child = spawn(executable, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const timer = life === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), life);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => {
      clearTimeout(timer);
      resolve(code ?? undefined);
    });
  });
}

/** Keeps each version of the list that can be seen. */
function watchList(banlist: string, directory: string) {
  const seen = new Set<string>();
  const look = () => {
    try {
      seen.add(readFileSync(banlist, 'latin1'));
    } catch {
      // Not there yet.
    }
  };
  const watcher = watch(directory, look);
  return {
    seen,
    [Symbol.dispose]: () => watcher.close(),
  };
}

/** Apache's own test of each text, as an include file. */
async function refusedByApache(texts: readonly string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-torture-apache-'));
  try {
    mkdirSync(join(directory, 'lists'));
    for (const [index, text] of texts.entries())
      writeFileSync(join(directory, 'lists', `${index}.conf`), text);
    const modules = '/usr/lib/apache2/modules';
    const sections = texts.map(
      (_text, index) =>
        `<Location "/${index}">\n<RequireAll>\nRequire all granted\nInclude ${directory}/lists/${index}.conf\n</RequireAll>\n</Location>`,
    );
    writeFileSync(
      join(directory, 'httpd.conf'),
      [
        `ServerRoot ${directory}`,
        'ServerName localhost',
        'Listen 127.0.0.1:8',
        'ErrorLog error.log',
        `LoadModule mpm_event_module ${modules}/mod_mpm_event.so`,
        `LoadModule authz_core_module ${modules}/mod_authz_core.so`,
        `LoadModule authz_host_module ${modules}/mod_authz_host.so`,
        ...sections,
      ].join('\n'),
    );
    const { exitCode, stderr } = await execute('apache2', ['-t', '-f', join(directory, 'httpd.conf')]);
    return exitCode === 0 ? '' : stderr;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

type Ban = { address: string; holds: { holder: string | null }[] };

for (const { name, options, left } of places) {
  suite(`calls about ${name}, killed at random moments`, () => {
    test('what was acknowledged is there, and every version is one that Apache accepts', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'banctl-torture-'));
      const banlist = join(directory, 'banlist.conf');
      const common = [
        `--banlist=${banlist}`,
        ...options(directory),
        '--no-reload',
        `--lock-timeout=${LONGEST_WAIT}`,
      ];
      // Who holds what, by `HOLDER ADDRESS`: true or false if that was acknowledged, absent if a call was killed since.
      const model = new Map<string, boolean>();
      let killed = 0;
      const work = async (holder: string) => {
        for (let step = 0; step < STEPS; step += 1) {
          const address = ADDRESSES[Math.floor(Math.random() * ADDRESSES.length)] ?? '';
          const [verb = '', ...operands] = (
            [['ban', address], ['ban', address], ['unban', address], ['flush']] as const
          )[Math.floor(Math.random() * 4)] ?? ['ban', address];
          const touched = operands.length === 0 ? ADDRESSES : [address];
          for (const one of touched) model.delete(`${holder} ${one}`);
          const life = Math.random() < 0.6 ? Math.random() * LIFE : undefined;
          const code = await call([verb, ...operands, `--jail=${holder}`, ...common], life);
          assert.ok(code === 0 || (code === undefined && life !== undefined), `${verb} ended with ${code}`);
          if (code === undefined) killed += 1;
          else for (const one of touched) model.set(`${holder} ${one}`, verb === 'ban');
        }
      };
      try {
        using list = watchList(banlist, directory);
        await Promise.all(Array.from({ length: WORKERS }, (_, number) => work(`jail-${number}`)));
        assert.ok(killed > (WORKERS * STEPS) / 10, `${killed} were killed`);

        const told = await banctlJson<{ bans: Ban[] }>([
          'list',
          `--banlist=${banlist}`,
          ...options(directory),
        ]);
        const held = new Set(
          told.bans.flatMap(({ address, holds }) => holds.map(({ holder }) => `${holder} ${address}`)),
        );
        for (const [hold, isHeld] of model) assert.equal(held.has(hold), isHeld, hold);

        for (const text of list.seen)
          assert.match(text, /^(?:# banctl \| .+ for ever\nRequire not ip [\d.a-f:]+\n)*$/);
        assert.equal(await refusedByApache([...list.seen].slice(-300)), '');

        // Nothing piles up: calls about the same addresses clear away what the killed ones have left.
        const code = await call(['unban', ...ADDRESSES, '--no-fail2ban', ...common], undefined);
        assert.equal(code, 0);
        assert.deepEqual(readdirSync(directory).sort(), left);
        const bans = join(directory, 'bans');
        if (left.includes('bans')) assert.deepEqual(readdirSync(bans), []);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  });
}
