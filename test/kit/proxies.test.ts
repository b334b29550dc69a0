// Behind CloudFront and load balancers: the list of their addresses is kept current by `banctl ranges`, which the jobs in
// cron.d and systemd call; the page for those who were banned wrongly.
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, suite, test } from 'node:test';
import { type Apache, kit, startApache } from '../lab/apache.ts';
import { banctl, executable } from '../lab/banctl.ts';
import { execute, until } from '../lab/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'banctl-proxies-'));
chmodSync(directory, 0o755);
after(() => rmSync(directory, { recursive: true }));
const newFolder = () => {
  const folder = mkdtempSync(join(directory, 'folder-'));
  chmodSync(folder, 0o755);
  return folder;
};

const repository = join(import.meta.dirname, '..', '..');
const installed = '/etc/apache2/djangoapp/cloudfront-proxies';
const CLOUDFRONT = 'CLOUDFRONT_ORIGIN_FACING';
const HEALTH = 'ROUTE53_HEALTHCHECKS';
const A = '203.0.113.5';

/** As AWS publishes it: IPv4 in prefixes, IPv6 in ipv6_prefixes, many services. */
function ipRanges(ranges: readonly string[], service = CLOUDFRONT): string {
  const entry = { region: 'GLOBAL', network_border_group: 'GLOBAL' };
  return JSON.stringify({
    syncToken: '1795385799',
    createDate: '2026-11-22-20-03-19',
    prefixes: [
      { ip_prefix: '3.5.140.0/22', ...entry, service: 'AMAZON' },
      ...ranges
        .filter((range) => !range.includes(':'))
        .map((range) => ({ ip_prefix: range, ...entry, service })),
    ],
    ipv6_prefixes: ranges
      .filter((range) => range.includes(':'))
      .map((range) => ({ ipv6_prefix: range, ...entry, service })),
  });
}

const listed = (file: string) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));

/** `banctl ranges -` in a folder of its own, with no Apache. */
function setUp(before?: string) {
  const folder = newFolder();
  const output = join(folder, 'proxies');
  if (before !== undefined) writeFileSync(output, before);
  return {
    folder,
    output,
    call: (input: string, ...args: string[]) =>
      banctl(
        ['ranges', '-', `--output=${output}`, `--banlist=${join(folder, 'list')}`, '--no-reload', ...args],
        input,
      ),
  };
}

