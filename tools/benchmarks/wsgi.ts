// What bans cost an application under mod_wsgi in daemon mode: each reload for the list restarts its processes.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Apache, kit, startApache } from '../../test/lab/apache.ts';
import { rawRequest, underWsgi } from '../../test/lab/application.ts';
import { executable } from '../../test/lab/banctl.ts';
import { execute } from '../../test/lab/wait.ts';
import { figure, type Result, target, told } from './measure.ts';

const BANS = 8;
const BETWEEN_BANS_MS = 3000;
/** Apache gives the daemon processes 3 s to end. After each ban, a request of this length needs more than that. */
const SLOW_SECONDS = 8;
const SLOW_AT_ONCE = 2;
const BETWEEN_LIGHT_MS = 100;

const application = `
import time
def application(environ, start_response):
    if environ['PATH_INFO'] == '/slow':
        time.sleep(${SLOW_SECONDS})
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'done']
`;

const bandirOf = (dir: string) => join(dir, 'bans');
const site = (dir: string) =>
  kit('djangoapp-banlist.conf').replaceAll('/etc/apache2/djangoapp/bans', bandirOf(dir));

interface Seen {
  slow: number;
  slowFailed: number;
  lightFailed: number;
  /** Milliseconds of each light request. */
  readonly light: number[];
}

/** Visitors ask while the bans are made. */
async function seenWith(place: (apache: Apache) => string[]): Promise<Seen> {
  await using apache = await startApache(underWsgi(application, { remoteip: true, site }));
  const seen: Seen = { slow: 0, slowFailed: 0, lightFailed: 0, light: [] };
  const asks = async (path: string) =>
    (await rawRequest(apache, path, { method: 'GET' }).catch(() => ({ status: 0 }))).status;
  let isOver = false;
  const slow = async () => {
    while (!isOver) {
      const status = await asks('/slow');
      seen.slow += 1;
      if (status !== 200) seen.slowFailed += 1;
    }
  };
  const light = async () => {
    while (!isOver) {
      const began = performance.now();
      if ((await asks('/')) !== 200) seen.lightFailed += 1;
      seen.light.push(performance.now() - began);
      await sleep(BETWEEN_LIGHT_MS);
    }
  };
  const bans = async () => {
    for (let ban = 1; ban <= BANS; ban += 1) {
      await sleep(BETWEEN_BANS_MS);
      const args = ['ban', `203.0.113.${ban}`, `--banlist=${apache.banlist}`, `--apachectl=${apache.ctl}`];
      const { exitCode, stderr } = await execute(executable, [...args, ...place(apache)]);
      if (exitCode !== 0) throw new Error(stderr);
    }
    isOver = true;
  };
  await asks('/');
  await Promise.all([bans(), light(), ...Array.from({ length: SLOW_AT_ONCE }, slow)]);
  return seen;
}

export async function workers(): Promise<Result> {
  const list = await seenWith(() => []);
  const directory = await seenWith(({ dir }) => [`--bandir=${bandirOf(dir)}`]);
  return {
    name: 'wsgi',
    title: `An application under mod_wsgi while ${BANS} visitors are banned, ${BETWEEN_BANS_MS / 1000} s apart`,
    figures: [
      figure('list: a light request', 'ms', list.light),
      figure('directory: a light request', 'ms', directory.light),
    ],
    targets: [
      told(`list: requests of ${SLOW_SECONDS} s`, list.slow),
      told('list: failed ones of them', list.slowFailed),
      told('list: light requests', list.light.length),
      told('list: failed light requests', list.lightFailed),
      told(`directory: requests of ${SLOW_SECONDS} s`, directory.slow),
      target('directory: failed requests', directory.slowFailed + directory.lightFailed, 0),
    ],
    remarks: [],
  };
}
