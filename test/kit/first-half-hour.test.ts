// The lines of docs/install.md as its readers type them, and what audit says where a step is missing.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Apache, type ApacheOptions, kit, startApache } from '../lab/apache.ts';
import { django, makeDjango, underWsgi } from '../lab/application.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { type Fail2ban, startFail2ban } from '../lab/fail2ban.ts';
import { execute, until } from '../lab/wait.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'install.md'), 'utf8');
const jail = 'djangoapp-admin-login';
const attacker = '203.0.113.55';
const site = kit('djangoapp-banlist.conf');

/** The lines of a section's examples, without their prompts. */
function linesOf(heading: string): string[] {
  const section = page.split(/^## /m).find((text) => text.includes(heading)) ?? '';
  const blocks = [...section.matchAll(/^```console\n([\s\S]*?)^```/gm)].map(([, block = '']) => block);
  return blocks.flatMap((block) => block.split('\n')).flatMap((line) => /^[#$] (.*)$/.exec(line)?.[1] ?? []);
}

const placeOf = ({ banlist, ctl }: Apache) => [`--banlist=${banlist}`, `--apachectl=${ctl}`];

/** The kit's jail over Debian's own configuration, but for the places of the files. */
function startJail(apache: Apache): Promise<Fail2ban> {
  const action = `apache-banlist[jail=%(__name__)s, banctl="${executable}", banlist="${apache.banlist}", apachectl="${apache.ctl}", reload_interval=0, dbfile="DIR/fail2ban.sqlite3"]`;
  // Loopback stands for a proxy here.
  const own = `[${jail}]\nignoreself = false\nlogpath = ${apache.dir}/djangoapp-login.log\naction = ${action}\n`;
  return startFail2ban({
    stock: true,
    jails: '',
    jailFiles: [`${jail}.local`, ['djangoapp-own.local', own]],
  });
}

test('the self-test gets its visitor refused, on a real Django under mod_wsgi; audit suggests the directory there', async () => {
  await using apache = await startApache(
    underWsgi(django, { remoteip: true, server: kit('djangoapp-login-log.conf'), site }),
  );
  await makeDjango(apache);
  await using fail2ban = await startJail(apache);
  const [five = '', last = ''] = linesOf('Test it').map((line) =>
    line
      .replace(/^sleep \d+; /, '') // awaited below
      .replaceAll('https://www.example.org', `http://localhost:${apache.port}`)
      .replaceAll('curl ', `curl -H 'X-Forwarded-For: ${attacker}' `),
  );
  const type = async (line: string) => (await execute('sh', ['-c', line])).stdout;
  assert.notEqual(await type(last), '403\n');
  assert.match(await type(five), /^(?:(?:200|403)\n){5}$/);
  await until('the last request to answer 403', async () => (await type(last)) === '403\n', {
    detail: fail2ban.log,
  });
  assert.match(
    (await banctl(['list', `--banlist=${apache.banlist}`])).stdout,
    new RegExp(`^${attacker} `, 'm'),
  );

  const { exitCode, stdout } = await banctl(['audit', '--no-fail2ban', ...placeOf(apache)]);
  assert.match(
    stdout,
    /^list-in-use: each change .* mod_wsgi's daemon processes \(\/.*\/httpd\.conf line \d+\) .* banctl migrate --to bandir\n$/,
  );
  assert.equal(exitCode, 0, 'a hint');
  assert.equal((await banctl(['audit', '--fix', '--no-fail2ban', ...placeOf(apache)])).stdout, '');
  const bandir = `--bandir=${apache.bandir}`;
  assert.doesNotMatch(
    (await banctl(['audit', '--no-fail2ban', bandir, ...placeOf(apache)])).stdout,
    /list-in-use/,
  );
});

const CASES: [why: string, options: ApacheOptions, headers: Record<string, string>][] = [
  ['mod_remoteip is missing', {}, { 'X-Forwarded-For': attacker }],
  [
    'X-Forwarded-For has a port',
    { remoteip: true },
    { 'X-Forwarded-For': `198.51.100.7, ${attacker}:51234` },
  ],
];
for (const [why, options, headers] of CASES) {
  test(`audit reports the proxy that fail2ban wants banned because ${why}, and what to do`, async () => {
    await using apache = await startApache({ ...options, server: kit('djangoapp-login-log.conf'), site });
    await using fail2ban = await startJail(apache);
    for (let tries = 0; tries < 5; tries += 1) assert.equal(await apache.login(200, { headers }), 200);
    await fail2ban.awaitLog(/127\.0\.0\.1 is protected/);
    const client = `--fail2ban-client=${fail2ban.clientCommand}`;
    const { exitCode, stdout } = await banctl(['audit', '--fix', client, ...placeOf(apache)]);
    assert.match(
      stdout,
      /^proxy-banned: 127\.0\.0\.1: jail djangoapp-admin-login wants it banned, .* Set up mod_remoteip, and switch off client ports in X-Forwarded-For$/m,
    );
    assert.equal(exitCode, 1);
    assert.equal(await apache.get('/', { headers }), 200);
  });
}

test('the lines for what is in front switch on what they name', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'banctl-in-front-'));
  try {
    const names = ['remoteip-cloudfront.conf', 'remoteip-loadbalancer.conf'];
    for (const name of names) writeFileSync(join(dir, name), kit(name));
    const lines = linesOf('in front').filter((line) => line.startsWith('sed '));
    assert.equal(lines.length, 4);
    for (const line of lines) {
      const { exitCode, stderr } = await execute('sh', [
        '-c',
        line.replaceAll('/etc/apache2/conf-available', dir),
      ]);
      assert.equal(exitCode, 0, stderr);
    }
    const [cloudFront = '', loadBalancer = ''] = names.map((name) =>
      readFileSync(join(dir, name), 'utf8').replace(/^#.*\n/gm, ''),
    );
    assert.doesNotMatch(cloudFront, /RequestHeader/);
    assert.deepEqual(
      loadBalancer.match(/^R.*/gm)?.map((line) => line.slice(0, 40)),
      [
        'RemoteIPHeader X-Forwarded-For',
        'RequestHeader edit* X-Forwarded-For "\\[?(',
        'RequestHeader edit X-Forwarded-For "^.*,',
        'RemoteIPInternalProxy 10.0.1.0/24 10.0.2',
      ].map((line) => line.slice(0, 40)),
    );
    await using _ = await startApache({
      modules: ['remoteip', 'headers'],
      server: `${cloudFront}${loadBalancer}`,
      site: '',
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
