// `audit --fix`, `sync`, `migrate` in both directions and fail2ban's own starts and ends, all at once. What fail2ban has
// held all the time is never lifted, and what was told as lifted is. `scripts/test --torture` does it longer.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { banctl, executable } from '../lab/banctl.ts';
import { casesOf } from '../lab/cases.ts';
import { read, type Site, startSite, writeScript } from '../lab/site.ts';
import { TORTURE } from '../lab/torture.ts';
import { until } from '../lab/wait.ts';

const JAILS = ['one', 'two'] as const;
/** What each jail holds from the first moment to the last; some of it both. */
const STEADY = Array.from({ length: 10 * Math.min(TORTURE, 20) }, (_, index) =>
  index % 3 === 0 ? `2001:db8:7::${index + 1}` : `203.0.113.${index + 1}`,
);
/** These are banned and unbanned all the time, each by one of `lanes`. */
const CHURNED = ['198.51.100.1', '198.51.100.2', '198.51.100.3', '198.51.100.4', '2001:db8:8::5'];
/** How long what is going on may go on in a round, beside fail2ban's starts. Milliseconds. */
const ROUND_MS = 2500 * Math.min(TORTURE, 8);
/** For what takes seconds on a quiet machine. */
const PATIENT = { limit: 240_000 };

type Jail = (typeof JAILS)[number];
const steadyOf = (jail: Jail) => (jail === 'one' ? STEADY : STEADY.slice(0, 4));
const count = (text: string, part: string) => text.split(part).length - 1;

/** What becomes of fail2ban in each round, in turn. */
const RESTARTS = ['killed', 'stopped', 'none'] as const;
type Restart = (typeof RESTARTS)[number];
const round = fc.record({
  repairs: fc.subarray(['audit', 'sync', 'migrate'] as const, { minLength: 2 }),
  churn: fc.infiniteStream(fc.nat(1000)),
});

/** The texts in which an address is banned now. Read twice, since a migration may move it between the two. */
function textsOf({ apache }: Site, address: string): string[] {
  const inList = () => {
    const text = read(apache.banlist);
    return text.includes(`Require not ip ${address}\n`) ? [text] : [];
  };
  const file = () => {
    const text = read(join(apache.bandir, address));
    return text === '' ? [] : [text];
  };
  return [...inList(), ...file(), ...inList()];
}

function isHeld(site: Site, holder: string, address: string): boolean {
  return textsOf(site, address).some((text) => text.includes(`| ${holder} ${address} since `));
}

/** What fail2ban's database has: another thread of it writes that. */
function inDatabase({ fail2ban }: Site, jail: string): number {
  const database = new DatabaseSync(fail2ban.db, { readOnly: true, timeout: 5000 });
  try {
    return Number(database.prepare('SELECT count(*) AS n FROM bips WHERE jail = ?').get(jail)?.n);
  } finally {
    database.close();
  }
}

/** Lets many calls run while fail2ban stays up, and restarts fail2ban while no call runs. */
function gate() {
  let working = 0;
  let isClosed = false;
  return {
    async during<T>(work: () => Promise<T>): Promise<T> {
      // Whatever it is closed for has limits of its own, one after the other.
      await until('the gate', () => !isClosed, { limit: Number.POSITIVE_INFINITY });
      working += 1;
      try {
        return await work();
      } finally {
        working -= 1;
      }
    },
    async alone(work: () => Promise<void>): Promise<void> {
      isClosed = true;
      await until('no call to run', () => working === 0, PATIENT);
      try {
        await work();
      } finally {
        isClosed = false;
      }
    },
  };
}

