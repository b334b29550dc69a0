// Applications under mod_wsgi in daemon mode, for startApache: one that answers what the test asks for and names the path that
// reached it, and a real Django with its admin (Debian's python3-django).
//
//   await using apache = await startApache(underWsgi(answering, { remoteip: true }));
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Apache, ApacheOptions } from './apache.ts';
import { execute } from './wait.ts';

/** X-Answer is its status (200 by default), X-Path what it takes for the path. */
export const answering = `
def application(environ, start_response):
    path = environ['SCRIPT_NAME'] + environ['PATH_INFO']
    start_response(environ.get('HTTP_X_ANSWER', '200') + ' Asked', [
        ('Content-Type', 'text/plain'), ('X-Path', ascii(path))])
    return [b'answer to a request\\n']
`;

/** Django's own admin with a user admin, password correct; made by makeDjango. */
export const django = `
import os
import sys
sys.path.insert(0, os.path.dirname(__file__))
os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
`;

const settings = `
import os
DIR = os.path.dirname(__file__)
DEBUG = False
SECRET_KEY = 'of a test'
ALLOWED_HOSTS = ['localhost']
ROOT_URLCONF = 'urls'
DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': os.path.join(DIR, 'db.sqlite3')}}
DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'
PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']
INSTALLED_APPS = ['django.contrib.' + name for name in ('admin', 'auth', 'contenttypes', 'sessions', 'messages')]
MIDDLEWARE = ['django.middleware.common.CommonMiddleware', 'django.contrib.sessions.middleware.SessionMiddleware',
    'django.middleware.csrf.CsrfViewMiddleware', 'django.contrib.auth.middleware.AuthenticationMiddleware',
    'django.contrib.messages.middleware.MessageMiddleware']
TEMPLATES = [{'BACKEND': 'django.template.backends.django.DjangoTemplates', 'APP_DIRS': True, 'OPTIONS': {
    'context_processors': ['django.template.context_processors.request', 'django.contrib.auth.context_processors.auth',
        'django.contrib.messages.context_processors.messages']}}]
STATIC_URL = '/static/'
`;
const urls = `
from django.contrib import admin
from django.urls import path
urlpatterns = [path('admin/', admin.site.urls), path('other/', admin.site.urls)]
`;

/** Apache whose site is the application; what the site has otherwise comes before it. */
export function underWsgi(application: string, options: ApacheOptions = {}): ApacheOptions {
  const part = (text: ApacheOptions['site'], dir: string) =>
    typeof text === 'function' ? text(dir) : (text ?? '');
  return {
    ...options,
    modules: ['wsgi', ...(options.modules ?? [])],
    server(dir) {
      const folder = join(dir, 'application');
      mkdirSync(folder, { recursive: true });
      chmodSync(folder, 0o777); // SQLite writes beside its file
      writeFileSync(join(folder, 'application.py'), application);
      return `WSGISocketPrefix ${dir}/wsgi
WSGIDaemonProcess application processes=1 threads=8
WSGIProcessGroup application
WSGIApplicationGroup %{GLOBAL}
${part(options.server, dir)}`;
    },
    site: (dir) => `${part(options.site, dir)}
WSGIScriptAlias / ${dir}/application/application.py
<Directory ${dir}/application>
  Require all granted
</Directory>
`,
  };
}

/** The database and the settings of the real Django, before its first request. */
export async function makeDjango({ dir }: Apache): Promise<void> {
  const folder = join(dir, 'application');
  writeFileSync(join(folder, 'settings.py'), settings);
  writeFileSync(join(folder, 'urls.py'), urls);
  const script = `import sys; sys.path.insert(0, '${folder}')
import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'
import django; django.setup()
from django.core.management import call_command
call_command('migrate', verbosity=0)
from django.contrib.auth.models import User
User.objects.create_superuser('admin', 'admin@example.com', 'correct')
os.chmod('${folder}/db.sqlite3', 0o666)`;
  const { exitCode, stderr } = await execute('/usr/bin/python3', ['-B', '-c', script]);
  if (exitCode !== 0) throw new Error(`Django cannot be set up:\n${stderr}`);
}

export type RawRequest = {
  method?: string;
  from?: string;
  headers?: Record<string, string>;
  body?: string;
  /** More of the body, for which the headers have to give a Content-Length. */
  rest?: Promise<string>;
};
export type RawResponse = {
  status: number;
  headers: Record<string, string>;
  cookies: string[];
  body: string;
};

/** A request whose target goes out as it stands: an HTTP library would make a proper one of it, or refuse. */
export function rawRequest(
  apache: Apache,
  target: string,
  { method = 'POST', from, headers = {}, body = '', rest }: RawRequest = {},
): Promise<RawResponse> {
  const all = {
    Host: 'localhost',
    Connection: 'close',
    ...(from === undefined ? {} : { 'X-Forwarded-For': from }),
    ...(body === '' ? {} : { 'Content-Type': 'application/x-www-form-urlencoded' }),
    'Content-Length': `${Buffer.byteLength(body)}`,
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(apache.port, '127.0.0.1');
    socket
      .setEncoding('latin1')
      .setTimeout(30_000, () => socket.destroy(new Error(`no answer to ${target}`)));
    socket.on('data', (text) => {
      answer += text;
    });
    socket.on('error', reject).on('close', () => resolve(parsed(answer)));
    socket.write(Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n${body}`, 'latin1'));
    void rest?.then((more) => socket.write(more));
  });
}

function parsed(answer: string): RawResponse {
  const [head = '', ...rest] = answer.split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const pairs = lines.map((line): [string, string] => {
    const [, name = '', value = ''] = /^([^:]*): ?(.*)$/.exec(line) ?? [];
    return [name.toLowerCase(), value];
  });
  return {
    status: Number(/^HTTP\/\S+ (\d+)/.exec(first)?.[1] ?? 0),
    headers: Object.fromEntries(pairs),
    cookies: pairs.filter(([name]) => name === 'set-cookie').map(([, value]) => value.replace(/;.*/, '')),
    body: rest.join('\r\n\r\n'),
  };
}

/** A visitor of Django's admin who has looked at the form: what a try needs. */
export async function openForm(apache: Apache, from: string, path = '/admin/login/') {
  const { cookies, body } = await rawRequest(apache, path, { method: 'GET', from });
  const token = /name="csrfmiddlewaretoken" value="([^"]+)"/.exec(body)?.[1] ?? '';
  return {
    /** A try with this password; the session is there if it was the right one. */
    async tries(target: string, password: string, more: RawRequest = {}) {
      const form = { csrfmiddlewaretoken: token, username: 'admin', password, next: '/admin/' };
      const answer = await rawRequest(apache, target, {
        from,
        body: new URLSearchParams(form).toString(),
        ...more,
        headers: { Cookie: cookies.join('; '), ...more.headers },
      });
      return { ...answer, loggedIn: answer.cookies.some((cookie) => cookie.startsWith('sessionid=')) };
    },
  };
}