suite('the list of proxies', () => {
  test("is made of CloudFront's ranges alone, sorted, each once, and all users can read it", async () => {
    const { output, folder, call } = setUp();
    const ranges = [
      '2001:DB8::/32',
      '198.51.100.128/25',
      '203.0.113.0/24',
      '198.51.100.0/24',
      '203.0.113.0/24',
    ];
    const { exitCode, stdout } = await call(ipRanges(ranges));
    assert.equal(exitCode, 0);
    assert.match(stdout, /proxies has 3 ranges: 3 added, 0 removed\n/);
    assert.deepEqual(listed(output), ['198.51.100.0/24', '203.0.113.0/24', '2001:db8::/32']);
    assert.equal((await execute('stat', ['-c', '%a', output])).stdout, '644\n');
    assert.deepEqual(readdirSync(folder), ['proxies']);
  });

  test('protects the same addresses from bans', async () => {
    const { output, folder, call } = setUp();
    await call(ipRanges(['198.51.100.0/24', '2001:db8::/32']));
    const config = join(folder, 'banctl.json');
    writeFileSync(config, JSON.stringify({ protect: [`@${output}`, '10.0.1.0/24'] }));
    // CloudFront, over IPv4 and IPv6, and the load balancer's subnet, from which its health checks come.
    for (const [address, code] of [
      ['198.51.100.7', 77],
      ['2001:db8::7', 77],
      ['10.0.1.9', 77],
      [A, 0],
    ] as const) {
      const args = ['ban', address, `--banlist=${join(folder, 'list')}`, `--config=${config}`, '--no-reload'];
      assert.equal((await banctl(args)).exitCode, code, address);
    }
  });

  test('can be that of another service, to protect its health checks', async () => {
    const { output, call } = setUp();
    const { exitCode } = await call(ipRanges(['192.0.2.0/28'], HEALTH), `--service=${HEALTH}`);
    assert.equal(exitCode, 0);
    assert.deepEqual(listed(output), ['192.0.2.0/28']);
  });

  test('can be made of a plain list, such as other networks publish', async () => {
    const { output, call } = setUp();
    assert.equal((await call('# ours\n198.51.100.0/24\n2001:db8::/32 # v6\n')).exitCode, 0);
    assert.deepEqual(listed(output), ['198.51.100.0/24', '2001:db8::/32']);
  });

  test('stays as it is, untouched, if nothing differs', async () => {
    const { output, call } = setUp();
    await call(ipRanges(['198.51.100.0/24', '203.0.113.0/24']));
    utimesSync(output, 1, 1);
    const again = await call(ipRanges(['203.0.113.0/24', '198.51.100.0/24']));
    assert.deepEqual(again, { exitCode: 0, stdout: '', stderr: '' });
    assert.equal((await execute('stat', ['-c', '%Y', output])).stdout, '1\n');
  });

  test('says in JSON what came and went', async () => {
    const { call } = setUp('198.51.100.0/24\n203.0.113.0/24\n');
    const { stdout } = await call(ipRanges(['198.51.100.0/24', '192.0.2.0/24']), '--json');
    assert.deepEqual(JSON.parse(stdout), {
      changed: true,
      ranges: 2,
      added: ['192.0.2.0/24'],
      removed: ['203.0.113.0/24'],
      reload: 'skipped',
    });
  });

  test('with --dry-run is left alone', async () => {
    const { output, call } = setUp('198.51.100.0/24\n');
    const { exitCode, stdout } = await call(ipRanges(['198.51.100.0/24', '192.0.2.0/24']), '--dry-run');
    assert.equal(exitCode, 0);
    assert.match(stdout, /would have 2 ranges: 1 added, 0 removed/);
    assert.equal(readFileSync(output, 'utf8'), '198.51.100.0/24\n');
  });

  test('that is a symbolic link stays one', async () => {
    const { output, folder, call } = setUp();
    symlinkSync('elsewhere', output);
    assert.equal((await call(ipRanges(['198.51.100.0/24']))).exitCode, 0);
    assert.deepEqual(listed(join(folder, 'elsewhere')), ['198.51.100.0/24']);
  });

  const before = ['198.51.100.0/24', '203.0.113.0/24', '2001:db8::/32'];
  const whole = ipRanges(before);
  for (const [what, input, code] of [
    ['nothing, as of a fetch that failed', '', 78],
    ['a file that was cut', whole.slice(0, -20), 78],
    ['another document', '{"prefixes": [], "ipv6_prefixes": []}', 78],
    ["an error's page", '<html><body>502 Bad Gateway</body></html>', 78],
    ['the whole Internet', ipRanges([...before, '0.0.0.0/0']), 78],
    ['half the Internet', ipRanges([...before, '128.0.0.0/1']), 77],
    ['a third of all IPv6', ipRanges([...before, '2000::/3']), 77],
    ['a name', ipRanges([...before, 'proxy.example.com']), 78],
    ['a directive', ipRanges([...before, '192.0.2.1\nRequire all granted']), 78],
    ['less than half of what there was', ipRanges(['203.0.113.0/24']), 78],
  ] as const) {
    test(`is not replaced by ${what}`, async () => {
      const text = `${before.join('\n')}\n`;
      const { output, folder, call } = setUp(text);
      const { exitCode, stdout, stderr } = await call(input);
      assert.equal(exitCode, code, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, /^banctl: [^\n]+\n$/);
      assert.equal(readFileSync(output, 'utf8'), text);
      assert.deepEqual(readdirSync(folder), ['proxies']);
    });
  }

  test('loses most of its ranges with --force alone, and never all', async () => {
    const { output, call } = setUp(`${before.join('\n')}\n`);
    assert.equal((await call(ipRanges(['203.0.113.0/24']), '--force')).exitCode, 0);
    assert.deepEqual(listed(output), ['203.0.113.0/24']);
    assert.equal((await call('', '--force')).exitCode, 78);
    assert.deepEqual(listed(output), ['203.0.113.0/24']);
  });

  test('is not lost by a range that became part of a wider one', async () => {
    const { call } = setUp('198.51.100.0/26\n198.51.100.64/26\n');
    assert.equal((await call(ipRanges(['198.51.100.0/24']))).exitCode, 0);
  });

  test('is named by what is wrong with the call', async () => {
    const { output } = setUp();
    const wrong = async (...args: string[]) => {
      const { exitCode, stderr } = await banctl(['ranges', ...args, '--no-reload']);
      assert.match(stderr, /^banctl: [^\n]+\n$/);
      return [exitCode, stderr] as const;
    };
    assert.equal((await wrong(`--output=${output}`))[0], 64);
    assert.equal((await wrong('a', 'b', `--output=${output}`))[0], 64);
    const [missing, said] = await wrong(join(directory, 'none'), `--output=${output}`);
    assert.equal(missing, 78);
    assert.match(said, /none: the file does not exist/);
    const source = join(newFolder(), 'ip-ranges.json');
    writeFileSync(source, ipRanges(before));
    const [nowhere, place] = await wrong(source, `--output=${join(dirname(source), 'none', 'proxies')}`);
    assert.equal(nowhere, 73);
    assert.match(place, /directory does not exist/);
  });
});

