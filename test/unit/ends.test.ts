// When the resident ends holds by hand.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatBan } from '../../src/banlist/ban-lines.ts';
import { MANUAL } from '../../src/bans/hold.ts';
import { Ends } from '../../src/serve/ends.ts';
import { BanctlError, EXIT } from '../../src/system/errors.ts';
import { withoutReload } from '../lab/call.ts';
import { until } from '../lab/wait.ts';

test('a ban that cannot be ended does not hide the end of the next one', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-ends-'));
  const bandir = join(directory, 'bans');
  mkdirSync(bandir);
  const ban = (address: string) => {
    const hold = { holder: MANUAL, address, since: 0, until: 1, reason: null };
    writeFileSync(join(bandir, address), formatBan(address, [hold]));
  };
  const ended: string[] = [];
  const ends = new Ends(withoutReload(join(directory, 'banlist.conf'), bandir), async (addresses) => {
    ended.push(...addresses);
    if (ended.length === 1) throw new BanctlError(EXIT.cannotWrite, 'the directory is being replaced');
  });
  try {
    ban('203.0.113.1');
    await ends.look();
    assert.deepEqual(ended, ['203.0.113.1']);
    ban('203.0.113.2');
    // By the kernel's report: nothing else looks here.
    await until('the end of the second', () => ended.includes('203.0.113.2'), { limit: 20_000 });
  } finally {
    await ends.close();
    rmSync(directory, { recursive: true });
  }
});
