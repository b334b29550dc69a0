// The page of `banctl report` for many bans and a long history.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { executable } from '../../test/lab/banctl.ts';
import { type Result, runPlan, target, usageFigures } from './measure.ts';

const BANS = 10_000;
const PAST = 100_000;
const RUNS = 7;
const DAY_SECONDS = 86_400;
const MOST_MS = 2000;

export async function reportPage(): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'banctl-bench-report-'));
  try {
    writeFileSync(join(directory, 'list'), list());
    writeHistory(join(directory, 'fail2ban.sqlite3'));
    writeFileSync(join(directory, 'record'), record());
    const words = [
      executable,
      'report',
      '--no-fail2ban',
      '--apachectl=false',
      `--banlist=${join(directory, 'list')}`,
      `--record=${join(directory, 'record')}`,
      `--fail2ban-db=${join(directory, 'fail2ban.sqlite3')}`,
      `--html=${join(directory, 'page.html')}`,
    ];
    const usages = await runPlan(Array.from({ length: RUNS }, () => ({ words })));
    const what = `the page for ${BANS.toLocaleString('en')} bans and ${PAST.toLocaleString('en')} rows of history`;
    const [figure] = usageFigures(what, usages);
    return {
      name: 'report',
      title: 'The page of banctl report, without asking Apache and fail2ban',
      figures: usageFigures(what, usages),
      targets: [target(`${what}, ms`, figure?.median ?? Number.NaN, MOST_MS)],
      remarks: [],
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function address(index: number): string {
  return `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`;
}

function list(): string {
  const lines = Array.from(
    { length: BANS },
    (_, index) =>
      `# banctl | web ${address(index)} since 2026-01-01T00:00:00Z for ever: 5 failures\nRequire not ip ${address(index)}\n`,
  );
  return lines.join('');
}

function writeHistory(path: string): void {
  const database = new DatabaseSync(path);
  database.exec(
    'CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL); BEGIN',
  );
  const insert = database.prepare('INSERT INTO bans VALUES (?, ?, ?, 600)');
  const now = Math.floor(Date.now() / 1000);
  for (let index = 0; index < PAST; index += 1)
    insert.run(
      ['web', 'sshd', 'admin'][index % 3] ?? '',
      address(index % 40_000),
      now - ((index * 7) % (7 * DAY_SECONDS)),
    );
  database.exec('COMMIT');
  database.close();
}

/** As long as it may become. */
function record(): string {
  const now = Math.floor(Date.now() / 1000);
  const lines = Array.from({ length: 30_000 }, (_, index) =>
    JSON.stringify({
      at: now - index,
      did: 'unban',
      by: 'web',
      how: 'unban',
      count: 1,
      lifted: 1,
      addresses: [address(index)],
    }),
  );
  return `${lines.join('\n')}\n`;
}