suite('repairs, moves, and fail2ban, all at once', () => {
  let site: Site;
  let directory: string;
  before(async () => {
    // While `idle` is there, an action does nothing: each ban by itself would take a second.
    directory = mkdtempSync(join(tmpdir(), 'banctl-repair-'));
    const idle = join(directory, 'idle');
    const program = writeScript(directory, 'banctl', `[ ! -e ${idle} ] || exit 0; exec ${executable} "$@"`);
    writeFileSync(idle, '');
    site = await startSite({
      jails: { one: 'bantime = -1', two: 'bantime = 1d' },
      bandir: 'configured',
      parameters: `, banctl="${program}"`,
    });
    for (const jail of JAILS) {
      await site.tells('set', jail, 'banip', ...steadyOf(jail));
      await until(
        `the bans of ${jail}`,
        () => count(site.fail2ban.log(), `[${jail}] Ban `) === steadyOf(jail).length,
      );
      await site.done('sync', `--jail=${jail}`);
    }
    rmSync(idle);
  });
  after(async () => {
    await site[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  /** Until all that was held before is held again. */
  async function restored(): Promise<void> {
    for (const jail of JAILS)
      await until(
        `what ${jail} held`,
        async () => {
          const banned = await site.fail2ban.banned(jail).catch((): string[] => []);
          return steadyOf(jail).every((address) => banned.includes(address));
        },
        { ...PATIENT, detail: () => site.fail2ban.log().slice(-2000) },
      );
  }

  async function restart(how: Exclude<Restart, 'none'>): Promise<void> {
    for (const jail of JAILS)
      await until(
        `the database of ${jail}`,
        async () => inDatabase(site, jail) === (await site.fail2ban.banned(jail)).length,
        PATIENT,
      );
    await (how === 'killed' ? site.fail2ban.kill() : site.fail2ban.stop());
    await sleep(Math.random() * 500);
    await site.fail2ban.start();
    await restored();
  }

  async function repair(what: 'audit' | 'sync' | 'migrate', turn: number): Promise<void> {
    const asking = `--fail2ban-client=${site.fail2ban.clientCommand}`;
    const calls = {
      audit: ['audit', '--fix', asking],
      sync: ['sync', `--jail=${JAILS[turn % 2]}`, asking],
      migrate: ['migrate', `--to=${turn % 2 ? 'bandir' : 'banlist'}`],
    };
    const places = [`--banlist=${site.apache.banlist}`, `--bandir=${site.apache.bandir}`];
    const { exitCode, stdout, stderr } = await banctl([
      ...calls[what],
      ...places,
      `--apachectl=${site.apache.ctl}`,
    ]);
    const command = calls[what].join(' ');
    assert.ok(
      exitCode === 0 || (what === 'audit' && exitCode === 1),
      `${command}: ${exitCode} ${stdout}${stderr}`,
    );
  }

  test('nothing is lifted that fail2ban held, nor comes back that was lifted', async (t) => {
    const rounds = casesOf(t, Number(process.env.ROUNDS ?? 2), round);
    let repairs = 0;
    let changes = 0;
    let looks = 0;
    for (const [index, { repairs: kinds, churn }] of rounds.entries()) {
      const how = RESTARTS[index % RESTARTS.length] ?? 'none';
      const what = `round ${index}: ${kinds}, fail2ban ${how}`;
      const { during, alone } = gate();
      const troubles: string[] = [];
      let isOver = false;
      const loop = async (work: (turn: number) => Promise<void>) => {
        for (let turn = 0; !isOver && troubles.length === 0; turn += 1)
          await work(turn).catch((error: Error) => troubles.push(error.message));
      };
      const random = churn[Symbol.iterator]();
      const pause = () => sleep((random.next().value ?? 0) / 4);

      const looking = loop(async () => {
        // fail2ban's orderly stop lifts them.
        if (how !== 'stopped')
          for (const address of STEADY)
            if (!isHeld(site, 'one', address)) troubles.push(`${address} of one is lifted`);
        const from = STEADY[looks % STEADY.length] ?? '';
        if (how !== 'stopped' && (await site.get(from)) !== 403) troubles.push(`${from} gets in`);
        looks += 1;
        await sleep(20);
      });
      const repairing = kinds.map((kind) =>
        loop(async (turn) => {
          await repair(kind, turn);
          repairs += 1;
        }),
      );

      const byJail = (jail: Jail, address: string) => async () => {
        await during(async () => {
          await site.tells('set', jail, 'banip', address);
          await until(`${address} by ${jail}`, () => isHeld(site, jail, address), PATIENT);
        });
        await pause();
        await during(async () => {
          if (!isHeld(site, jail, address)) troubles.push(`${address} of ${jail} was lifted`);
          await site.tells('set', jail, 'unbanip', address);
          if (isHeld(site, jail, address)) troubles.push(`${address} of ${jail} is there after its unban`);
        });
        await pause();
        if (isHeld(site, jail, address)) troubles.push(`${address} of ${jail} came back`);
        changes += 1;
      };
      const byHand = (address: string, unbanOptions: string[]) => async () => {
        await site.done('ban', address);
        if (textsOf(site, address).length === 0) troubles.push(`${address} is not there after its ban`);
        await pause();
        if (textsOf(site, address).length === 0) troubles.push(`${address} by hand was lifted`);
        await site.done('unban', address, ...unbanOptions);
        if (textsOf(site, address).length > 0) troubles.push(`${address} is there after its unban`);
        await pause();
        if (textsOf(site, address).length > 0) troubles.push(`${address} by hand came back`);
        changes += 1;
      };
      /** A jail's ban that ends by hand. */
      const byBoth = (jail: Jail, address: string) => () =>
        during(async () => {
          await site.tells('set', jail, 'banip', address);
          await until(`${address} by ${jail}`, () => isHeld(site, jail, address), PATIENT);
          await site.done('unban', address);
          if (textsOf(site, address).length > 0) troubles.push(`${address} is there after its unban by hand`);
          await pause();
          if (textsOf(site, address).length > 0)
            troubles.push(`${address} came back after its unban by hand`);
          changes += 1;
        });
      const [a = '', b = '', c = '', d = '', e = ''] = CHURNED;
      const lanes = [
        byJail('one', a),
        byJail('two', b),
        byHand(c, []),
        byHand(e, ['--no-fail2ban']),
        byBoth('one', d),
      ].map((lane) => loop(lane));

      await sleep(ROUND_MS / 2);
      if (how !== 'none')
        await alone(() => restart(how)).catch((error: Error) => troubles.push(error.message));
      await sleep(ROUND_MS / 2);
      isOver = true;
      await Promise.all([looking, ...repairing, ...lanes]);
      assert.deepEqual(troubles, [], `${what}\n${site.fail2ban.log().slice(-1500)}`);

      // At rest: what fail2ban holds, in the list or the directory, and at the door.
      for (const jail of JAILS)
        for (const address of steadyOf(jail))
          assert.ok(isHeld(site, jail, address), `${address} of ${jail} is lifted at rest, ${what}`);
      await site.answer(STEADY, 403);
      await site.answer(CHURNED, 200);
    }
    t.diagnostic(
      `${repairs} repairs and moves, ${changes} bans and unbans, ${looks} looks at ${STEADY.length} bans`,
    );
  });
});
