import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The parts of the page that are not TypeScript. In the executable, tools/bundle.ts replaces this function by their texts. */
const read = (name: string) => readFileSync(join(import.meta.dirname, name), 'utf8');

export const TEMPLATE = read('page.eta');
export const STYLE = read('page.css');
export const SCRIPT = read('page.js');
