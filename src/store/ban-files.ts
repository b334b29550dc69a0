import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Ban, banAlone, bansOf, denyLines, formatBan, isBanAlone } from '../banlist/ban-lines.ts';
import { searchBans } from '../banlist/find.ts';
import { type Address, covers, isSingle, readAddress } from '../bans/address.ts';
import { BanctlError, EXIT, systemCode } from '../system/errors.ts';
import { isSharedTemporary } from '../system/lock-directory.ts';
import { cannotRead, type FileContent, readText } from '../system/read.ts';
import { makeDirectory } from '../system/write.ts';

/*
 * The ban directory: one file for each banned address, named as Apache prints the visitor's address. Apache finds it with
 * one lookup (`Require expr "! -e 'DIR/%{REMOTE_ADDR}'"`) and needs no reload. A file is a banlist of one ban, written and
 * edited by the same code. An empty file, made by touch, is a ban with an unknown holder.
 */

/** Files of the directory as they were read, by address. */
export type BanFiles = Map<string, FileContent>;

/** The file that bans an address, given in canonical text. */
export function banFile(bandir: string, address: string): string {
  return `${bandir}/${address}`;
}

/** The file and its text as a banlist; empty if the directory does not ban the address. */
export function readBanFile(bandir: string, address: string): FileContent {
  const file = readText(banFile(bandir, address), true);
  if (file.version === undefined || isBannedBy(file.text, address)) return file;
  // In front of the existing text, whose end could otherwise continue into the new lines.
  return { ...file, text: Buffer.concat([Buffer.from(formatBan(address, [])), file.text]) };
}

/**
 * True if the address has a file, whatever its content: that is Apache's own test.
 *
 * @throws BanctlError notUnderstood if the file system does not show it
 */
export function isInDirectory(bandir: string, address: string): boolean {
  return look(banFile(bandir, address)) !== undefined;
}

/** True if the text bans the address, in whatever form. */
export function isBannedBy(text: Buffer, address: string): boolean {
  if (text.length === 0) return false;
  if (isBanAlone(text, address)) return true;
  return searchBans(text)
    .naming(address)
    .some((ban) => ban.address === address);
}

/** Every ban of the directory, by address. Puts the files into `read`. */
export function bansInDirectory(bandir: string, read?: BanFiles): Ban[] {
  return addressesIn(bandir)
    .sort()
    .flatMap((address) => bansInFile(bandir, address, read));
}

/** The name alone is what a file bans, whatever its text names. */
export function bansInFile(bandir: string, address: string, read?: BanFiles): Ban[] {
  const text = readOrUnknown(bandir, address, read);
  const alone = banAlone(text, address);
  return alone === undefined ? bansOf(denyLines(text)).filter((ban) => ban.address === address) : [alone];
}

/** Apache bans by a file's name, so an unreadable file must not hide the others. */
function readOrUnknown(bandir: string, address: string, read?: BanFiles): Buffer {
  try {
    const file = readBanFile(bandir, address);
    read?.set(address, file);
    return file.text;
  } catch (error) {
    if (!(error instanceof BanctlError)) throw error;
    return Buffer.from(formatBan(address, []));
  }
}

/** The banned addresses. Other names have no effect, because Apache looks up canonical names only. */
export function addressesIn(bandir: string): string[] {
  return namesIn(bandir).filter(isBanName);
}

/** The banned addresses of a network. */
export function addressesWithin(bandir: string, network: Address): string[] {
  // The first characters rule out most names of a large directory.
  const [first = ''] = network.text.split(/[.:]/);
  return namesIn(bandir).filter((name) => {
    const address = name.startsWith(first) && isBanName(name) ? readAddress(name) : undefined;
    return address !== undefined && covers(network, address);
  });
}

export function isBanName(name: string): boolean {
  const address = readAddress(name);
  return address !== undefined && isSingle(address) && address.text === name;
}

/** All names in the directory; none if it does not exist. */
export function namesIn(bandir: string): string[] {
  try {
    return readdirSync(bandir);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw cannotRead(bandir, error);
  }
}

/** The temporary directories of a resident that was killed; none if they cannot be seen. */
export function temporaryDirectoriesIn(bandir: string): string[] {
  try {
    return namesIn(bandir)
      .filter(isSharedTemporary)
      .map((name) => join(bandir, name));
  } catch {
    return [];
  }
}

/** Apache's children must be able to search it, although fail2ban's umask is 0077. @throws BanctlError cannotWrite */
export function makeBandir(bandir: string): void {
  if (!checkDirectory(bandir)) makeDirectory(bandir);
}

/** True if the directory exists, false if nothing does. @throws BanctlError cannotWrite if another kind of file does */
export function checkDirectory(bandir: string): boolean {
  const stat = look(bandir);
  if (stat !== undefined && !stat.isDirectory())
    throw new BanctlError(
      EXIT.cannotWrite,
      `${bandir} is not a directory`,
      'move it away, or give another --bandir',
    );
  return stat !== undefined;
}

/** Undefined if nothing exists. @throws BanctlError notUnderstood if the file system does not show it */
export function look(path: string, stat = statSync) {
  try {
    return stat(path, { throwIfNoEntry: false });
  } catch (error) {
    throw cannotRead(path, error);
  }
}
