// Prints a software bill of materials (CycloneDX 1.6, JSON) of dist/banctl: the libraries in its bundle, Node, and the parts
// that Node itself names (process.versions).
//
//   sbom.ts EXECUTABLE LIBRARIES.json
//
// tools/bundle.ts writes LIBRARIES.json: the directories of the packages with files in the bundle.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Enums, Models, Serialize, Spec } from '@cyclonedx/cyclonedx-library';

const repository = join(import.meta.dirname, '..');
const [executable = '', libraries = ''] = process.argv.slice(2);
const read = (path: string) => JSON.parse(readFileSync(join(repository, path), 'utf8'));
const { version, description }: { version: string; description: string } = read('package.json');

/** Versions of interfaces, not of software. */
const NOT_SOFTWARE = ['node', 'modules', 'napi', 'unicode', 'cldr', 'tz'];

function component(
  name: string,
  of: string,
  type = Enums.ComponentType.Library,
  group?: string,
): Models.Component {
  return new Models.Component(type, name, {
    version: of,
    bomRef: `${group ?? ''}${name}@${of}`,
    ...(group ? { group } : {}),
  });
}

function library(path: string): Models.Component {
  const {
    name,
    version: of,
    license,
  }: { name: string; version: string; license?: string } = read(`${path}/package.json`);
  const made = component(name, of);
  made.purl = `pkg:npm/${name.replace('@', '%40')}@${of}`;
  if (license !== undefined)
    made.licenses.add(
      license.includes(' ') ? new Models.LicenseExpression(license) : new Models.SpdxLicense(license),
    );
  return made;
}

const main = component('banctl', version, Enums.ComponentType.Application);
main.description = description;
main.licenses.add(new Models.SpdxLicense('MIT'));
main.hashes.set(
  Enums.HashAlgorithm['SHA-256'],
  createHash('sha256').update(readFileSync(executable)).digest('hex'),
);

const node = component('node', process.versions.node, Enums.ComponentType.Platform);
node.purl = `pkg:generic/node@${process.versions.node}`;
for (const [name, of = ''] of Object.entries(process.versions))
  if (!NOT_SOFTWARE.includes(name) && of !== '') node.components.add(component(name, of, undefined, 'node/'));

const bom = new Models.Bom({ metadata: new Models.Metadata({ component: main }) });
const paths: string[] = JSON.parse(readFileSync(libraries, 'utf8'));
for (const part of [node, ...paths.map(library)]) {
  bom.components.add(part);
  main.dependencies.add(part.bomRef);
}
const serializer = new Serialize.JsonSerializer(new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6));
process.stdout.write(`${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`);
