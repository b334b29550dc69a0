// The metrics, the alerts and the dashboard: Prometheus' own tools accept them, each name in them is one that the executable
// writes and docs/metrics.md explains, and a real Prometheus that scrapes them answers every query.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { banctl } from '../lab/banctl.ts';
import { type Daemon, daemon, execute, until } from '../lab/wait.ts';

const repository = join(import.meta.dirname, '..', '..');
const RULES = join(repository, 'prometheus', 'banctl.rules.yml');
const dashboard = JSON.parse(readFileSync(join(repository, 'grafana', 'banctl.json'), 'utf8'));
const rules = readFileSync(RULES, 'utf8');
const page = readFileSync(join(repository, 'docs', 'metrics.md'), 'utf8');
const dir = mkdtempSync(join(tmpdir(), 'banctl-prometheus-'));
const file = join(dir, 'banctl.prom');
let server: Server;
let prometheus: Daemon | undefined;

const queries: string[] = dashboard.panels.flatMap((panel: { targets: { expr: string }[] }) =>
  panel.targets.map(({ expr }) => expr),
);
const alerts = [...rules.matchAll(/^ +expr: (.+)$/gm)].map(([, expr = '']) => expr);
const names = (text: string) => new Set([...text.matchAll(/\bbanctl_[a-z_]+/g)].map(([name]) => name));

before(async () => {
  const list = join(dir, 'list');
  const here = [`--banlist=${list}`, `--record=${join(dir, 'record')}`];
  const run = async (...args: string[]) => (await banctl([...args, ...here])).exitCode;
  const noReload = '--no-reload';
  assert.equal(await run('ban', '203.0.113.5', '203.0.113.6', noReload), 0);
  assert.equal(await run('ban', '203.0.113.7', '--jail=we"b\\', noReload), 0);
  assert.equal(await run('unban', '203.0.113.5', '--no-fail2ban', noReload), 0);
  assert.equal(await run('ban', '127.0.0.1', noReload), 77);
  assert.equal(await run('reload', '--force', '--reload-command=true', '--apachectl='), 0);
  assert.equal(await run('audit', '--no-fail2ban', '--apachectl=/nonexistent', `--prometheus=${file}`), 1);
});
after(async () => {
  await prometheus?.end();
  server?.closeAllConnections();
  server?.close();
  rmSync(dir, { recursive: true, force: true });
});

/** Histograms have three suffixes, the name itself is what is explained. */
const written = () => {
  const text = readFileSync(file, 'utf8');
  return {
    text,
    types: new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type]) => [name, type])),
  };
};

test('what was done is counted, across processes', () => {
  const { text } = written();
  assert.match(text, /^banctl_bans_total\{holder="manual"\} 2$/m);
  assert.match(text, /^banctl_bans_total\{holder="we\\"b\\\\"\} 1$/m);
  assert.match(text, /^banctl_unbans_total\{how="unban"\} 1$/m);
  assert.match(text, /^banctl_refusals_total\{why="protected"\} 1$/m);
  assert.match(text, /^banctl_reloads_total\{result="done"\} 1$/m);
  assert.match(text, /^banctl_reload_seconds_count 1$/m);
});

test('promtool accepts the metrics and the rules', async () => {
  const metrics = await execute('promtool', ['check', 'metrics'], written().text);
  assert.deepEqual([metrics.exitCode, metrics.stdout + metrics.stderr], [0, '']);
  const checked = await execute('promtool', ['check', 'rules', RULES]);
  assert.equal(checked.exitCode, 0, checked.stdout + checked.stderr);
});

test('the page, the alerts and the dashboard name what is written, and the page all of it with its type', () => {
  const { types } = written();
  const base = (name: string) => name.replace(/_(?:bucket|sum|count)$/, '');
  for (const name of [...names(queries.join('\n')), ...names(alerts.join('\n'))])
    assert.ok(types.has(name) || types.get(base(name)) === 'histogram', `${name} is not written`);
  const rows = new Map(
    [...page.matchAll(/^\| `(banctl_\w+)` \| (\w+) \|/gm)].map(([, name = '', type]) => [name, type]),
  );
  for (const [name, type] of types) assert.equal(rows.get(name), type, `${name} in docs/metrics.md`);
  const shown = new Set([...names(queries.join('\n'))].map(base));
  for (const name of types.keys()) assert.ok(shown.has(name), `the dashboard does not show ${name}`);
});

/** What Grafana puts in the place of its variables. */
const filledIn = (query: string) => query.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m');

test('a real Prometheus answers every query of the dashboard, and every alert', {
  timeout: 120_000,
}, async () => {
  const { text } = written();
  // A counter that stands still has no rate: each scrape finds more.
  let scrapes = 0;
  server = createServer((_request, response) => {
    scrapes += 1;
    response.setHeader('Content-Type', 'text/plain; version=0.0.4');
    response.end(
      text.replace(
        /^(banctl_\w+(?:_total|_bucket|_sum|_count)\S*) (\S+)$/gm,
        (_, name, value) => `${name} ${Number(value) * scrapes}`,
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = await freePort();
  const { port: target } = server.address() as AddressInfo;
  writeFileSync(
    join(dir, 'prometheus.yml'),
    `global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [${RULES}]\nscrape_configs:\n  - job_name: node\n    static_configs: [{ targets: ['127.0.0.1:${target}'] }]\n`,
  );
  prometheus = daemon('prometheus', [
    `--config.file=${join(dir, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(dir, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ]);
  const ask = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`);
    return (await answer.json()) as {
      status: string;
      error?: string;
      data: {
        result: { value: [number, string] }[];
        groups?: { rules: { name: string; health: string; state: string }[] }[];
      };
    };
  };
  const query = (expr: string) => ask(`query?query=${encodeURIComponent(expr)}`);
  const detail = () => prometheus?.output().slice(-2000) ?? '';
  await until('two scrapes', async () => scrapes > 3 && (await query('banctl_ok')).data.result.length === 1, {
    limit: 60_000,
    detail,
  });
  for (const expr of queries) {
    const { status, error, data } = await query(filledIn(expr));
    assert.equal(status, 'success', `${expr}: ${error}`);
    assert.ok(data.result.length > 0, `${expr}: no result`);
    assert.ok(
      data.result.every(({ value }) => Number.isFinite(Number(value[1]))),
      `${expr}: ${JSON.stringify(data.result)}`,
    );
  }
  for (const expr of alerts) assert.equal((await query(expr)).status, 'success', expr);
  const groups = await until('the rules to be evaluated', async () => {
    const { data } = await ask('rules');
    return data.groups?.every(({ rules: all }) => all.every(({ health }) => health === 'ok'))
      ? data.groups
      : undefined;
  });
  const states = Object.fromEntries(
    groups.flatMap(({ rules: all }) => all.map(({ name, state }) => [name, state])),
  );
  assert.deepEqual(
    [
      states.BanctlAuditFailing,
      states.BanctlApacheNotLoading,
      states.BanctlFail2banDown,
      states.BanctlFleetCut,
    ],
    ['pending', 'pending', 'inactive', 'inactive'],
  );
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