/** Apache with the kit's file for CloudFront. 127.0.7.0/24 is CloudFront here; others come around it. */
function startBehind(folder: string, more = ''): Promise<Apache> {
  return startApache({
    modules: ['remoteip'],
    server: kit('remoteip-cloudfront.conf').replaceAll(installed, join(folder, 'proxies')),
    site: `${kit('djangoapp-banlist.conf')}${more}`,
    list: `Require not ip ${A}\n`,
  });
}
const cloudFront = ipRanges(['127.0.7.0/24', '2001:db8::/32']);

suite('Apache behind CloudFront', () => {
  /** A visitor's request through CloudFront, or through a client that claims so. */
  const visit = (apache: Apache, visitor: string, from = '127.0.7.1') =>
    apache.get('/', { from, headers: { 'X-Forwarded-For': visitor } });
  const start = async () => {
    const folder = newFolder();
    const apache = await startBehind(folder);
    const output = join(folder, 'proxies');
    const call = (input: string, ...args: string[]) =>
      banctl(
        [
          'ranges',
          '-',
          `--output=${output}`,
          `--banlist=${apache.banlist}`,
          `--apachectl=${apache.ctl}`,
          ...args,
        ],
        input,
      );
    return { apache, output, call };
  };

  test('knows visitors by their own addresses once the list exists, and trusts no other client', async () => {
    const { apache, call } = await start();
    await using _ = apache;
    assert.equal(await visit(apache, A), 200); // no proxy is trusted yet
    const { exitCode, stdout, stderr } = await call(cloudFront);
    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /proxies has 2 ranges: 2 added, 0 removed\n/);
    assert.equal(await visit(apache, A), 403);
    assert.equal(await visit(apache, '203.0.113.6'), 200);
    assert.equal(await visit(apache, A, '127.0.8.1'), 200);
    assert.match(readFileSync(apache.accessLog, 'utf8'), /^203\.0\.113\.6 - - /m);
    assert.equal(apache.reloads(), 1);
  });

  test('is reloaded only if the list differs, or was not loaded', async () => {
    const { apache, output, call } = await start();
    await using _ = apache;
    await call(cloudFront);
    assert.deepEqual(await call(cloudFront), { exitCode: 0, stdout: '', stderr: '' });
    assert.equal(apache.reloads(), 1);
    // As a call that was killed before its reload leaves it.
    rmSync(output);
    writeFileSync(output, '# cut off\n127.0.7.0/24\n2001:db8::/32\n');
    assert.equal((await call(cloudFront)).exitCode, 0);
    assert.equal(apache.reloads(), 2);
    assert.equal((await call(ipRanges(['127.0.7.0/24', '127.0.8.0/24']))).exitCode, 0);
    assert.equal(apache.reloads(), 3);
    assert.equal(await visit(apache, A, '127.0.8.1'), 403);
  });

  test('that refuses its configuration keeps the list that it had, and serves on', async () => {
    const { apache, output, call } = await start();
    await using _ = apache;
    await call(cloudFront);
    const before = readFileSync(output, 'utf8');
    const configuration = readFileSync(apache.config, 'utf8');
    writeFileSync(apache.config, `${configuration}\nNonsense\n`);
    const { exitCode, stderr } = await call(ipRanges(['127.0.7.0/24', '192.0.2.0/24']));
    assert.equal(exitCode, 69);
    assert.match(
      stderr,
      /^banctl: apache was not reloaded: .*proxies was left as it was: .*Nonsense[^\n]*\n$/,
    );
    assert.equal(readFileSync(output, 'utf8'), before);
    assert.equal(await visit(apache, A), 403);
    rmSync(output);
    assert.equal((await call(cloudFront)).exitCode, 69);
    assert.equal(existsSync(output), false);
    writeFileSync(apache.config, configuration);
    assert.equal((await call(cloudFront)).exitCode, 0);
    assert.equal(readFileSync(output, 'utf8'), before);
  });

  test('that does not run is not started', async () => {
    const { apache, call } = await start();
    await using _ = apache;
    await apache.stop();
    const { exitCode, stdout } = await call(cloudFront);
    assert.equal(exitCode, 0);
    assert.match(stdout, /apache is not running/);
    assert.equal(apache.running(), false);
  });
});

