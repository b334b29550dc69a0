// Stands in for node:crypto in write-file-atomic (see tools/bundle.ts), which needs the end of its temporary file's name:
// 32-bit FNV-1a of the parts that it gets. Marked as banctl's, because a bare number could be the date of a backup.
interface Hash {
  update(part: string): Hash;
  digest(): { readUInt32BE(offset: number): string };
}

export function createHash(_algorithm: string): Hash {
  let number = 0x811c9dc5;
  const hash: Hash = {
    update(part) {
      for (let i = 0; i < part.length; i++) number = Math.imul(number ^ part.charCodeAt(i), 0x01000193);
      return hash;
    },
    digest: () => ({ readUInt32BE: () => `banctl-${number >>> 0}` }),
  };
  return hash;
}
