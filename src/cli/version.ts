/** The build sets it from package.json. */
export const VERSION: string = process.env.BANCTL_VERSION ?? 'unbuilt';

/** banctl's version, and the versions of Node and of its parts that security notices name. */
export function versionLines(): string[] {
  const { node, v8, openssl, sqlite, uv, zlib } = process.versions;
  const parts = Object.entries({ node, v8, openssl, sqlite, uv, zlib });
  return [`banctl ${VERSION} ${process.arch}`, ...parts.map(([name, version]) => `${name} ${version}`)];
}
