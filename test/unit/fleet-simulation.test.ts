// Hosts that come and go, an engine that forgets: at rest every host bans the same, and what it should. The rules are the real ones.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { decide, type Step, type View } from '../../src/fleet/rules.ts';
import { holds } from '../lab/cases.ts';
import { Engine, Host, type Lift, randomOf, type Variant } from '../lab/fleet-model.ts';

const ADDRESSES = ['192.0.2.1', '192.0.2.2', '2001:db8::1'];
const EVENTS = 120;
/** Of clocks, and of what happens at once. Seconds. */
const UNSURE_SECONDS = 6;
/** A hold from a clock that is ahead begins earlier, by the engine's clock. */
const CLAMPED_SECONDS = 2;

type Truth = {
  since: number;
  until: number | null;
  host: Host;
  /** There was a ban before it: an older copy of the engine may have that one, and a host that is away its end. */
  isAgain: boolean;
};

/** Runs one world, and says what is wrong at rest; an empty text is right. */
function run(seed: number, variant: Variant): string {
  const random = randomOf(seed);
  const clock = { time: 1_800_000_000 };
  const engine = new Engine(clock);
  let copy = engine.copy();
  const hosts: Host[] = [];
  const dead = new Set<Host>();
  const join = () => hosts.push(new Host(`h${hosts.length}`, random(3) - 1, clock));
  for (let count = 0; count < 4; count += 1) join();
  const bans = new Map<string, Truth>();
  const lifted: Lift[] = [];
  const pick = <T>(values: readonly T[]) => values[random(values.length)] as T;
  const pass = (host: Host, isFresh: boolean) => {
    if (host.isUp && !dead.has(host)) host.step(engine, { isFresh, variant });
  };
  /** True if a disk or the engine has it, and not an earlier one. */
  const isKnown = (field: string) => {
    const since = (bans.get(field)?.since ?? 0) - CLAMPED_SECONDS;
    return engine.knows(field, since) || hosts.some((host) => !dead.has(host) && host.knows(field, since));
  };
  /** What nothing has any more after a loss is lost: no rule could bring it back. */
  const losing = (loss: () => void) => {
    const known = [...bans.keys()].filter(isKnown);
    loss();
    for (const field of known) if (!isKnown(field)) bans.delete(field);
  };
  const rest = () => {
    for (let round = 0; round < 8; round += 1) for (const host of hosts) pass(host, true);
  };
  for (let event = 0; event < EVENTS; event += 1) {
    const host = pick(hosts.filter((one) => !dead.has(one)));
    const address = pick(ADDRESSES);
    switch (random(16)) {
      case 0:
      case 1:
      case 2: {
        const holder = host.isJailUp && random(2) === 0 ? 'j' : 'manual';
        const { since, until } = host.ban(holder, address, pick([20, 200, 2000, null]));
        const field = `${address} ${holder}@${host.name}`;
        bans.set(field, { since, until, host, isAgain: bans.has(field) });
        break;
      }
      case 3:
        lifted.push(...[host.unban(address)].filter((said) => said !== undefined));
        break;
      case 4:
        if (host.isJailUp) lifted.push(...[host.unban(address, 'j')].filter((said) => said !== undefined));
        break;
      case 5:
        if (host.isJailUp) host.stopJail();
        else host.startJail(random(2));
        break;
      case 6:
        host.isUp = !host.isUp;
        break;
      case 7:
        pass(host, true);
        if (host.isUp)
          losing(() => {
            host.list = [];
          });
        break;
      case 8:
        // A loss while hosts are connected; each loss is noticed before the next.
        rest();
        losing(() => {
          if (random(2) === 0) engine.holds = new Map();
          else engine.lifts = new Map();
        });
        break;
      case 9:
        rest();
        losing(() => {
          engine.holds = new Map();
          engine.lifts = new Map();
        });
        rest();
        copy = engine.copy();
        break;
      case 10:
        rest();
        losing(() => Object.assign(engine, copy));
        rest();
        copy = engine.copy();
        break;
      case 11:
        if (hosts.length - dead.size > 3 && host.isUp) {
          rest();
          losing(() => dead.add(host));
          join();
        }
        break;
      default:
        clock.time += pick([1, 3, 30]);
    }
    for (const one of hosts) if (!dead.has(one)) one.endOver();
    for (let count = random(6); count > 0; count -= 1) pass(pick(hosts), random(3) > 0);
    clock.time += random(2) * 3;
  }
  for (const host of hosts) host.isUp = true;
  clock.time += 1;
  for (const host of hosts) {
    if (!host.isJailUp && !dead.has(host)) host.startJail(random(2));
    host.endOver();
  }
  rest();
  rest();
  const living = hosts.filter((host) => !dead.has(host));
  const isKnownLift = (lift: Lift) => engine.knowsLift(lift) || living.some((host) => host.hasHeard(lift));
  return check({ hosts: living, dead, bans, lifted, isKnownLift, time: clock.time });
}

