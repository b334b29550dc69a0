/** Set from package.json when the executable is built. */
export const VERSION: string = process.env.BANCTL_VERSION ?? 'unbuilt';

/** banctl's version, and those of Node and the parts of Node that security notices name. */
export function versionLines(): string[] {
  const { node, v8, openssl, sqlite, uv, zlib } = process.versions;
  const parts = Object.entries({ node, v8, openssl, sqlite, uv, zlib });
  return [`banctl ${VERSION} ${process.arch}`, ...parts.map(([name, version]) => `${name} ${version}`)];
}
