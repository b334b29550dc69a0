/*
 * An asset with V8's compiled code. V8 copies code that does not begin at a multiple of eight, which takes a fiftieth of a
 * ban's time, so the asset has room for the code to move in (see tools/align-caches.ts): its last byte says where it begins.
 */

/** V8's kPointerAlignment (src/common/globals.h). Bytes. */
export const ALIGNMENT = 8;

/** The compiled code of an asset, not copied. */
export function codeIn(asset: Buffer): Buffer {
  const start = asset.at(-1) ?? 0;
  return asset.subarray(start, start + asset.length - ALIGNMENT);
}

/** @param start below {@link ALIGNMENT} */
export function assetOf(code: Buffer, start = 0): Buffer {
  const asset = Buffer.alloc(code.length + ALIGNMENT);
  code.copy(asset, start);
  asset[asset.length - 1] = start;
  return asset;
}
