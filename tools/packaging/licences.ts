/** The executable's contents, and their licences. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Node's packages, one for each processor; npm installs only the one for x64. */
const NODE = 'node_modules/node-linux-';

/** The full licence texts of everything in the executable: banctl, its libraries and Node. */
export function copyright(repository: string): string {
  const lock: { packages: Record<string, { dev?: boolean; version: string; license?: string }> } = JSON.parse(
    readFileSync(join(repository, 'package-lock.json'), 'utf8'),
  );
  const libraries = Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true && !path.startsWith(NODE))
    .map(([path, { version, license }]) => ({
      title: `${path.replace(/^.*node_modules\//, '')} ${version} (${license})`,
      text: licenceIn(join(repository, path)),
    }));
  const node = `${NODE}x64`;
  const parts = [
    { title: 'banctl', text: licenceIn(repository) },
    ...libraries,
    { title: `Node.js ${lock.packages[node]?.version}`, text: licenceIn(join(repository, node)) },
  ];
  return `The executable banctl holds, in one file, banctl itself, the libraries that it uses, and Node.js. This is what each of
them comes under.

${parts.map(({ title, text }) => `${'='.repeat(78)}\n${title}\n${'='.repeat(78)}\n\n${text.trim()}\n`).join('\n')}`;
}

function licenceIn(directory: string): string {
  const name = readdirSync(directory)
    .sort()
    .find((file) => /^licen[cs]e/i.test(file));
  if (name === undefined) throw new Error(`${directory}: no licence is there`);
  return readFileSync(join(directory, name), 'utf8').replaceAll('\r\n', '\n');
}
