// The page as text: everything from outside is escaped, and its policy allows what is in it and nothing else.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { summarize } from '../../src/report/history.ts';
import { formatPage } from '../../src/report/page.ts';
import { terminalLines } from '../../src/report/terminal.ts';
import type { Report } from '../../src/report/types.ts';
import { grouped, span } from '../../src/report/words.ts';

const HOSTILE = `<script>alert(1)</script>"'&\u202e</style><img src=x onerror=alert(1)>`;
const NOW = Date.UTC(2026, 10, 25, 17, 30) / 1000;
const SINCE = NOW - 7 * 86_400;

function hostileReport(): Report {
  const past = Array.from({ length: 50 }, (_, index) => ({
    jail: index % 2 ? HOSTILE : `jail${index}`,
    address: index % 3 ? HOSTILE : '203.0.113.5',
    since: SINCE + index * 7200,
    durationSeconds: index % 5 ? 600 : null,
  }));
  return {
    bans: [
      {
        address: '203.0.113.5',
        where: 'banlist',
        file: '/list',
        holds: [{ holder: HOSTILE, address: HOSTILE, since: NOW, until: null, reason: HOSTILE }],
      } as unknown as Report['bans'][number],
    ],
    document: {
      generated: '2026-11-25T17:30:00Z',
      since: '2026-11-18T17:30:00Z',
      host: HOSTILE,
      version: '1',
      banned: {
        total: 1,
        addresses: 1,
        ranges: 0,
        byHolder: [{ holder: HOSTILE, byHand: false, host: HOSTILE, count: 1 }],
      },
      history: {
        database: { file: HOSTILE, problem: HOSTILE, oldest: null, purgeAgeSeconds: null },
        ...summarize(past, SINCE, NOW),
      },
      record: {
        since: null,
        isFull: true,
        ended: [{ name: HOSTILE, count: 1, describe: HOSTILE }],
        lasted: { bans: 0, medianSeconds: null },
        refused: {
          count: 1,
          byReason: [{ name: HOSTILE, count: 1 }],
          addresses: [{ name: HOSTILE, count: 1 }],
        },
      },
      audit: {
        ok: false,
        findings: [{ code: 'bad-line', severity: 'error', address: HOSTILE, message: HOSTILE }],
      },
      reloads: {
        pending: true,
        last: null,
        error: HOSTILE,
        done: 1,
        failed: 1,
        medianSeconds: 1,
        longestSeconds: 2,
      },
      fleet: { connected: false, hosts: [{ name: HOSTILE, seen: HOSTILE, holds: 1, version: HOSTILE }] },
    },
  };
}

test('text from outside is text on the page', () => {
  const page = formatPage(hostileReport());
  assert.ok(!/<script>alert|<img|onerror=alert\(1\)>/.test(page.replaceAll('&lt;', '')), 'not escaped');
  assert.ok(!page.includes('\u202e'), 'a character that turns text round');
  assert.equal(page.match(/<script>/g)?.length, 1);
  assert.equal(page.match(/<\/style>/g)?.length, 1);
});

test('the policy names the hashes of the one style sheet and the one script, and nothing else may load', () => {
  const page = formatPage(hostileReport());
  const hash = (text = '') => `sha256-${createHash('sha256').update(text).digest('base64')}`;
  const policy = /Content-Security-Policy" content="([^"]+)"/.exec(page)?.[1]?.replaceAll('&#39;', "'") ?? '';
  assert.match(policy, /^default-src 'none'; img-src data:;/);
  assert.ok(policy.includes(hash(/<style>([\s\S]*?)<\/style>/.exec(page)?.[1])), 'style');
  assert.ok(policy.includes(hash(/<script>([\s\S]*?)<\/script>/.exec(page)?.[1])), 'script');
  assert.ok(!/ style="| on\w+="|https?:|url\(/.test(page), 'something that the policy would refuse');
});

test('on a terminal, bans are said to be those by hand alone where fail2ban has no database to read', () => {
  const { document } = hostileReport();
  const database = { ...document.history.database, problem: 'it does not exist' };
  const told = (problem: string | null) =>
    terminalLines({ ...document, history: { ...document.history, database: { ...database, problem } } })
      .filter((line) => line.startsWith('bans since'))
      .join('\n');
  assert.match(
    told('it does not exist'),
    /, by hand alone, because fail2ban's database cannot be read: it does not exist$/,
  );
  assert.doesNotMatch(told(null), /by hand/);
});

test('hostile text cannot steer a terminal either', () => {
  const lines = terminalLines(hostileReport().document).join('\n');
  assert.ok(!/[^\P{C}\n]/u.test(lines));
});

test('buckets, hours, networks and addresses of past bans', () => {
  const past = ['203.0.113.1', '203.0.113.2', '203.0.113.2', '2001:db8::1', 'localhost'].map(
    (address, index) => ({
      jail: index < 3 ? 'web' : 'constructor',
      address,
      since: SINCE + index * 1800,
      durationSeconds: 600,
    }),
  );
  const numbers = summarize(past, SINCE, NOW);
  assert.deepEqual(numbers.byJail, [
    { name: 'web', count: 3 },
    { name: 'constructor', count: 2 },
  ]);
  assert.deepEqual(numbers.addresses, [{ name: '203.0.113.2', count: 2, jails: ['web'] }]);
  assert.deepEqual(numbers.networks, [{ name: '203.0.113.0/24', count: 3, addresses: 2 }]);
  assert.equal(numbers.bucketSeconds, 3600);
  assert.equal(
    numbers.buckets.reduce((all, { byJail }) => all + byJail.reduce((sum, { count }) => sum + count, 0), 0),
    5,
  );
  assert.equal(
    numbers.byHour.find(({ jail }) => jail === 'web')?.counts.reduce((all, count) => all + count),
    3,
  );
});

test('numbers and spans are written for people', () => {
  assert.deepEqual([0, 999, 1000, 1234567].map(grouped), ['0', '999', '1,000', '1,234,567']);
  assert.deepEqual([0.25, 1.26, 59, 3600, 90_061].map(span), ['250 ms', '1.3 s', '59 s', '1 h', '1 d 1 h']);
});