/** The lines that the comments of a snippet offer, by what they begin with. */
function offered(snippet: string, ...beginnings: string[]): string {
  const lines = kit(snippet).split('\n');
  return beginnings
    .map((beginning) => {
      const line = lines.find((one) => one.startsWith(`#   ${beginning}`));
      assert.ok(line, beginning);
      return line.slice(4);
    })
    .join('\n');
}

suite('who is named by a chain of proxies', () => {
  const victim = '203.0.113.66';
  const viewer = '203.0.113.7';
  /** CloudFront is 127.0.7.0/24 and 198.51.100.0/24, the load balancer 127.0.9.1. */
  const start = async (change: (cloudfront: string) => string, more = '', before = '') => {
    const folder = newFolder();
    writeFileSync(join(folder, 'proxies'), '127.0.7.0/24\n198.51.100.0/24\n');
    const text = change(kit('remoteip-cloudfront.conf')).replaceAll(installed, join(folder, 'proxies'));
    const apache = await startApache({ modules: ['remoteip'], server: `${before}${text}${more}`, site: '' });
    const named = async (headers: Record<string, string>, from = '127.0.7.1') => {
      const lines = () => readFileSync(apache.accessLog, 'utf8').split('\n').filter(Boolean);
      const count = lines().length;
      await apache.get('/', { from, headers });
      await until('its line', () => lines().length > count);
      return lines().at(-1)?.split(' ')[0];
    };
    return { apache, named };
  };
  const xff = (value: string) => ({ 'X-Forwarded-For': value });

  test('the last entry alone counts, whatever stands before it', async () => {
    const { apache, named } = await start((text) => text);
    await using _ = apache;
    assert.equal(await named(xff(viewer)), viewer);
    assert.equal(await named(xff('2001:db8::7')), '2001:db8::7');
    assert.equal(await named(xff(`${victim}, ${viewer}`)), viewer);
    assert.equal(await named(xff(`${victim},nonsense,${viewer}`)), viewer);
    // Another customer's distribution in front of yours names the victim: it is the one that is logged.
    assert.equal(await named(xff(`${victim}, 198.51.100.9`)), '198.51.100.9');
    // Who does not come from CloudFront is not believed.
    assert.equal(await named(xff(victim), '127.0.8.1'), '127.0.8.1');
  });

  test('or what CloudFront writes of its viewer, without the port', async () => {
    const lines = offered(
      'remoteip-cloudfront.conf',
      'RequestHeader edit CloudFront-Viewer-Address',
      'RemoteIPHeader CloudFront-Viewer-Address',
    );
    const { apache, named } = await start((text) =>
      text.replace(/^RequestHeader .*\nRemoteIPHeader .*$/m, () => lines),
    );
    await using _ = apache;
    for (const [value, address] of [
      ['203.0.113.7:46532', viewer],
      ['2001:db8::7:46532', '2001:db8::7'],
      ['2001:db8:1:2:3:4:5:6:443', '2001:db8:1:2:3:4:5:6'],
      ['[2001:db8::7]:46532', '2001:db8::7'],
    ] as const)
      assert.equal(
        await named({ 'CloudFront-Viewer-Address': value, ...xff(`${victim}, 198.51.100.9`) }),
        address,
      );
    // Another customer's distribution in front of yours is the viewer then.
    assert.equal(
      await named({ 'CloudFront-Viewer-Address': '198.51.100.9:1', ...xff(victim) }),
      '198.51.100.9',
    );
  });

  test('a load balancer behind CloudFront: the last two entries count', async () => {
    const two = offered('remoteip-loadbalancer.conf', 'RequestHeader edit X-Forwarded-For "^.*,([^,]*');
    const { apache, named } = await start(
      (text) => text.replace(/^RequestHeader .*$/m, () => two),
      'RemoteIPInternalProxy 127.0.9.1\n',
    );
    await using _ = apache;
    const from = '127.0.9.1';
    assert.equal(await named(xff(`${viewer}, 198.51.100.9`), from), viewer);
    assert.equal(await named(xff(`${victim}, ${viewer}, 198.51.100.9`), from), viewer);
    // Another customer's distribution in front of yours.
    assert.equal(await named(xff(`${victim}, 198.51.100.8, 198.51.100.9`), from), '198.51.100.8');
    // Who asks the load balancer itself.
    assert.equal(await named(xff(`${victim}, ${viewer}`), from), viewer);
  });

  test('a load balancer that writes ports: they can be cut off', async () => {
    const text = kit('remoteip-loadbalancer.conf').replace('Proxy 192.0.2.1', 'Proxy 127.0.9.1');
    const cut = offered('remoteip-loadbalancer.conf', 'RequestHeader edit* X-Forwarded-For');
    for (const [server, value, address] of [
      [text, '203.0.113.7:5678', '127.0.9.1'], // as the comment says
      [`${cut}\n${text}`, '203.0.113.7:5678', viewer],
      [`${cut}\n${text}`, `${victim}:1, 203.0.113.7:5678`, viewer],
      [`${cut}\n${text}`, '[2001:db8::7]:5678', '2001:db8::7'],
      [`${cut}\n${text}`, '2001:db8::7', '2001:db8::7'],
      [`${cut}\n${text}`, viewer, viewer],
    ] as const) {
      await using apache = await startApache({ modules: ['remoteip'], server, site: '' });
      await apache.get('/', { from: '127.0.9.1', headers: xff(value) });
      const line = await until(
        'a line',
        () => readFileSync(apache.accessLog, 'utf8').split('\n')[0] || undefined,
      );
      assert.equal(line.split(' ')[0], address, value);
    }
  });

  test('without the secret nothing is served, and no jail of the kit counts it', async () => {
    const lines = kit('remoteip-cloudfront.conf').split('\n');
    const at = lines.findIndex((line) => line.startsWith('#   <If '));
    const secret = lines.slice(at, at + 3).map((line) => line.slice(4));
    const logs = ['djangoapp-login-log.conf', 'djangoapp-requests-log.conf'].map(kit);
    const { apache } = await start((text) => text, `${secret.join('\n')}\n${logs.join('')}`);
    await using _ = apache;
    const get = (path: string, headers: Record<string, string>, method = 'GET') =>
      apache.get(path, { from: '127.0.7.1', method, headers: { ...xff(victim), ...headers } });
    const known = { 'X-Origin-Secret': 'put your secret here' };
    for (const path of ['/', '/.env', '/none']) assert.equal(await get(path, {}), 421);
    assert.equal(await get('/admin/login/', {}, 'POST'), 421);
    assert.equal(await get('/', known), 200);
    assert.equal(await get('/.env', known), 404);
    const counted = await until(
      'a probe with the secret',
      () =>
        readFileSync(join(apache.dir, 'djangoapp-requests.log'), 'utf8').split('\n').slice(0, -1).length ===
          2 || undefined,
    );
    assert.ok(counted);
    assert.equal(readFileSync(join(apache.dir, 'djangoapp-login.log'), 'utf8'), '');
  });
});

