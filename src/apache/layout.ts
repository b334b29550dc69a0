import { existsSync } from 'node:fs';
import { followLinksBelow } from '../system/links.ts';

/** Where a distribution keeps Apache's files. */
export interface Layout {
  /** Apache's configuration. */
  readonly apache: string;
  /** The list in the kit's files. */
  readonly banlist: string;
  /** The ban directory in the kit's files. */
  readonly bandir: string;
}

const layoutIn = (apache: string): Layout => ({
  apache,
  banlist: `${apache}/djangoapp/banlist.conf`,
  bandir: `${apache}/djangoapp/bans`,
});

/** The layout of Debian and Ubuntu, which the kit's files use. */
export const DEBIAN = layoutIn('/etc/apache2');
/** The layout of RHEL, Fedora and Amazon Linux. */
export const RED_HAT = layoutIn('/etc/httpd');

/** The layout of this host, or of the tree below `root`; undefined if it has no Apache of a known layout. */
export function knownLayout(root?: string): Layout | undefined {
  const place = (path: string) => (root === undefined ? path : followLinksBelow(root, path));
  return [DEBIAN, RED_HAT].find(({ apache }) => existsSync(place(apache)));
}

/** The same, or Debian's if there is none. */
export function layoutOf(root?: string): Layout {
  return knownLayout(root) ?? DEBIAN;
}
