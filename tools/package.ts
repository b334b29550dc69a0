// Builds packages; see scripts/package.
//
//   package.ts [--format deb|rpm]… [--output DIRECTORY] [--version VERSION] [--compression best|fast|none] [EXECUTABLE]…
//
// The executable names its architecture. The same executable and sources give the same bytes.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { repository, source } from './packaging/contents.ts';
import { makeDeb } from './packaging/deb.ts';
import type { PackageOptions } from './packaging/package.ts';
import { makeRpm } from './packaging/rpm.ts';

const { version }: { version: string } = JSON.parse(source('package.json'));
const { values, positionals } = parseArgs({
  options: {
    format: { type: 'string', multiple: true, default: ['deb', 'rpm'] },
    output: { type: 'string', default: join(repository, 'dist') },
    version: { type: 'string', default: version },
    compression: { type: 'string', default: 'fast' },
  },
  allowPositionals: true,
});
const epochSeconds = Number(process.env.SOURCE_DATE_EPOCH);
if (!Number.isInteger(epochSeconds) || epochSeconds <= 0)
  throw new Error('set SOURCE_DATE_EPOCH to the time of the files');
const options: PackageOptions = {
  output: values.output,
  version: values.version,
  compression: compression(values.compression),
  epochSeconds,
};
const built = ['banctl', 'banctl-arm64'].map((name) => join(repository, 'dist', name)).filter(existsSync);
for (const executable of positionals.length > 0 ? positionals : built) {
  if (values.format.includes('deb')) console.log(makeDeb(executable, options));
  if (values.format.includes('rpm')) console.log(makeRpm(executable, options));
}

function compression(name: string): PackageOptions['compression'] {
  if (name === 'best' || name === 'fast' || name === 'none') return name;
  throw new Error(`--compression takes best, fast or none, not ${name}`);
}