suite('the job that keeps the list', () => {
  const cron = readFileSync(join(repository, 'cron.d', 'banctl-ranges'), 'utf8');
  const [, line = ''] = /^\d+ \d+ \* \* \* root (.*)$/m.exec(cron) ?? [];

  test('is the same for cron and systemd', () => {
    const unit = readFileSync(join(repository, 'systemd', 'banctl-ranges.service'), 'utf8');
    assert.equal(/^ExecStart=\/bin\/sh -c '(.*)'$/m.exec(unit)?.[1], line);
    assert.match(
      line,
      /^curl .*--proto =https .* https:\/\/ip-ranges\.amazonaws\.com\/ip-ranges\.json \| banctl ranges -$/,
    );
    assert.doesNotMatch(line, /%/); // a newline for cron, a specifier for systemd
  });

  test('fetches the list, and a fetch that fails or is cut changes nothing', async () => {
    const folder = newFolder();
    mkdirSync(join(folder, 'bin'));
    symlinkSync(executable, join(folder, 'bin', 'banctl'));
    let [status, body, length] = [200, cloudFront, cloudFront.length];
    const server = createServer((_, response) => {
      response.writeHead(status, { 'Content-Length': length });
      response.write(body);
      if (length === body.length) response.end();
      else response.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const address = server.address();
      const port = typeof address === 'object' ? address?.port : 0;
      // The server of the test speaks no TLS; all else is the line as it stands.
      const script = line
        .replace('--proto =https', '--proto =http')
        .replace('https://ip-ranges.amazonaws.com', `http://127.0.0.1:${port}`);
      const run = () =>
        execute('env', [
          `PATH=${join(folder, 'bin')}:${process.env.PATH}`,
          `BANCTL_OUTPUT=${join(folder, 'proxies')}`,
          `BANCTL_BANLIST=${join(folder, 'list')}`,
          'BANCTL_NO_RELOAD=1',
          'sh',
          '-c',
          script,
        ]);
      assert.equal((await run()).exitCode, 0);
      assert.deepEqual(listed(join(folder, 'proxies')), ['127.0.7.0/24', '2001:db8::/32']);
      assert.deepEqual(await run(), { exitCode: 0, stdout: '', stderr: '' });
      for (const [fault, text, announced] of [
        [404, 'Not Found', 9],
        [200, cloudFront.slice(0, 100), cloudFront.length],
      ] as const) {
        [status, body, length] = [fault, text, announced];
        const { exitCode, stderr } = await run();
        assert.equal(exitCode, 78);
        assert.match(stderr, /^curl: .*\nbanctl: .*\n$|^banctl: .*\ncurl: .*\n$/);
        assert.deepEqual(listed(join(folder, 'proxies')), ['127.0.7.0/24', '2001:db8::/32']);
      }
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

suite('the page for those who are refused', () => {
  const page = kit('djangoapp-banned-page.conf');
  for (const snippet of ['djangoapp-banlist.conf', 'djangoapp-banlist-admin.conf'])
    for (const where of ['list', 'directory'] as const)
      test(`shows their address and a contact: ${snippet}, banned in the ${where}`, async () => {
        const banned = [A, '2001:db8::5'];
        const list = where === 'list' ? banned.map((address) => `Require not ip ${address}\n`).join('') : '';
        await using apache = await startApache({ remoteip: true, list, site: `${kit(snippet)}${page}` });
        if (where === 'directory') {
          mkdirSync(apache.bandir);
          chmodSync(apache.bandir, 0o755);
          for (const address of banned) writeFileSync(join(apache.bandir, address), '');
        }
        for (const from of banned) {
          const { status, body, headers } = await apache.request('/admin/', { from });
          assert.equal(status, 403);
          assert.match(headers['content-type'] ?? '', /^text\/html/);
          assert.ok(body.includes(`from your address, ${from}.`), body);
          assert.match(body, /<a href='mailto:webmaster@example\.com'>/);
          assert.match(body, /the time: \d{4}-\d\d-\d\d \d\d:\d\d\./);
          assert.doesNotMatch(body, /Additionally|\\n|%\{/);
        }
        const { status, body } = await apache.request('/admin/', { from: '203.0.113.6' });
        assert.deepEqual([status, body], [200, '<p>page /admin</p>\n']);
      });

  test('is seen wherever other sections of the site stand', async () => {
    const others =
      '<Location />\nRequire all denied\n</Location>\n<Location /admin/>\nRequire ip 192.0.2.0/24\n</Location>\n';
    await using apache = await startApache({
      remoteip: true,
      list: `Require not ip ${A}\n`,
      server: page,
      site: `${kit('djangoapp-banlist.conf')}${others}`,
    });
    for (const path of ['/', '/admin/', '/none'])
      assert.match(
        (await apache.request(path, { from: A })).body,
        /from your address, 203\.0\.113\.5\./,
        path,
      );
  });

  test("leaves the application's own refusals as they are", async () => {
    const application = createServer((_, response) => {
      response.writeHead(403).end('CSRF verification failed');
    });
    await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve));
    using _ = {
      [Symbol.dispose]() {
        application.closeAllConnections();
        application.close();
      },
    };
    const address = application.address();
    const port = typeof address === 'object' ? address?.port : 0;
    await using apache = await startApache({
      remoteip: true,
      modules: ['proxy', 'proxy_http'],
      site: `${page}ProxyPass /app/ http://127.0.0.1:${port}/\n`,
    });
    const { status, body } = await apache.request('/app/');
    assert.deepEqual([status, body], [403, 'CSRF verification failed']);
  });
});
