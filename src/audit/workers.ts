import type { Directive } from '../apache/directives.ts';
import type { Finding } from './finding.ts';

/*
 * Workers of the application that each reload of Apache restarts: a change of the list ends their slow requests. A ban in the
 * directory needs no reload.
 */

/** By the directive that brings them. mod_wsgi's daemon processes and mod_fcgid's are Apache's children; PHP-FPM's are not. */
const WORKERS: readonly (readonly [name: string, argument: RegExp, workers: string])[] = [
  ['wsgidaemonprocess', /./, "mod_wsgi's daemon processes"],
  ['loadmodule', /^php\d*_module\b/, "PHP's workers (mod_php)"],
  ['fcgidwrapper', /./, "mod_fcgid's processes"],
  ['addhandler', /^"?fcgid-script\b/, "mod_fcgid's processes"],
];

/** A hint, where the list is used alone. */
export function workerHints(directives: readonly Directive[], directory: string, config: string): Finding[] {
  for (const [wanted, argument, workers] of WORKERS) {
    const found = directives.find((one) => one.name === wanted && argument.test(one.argument));
    if (found === undefined) continue;
    const message = `each change of the list reloads Apache, which restarts ${workers} (${found.file} line ${found.line}) and ends their slow requests; to ban without reloads, put "bandir": "${directory}" into ${config}, then banctl migrate --to bandir`;
    return [{ code: 'list-in-use', message }];
  }
  return [];
}
