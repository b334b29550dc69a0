// What gets past the ban, and what only looks as if it did: a real Apache and the audit agree.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { readConfiguration } from '../../src/apache/configuration.ts';
import { directivesOf } from '../../src/apache/directives.ts';
import { readTextOrEmpty } from '../../src/apache/processes.ts';
import { bypassFindings } from '../../src/audit/bypass.ts';
import { type Apache, startApache } from '../lab/apache.ts';
import { ban, harmless, past } from '../lab/bypasses.ts';
import { until } from '../lab/wait.ts';

const banned = '203.0.113.5';
const visitor = '203.0.113.6';

suite("Apache's configuration", { concurrency: 1 }, () => {
  let apache: Apache;
  let count = 0;
  before(async () => {
    apache = await startApache({
      remoteip: true,
      list: `Require not ip ${banned}\n`,
      modules: ['cache', 'cache_disk'],
      site: (dir) => `IncludeOptional ${dir}/case.conf`,
    });
    mkdirSync(join(apache.documentRoot, 'open'));
    mkdirSync(apache.bandir, { recursive: true });
    writeFileSync(join(apache.bandir, banned), '');
  });
  after(() => apache[Symbol.asyncDispose]());

  /** Apache with this text in its virtual host; gives what the banned gets, and how much the audit finds. */
  async function tried(text: string) {
    count += 1;
    const page = '/open/index.html';
    const cache = join(apache.dir, `cache-${count}`);
    mkdirSync(cache);
    chmodSync(cache, 0o777);
    writeFileSync(join(apache.documentRoot, page), 'open');
    // By its age mod_cache takes it to be fresh for long.
    utimesSync(join(apache.documentRoot, page), 1e9, 1e9);
    writeFileSync(
      join(apache.dir, 'case.conf'),
      text
        .replaceAll('/x/banlist.conf', apache.banlist)
        .replaceAll('/x/bans', apache.bandir)
        .replaceAll('CACHE', cache),
    );
    await apache.graceful();
    await until('the page', async () => (await apache.get(page, { from: visitor })) === 200);
    // What mod_cache keeps.
    await apache.get(page, { from: visitor });
    const configuration = await readConfiguration(apache.ctl);
    assert.ok(configuration.result === 'passed' && configuration.inclusions !== undefined);
    const directives = directivesOf(configuration.inclusions, readTextOrEmpty);
    const { banlist, bandir } = apache;
    const findings = bypassFindings(directives, { banlist, bandir });
    return { status: await apache.get(page, { from: banned }), findings };
  }

  for (const [what, text] of Object.entries(past)) {
    test(`${what}: the banned get in, and the audit says so`, async () => {
      const { status, findings } = await tried(text(ban));
      assert.deepEqual([status, findings.length], [200, 1], JSON.stringify(findings));
      assert.match(findings[0]?.message ?? '', new RegExp(`^${apache.dir}/case.conf line \\d+: .*; `));
    });
  }

  for (const [what, text] of Object.entries(harmless)) {
    test(`${what}: the banned stay out, and the audit is silent`, async () => {
      const { status, findings } = await tried(text(ban));
      assert.deepEqual([status, findings], [403, []]);
    });
  }
});
