// Replaces graceful-fs in proper-lockfile (see tools/bundle.ts): the functions that it calls, unpatched.
export {
  mkdir,
  mkdirSync,
  realpath,
  realpathSync,
  rmdir,
  rmdirSync,
  stat,
  statSync,
  utimes,
  utimesSync,
} from 'node:fs';
