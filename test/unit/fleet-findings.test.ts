// What the audit says of sharing, and the metrics, from what the agent has written.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fleetFindings, fleetMetrics } from '../../src/fleet/findings.ts';
import type { Status } from '../../src/fleet/status.ts';

const NOW = Date.parse('2026-01-02T00:00:00Z');
const ago = (seconds: number) => new Date(NOW - seconds * 1000).toISOString();

const status = (more: Partial<Status> = {}): Status => ({
  connected: true,
  name: 'banctl',
  host: 'a',
  hosts: [{ name: 'a', host: 'web1', seen: ago(3), holds: 2, version: '1.0.0' }],
  holds: 7,
  pending: 0,
  refused: 0,
  losses: 3,
  lastSync: ago(2),
  error: null,
  cutSince: null,
  behindSince: null,
  clockAhead: 0,
  twin: null,
  at: ago(1),
  ...more,
});
const said = (one: Status | undefined, isSet = true) =>
  fleetFindings(one, isSet, NOW).map(({ code, message }) => `${code} ${message}`);

suite('of a fleet the audit says', () => {
  test('nothing where all is well, or where there is none', () => {
    assert.deepEqual(said(status()), []);
    assert.deepEqual(said(undefined, false), []);
    assert.deepEqual(said(status({ at: ago(100) }), false), []);
  });

  for (const [what, one, isSet, pattern] of [
    ['that no agent runs', undefined, true, /^fleet-down .*systemctl enable --now banctl\.service$/],
    ['that it has ended', status({ at: ago(61) }), true, /^fleet-down .*does not run/],
    ['that it comes from a time to come', status({ at: ago(-61) }), true, /^fleet-down .*does not run/],
    [
      'that unban does not know of it',
      status(),
      false,
      /^fleet-down .*fleet is not set in \/etc\/banctl\.json/,
    ],
    [
      'that it is cut off for long',
      status({ connected: false, cutSince: ago(61), error: 'do this' }),
      true,
      /^fleet-cut .* since 2026-01-01T23:58:59\.000Z: do this$/,
    ],
    [
      'that changes wait for long',
      status({ behindSince: ago(61), pending: 4 }),
      true,
      /^fleet-behind 4 changes wait .* journal of banctl\.service/,
    ],
    ['that its clock is ahead', status({ clockAhead: 2 }), true, /^fleet-clock .* 2 s ahead of .* by NTP$/],
    ['that its clock is behind', status({ clockAhead: -7200 }), true, /^fleet-clock .* 7200 s behind /],
    [
      'that two had one name',
      status({ twin: ago(9) }),
      true,
      /^fleet-twin .* is called a now: .*--fleet-host$/,
    ],
    [
      'what it refuses',
      status({ refused: 5 }),
      true,
      /^fleet-refused 5 bans of other servers are not made here/,
    ],
  ] as const)
    test(what, () => {
      const [line = '', ...more] = said(one, isSet);
      assert.match(line, pattern);
      assert.deepEqual(more, []);
    });

  test('nothing yet of what is short', () => {
    assert.deepEqual(said(status({ connected: false, cutSince: ago(50), error: 'x' })), []);
    assert.deepEqual(said(status({ behindSince: ago(50), pending: 4, clockAhead: -1.9 })), []);
  });
});

test('the metrics of a fleet say the same, and that an agent which has ended is not connected', () => {
  const values = (one: Status) =>
    Object.fromEntries(
      fleetMetrics(one, NOW)
        .filter((line) => !line.startsWith('#'))
        .map((line) => line.replace(/^banctl_fleet_/, '').split(' ')),
    );
  const seconds = String(NOW / 1000 - 2);
  assert.deepEqual(values(status({ pending: 1, refused: 5 })), {
    connected: '1',
    hosts: '1',
    holds: '7',
    pending: '1',
    refused: '5',
    losses_total: '3',
    last_sync_timestamp_seconds: seconds,
  });
  assert.equal(values(status({ at: ago(61) })).connected, '0');
  assert.equal(values(status({ connected: false })).connected, '0');
  assert.equal(values(status({ lastSync: null })).last_sync_timestamp_seconds, '0');
});
