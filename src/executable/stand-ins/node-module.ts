/** Stands in for node:module in yargs-parser (see tools/bundle.ts), which would load it for configuration files only. */
export const createRequire = undefined;
