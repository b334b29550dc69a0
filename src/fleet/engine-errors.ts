/* Explains an engine's errors, and says what to do about them. */

export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}

const EXPLAINED: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED/, 'nothing listens there; start it, or correct --fleet'],
  [/ENOENT/, 'there is no such socket; start it, or correct --fleet'],
  [/ENOTFOUND|EAI_AGAIN/, 'its name does not resolve; correct --fleet'],
  [
    /ETIMEDOUT|timed out|EHOSTUNREACH|ENETUNREACH/,
    'it does not answer; is it hung, or does a firewall or security group stand between?',
  ],
  [
    /WRONGPASS|invalid (username|password)/i,
    'it refuses the password; correct --fleet-password-file, or --fleet-user',
  ],
  [/NOAUTH/, 'it asks for a password; give --fleet-password-file'],
  [/without any password configured/, 'it has no password for this user; leave out --fleet-password-file'],
  [
    /NOPERM|no permissions|can't run this command/,
    'its ACL forbids what the fleet needs; set the line of docs/fleet.md',
  ],
  [/READONLY/, 'it is a read-only replica; give --fleet the primary'],
  [/OOM/, 'it has no memory left; raise maxmemory, or choose another eviction policy'],
  [/MISCONF/, 'it refuses to write, since it cannot save its data; look into its log'],
  [
    /certificate|self.signed|unable to (verify|get)|altname/i,
    'its certificate is not of that authority; correct --fleet-ca, or the host in --fleet',
  ],
  [
    /wrong version number|ssl|EPROTO|Connection is closed/i,
    'it hung up; rediss:// is for TLS, redis:// without',
  ],
  [/reply is too long/, 'its keys have what no fleet writes; delete them, or choose another --fleet-name'],
  [/LOADING/, 'it still reads its data'],
  [/MASTERDOWN/, 'it is a replica without its primary'],
  [/MOVED|CLUSTERDOWN|CROSSSLOT/, 'its cluster has moved the keys; it is asked again'],
];

/** One line: the engine, the cause, and what to do. */
export function explain(error: unknown, { url }: { readonly url: string }): string {
  const message = messageOf(error).split('\n')[0] ?? '';
  const [, why] = EXPLAINED.find(([pattern]) => pattern.test(message)) ?? [];
  return `${shownUrl(url)}: ${why ?? message}${why === undefined ? '' : ` (${message.slice(0, 160)})`}`;
}

export function shownUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  return protocol === 'unix:' ? `unix:${pathname}` : `${protocol}//${host}`;
}
