// The page of `banctl report` in a real Chromium: at three widths, light and dark, with none, a few and many bans, with
// hostile names and reasons. No message on the console, no request, no finding of axe; it sorts and searches by clicks.
//
// RECORD=1 writes the pictures in docs/ anew.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { banctl } from '../lab/banctl.ts';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const dir = mkdtempSync(join(tmpdir(), 'banctl-page-'));
const docs = join(import.meta.dirname, '..', '..', 'docs');
const HOSTILE = `</td><script>document.title='pwned'</script><img src="http://192.0.2.1/x" onerror="document.title='pwned'">&"'`;
const HOSTILE_JAIL = '<svg/onload=document.title=1>';
const JAILS = ['djangoapp-admin-login', 'sshd', 'recidive', ...(process.env.RECORD ? [] : [HOSTILE_JAIL])];
const WIDTHS = [360, 768, 1280];
const DAY = 86_400;

let browser: BrowserContext;

before(async () => {
  browser = await chromium.launchPersistentContext(join(dir, 'profile'), {
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
});
after(async () => {
  await browser?.close();
  rmSync(dir, { recursive: true, force: true });
});

/** The same numbers at each run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

/** A list with so many bans, and a history of fail2ban's; gives the page's path. */
async function pageWith(bans: number, past: number): Promise<string> {
  const place = join(dir, String(bans));
  const next = random(bans + 1);
  const now = Math.floor(Date.now() / 1000);
  const list = Array.from({ length: bans }, (_, index) => {
    const address =
      index % 9 === 8
        ? `2001:db8:${index.toString(16)}::1`
        : `203.${Math.floor(index / 62_500)}.${Math.floor(index / 250) % 250}.${index % 250}`;
    const since = new Date((now - Math.floor(next() * 3 * DAY)) * 1000).toISOString().slice(0, 19);
    const until = new Date((now + 600 + Math.floor(next() * 5 * DAY)) * 1000).toISOString().slice(0, 19);
    const reason =
      index % 4 === 3 ? HOSTILE.replace(/[%|]/g, encodeURIComponent) : `${5 + (index % 7)} failures`;
    const jail = encodeURIComponent(JAILS[index % JAILS.length] ?? '');
    return `# banctl | ${jail} ${address} since ${since}Z until ${until}Z: ${reason}\nRequire not ip ${address}\n`;
  });
  writeFileSync(`${place}.list`, list.join(''));
  const database = new DatabaseSync(`${place}.sqlite3`);
  database.exec(
    'CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON); BEGIN',
  );
  const insert = database.prepare('INSERT INTO bans (jail, ip, timeofban, bantime) VALUES (?, ?, ?, ?)');
  for (let index = 0; index < past; index += 1) {
    const at = now - 7 * DAY + Math.floor(next() ** 0.8 * 7 * DAY);
    // Fewer at night.
    if ((at % DAY) / 3600 < 6 && next() < 0.7) continue;
    const jail = JAILS[Math.floor(next() ** 2.2 * JAILS.length)] ?? '';
    const address =
      index % 97 === 0 ? HOSTILE : `198.51.${Math.floor(next() ** 4 * 40)}.${Math.floor(next() ** 3 * 250)}`;
    insert.run(jail, address, at, [600, 3600, 7 * DAY, -1][Math.floor(next() ** 2 * 4)] ?? 600);
  }
  database.exec('COMMIT');
  database.close();
  const record = `${place}.record`;
  const entry = (at: number, more: object) => JSON.stringify({ at: Math.floor(now - at), ...more });
  writeFileSync(
    record,
    Array.from({ length: past === 0 ? 0 : 60 }, (_, index) => [
      entry(next() * 6 * DAY, {
        did: 'reload',
        result: index === 7 ? 'failed' : 'done',
        seconds: 0.06 + next() * 0.4,
      }),
      entry(next() * 6 * DAY, {
        did: 'unban',
        by: index % 6 ? 'sshd' : null,
        how: 'unban',
        count: 1,
        lifted: 1,
        addresses: [`198.51.0.${index}`],
      }),
      ...(index % 5
        ? []
        : [
            entry(next() * DAY, {
              did: 'refuse',
              by: 'sshd',
              why: 'protected',
              count: 1,
              addresses: [`192.0.2.${index % 3}`],
            }),
          ]),
    ])
      .flat()
      .map((line) => `${line}\n`)
      .join(''),
  );
  const { exitCode, stderr } = await banctl([
    'report',
    `--html=${place}.html`,
    `--banlist=${place}.list`,
    `--fail2ban-db=${place}.sqlite3`,
    `--record=${record}`,
    '--apachectl=/nonexistent',
    '--no-fail2ban',
  ]);
  assert.equal(exitCode, 0, stderr);
  return `${place}.html`;
}

interface Opened {
  readonly page: Page;
  readonly messages: string[];
}

async function open(path: string, width: number, scheme: 'light' | 'dark'): Promise<Opened> {
  const page = await browser.newPage();
  const messages: string[] = [];
  page.on('console', (message) => messages.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => messages.push(`error: ${error.message}`));
  page.on('request', (request) => {
    if (request.url() !== `file://${path}` && !request.url().startsWith('data:'))
      messages.push(`request: ${request.url().slice(0, 200)}`);
  });
  await page.setViewportSize({ width, height: 900 });
  await page.emulateMedia({ colorScheme: scheme });
  await page.goto(`file://${path}`);
  return { page, messages };
}

/** How much wider the page is than its window. */
async function pixelsOver(page: Page): Promise<number> {
  return Number(
    await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'),
  );
}

async function axeFindings(page: Page): Promise<string[]> {
  // evaluate() runs in the page by the debugger, which its policy does not bind.
  await page.evaluate(axe);
  const found = await page.evaluate("axe.run(document, { resultTypes: ['violations'], iframes: false })");
  const { violations } = found as { violations: { id: string; nodes: { html: string }[] }[] };
  return violations.map(({ id, nodes }) => `${id}: ${nodes.length} × ${nodes[0]?.html.slice(0, 200)}`);
}

for (const [bans, past] of [
  [0, 0],
  [12, 2500],
] as const) {
  test(`with ${bans} bans, at ${WIDTHS.join(', ')} pixels, light and dark`, async () => {
    const path = await pageWith(bans, past);
    for (const width of WIDTHS) {
      for (const scheme of ['light', 'dark'] as const) {
        const { page, messages } = await open(path, width, scheme);
        const name = `${bans} bans, ${width} pixels, ${scheme}`;
        assert.deepEqual(await axeFindings(page), [], name);
        assert.deepEqual(messages, [], name);
        assert.match(await page.title(), /^Bans on /, name);
        const over = await pixelsOver(page);
        assert.ok(over <= 0, `${name}: ${over} pixels too wide`);
        if (process.env.SHOTS)
          await page.screenshot({
            path: join(process.env.SHOTS, `${bans}-${width}-${scheme}.png`),
            fullPage: true,
          });
        if (process.env.RECORD && bans > 0 && (width === 1280 ? true : width === 360 && scheme === 'dark'))
          await page.screenshot({
            path: join(docs, `report-${width}-${scheme}.png`),
            clip: { x: 0, y: 0, width, height: width === 360 ? 800 : 900 },
          });
        await page.close();
      }
    }
  });
}

test('with 10,000 bans, at each width, light and dark: no message, no request, no finding; it sorts and searches by clicks', {
  timeout: 600_000,
}, async () => {
  const path = await pageWith(10_000, 20_000);
  for (const width of WIDTHS) {
    const { page, messages } = await open(path, width, 'light');
    assert.ok((await pixelsOver(page)) <= 0, `${width}`);
    await (width === 1280 ? sortAndSearch(page) : search(page));
    // The rules for one row hold for the others: axe takes minutes for 50,000 cells.
    await page.evaluate(
      "for (const row of [...document.querySelectorAll('#bans tbody tr')].slice(40)) row.remove()",
    );
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      assert.deepEqual(await axeFindings(page), [], `${width} pixels, ${scheme}`);
    }
    assert.equal(await page.title().then((title) => title.includes('pwned')), false);
    assert.deepEqual(messages, []);
    await page.close();
  }
});

const shownRows = (page: Page) => page.locator('#bans tbody tr:not([hidden])');

async function sortAndSearch(page: Page): Promise<void> {
  const first = () => shownRows(page).first().locator('th').textContent();
  await page.getByRole('button', { name: 'Address' }).click();
  assert.equal(await first(), '203.0.0.0');
  assert.equal(await page.locator('[aria-sort]').getAttribute('aria-sort'), 'ascending');
  await page.getByRole('button', { name: 'Address' }).click();
  assert.match((await first()) ?? '', /^2001:db8:/);
  const times = page.locator('#bans tbody tr:not([hidden]) td:nth-child(4)');
  await page.getByRole('button', { name: /^Until/ }).click();
  const [soonest = '', next = ''] = [await times.nth(0).textContent(), await times.nth(1).textContent()].map(
    String,
  );
  assert.ok(soonest <= next);
  await search(page);
}

async function search(page: Page): Promise<void> {
  const shown = shownRows(page);
  await page.getByLabel('Search').fill('203.0.7.1 RECIDIVE');
  assert.ok((await shown.count()) > 0 && (await shown.count()) < 60);
  assert.match((await page.locator('#shown').textContent()) ?? '', /^\d+ of 10,000$/);
  for (const text of await shown.allTextContents()) assert.match(text, /203\.0\.7\.1.*recidive/s);
  await page.getByLabel('Search').fill('');
  assert.equal(await shown.count(), 10_000);
}

test('without JavaScript everything is there to read, and printed only the first 200 rows', async () => {
  const path = await pageWith(400, 100);
  const still = await browser.browser()?.newContext({ javaScriptEnabled: false });
  const context = still ?? browser;
  const page = await context.newPage();
  await page.goto(`file://${path}`);
  assert.equal(await page.locator('#bans tbody tr:not([hidden])').count(), 400);
  if (still !== undefined) assert.equal(await page.locator('#tools:visible').count(), 0);
  await page.emulateMedia({ media: 'print' });
  assert.equal(await page.locator('#bans tbody tr:visible').count(), 200);
  assert.equal(await page.locator('.printed:visible').count(), 1);
  await page.close();
  await still?.close();
});
