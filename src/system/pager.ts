/** less exits at once if everything fits, keeps the screen, and shows styles; git and systemctl use these options too. */
const LESS = 'FRX';
/** The exit code of sh if the program does not exist. */
const NOT_FOUND = 127;

/**
 * Shows a long text in the user's pager (`PAGER`), or in less. False if there is no pager, or the user wants none. A dumb
 * terminal gets no pager, as with systemctl: less would warn, and wait for a key.
 *
 * A user who may only run banctl through sudo must not get a root shell from it. For such a user, banctl ignores PAGER and
 * starts less without its commands that start programs.
 */
export function showInPager(text: string): boolean {
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const isBySudo = process.env.SUDO_UID !== undefined;
  const pager = (isBySudo ? undefined : process.env.PAGER) ?? 'less';
  const isDumb = (process.env.TERM ?? 'dumb') === 'dumb';
  if (isDumb || pager === '' || pager === 'cat') return false;
  // A key that interrupts the pager's search must not end banctl.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  const { error, status } = spawnSync('/bin/sh', ['-c', pager], {
    input: text,
    stdio: ['pipe', 'inherit', 'inherit'],
    env: { ...process.env, LESS: process.env.LESS ?? LESS, LESSSECURE: '1' },
  });
  process.removeListener('SIGINT', ignore);
  // A user who leaves the pager early breaks the pipe.
  const isStarted = error === undefined || ('code' in error && error.code === 'EPIPE');
  return isStarted && status !== NOT_FOUND;
}
