/** less leaves at once if all fits, keeps the screen, and shows styles; as git and systemctl call it. */
const LESS = 'FRX';
/** What sh ends with if there is no such program. */
const NOT_FOUND = 127;

/**
 * Shows a long text in the pager of the user (`PAGER`), or in less. False if there is none, or none is wanted. A dumb
 * terminal gets none, as with systemctl: less would warn there, and wait for a key.
 *
 * Who may only run banctl by sudo must not get a shell of root's out of it: then less runs without its commands that
 * start programs, and nobody's PAGER.
 */
export function showInPager(text: string): boolean {
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const isBySudo = process.env.SUDO_UID !== undefined;
  const pager = (isBySudo ? undefined : process.env.PAGER) ?? 'less';
  const isDumb = (process.env.TERM ?? 'dumb') === 'dumb';
  if (isDumb || pager === '' || pager === 'cat') return false;
  // A key that ends the pager's search must not end banctl under it.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  const { error, status } = spawnSync('/bin/sh', ['-c', pager], {
    input: text,
    stdio: ['pipe', 'inherit', 'inherit'],
    env: { ...process.env, LESS: process.env.LESS ?? LESS, LESSSECURE: '1' },
  });
  process.removeListener('SIGINT', ignore);
  // Who leaves the pager early breaks the pipe.
  const isStarted = error === undefined || ('code' in error && error.code === 'EPIPE');
  return isStarted && status !== NOT_FOUND;
}