function check(world: {
  hosts: readonly Host[];
  dead: ReadonlySet<Host>;
  bans: ReadonlyMap<string, Truth>;
  lifted: readonly Lift[];
  /** Where nothing has heard of a lift any more, a host that was away brings the ban back. */
  isKnownLift: (lift: Lift) => boolean;
  time: number;
}): string {
  const { hosts, dead, bans, lifted, isKnownLift, time } = world;
  const faults: string[] = [];
  for (const [field, { since, until, host, isAgain }] of bans) {
    const address = field.slice(0, field.indexOf(' '));
    const lifts = lifted.filter(({ key }) => key === address || key === field);
    const voiding = lifts.filter((lift) => lift.time >= since);
    const isOver = until !== null && until <= time;
    const isNow = (end: number | null) => end !== null && Math.abs(end - time) <= UNSURE_SECONDS;
    const isUnsure =
      isNow(until) ||
      // It has ended while its host was away, and an earlier one, which the others still have, ends now.
      (isOver && isAgain && hosts.some((one) => one.endsOf(field).some(isNow))) ||
      lifts.some((lift) => Math.abs(lift.time - since) <= UNSURE_SECONDS);
    if (isUnsure) continue;
    const isBanned = !isOver && voiding.length === 0;
    const isForgotten = !isOver && !voiding.some(isKnownLift);
    const has = hosts.map((one) => one.fields().has(field));
    // What a host that is no more had just said, an older copy of the engine does not have.
    if (new Set(has).size > 1) faults.push(`${field}: hosts differ: ${has.join(' ')}`);
    else if (has[0] && !isBanned && !isForgotten && !(isOver && isAgain))
      faults.push(`${field}: ${isOver ? 'over' : 'lifted'}, but banned`);
    else if (!has[0] && isBanned && !dead.has(host)) faults.push(`${field}: lost`);
    else if (!has[0] && isBanned) faults.push(`${field}: lost with its host`);
  }
  return faults.join('\n');
}

/** The owner takes what it does not have for released. */
const absenceReleases: Variant = {
  decide: (view: View): Step[] =>
    decide(view).map((step): Step => {
      const isOwnAgain = 'here' in step && step.here === 'set' && step.hold.holder.endsWith(`@${view.self}`);
      if (!isOwnAgain) return step;
      const field = `${step.hold.address} ${step.hold.holder}`;
      const { since, until, reason } = step.hold;
      return { push: 'drop', field, seen: JSON.stringify([since, until, reason]) };
    }),
};

suite('a fleet', () => {
  test('is the same on every host at rest, with nothing lost and nothing back', async (t) => {
    await holds(t, 20, fc.integer({ min: 0, max: 2 ** 31 }), (seed) => assert.equal(run(seed, {}), ''));
  });

  test('keeps free what one lifts in the second of the ban, although the jail restores it a second later', () => {
    const clock = { time: 1_800_000_000 };
    const engine = new Engine(clock);
    const [a, c] = [new Host('a', 0, clock), new Host('c', 0, clock)];
    const pass = (...hosts: Host[]) => {
      for (const host of hosts) host.step(engine, { isFresh: true, variant: {} });
    };
    pass(a, c);
    a.ban('j', '192.0.2.1', 3600);
    pass(a, c);
    assert.deepEqual([...c.fields()], ['192.0.2.1 j@a']);
    a.stopJail();
    c.unban('192.0.2.1');
    pass(c);
    a.startJail(1);
    pass(a, c);
    assert.deepEqual([...a.fields(), ...c.fields()], []);
    a.ban('j', '192.0.2.1', 3600);
    pass(a, c);
    assert.deepEqual([...c.fields()], ['192.0.2.1 j@a']);
  });

  for (const [name, variant] of [
    ['in which absence is a release', absenceReleases],
    ['that forgets lifts with the engine', { forgets: true }],
  ] as const)
    test(`${name} fails the same check`, () => {
      const seeds = Array.from({ length: 200 }, (_, seed) => seed);
      assert.ok(seeds.some((seed) => run(seed, variant) !== ''));
    });
});
